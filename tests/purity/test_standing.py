"""What stands in the places of torch's reductions, copies and losses is not to be told from what stood there."""

from __future__ import annotations

import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onthefly.instruments import copies, functions
from tests.conftest import FULL
from tests.watching import watched

if TYPE_CHECKING:
    from tests.conftest import Home

EVERY = """
import copy, functools, io, pickle, sys, traceback, warnings
warnings.simplefilter("ignore")
import torch, torch.nn.functional as F
from torch import nn, Tensor
from torch.overrides import TorchFunctionMode, resolve_name
torch.manual_seed(0)

def every(x, y):
    a = torch.mean(x) + x.mean() + torch.sum(x) + x.sum() + x.mean(1).sum() + torch.mean(x, dim=1).mean()
    b = torch.sum(x, (0, 1)) + x.sum(dim=0).mean() + x.float().double().mean() + x.detach().sum() + x.clone().mean()
    z = y.to(torch.float32).float().double().half().bfloat16().float() + y.type_as(x)
    i = y.long().int().short().bool().long()
    c = torch.clone(z) + torch.detach(z) + z.clone() + z.detach() + z.contiguous() + z.cpu()
    r = torch.flatten(c, 0) + c.flatten() + torch.reshape(c, (-1,)) + c.reshape(-1)
    w = F.pad(r, (1, 1)) + torch._C._nn.pad(r, (1, 1), "constant", 0.0)
    return a + b + w.sum() + F.one_hot(i.clamp(0, 3), 4).float().sum() + r.mean()

class Pool(nn.Module):
    reduce, total, flat, cl, re, de = torch.mean, torch.sum, torch.flatten, torch.clone, torch.reshape, torch.detach
    pad, oh, part, absolute = torch._C._nn.pad, F.one_hot, functools.partial(torch.mean, dim=1), torch._C._nn.l1_loss
    def forward(self, x):
        return self.reduce(self.cl(self.flat(x)))

pool, x, y = Pool(), torch.randn(5, 3, requires_grad=True), torch.tensor([0, 1, 2, 1, 0])
"""

OUTSIDE = (
    EVERY
    + """
def say(what, *calls):
    for call in calls:
        try:
            print(what, call())
        except BaseException as error:
            print(what, traceback.format_exc())

class Naming(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func in (torch.mean, Tensor.mean, Tensor.to, torch.flatten, F.one_hot)
        print(resolve_name(func), func.__name__, found, types, len(args), kwargs or {})
        return func(*args, **(kwargs or {}))

def named():
    with Naming():
        return every(x, y)

HANDLED = {torch.mean: "mean", Tensor.contiguous: "contiguous", torch.flatten: "flatten", F.one_hot: "one_hot"}
class Own(Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        print(resolve_name(func), func is Tensor.to, func is torch.mean, HANDLED.get(func), types, kwargs or 0)
        if func in HANDLED:
            return HANDLED[func], args, kwargs or {}
        return super().__torch_function__(func, types, args, kwargs or {})

class Duck:
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return resolve_name(func), func is torch.mean, types, len(args), list(kwargs or {})

class Boxed:
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise ValueError(func)

s, t, d = x.as_subclass(Own), y.float().as_subclass(Own), Duck()
say("mode", named)
say("own", lambda: torch.mean(s), lambda: s.contiguous(), lambda: torch.flatten(t), lambda: torch.mean(input=s, dim=1),
    lambda: s.mean(), lambda: s.sum(), lambda: torch.sum(s), lambda: t.to(torch.float64), lambda: t.long(),
    lambda: F.pad(t, (1, 1)), lambda: F.one_hot(t.long(), 4), lambda: torch.reshape(t, (-1,)), lambda: torch.clone(t),
    lambda: t.detach(), lambda: y.type_as(t), lambda: y.to(t), lambda: torch.mean(Boxed()), lambda: every(s, t))
say("duck", lambda: torch.mean(d), lambda: torch.mean(input=d), lambda: torch.sum(d, dim=1), lambda: Tensor.mean(d),
    lambda: torch.clone(d), lambda: torch.flatten(d), lambda: F.pad(d, (1, 1)), lambda: F.one_hot(d),
    lambda: Tensor.to(d, "cpu"), lambda: y.to(d), lambda: y.type_as(d), lambda: torch.kl_div(x, d))
torch.set_default_device("meta")
say("default device", lambda: (every(x, y), torch.ones(3).mean().device))
torch.set_default_device(None)
say("error", lambda: torch.mean(), lambda: torch.mean(3), lambda: torch.mean([3], x), lambda: Tensor.mean(),
    lambda: Tensor.mean(3), lambda: x.mean(dim=9), lambda: x.mean("a"), lambda: torch.sum(x, nope=1),
    lambda: x.to("nope"), lambda: torch.flatten(), lambda: torch.flatten([1], x), lambda: x.reshape(7),
    lambda: torch._C._nn.pad(x), lambda: F.one_hot(x), lambda: y.type("nope"), lambda: y.mean(), lambda: F.pad(x, (1,)))
say("attribute", lambda: pool(x), lambda: pool.total(x), lambda: pool.re(x, (-1,)), lambda: pool.de(x),
    lambda: pool.pad(x, (1, 1)), lambda: pool.oh(y), lambda: pool.part(x), lambda: pool.reduce(x, dim=1),
    lambda: pool.reduce(input=x), lambda: Pool.flat(x), lambda: pool.absolute(x, x + 1, 1))
class M(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a = torch.mean(x) + x.mean() + torch.sum(x) + x.sum() + torch.mean(x, dim=1).sum()
        z = y.to(torch.float32).float() + y.double().to(x.dtype) + y.half().to(x) + y.type_as(x) + y.int() + y.bool()
        c = torch.clone(z) + torch.detach(z) + z.clone() + z.detach() + z.contiguous() + z.cpu() + y.short() + y.long()
        r = torch.flatten(c, 0) + c.flatten() + torch.reshape(c, (-1,)) + c.reshape(-1)
        w = F.pad(r, (1, 1)) + torch._C._nn.pad(r, (1, 1), "constant", 0.0)
        return a + w.sum() + F.one_hot(y, 4).float().sum() + r.mean()

from torch import clone, flatten, mean
from torch.nn.functional import one_hot
def imported(x: Tensor, y: Tensor):
    return mean(x) + flatten(x).mean() + clone(x).sum() + one_hot(y, 4).sum()

say("script", lambda: torch.jit.script(M()).inlined_graph, lambda: torch.jit.script(imported).graph)
say("trace", lambda: torch.jit.trace(M(), (x, y)).inlined_graph, lambda: torch.jit.trace(M(), (x, y))(x, y),
    lambda: torch.jit.trace(M(), (x, y), check_trace=False).code, lambda: torch.jit.trace(lambda x: x.mean(9), x))
fx = torch.fx.symbolic_trace(M())
say("fx", lambda: [(n.op, n.name, n.target == "mean" or n.target is torch.mean) for n in fx.graph.nodes],
    lambda: fx.code, lambda: torch.fx.symbolic_trace(imported).code, lambda: pickle.loads(pickle.dumps(fx))(x, y),
    lambda: torch.fx.symbolic_trace(pool).code)
say("export", lambda: str(torch.export.export(M(), (x, y), strict=False).graph))
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
f = lambda x: x.mean() + torch.sum(x) + torch.mean(x.reshape(-1).float().clone())
say("transform", lambda: vmap(f)(x), lambda: grad(f)(x), lambda: vmap(grad(f))(x), lambda: jvp(f, (x,), (x,)),
    lambda: jacrev(lambda x: x.flatten().to(torch.float64))(x), lambda: hessian(lambda x: (x**2).mean())(x[0]),
    lambda: vmap(lambda y: F.one_hot(y, 4).float().sum())(y), lambda: vmap(lambda x: F.pad(x, (1, 1)).mean())(x),
    lambda: functional_call(nn.Linear(3, 1), {"weight": torch.ones(1, 3), "bias": torch.zeros(1)}, (x,)).mean())
"""
)

COMPILED = (
    EVERY
    + """
import torch._dynamo.utils as counting
graphs = []
def backend(graph, inputs):
    graphs.append([(node.op, node.name, getattr(node.target, "__name__", node.target)) for node in graph.graph.nodes])
    return graph.forward

table = {"mean": torch.mean, "sum": Tensor.sum}
def odd(x, y):
    together = functools.reduce(torch.add, map(torch.mean, [x, x])) + (torch.mean is table["mean"])
    losses = F.margin_ranking_loss(x, x, x.sign().detach()) + F.triplet_margin_loss(x, x + 1, x * 2)
    return pool(x) + table["mean"](x) + table["sum"](x) + Tensor.mean(x) + pool.part(x).sum() + together + losses

def broken(x, y):
    x = x * 2
    torch._dynamo.graph_break()
    return every(x, y) + odd(x, y)

model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
def loss(x, y):
    return (F.cross_entropy(model(x[:, :3]), y, reduction="none") * F.one_hot(y, 4).float().sum(1)).mean() + x.mean()

for how, functions in (backend, (odd, broken, loss)), ("aot_eager", (every,)):
    for function in functions:
        torch._dynamo.reset()
        compiled = torch.compile(function, backend=how, fullgraph=function is not broken)
        for width in 3, 3, 5:
            x = torch.randn(5, width, requires_grad=True)
            result = compiled(x, y)
            result.backward()
            print(result.item(), x.grad.sum().item())
        print(dict(counting.counters["stats"]), counting.counters["graph_break"], dict(counting.counters["frames"]))
print(graphs)
"""
)


def test_used_in_all_ways_that_do_not_compile(home: Home) -> None:
    (home.folder / "s.py").write_text(OUTSIDE)
    plain, ours = home.python("s.py"), home.watched("s.py")
    assert plain.code == 0, plain.err
    said = [
        [line for line in ended.out.splitlines() if b"method mean" not in line and b"function mean" not in line]
        for ended in (plain, ours)
    ]
    assert said[1] == said[0]
    assert plain.out.count(b"aten::mean") >= 6
    assert plain.out.count(b"\n") == ours.out.count(b"\n")


@FULL
@pytest.mark.skipif(not shutil.which("gcc"), reason="torch.compile wants a compiler")
def test_compiled_in_whole_graphs(home: Home) -> None:
    """As many graphs, operators, breaks and frames as plain."""
    (home.folder / "s.py").write_text(COMPILED)
    plain, ours = home.python("s.py"), home.watched("s.py")
    assert plain.code == 0, plain.err
    assert (ours.code, ours.out) == (0, plain.out), ours.err


def test_the_compiler_finds_torchs_own_when_the_session_is_over() -> None:
    def loss(x: Tensor) -> Tensor:
        return torch.mean(torch.flatten(x)) + torch.Tensor.sum(x) + F.l1_loss(x, x + 1)

    x = torch.randn(3, 2)

    def compiled() -> Tensor:
        torch._dynamo.reset()
        return torch.compile(loss, backend="eager", fullgraph=True)(x)

    with watched():
        first = compiled()
    assert torch.equal(first, compiled())
    with watched():
        assert torch.equal(first, compiled())


def _functions() -> list[Any]:
    owners = [*[(Tensor, name) for name in (*copies.METHODS, *functions.REDUCTIONS)],
              *[(torch, name) for name in functions.REDUCTIONS], *functions.LOSSES, *copies.FUNCTIONS,
              (F, "one_hot")]  # fmt: skip
    return [getattr(owner, name) for owner, name in owners]


def test_pickled_and_resolved_under_their_names() -> None:
    """What was pickled here is read where nobody watches; tables of names that torch made before are made anew."""
    from torch.overrides import is_tensor_method_or_property, resolve_name

    plain = [(resolve_name(each), is_tensor_method_or_property(each), each.__name__) for each in _functions()]
    before = _functions()
    with watched():
        during = _functions()
        assert not any(one is other for one, other in zip(before, during)), "or this test would prove nothing"
        pickled = [pickle.dumps(each) for each in during]
        assert [pickle.loads(each) for each in pickled] == during
        assert [(resolve_name(each), is_tensor_method_or_property(each), each.__name__) for each in during] == plain
    assert [pickle.loads(each) for each in pickled] == before
    assert [(resolve_name(each), is_tensor_method_or_property(each), each.__name__) for each in before] == plain
