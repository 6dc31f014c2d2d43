"""The first operation that makes a number that is not finite is the one that was planted."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from onthefly.alarms.origin import MAX_EVENTS, Event, Origin
from onthefly.errors import Guard, Refused
from tests.alarms.planted import Attention, Custom, Divide, Log, Overflow, Sqrt, mlp, step, watched
from tests.conftest import FULL


def origin_of(net: nn.Module, x: Tensor, **options: Any) -> Event | None:
    with watched() as origin:
        step(net, x, **options)
    assert _get_current_dispatch_mode_stack() == []
    return origin.found


PLANTS = [
    (Log, "aten::log", "inf", "forward", ""),
    (Divide, "aten::div", "nan", "forward", ""),
    (Overflow, "aten::exp", "inf", "forward", ""),
    (Sqrt, "aten::div", "inf", "backward", "SqrtBackward0"),
    (Custom, "aten::div", "inf", "backward", "CubeBackward"),
]


def check_plant(plant: Any, at: int, depth: int) -> None:
    made, operation, kind, phase, node = plant
    found = origin_of(mlp((at, made()), depth=depth), torch.rand(4, 8))
    assert found is not None
    assert (found.operation, found.kind, found.phase, found.node) == (operation, kind, phase, node)
    assert (found.module, found.module_type, found.model) == (str(at), made.__name__, "Sequential")
    assert found.made
    assert not found.compiled
    assert "planted.py:" in found.line
    assert operation in found.text


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant[0].__name__)
def test_a_planted_fault_is_the_origin(plant: Any) -> None:
    check_plant(plant, 2, 3)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_wherever_it_is_planted(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 5))
    plant = data.draw(st.sampled_from(PLANTS))
    check_plant(plant, data.draw(st.integers(1 if plant[3] == "backward" else 0, 2 * depth)), depth)


@FULL
@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_wherever_it_is_planted_at_length(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 12))
    plant = data.draw(st.sampled_from(PLANTS))
    check_plant(plant, data.draw(st.integers(1 if plant[3] == "backward" else 0, 2 * depth)), depth)


def test_the_first_of_several_is_the_origin() -> None:
    with watched() as origin:
        step(mlp((1, Sqrt()), (3, Divide()), (5, Log()), depth=4), torch.rand(4, 8))
    assert origin.found is not None
    assert origin.found.module == "3"
    assert origin.found is origin.events[0]


@pytest.mark.parametrize("shape", [(6, 8), (2, 6, 8)])
def test_masks_are_no_origin(shape: tuple[int, ...]) -> None:
    assert origin_of(nn.Sequential(nn.Linear(8, 8), Attention()), torch.randn(shape)) is None


def test_a_row_that_is_masked_out_is_one() -> None:
    found = origin_of(nn.Sequential(nn.Linear(8, 8), Attention(blind=True)), torch.randn(6, 8))
    assert found is not None
    assert (found.operation, found.kind, found.module, found.module_type) == ("aten::_softmax", "nan", "1", "Attention")


@pytest.mark.parametrize("masked", ["bool", "float", "causal"])
def test_torch_attention_with_masks_is_none(masked: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.norm = nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
            if masked == "float":
                mask = torch.zeros(6, 6).masked_fill(mask, -math.inf)
            if masked == "causal":
                return F.scaled_dot_product_attention(x, x, self.norm(x), is_causal=True)
            return self.norm(self.attention(x, x, x, attn_mask=mask, need_weights=False)[0])

    assert origin_of(Net(), torch.randn(3, 6, 8)) is None


def test_multiplying_a_mask_by_infinity_is_one() -> None:
    """``triu(ones) * -inf``, the classic: 0 times infinity."""

    def loss(y: Tensor) -> Tensor:
        return (y + torch.ones(4, 4).triu(1) * -math.inf).sum()

    found = origin_of(nn.Linear(4, 4), torch.rand(4, 4), loss=loss)
    assert found is not None
    assert (found.operation, found.kind) == ("aten::mul", "nan")
    assert found.module_type == ""
    assert "test_origin.py" in found.line


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_overflow_in_autocast(dtype: torch.dtype) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
            nn.init.constant_(self.first.weight, 1e3 if dtype is torch.float16 else 1e19)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=dtype):
                return self.second(self.first(x * (1e3 if dtype is torch.float16 else 1e20)))

    found = origin_of(Net(), torch.ones(2, 4))
    assert found is not None
    assert (found.operation, found.kind, found.module, found.phase) == ("aten::mm", "inf", "first", "forward")
    assert found.dtype == str(dtype).replace("torch.", "")


def test_a_learning_rate_that_explodes_shows_in_the_step() -> None:
    net = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e38)
    with watched() as origin:
        (net(torch.ones(2, 4)) * 1e6).sum().backward()
        optimizer.step()
    found = origin.found
    assert found is not None
    assert (found.phase, found.kind, found.operation) == ("step", "inf", "aten::add_")
    assert "in the optimizer's step" in found.text


@pytest.mark.parametrize("foreach", [True, False])
def test_adam_with_a_second_moment_that_overflows(foreach: bool) -> None:
    net = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(net.parameters(), foreach=foreach)
    with watched() as origin:
        (net(torch.ones(2, 4)) * 1e30).sum().backward()
        optimizer.step()
    assert origin.found is not None
    assert origin.found.phase == "step"
    assert "addcmul" in origin.found.operation


def test_what_was_not_finite_before_is_met_and_not_made() -> None:
    x = torch.rand(4, 8)
    x[1, 2] = math.nan
    found = origin_of(mlp(), x)
    assert found is not None
    assert not found.made
    assert (found.operation, found.module) == ("aten::addmm", "0")
    assert "met the first nan" in found.text


def test_data_with_nan_that_the_script_cleans_is_nothing_but_a_lead() -> None:
    x = torch.full((4, 8), math.nan)
    assert origin_of(mlp(), x.nan_to_num()) is None
    with watched() as origin:
        step(mlp((2, Log())), torch.nan_to_num(x, 0.5))
    assert origin.found is not None
    assert (origin.found.operation, origin.found.made) == ("aten::log", True)


def test_an_infinite_mask_is_set_aside() -> None:
    class Net(nn.Module):
        def __init__(self, plant: nn.Module) -> None:
            super().__init__()
            self.first, self.plant = nn.Linear(8, 8), plant

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.tensor([1.0] * 7 + [0.0]).log()
            return self.plant((self.first(x) + mask).softmax(-1))

    with watched() as origin:
        step(Net(nn.Identity()), torch.rand(4, 8))
    assert origin.found is not None
    assert (origin.found.operation, origin.found.aside) == ("aten::log", True)
    found = origin_of(Net(Divide()), torch.rand(4, 8))
    assert found is not None
    assert (found.operation, found.module, found.aside) == ("aten::div", "plant", False)


def test_infinite_data_that_becomes_nan_is_the_origin() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.first((x * 0).log())

    found = origin_of(Net(), torch.rand(4, 8))
    assert found is not None
    assert (found.operation, found.kind, found.model) == ("aten::log", "inf", "Net")


def test_uninitialized_memory_means_nothing() -> None:
    def loss(y: Tensor) -> Tensor:
        held = torch.empty(64)
        held.fill_(math.nan)
        del held
        buffer = torch.empty(64).copy_(torch.ones(64))
        torch.add(y.detach().sum().expand(64), 1.0, out=buffer)
        return y.sum() + buffer.sum() + torch.empty(8).normal_().sum() * 0

    with watched() as origin:
        step(nn.Linear(4, 4), torch.ones(2, 4), loss)
    assert origin.events == []


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_modules(reentrant: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner = nn.Linear(8, 8), mlp((1, Sqrt()))

        def forward(self, x: Tensor) -> Any:
            return checkpoint(self.inner, self.first(x), use_reentrant=reentrant)

    found = origin_of(Net(), torch.rand(4, 8))
    assert found is not None
    assert (found.phase, found.kind) == ("backward", "inf")
    assert found.module.startswith("inner") or reentrant


def test_a_generator_of_its_own_name_and_nested_modules() -> None:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([mlp(), mlp((3, Divide()))])

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    found = origin_of(Generator(), torch.rand(4, 8))
    assert found is not None
    assert (found.module, found.model) == ("blocks.1.3", "Generator")
    assert "in blocks.1.3 (Divide) of Generator" in found.text


OPTIMIZERS = [
    "Adam",
    "AdamW",
    "Adamax",
    "Adadelta",
    "Adagrad",
    "ASGD",
    "LBFGS",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("foreach", [True, False])
def test_ordinary_steps_have_no_origin(name: str, foreach: bool) -> None:
    net = mlp()
    optimizer = getattr(torch.optim, name)(net.parameters(), **({} if name == "LBFGS" else {"foreach": foreach}))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = net(torch.rand(4, 8)).square().mean()
        loss.backward()
        return loss

    with watched() as origin:
        optimizer.step(closure)
    assert origin.found is None or origin.found.aside
    assert origin.found is None or name == "RAdam"  # divides by zero, and again by that


def test_operations_of_all_kinds_have_no_origin() -> None:
    with watched() as origin:
        losses = [
            nn.CTCLoss()(
                torch.rand(5, 2, 4, requires_grad=True).log_softmax(2),
                torch.tensor([[1, 2], [1, 3]]),
                torch.tensor([5, 5]),
                torch.tensor([2, 2]),
            ),
            nn.Embedding(5, 3, sparse=True)(torch.tensor([1, 2])).sum(),
            nn.LSTM(3, 4)(torch.rand(5, 2, 3))[0].sum(),
            F.max_pool2d(torch.rand(1, 1, 4, 4, requires_grad=True), 2, padding=1).sum(),
            torch.stft(torch.rand(400, requires_grad=True), 64, return_complex=True, window=torch.ones(64)).abs().sum(),
            F.cross_entropy(torch.rand(4, 3, requires_grad=True), torch.tensor([0, 1, 2, -100])),
            (torch.eye(3).to_sparse() @ torch.rand(3, 3, requires_grad=True)).sum(),
            torch.linalg.svd(torch.rand(3, 3, requires_grad=True))[1].sum(),
        ]
        for loss in losses:
            loss.backward()
        torch.rand(3).to(torch.float8_e4m3fn)
        with torch.inference_mode():
            torch.rand(3).sqrt()
        nn.Linear(3, 4, device="meta")(torch.rand(2, 3, device="meta"))
        with FakeTensorMode():
            nn.Linear(3, 4)(torch.rand(2, 3)).log().sum().backward()
        torch.func.vmap(torch.func.grad(lambda x: x.sum()))(torch.zeros(3, 2))
    assert origin.found is None


def test_it_is_taken_out_after_an_exception_of_the_script() -> None:
    origin = Origin(Guard("test", strict=True))
    origin.enter()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
        step(mlp(), torch.rand(4, 7))
    assert all("alarms/origin.py" not in str(entry.path) for entry in raised.traceback)
    assert origin.exit()
    assert origin.exit()
    assert _get_current_dispatch_mode_stack() == []
    assert origin.found is None


class Counter(TorchDispatchMode):
    """A mode of the script's."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_modes_of_the_script() -> None:
    with Counter():
        refused = Origin(Guard("test", strict=True))
        with pytest.raises(Refused, match="dispatch mode"):
            refused.enter()
        assert refused.exit()
    origin, counter = Origin(Guard("test", strict=True)), Counter()
    origin.enter()
    with counter:
        step(mlp((1, Log())), torch.rand(4, 8))
        assert not origin.exit()
        events = len(origin.events)
        step(mlp((1, Log())), torch.rand(4, 8))
    assert len(origin.events) == events
    assert counter.count > 50
    assert origin.found is not None
    assert origin.found.operation == "aten::log"
    assert origin.exit()
    assert _get_current_dispatch_mode_stack() == []


def test_a_fault_of_ours_does_not_reach_the_script(capfd: pytest.CaptureFixture[str]) -> None:
    origin = Origin(Guard("looking for the origin"))
    origin._mode._after = Guard("looking for the origin").around(lambda *_: 1 / 0)
    origin.enter()
    step(mlp(), torch.rand(4, 8))
    assert origin.exit()
    assert "looking for the origin failed: ZeroDivisionError" in capfd.readouterr().err


def test_events_are_bounded() -> None:
    with watched() as origin:
        for _ in range(3 * MAX_EVENTS):
            torch.log(torch.zeros(2))
    assert len(origin.events) == MAX_EVENTS


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=FULL)])
@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_compiled_modules_stay_compiled_and_are_named(backend: str, how: str) -> None:
    torch._dynamo.reset()
    net: Any = mlp((1, Log()))
    if how == "wrapped":
        net[1] = torch.compile(nn.Sequential(Log(), nn.Tanh()), backend=backend)
    else:
        net[1].compile(backend=backend)
    x = torch.rand(4, 8)
    net(x)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    found = origin_of(net, x)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
    assert found is not None
    assert found.compiled
    assert "inside a compiled part" in found.text
    assert found.module.startswith("1") or not found.made
