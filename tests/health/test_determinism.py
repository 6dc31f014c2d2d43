"""The check of determinism: a step is taken twice, what is left to chance is found, and the run is what it would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from onthefly.health import determinism
from onthefly.health.scene import Scene
from onthefly.protocol import Checked, Described
from tests.actions.played import plain, play

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import os, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(1)
x, y = torch.randn(40, 3), torch.arange(40) % 2
model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
optimizer = torch.optim.AdamW(model.parameters(), 0.05)
for epoch in range(2):
    for inputs, targets in DataLoader(TensorDataset(x, y), 4, shuffle=True):
        optimizer.zero_grad()
        NOISE
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(loss.item())
"""


def examined(folder: Path, noise: str) -> tuple[Any, Any, Any]:
    """What the check says, the run with it, and the plain run."""
    path = folder / "script.py"
    path.write_text(SCRIPT.replace("NOISE", noise))
    at = {6: [("pause", {}), ("health", {"checks": ["determinism"]})], 8: [("resume", {})]}
    run = play(path, folder=folder, at=at, during=resuming)  # pyright: ignore[reportArgumentType]
    results = [message.result for message in run.commander.kept.messages if isinstance(message, Checked)]
    assert len(results) == 1
    return results[0], run, plain(path)


class resuming:
    """Lets the script go on whenever it is held after the check."""

    def __init__(self, commander: Any) -> None:
        gate = commander.kept.session._gate
        announce = gate._announce

        def told(state: Any, by: str, reason: str) -> None:
            announce(state, by, reason)
            if state == "paused" and "health" in reason:
                commander.send("resume")

        gate._announce = told

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_a_step_that_can_be_taken_again_is_good_and_the_run_goes_on_as_it_would(tmp_path: Path) -> None:
    found, run, without = examined(tmp_path, "pass")
    assert found.verdict == "good", found
    assert found.numbers["replayed"] is True
    assert found.numbers["different"] == 0
    assert (found.run, found.step) == ("baseline", 8)
    assert run.hashes[-1] == without.hashes[-1]
    # From the pause inside of `optimizer.step` on, what the script's own loop does is done twice: one line is printed.
    lines = run.out.splitlines()
    assert lines[6] == lines[7]
    assert lines[:7] + lines[8:] == without.out.splitlines()
    assert run.losses().keys() == {"baseline", "replay1"}
    assert [call[1] for call in run.losses()["baseline"]] == list(range(20))
    runs = [message.run for message in run.commander.kept.messages if isinstance(message, Described)]
    assert runs == ["replay1", "baseline"]


@pytest.mark.parametrize("noise", ["inputs = inputs + torch.tensor(int.from_bytes(os.urandom(2), 'big') / 65536.0)"])
def test_chance_from_outside_is_found(tmp_path: Path, noise: str) -> None:
    found, _, _ = examined(tmp_path, noise)
    assert found.verdict == "bad", found
    assert int(found.numbers["different"]) > 0
    assert "seed" in found.do
    assert found.rows


def test_a_step_that_cannot_be_taken_again_is_said_to_be(tmp_path: Path) -> None:
    scene = Scene([("", nn.Linear(1, 1))], [], [])
    found = determinism.not_replayed(scene, "a generator of the script cannot be wound back")
    assert found.verdict == "unknown"
    assert "wound back" in found.says


def test_flags_of_a_model_on_cuda_are_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named(nn.Module):
        def named_parameters(self, *given: Any, **more: Any) -> Any:
            class OnCuda:
                device = torch.device("cuda")

            yield "weight", OnCuda()

    model = Named()
    model.pool = nn.AdaptiveAvgPool2d(2)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    numbers, doubts = determinism.flags(Scene([("", model)], [], []))
    assert numbers["on_cuda"] is True
    assert len(doubts) == 2
    assert determinism.flags(Scene([("", nn.AdaptiveAvgPool2d(2))], [], []))[1] == []
