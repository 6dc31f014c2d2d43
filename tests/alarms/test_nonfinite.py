"""Numbers that are not finite are found, named, and left as they are."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from onthefly.alarms.nonfinite import (
    GRADIENT,
    PARAMETER,
    NonfiniteLoss,
    culprits,
    finding,
    gradients,
    grads_finite,
    parameters_finite,
    scaler_decides,
)
from onthefly.protocol import PHASES, Records

BAD = [math.nan, math.inf, -math.inf]


def block(calls: list[tuple[float, list[float]]], *, first: int = 0, phase: str = "train", reason: str = "") -> Records:
    """Backward calls with the losses of their samples."""
    n, samples = len(calls), [value for _, values in calls for value in values]
    return Records(
        run="baseline", backward=array("q", range(first, first + n)).tobytes(),
        step=array("q", range(first, first + n)).tobytes(), epoch=bytes(4 * n), time=bytes(8 * n),
        loss=array("d", [loss for loss, _ in calls]).tobytes(), shared=bytes(8 * n), certificate=bytes(n),
        error=bytes(8 * n), reason=array("h", [0 if reason else -1] * n).tobytes(),
        phase=bytes([PHASES.index(phase)] * n), loader=array("h", [-1] * n).tobytes(), identity=bytes(n),
        count=array("i", [len(values) for _, values in calls]).tobytes(), reasons=[reason] if reason else [],
        loaders=[], sample=array("q", range(len(samples))).tobytes(), sample_loss=array("f", samples).tobytes(),
        valid=bytes(4 * len(samples)),
    )  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_loss_is_found_at_its_step(bad: float) -> None:
    watch = NonfiniteLoss()
    assert watch.take(block([(1.0, [0.5, 1.5]), (2.0, [2.0, 2.0])])) is None
    found = watch.take(block([(1.0, [1.0]), (bad, [1.0, bad, 1.0])], first=2))
    assert found is not None
    assert (found.step, found.severity) == (3, "severe")
    assert "step 3 (backward 3)" in found.text
    assert "1 of its 3 samples" in found.text
    assert found.numbers["samples"] == 1.0
    assert watch.take(block([(bad, [bad])], first=4)) is None  # lasts
    assert watch.take(block([(1.0, [1.0]), (bad, [bad]), (1.0, [1.0])], first=5)) is not None


def test_samples_of_a_finite_loss() -> None:
    found = NonfiniteLoss().take(block([(1.0, [1.0]), (2.0, [1.0, math.inf])]))
    assert found is not None
    assert found.step == 1
    assert "1 of 2 samples" in found.text


def test_validation_and_what_is_not_known_are_no_losses() -> None:
    watch, why = NonfiniteLoss(), "the loss is not a single number"
    assert watch.take(block([(math.nan, [])], phase="valid")) is None
    assert watch.take(block([(math.nan, []), (math.nan, [])], reason=why)) is None
    found = watch.take(block([(math.inf, [])], reason=why, first=2))
    assert found is not None
    watch, why = NonfiniteLoss(), "its expression is not known"
    assert watch.take(block([(3.0, []), (2.0, [])], reason=why)) is None
    found = watch.take(block([(math.nan, [])], reason=why, first=2))
    assert found is not None
    assert found.step == 2


def model(dtype: torch.dtype = torch.float32) -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    optimizer = torch.optim.SGD([{"params": net[0].parameters()}, {"params": net[2].parameters()}], lr=0.1)
    net(torch.ones(2, 4, dtype=dtype)).sum().backward()
    return net, optimizer


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", BAD)
def test_gradients_and_parameters(dtype: torch.dtype, bad: float) -> None:
    net, optimizer = model(dtype)
    norm = gradients(optimizer)
    assert norm.finite
    parameters: list[Tensor] = list(net.parameters())
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    wide = torch.cat([grad.flatten().double() for grad in grads])
    assert norm.value == pytest.approx(wide.norm().item(), rel=1e-2 if dtype is torch.bfloat16 else 1e-3)
    kept = [grad.clone() for grad in grads]
    versions = [grad._version for grad in grads]
    assert grads_finite(optimizer)
    assert parameters_finite(optimizer)
    assert [grad._version for grad in grads] == versions
    assert all(torch.equal(one, other) for one, other in zip(grads, kept))
    grads[2][1, 3] = bad
    assert not grads_finite(optimizer)
    (culprit,) = culprits(optimizer, [net])
    assert (culprit.name, culprit.numbers) == ("2.weight", 24)
    assert (culprit.nans, culprit.infinities) == ((1, 0) if math.isnan(bad) else (0, 1))
    found = finding(GRADIENT, 7, [culprit])
    assert "gradients before step 7" in found.text
    assert "2.weight (1 " in found.text
    with torch.no_grad():
        net[0].bias[2] = bad
    assert not parameters_finite(optimizer)
    (culprit,) = culprits(optimizer, [], of=PARAMETER)
    assert culprit.name == "parameter 1 of the optimizer"


def test_large_numbers_are_finite() -> None:
    net, optimizer = model()
    net[0].weight.grad = torch.full_like(net[0].weight, 3e38)
    assert gradients(optimizer) == (True, math.inf)
    net, optimizer = model(torch.float16)
    net[0].weight.grad = torch.full_like(net[0].weight, 6e4)
    norm = gradients(optimizer)
    assert norm.finite
    assert norm.value == pytest.approx(6e4 * math.sqrt(32), rel=1e-3)


def test_gradients_that_are_missing_empty_or_of_integers() -> None:
    net, optimizer = model()
    net[0].weight.grad = None
    optimizer.add_param_group({"params": [torch.zeros(0, requires_grad=True)]})
    optimizer.param_groups[-1]["params"][0].grad = torch.zeros(0)
    assert grads_finite(optimizer)
    optimizer.zero_grad()
    assert gradients(optimizer) == (True, 0.0)
    assert culprits(optimizer, [net]) == []


def test_sparse_gradients() -> None:
    table = nn.Embedding(10, 3, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    table(torch.tensor([1, 1, 4])).sum().backward()
    assert grads_finite(optimizer)
    assert table.weight.grad is not None
    table.weight.grad._values()[2, 0] = math.nan
    assert not grads_finite(optimizer)
    (culprit,) = culprits(optimizer, [table])
    assert culprit.name == "weight"


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_parameters() -> None:
    parameter = nn.Parameter(torch.eye(3).to_sparse_csr())
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    assert parameters_finite(optimizer)
    parameter.detach().values()[1] = math.inf
    assert not parameters_finite(optimizer)


def test_complex_gradients() -> None:
    parameter = nn.Parameter(torch.zeros(4, dtype=torch.complex64))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    parameter.grad = torch.full((4,), 3 + 4j)
    assert gradients(optimizer).value == pytest.approx(10.0)
    parameter.grad = parameter.grad.conj()
    assert grads_finite(optimizer)
    parameter.grad = torch.tensor([1, 1, complex(0, math.inf), 1])
    assert not grads_finite(optimizer)


def test_several_devices_of_which_one_has_no_data() -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3, device="meta"))]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    assert grads_finite(optimizer)


def test_a_distributed_tensor_is_judged_by_its_own_part(tmp_path: Any) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        parameter = nn.Parameter(distribute_tensor(torch.zeros(4, 2), mesh, [Shard(0)]))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        parameter.grad = distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)])
        assert gradients(optimizer).value == pytest.approx(math.sqrt(8))
        parameter.grad = distribute_tensor(torch.full((4, 2), math.nan), mesh, [Shard(0)])
        assert not grads_finite(optimizer)
        (culprit,) = culprits(optimizer, [])
        assert culprit.nans == 8
    finally:
        dist.destroy_process_group()


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(width=32), max_size=5), min_size=1, max_size=6))
def test_any_gradients(values: list[list[float]]) -> None:
    parameters = [nn.Parameter(torch.zeros(len(one))) for one in values]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for parameter, one in zip(parameters, values):
        parameter.grad = torch.tensor(one)
    assert grads_finite(optimizer) is all(math.isfinite(value) for one in values for value in one)
    bad = [place for place, one in enumerate(values) if not all(map(math.isfinite, one))]
    assert [culprit.name for culprit in culprits(optimizer, [])] == [f"parameter {at} of the optimizer" for at in bad]


def test_checking_draws_no_random_numbers_and_builds_no_graph() -> None:
    _, optimizer = model()
    state = torch.get_rng_state()
    with torch.enable_grad():
        assert gradients(optimizer).finite
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fused_optimizer_whose_scaler_decides() -> None:
    _, optimizer = model()
    assert not scaler_decides(optimizer)
    optimizer.found_inf = torch.zeros(1)  # pyright: ignore[reportAttributeAccessIssue] - as GradScaler does
    assert scaler_decides(optimizer)
