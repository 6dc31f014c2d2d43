"""The slots of loss functions are not to be seen: by the compiler, scripts, transforms, modes, subclasses, errors."""

from __future__ import annotations

import os
import shutil
import traceback
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from onthefly.capture.noted import OpenLosses
from onthefly.instruments import functions
from tests.conftest import FULL
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Home

pytestmark = [
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),  # vmap has no rule for some of these
    pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated:DeprecationWarning"),  # jvp calls it
]

Loss = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"


def every(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Every function with a slot, through ``torch.nn.functional`` and as the operator itself: 7 numbers, more with it.

    The eighth is the Gaussian likelihood, which looks at its data.
    """
    return [
        F.l1_loss(x, y),
        F.smooth_l1_loss(x, y, beta=0.0),
        F.kl_div(x, y, reduction="batchmean"),
        F.poisson_nll_loss(x, y),
        torch.kl_div(x, y, 1),
        torch.poisson_nll_loss(x, y, True, False, 1e-8, 1),
        functions._nn.l1_loss(x, y, 1),
        F.gaussian_nll_loss(x, y, x.exp()),
        functions._nn.l1_loss(x, target=y, reduction=0),
        nn.GaussianNLLLoss(reduction="none")(x, y, x.exp()),
    ]


def simple(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Those that a transform can follow."""
    return [
        F.l1_loss(x, y), F.kl_div(x, y), F.poisson_nll_loss(x, y), torch.kl_div(x, y, 1), functions._nn.l1_loss(x, y, 1)
    ]  # fmt: skip


def operands_of(shape: tuple[int, ...] = (5, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, requires_grad=True), torch.rand(shape, generator=generator)


COMPILED = """
import sys, torch, torch.nn.functional as F, warnings
from torch import nn
import torch._dynamo.utils as counting
warnings.simplefilter("ignore")
torch.manual_seed(0)
if "early" in sys.argv:  # the compiler's tables are built before ours stand in the slots, in a real run never
    import torch._dynamo
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
if "arm" in sys.argv:
    from tests.watching import watched
    watching = watched()
    watching.__enter__()
x, y = torch.randn(8, 3, requires_grad=True), torch.rand(8, 3)
graphs = []
def backend(graph, inputs):
    graphs.append([node.name for node in graph.graph.nodes])
    return graph.forward

def direct(x, y):
    return (torch.kl_div(x, y, 1) + torch.poisson_nll_loss(x, y, True, False, 1e-8, 1)
            + torch._C._nn.l1_loss(x, y, 2) + F.l1_loss(x, y)
            + F.kl_div(x, y, reduction="batchmean") + F.poisson_nll_loss(x, y) + nn.L1Loss()(x, y))

def broken(x, y):
    x = x * 2
    torch._dynamo.graph_break()
    return direct(x, y) + F.gaussian_nll_loss(x, y, x.exp()) + nn.GaussianNLLLoss(reduction="sum")(x, y, x.exp())

for function, whole in ((direct, True), (broken, False)):
    for how in (backend,) if "brief" in sys.argv else (backend, "aot_eager"):
        torch._dynamo.reset()
        loss = torch.compile(function, backend=how, fullgraph=whole)(x, y)
        x.grad = None
        loss.backward()
        print(loss.item(), x.grad.sum().item(), dict(counting.counters["stats"]),
              sum(counting.counters["graph_break"].values()), dict(counting.counters["frames"]))
print(graphs)
exported = torch.export.export(type("M", (nn.Module,), {"forward": lambda self, x, y: direct(x, y)})(), (x, y))
print([str(node.target) for node in exported.graph.nodes])
"""


@FULL
@pytest.mark.parametrize("early", [[], ["early"]])
def test_compiled_losses(home: Home, early: list[str]) -> None:
    """As many graphs, breaks and frames as plain, whole graphs too, whichever came first: the compiler or we."""
    if not shutil.which("gcc"):
        pytest.skip("torch.compile wants a compiler")
    (home.folder / "s.py").write_text(COMPILED)
    from tests.conftest import REPOSITORY

    path = {"PYTHONPATH": str(REPOSITORY)}
    brief = [] if os.environ.get("ONTHEFLY_FULL") else ["brief"]
    plain = home.python("s.py", *early, *brief, **path)
    ours = home.python("s.py", *early, *brief, "arm", **path) if early else home.watched("s.py", *brief, **path)
    assert plain.code == 0, plain.err
    assert ours.code == 0, ours.err
    assert ours.out.splitlines() == plain.out.splitlines()


SCRIPTED = """
import torch, torch.nn.functional as F
from torch import Tensor, kl_div, nn
from torch._C._nn import l1_loss

def some(x: Tensor, y: Tensor):
    named = l1_loss(x, y, 0).sum() + kl_div(x, y, 1, log_target=True)
    return named + F.l1_loss(x, y) + torch.kl_div(x, y, 1) + F.poisson_nll_loss(x, y) + torch._C._nn.l1_loss(x, y, 2)

def gaussian(x: Tensor, y: Tensor):
    return F.gaussian_nll_loss(x, y, x)

torch.manual_seed(0)
x, y = torch.randn(5, 3, requires_grad=True), torch.rand(5, 3)
for function in some, nn.L1Loss(), nn.KLDivLoss(), nn.PoissonNLLLoss():
    scripted = torch.jit.script(function)
    print(scripted.inlined_graph, scripted(x, y).item())
    print([node.kind() for node in torch.jit.trace(function, (x, y)).inlined_graph.nodes()])
try:  # not in every version
    print(torch.jit.script(gaussian).graph)
except (RuntimeError, torch.jit.frontend.NotSupportedError) as error:
    print(type(error))
"""


def test_scripted_functions_have_the_operator_itself(home: Home) -> None:
    (home.folder / "s.py").write_text(SCRIPTED)
    plain, ours = home.python("-W", "ignore", "s.py"), home.watched("-W", "ignore", "s.py")
    assert plain.out.count(b"aten::kl_div") > 3, plain.err
    assert (ours.code, ours.out) == (0, plain.out), ours.err


def test_the_table_of_scripted_functions_is_as_it_was() -> None:
    table: Any = functions.torch.jit._builtins._builtin_table  # type: ignore[attr-defined]
    before = dict(table)
    with watched():
        assert table != before, "or this test would prove nothing"
    assert table == before


def test_transforms_take_nothing_away() -> None:
    """vmap, grad and jvp of a loss: the same numbers, and nothing is kept of their tensors."""
    x, y = operands_of()

    def run() -> list[torch.Tensor]:
        return [
            *torch.vmap(lambda x, y: tuple(simple(x, y)))(x.detach(), y),
            torch.func.grad(lambda x: torch.stack(simple(x, y)).sum())(x.detach()),
            torch.func.vmap(torch.func.grad(lambda x, y: F.l1_loss(x, y) + F.kl_div(x, y)))(x.detach(), y),
            *torch.func.jvp(lambda x: torch.stack(simple(x, y)).sum(), (x.detach(),), (y,)),
            torch.func.vmap(lambda x: F.l1_loss(x, y[0]))(x),
        ]

    plain = run()
    with watched() as kept:
        noted = kept.session._recorder._per_sample._noted
        assert all(torch.equal(a, b) for a, b in zip(run(), plain))
        assert not noted._open
        every(x, y)
        assert noted._open, "or this test would prove nothing"


class Counting(torch.overrides.TorchFunctionMode):
    """A mode that sees every operator and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


MODE = """
import torch, torch.nn.functional as F
from torch.overrides import TorchFunctionMode, resolve_name

class Naming(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        print(resolve_name(func), func.__name__, getattr(func, "__module__", ""))
        return func(*args, **(kwargs or {}))

x, y = torch.randn(5, 3, requires_grad=True), torch.rand(5, 3)
with Naming():
    F.l1_loss(x, y), F.kl_div(x, y), F.poisson_nll_loss(x, y), F.gaussian_nll_loss(x, y, x.exp())
    torch.kl_div(x, y, 1), torch._C._nn.l1_loss(x, y, 1)
"""


def test_a_mode_knows_the_functions_by_their_names(home: Home) -> None:
    (home.folder / "s.py").write_text(MODE)
    plain, ours = home.python("-W", "ignore", "s.py"), home.watched("-W", "ignore", "s.py")
    assert b"torch.nn.functional.gaussian_nll_loss" in plain.out
    assert (ours.code, ours.out) == (0, plain.out), ours.err


class Dispatching(TorchDispatchMode):
    """A mode that sees every ATen operator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Labels(torch.Tensor):
    """A data set's own kind of tensor."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_modes_and_subclasses_see_what_they_saw() -> None:
    def run() -> list[list[str]]:
        leaf, y = operands_of()
        x = leaf.view(5, 3)  # a loss of a leaf is a penalty
        found = []
        for mode in (Counting(), Dispatching()):
            with mode:
                losses = every(x, y)
            for loss in losses[:3]:
                loss.backward(retain_graph=True)
            found.append(mode.seen)
        Labels.seen = []
        for loss in every(x, y.as_subclass(Labels))[:8]:
            loss.backward(retain_graph=True)
        return [*found, Labels.seen]

    plain = run()
    with watched() as kept:
        assert run() == plain
    assert all(plain)
    assert "exact" in {row.certificate for row in kept.rows()}


def test_fakes_are_left_alone() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with watched() as kept, FakeTensorMode() as fake:
        x, y = (fake.from_tensor(tensor) for tensor in operands_of())
        assert F.l1_loss(x, y).requires_grad
        assert not kept.session._recorder._per_sample._noted._open


@pytest.mark.parametrize("grad", [False, True])
def test_without_a_graph_nothing_is_noted(grad: bool) -> None:
    x, y = operands_of()
    with watched() as kept, torch.set_grad_enabled(grad):
        noted = kept.session._recorder._per_sample._noted
        every(x.detach(), y)
        assert not noted._open
        with torch.inference_mode():
            made = torch.ones(5, 3)
            every(x, made)
        assert not noted._open


def test_errors_of_the_script_are_the_scripts() -> None:
    x, y = operands_of()
    calls: list[Callable[[], Any]] = [
        lambda: torch.poisson_nll_loss(x, y[:2], True, False, 1e-8, 1),
        lambda: functions._nn.l1_loss(x, y[:2]),
        lambda: torch.kl_div(x),  # type: ignore[call-overload]
        lambda: F.gaussian_nll_loss(x, y, -y),
        lambda: F.gaussian_nll_loss(x, y, y, reduction="most"),
    ]

    def said() -> list[str]:
        found = []
        for call in calls:
            try:
                call()
            except (RuntimeError, TypeError, ValueError) as error:
                found.append("".join(traceback.format_exception_only(type(error), error)))
        return found

    plain = said()
    assert len(plain) == len(calls)
    with watched():
        assert said() == plain


def test_a_fault_of_ours_does_not_reach_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any) -> None:
        raise LookupError("ours")

    monkeypatch.setattr(OpenLosses, "note", fails)
    x, y = operands_of()
    plain = [loss.detach() for loss in every(x, y)]
    before = [vars(owner)[name] for owner, name in functions.LOSSES]
    with watched(ONTHEFLY_STRICT="0") as kept:
        assert all(torch.equal(loss, other) for loss, other in zip(every(x, y), plain))
        assert [vars(owner)[name] for owner, name in functions.LOSSES] == before, "out after three failures"
    assert any("noting losses failed" in notice for notice in kept.notices())
    with watched(), pytest.raises(LookupError):  # without the guard
        every(x, y)
