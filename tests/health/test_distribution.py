"""The check of ranks: what each tells of itself; how they are compared is tested with the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onthefly.health import distribution
from onthefly.health.fingerprint import fingerprint
from onthefly.health.scene import Scene
from tests.health.examined import Training, verdict

if TYPE_CHECKING:
    from pathlib import Path


def test_one_process_has_no_other_to_agree_with(tmp_path: Path) -> None:
    found = verdict(tmp_path, Training(), "distribution", pure=True)
    assert (found.verdict, found.numbers) == ("unknown", {})
    assert "one process" in found.says


def hashes(model: nn.Module) -> dict[str, Any]:
    return distribution.look(Scene([("", model)], [], [], ranks=2)).numbers


def test_hashes_are_of_structure_weights_and_buffers() -> None:
    def model(width: int = 4) -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))

    same = hashes(model())
    assert hashes(model()) == same
    other: Any = model()
    with torch.no_grad():
        other[0].weight[1, 1] = torch.nextafter(other[0].weight[1, 1], torch.tensor(9.0))
    found = hashes(other)
    assert {name for name in same if found[name] != same[name]} == {"weights"}
    other = model()
    other[1].running_mean[0] = 1.0
    assert {name for name in same if hashes(other)[name] != same[name]} == {"buffers"}
    assert hashes(model(5))["structure"] != same["structure"]


def test_every_bit_and_its_place_counts() -> None:
    torch.manual_seed(2)
    for shape, dtype in (((7,), torch.float32), ((3, 5), torch.bfloat16), ((9,), torch.uint8), ((), torch.int64)):
        tensor = (torch.rand(shape) * 100).to(dtype)
        first = fingerprint(tensor)
        assert fingerprint(tensor.clone()) == first
        for place in range(tensor.numel()):
            other = tensor.clone()
            other.view(-1)[place] += 1
            assert fingerprint(other) != first
    assert fingerprint(torch.tensor([1.0, 2.0])) != fingerprint(torch.tensor([2.0, 1.0]))
    assert fingerprint(torch.zeros(4)) != fingerprint(torch.zeros(2, 2))
    assert fingerprint(torch.arange(12.0).view(3, 4).t()) == fingerprint(torch.arange(12.0).view(3, 4).t().contiguous())
    assert fingerprint(torch.zeros(2, 2).to_sparse()) is None
