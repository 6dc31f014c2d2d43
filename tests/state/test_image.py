# ruff: noqa: E501 - scripts, each statement on one line
"""What a script can hold, kind by kind: carried into another process, or refused by a name that a person understands.

Each case is a loop whose state depends on the seed and on the steps taken; it is taken at the third step and put into
a run of another seed at the first step where it fits.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.state.carrying import Carried, Carrier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Carry = Callable[["Case"], Carried]


class Case(NamedTuple):
    """One script: ``setup``, then ``step`` six times with a pause after each; ``result`` is what it must end with."""

    setup: str
    step: str
    result: str
    top: str = ""
    """Before ``main``."""
    arrival: int = 1
    """The step at which it fits first."""

    @property
    def text(self) -> str:
        body = f"{self.setup}\nfor i in range(6):\n{textwrap.indent(self.step, '    ')}\n    __pause__()\n"
        return f"{IMPORTS}\n{self.top}\n\ndef main(seed):\n{textwrap.indent(body, '    ')}    return {self.result}\n"


IMPORTS = """
import array, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools, io, itertools, pathlib
import random, types
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
"""

CONTAINERS = {
    "list in lists": Case("a = [seed]\nb = [a, a]", "a.append(i); b = [*b, a]", "b, b[0] is b[-1] is a"),
    "dict order": Case("d = {}", "d[(seed, i)] = i; d.pop((seed, i - 2), None)", "list(d.items())"),
    "dict by tensors": Case(
        "t = [torch.ones(1) * seed for _ in range(3)]; d = {one: 0 for one in t}", "d[t[i % 3]] += seed * i",
        "[d[one] for one in t], [k.item() for k in d]"),
    "dict by objects": Case(
        "keys = [Key() for _ in range(2)]; d = {}", "keys.append(Key()); d[keys[-1]] = seed * i; d[keys[0]] = i",
        "[d.get(key) for key in keys], [keys.index(key) for key in d]", "class Key: pass"),
    "set": Case("s = {seed}", "s.add(seed * 100 + i)", "sorted(s)"),
    "objects in a set": Case(
        "s = {Key(seed)}", "s.add(Key(seed * 10 + i))", "sorted(one.n for one in s), all(one in s for one in list(s))",
        "class Key:\n    def __init__(self, n): self.n = n"),
    "objects with a hash of their values": Case(
        "s = {Key(seed)}; d = {Key(seed): 1}", "s.add(Key(seed * 10 + i)); d[Key(seed * 10 + i)] = i",
        "sorted(one.n for one in s), Key(13) in s, d.get(Key(13))",
        "@dataclasses.dataclass(frozen=True)\nclass Key:\n    n: int"),
    "frozenset": Case("s = frozenset()", "s = s | {(seed, i)}", "sorted(s)"),
    "defaultdict of lists": Case(
        "d = collections.defaultdict(list)", "d[i % 2].append(seed * i)", "dict(d), d['new'], d.default_factory"),
    "defaultdict by a lambda": Case(
        "d = collections.defaultdict(lambda: collections.defaultdict(int))", "d[i % 2]['n'] += seed",
        "{k: dict(v) for k, v in d.items()}, d['new']['n']"),
    "deque": Case("q = collections.deque(maxlen=2)", "q.append(seed * i)", "list(q), q.maxlen"),
    "OrderedDict": Case("d = collections.OrderedDict()", "d[seed * i] = i; d.move_to_end(0)", "list(d.items())"),
    "Counter": Case("c = collections.Counter()", "c[i % 2] += seed", "c.most_common()"),
    "namedtuple": Case("h = []", "h.append(Row(seed, [i]))", "h, h[0].a, type(h[0]) is Row",
                       "Row = collections.namedtuple('Row', 'a b')"),
    "typed namedtuple": Case("r = Row(seed)", "r = r._replace(a=r.a + i)", "tuple(r), r.twice()",
                    "import typing\nclass Row(typing.NamedTuple):\n    a: int\n    def twice(self): return 2 * self.a"),
    "own containers": Case(
        "l = L([seed]); l.note = 0; d = D(); d.hits = 0", "l.append(i); l.note += i; d[i] = seed; d.hits += 1",
        "list(l), l.note, dict(d), d.hits, type(l) is L", "class L(list): pass\nclass D(dict): pass"),
    "own containers built anew": Case(
        "h = []", "h.append(L([seed, i])); h[-1].note = i; h.append(D(a=seed)); h.append(S([seed])); h.append(T([i]))",
        "[(type(one).__name__, sorted(one), vars(one)) for one in h]",
        "class L(list): pass\nclass D(dict): pass\nclass S(set): pass\nclass T(tuple): pass"),
    "bytearray and array": Case("b = bytearray(); a = array.array('d')", "b.append(seed + i); a.append(seed / (i + 1))",
                                "bytes(b), a.tolist(), a.typecode"),
    "array built anew": Case("h = []", "h.append(array.array('i', [seed, i])); h.append(bytearray([i]))",
                             "[bytes(one) for one in h]"),
    "a cycle of references": Case(
        "a = {}", "b = [a, seed * i]; b.append(b); a[i] = b; a['me'] = a",
        "a[2][0] is a, a[2][2] is a[2], a['me'] is a, [a[k][1] for k in range(6)]"),
    "5,000 deep": Case("top = None", "for _ in range(1000): top = [seed * i, top]", "depth(top)",
                       "def depth(top):\n    found = []\n    while top: found.append(top[0]); top = top[1]\n"
                       "    return len(found), sum(found)"),
    "5,000 tuples deep": Case("top = None", "for _ in range(1000): top = (seed * i, top)", "depth(top)",
                       "def depth(top):\n    found = []\n    while top: found.append(top[0]); top = top[1]\n"
                       "    return len(found), sum(found)"),
    "UserDict and SimpleNamespace": Case(
        "u = collections.UserDict(); n = types.SimpleNamespace(k=0)", "u[i] = seed; n.k += seed; n.last = [i]",
        "dict(u), vars(n)"),
    "built anew: UserList, ChainMap": Case(
        "h = []", "h.append(collections.UserList([seed])); h.append(collections.ChainMap({'a': i}, {'b': seed}))",
        "[list(one) for one in h[::2]], [dict(one) for one in h[1::2]]"),
}  # fmt: skip

OBJECTS = {
    "slots": Case("m = Meter(); h = []", "m.add(seed * i); h.append(Meter()); h[-1].add(seed)",
                  "m.total, m.n, [one.total for one in h], hasattr(m, 'late')",
                  "class Meter:\n    __slots__ = ('total', 'n', 'late')\n    def __init__(self): self.total = self.n = 0\n"
                  "    def add(self, x): self.total += x; self.n += 1"),
    "dataclass with slots": Case(
        "h = [P(seed)]", "h.append(P(seed, i)); h[0].b += i", "[dataclasses.astuple(one) for one in h]",
        "@dataclasses.dataclass\nclass P:\n    __slots__ = ('a', 'b')\n    a: int\n    b: int\n"
        "    def __init__(self, a, b=0): self.a = a; self.b = b"),
    "frozen dataclass": Case("p = P(seed, ())", "p = dataclasses.replace(p, b=(*p.b, i))", "dataclasses.astuple(p)",
                             "@dataclasses.dataclass(frozen=True)\nclass P:\n    a: int\n    b: tuple"),
    "class attributes": Case("", "C.count += seed; C.seen = [*C.seen, i]", "C.count, C.seen",
                             "class C:\n    count = 0\n    seen = []"),
    "a class with __new__ and properties": Case(
        "h = []", "h.append(C(seed * i))", "[one.twice for one in h], C.made",
        "class C:\n    made = 0\n    def __new__(cls, x):\n        cls.made += 1\n        return object.__new__(cls)\n"
        "    def __init__(self, x): self.x = x\n    @property\n    def twice(self): return 2 * self.x"),
    "__getattr__ and __setattr__": Case(
        "h = []", "h.append(C(seed * i))", "[one.x for one in h]",
        "class C:\n    def __init__(self, x): self.__dict__['held'] = {'x': x}\n"
        "    def __getattr__(self, name): return self.held[name]\n"
        "    def __setattr__(self, name, value): raise RuntimeError"),
    "enum members": Case("s = State.A; h = {}", "s = State.B if i > 1 else State.A; h[s] = seed * i",
                         "s is State.B, [(k.name, v) for k, v in h.items()]",
                         "class State(enum.Enum):\n    A = 1\n    B = 2"),
    "flags": Case("s = F.A", "s = F.A | F.B if i > 1 else F.A; h = [s, seed, i]", "s, s is h[0], h",
                  "class F(enum.IntFlag):\n    A = 1\n    B = 2"),
    "paths": Case("p = pathlib.Path('a')", "p = p / str(seed * i)", "p, type(p)"),
    "dates": Case(
        "d = datetime.date(2000, 1, seed); h = []",
        "d += datetime.timedelta(i); h.append(datetime.datetime(2000, 1, 1, seed, i, tzinfo=datetime.timezone.utc))\n"
        "h.append(datetime.time(seed, i)); h.append(datetime.datetime(2000, 1, 1, seed, i))", "d, h"),
    "a time zone": Case(
        "h = []", "h.append(datetime.datetime(2000, 1, seed, tzinfo=datetime.timezone(datetime.timedelta(hours=i))))",
        "[one.isoformat() for one in h]"),
    "exact numbers": Case("f = fractions.Fraction(0); d = decimal.Decimal(0)",
                          "f += fractions.Fraction(seed, 7); d += decimal.Decimal('0.1') * seed", "f, d, type(f)"),
    "numbers": Case("n = 0; f = float('nan'); c = 0j", "n = n * 2**70 + seed; f = float('inf') * seed; c += seed * 1j",
                    "n, f, c"),
    "text": Case("t = ''", "t += 'é\\ud800\\0' + str(seed)", "t"),
    "an exception that was kept": Case(
        "e = None; h = []", "e = ValueError(seed) if i == 1 else e; h.append(repr(e))", "h, e.args"),
}  # fmt: skip

FUNCTIONS = {
    "nonlocal": Case("add, get = counter()", "add(seed * i)", "get()",
                     "def counter():\n    n = 0\n    def add(k):\n        nonlocal n\n        n += k\n"
                     "    return add, lambda: n"),
    "closures built anew": Case(
        "h = []", "h.append(counter())\nfor add, get in h: add(seed * i)", "[get() for add, get in h]",
        "def counter():\n    n = 0\n    def add(k):\n        nonlocal n\n        n += k\n    return add, lambda: n"),
    "lambdas with defaults": Case("h = []", "h.append(lambda x, k=seed * i: x * k)", "[f(10) for f in h]"),
    "another lambda of the same place": Case("f = lambda: 0", "f = (lambda k: lambda: k)(seed * i)", "f()"),
    "two closures of one call, and of two": Case(
        "one, two = counter(seed), counter(seed); add, get = one",
        "if i == 1: add, get = one[0], two[1]\nadd(seed); two[0](seed * i)", "get(), one[1](), two[1]()",
        "def counter(k):\n    n = 0\n    def add(k):\n        nonlocal n\n        n += k\n    return add, lambda: n"),
    "partial with what it is called with": Case(
        "f = None", "f = functools.partial(dict, k=[seed]); f.keywords['m'] = i; f.note = seed", "f(), f.note"),
    "partial": Case("f = functools.partial(max, 0)", "f = functools.partial(f, seed * i, key=abs)",
                    "f.args, f.keywords, f(1)"),
    "bound methods": Case("h = []", "c = C(seed * i); h.append(c.get); h.append(h.append)", "[f() for f in h[::2]]",
                          "class C:\n    def __init__(self, x): self.x = x\n    def get(self): return self.x"),
    "functions with attributes": Case("", "f.calls += seed; f.last = i", "f.calls, f.last",
                                      "def f(): pass\nf.calls = 0"),
    "a decorator that counts": Case(
        "", "f(seed)", "f.n, f(0)",
        "def counts(g):\n    @functools.wraps(g)\n    def inner(x):\n        inner.n += x\n        return g(x)\n"
        "    inner.n = 0\n    return inner\n@counts\ndef f(x): return x"),
    "a function with other defaults": Case("", "f.__defaults__ = (seed * i,)", "f()", "def f(x=0): return x"),
    "globals": Case("global n", "n += seed", "n", "n = 0"),
    "a variable deleted": Case("a = seed", "if i == 1: del a", "'a' in locals(), seed"),
    "builtins and types": Case("h = []", "h.append([max, int, torch.relu, nn.Linear, None, ...][i]); k = seed", "h, k"),
    "a function of the script, by another name": Case(
        "f = one", "f = two if i >= 1 else one; h = seed", "f(), h", "def one(): return 1\ndef two(): return 2"),
}  # fmt: skip

ITERATORS = {
    "a sequence by __getitem__": Case("it = iter(Seq(seed))", "got = next(it)", "got, next(it)",
        "class Seq:\n    def __init__(self, k): self.k = k\n    def __getitem__(self, j): return j * self.k"),
    "iter of a function": Case("h = [seed]; it = iter(lambda: h.append(h[-1] + 1) or h[-1], -1)", "got = next(it)",
                               "got, next(it)"),
    "a generator that has ended": Case("g = gen(seed)", "got = next(g, -1)", "got, next(g, -1), seed",
        "def gen(k):\n    yield k\n    yield 2 * k"),
    "iter of a function with a state of its own": Case(
        "it = make(seed)", "got = next(it)", "got, next(it)",
        "def make(k):\n    n = 0\n    def f():\n        nonlocal n\n        n += k\n        return n\n    return iter(f, None)"),
    "iter of a function built anew": Case(
        "h = []", "h.append(iter(functools.partial(next, itertools.count(seed)), 99)); next(h[-1])",
        "[next(it) for it in h]"),
    "range": Case("it = iter(range(seed, 100, seed))", "got = [next(it), next(it)]", "got, list(it)[:3]"),
    "a generator over a range": Case("g = gen(seed)", "got = next(g)", "got, next(g)",
        "def gen(k):\n    total = 0\n    for j in range(k, 100 * k, k):\n        total += j\n        yield total, j"),
    "a generator over a list": Case("g = gen([seed * 10 + j for j in range(9)])", "got = next(g)", "got, list(g)",
        "def gen(held):\n    for one in held:\n        for two in (one, -one): yield two"),
    "yield from": Case("g = outer(seed)", "got = next(g)", "got, next(g)",
        "def inner(k):\n    while True: k += 1; yield k\ndef outer(k): yield from inner(k)"),
    "cycle": Case("it = itertools.cycle([seed, 2 * seed, 30 * seed, 7])", "got = next(it)", "got, [next(it) for _ in 'abcde']"),
    "cycle over a generator": Case(
        "it = itertools.cycle(gen(seed))", "got = next(it), next(it)", "got, [next(it) for _ in range(9)]",
        "def gen(k):\n    for j in range(9): yield k * j"),
    "islice": Case("it = itertools.islice(itertools.count(seed), 1, 50, 2)", "got = next(it)", "got, list(it)[:4]"),
    "count": Case("it = itertools.count(seed)", "got = next(it)", "got, next(it)"),
    "count by a step": Case("it = itertools.count(seed, 0.5)", "got = next(it)", "got, next(it)"),
    "chain": Case("it = itertools.chain([seed, 1], [2 * seed, 3], [4, seed * 5, 6, seed])", "got = next(it)", "got, list(it)"),
    "zip and map": Case(
        "it = zip(iter(range(seed, 99)), map(lambda x: x * seed, [1, 2, 3, 4, 5, 6, 7, 8, 9]))", "got = next(it)",
        "got, list(it)"),
    "enumerate": Case("it = enumerate([seed * j for j in range(9)], 5)", "got = next(it)", "got, list(it)"),
    "filter": Case("it = filter(lambda x: x % 2, [seed * 3 + j for j in range(30)])", "got = next(it)", "got, list(it)"),
    "reversed": Case("it = reversed([seed * j for j in range(9)])", "got = next(it)", "got, list(it)"),
    "dict iterators": Case(
        "d = {seed * 10 + j: j * seed for j in range(9)}; it = iter(d.items()); ks = iter(d)", "got = next(it), next(ks)",
        "got, list(it), list(ks)"),
    "text's iterator": Case("it = iter('abcdefghi'[seed:])", "got = next(it)", "got, list(it)"),
    "a deque's iterator": Case("it = iter(collections.deque(range(seed, 20)))", "got = next(it)", "got, list(it)"),
    "iterators built anew": Case(
        "h = []", "h.append([iter(range(seed, 90)), itertools.count(seed), iter([seed, i, 7]), enumerate(iter([i, seed]), 3)])\n"
        "for one in h[-1]: next(one)", "[[next(it) for it in row] for row in h]"),
    "an iterator of the script's own": Case(
        "it = iter(It(seed))", "got = next(it)", "got, next(it)",
        "class It:\n    def __init__(self, k): self.k = k\n    def __iter__(self): return self\n"
        "    def __next__(self): self.k += 1; return self.k"),
}  # fmt: skip

TENSORS = {
    "views of one memory": Case(
        "base = torch.arange(6.0) * seed; head = base[:2]; table = base.view(2, 3).t()", "head += 1; table[2, 1] += seed",
        "base.tolist(), table.tolist(), head.data_ptr() == base.data_ptr()"),
    "views built anew": Case(
        "h = []", "base = torch.arange(4.0) * seed; h.append((base, base[1:3], base.view(2, 2).t()))\n"
        "for base, part, table in h: part += 1",
        "[(b.tolist(), t.tolist()) for b, p, t in h]"),
    "views alone built anew": Case(
        "h = []", "base = torch.arange(4.0) * seed; h.append((base[:3], base[1:])); del base\n"
        "for one, two in h: one += 1", "[(a.tolist(), b.tolist()) for a, b in h]"),
    "dtypes": Case(
        "h = []", "h.append(torch.full((2,), seed + i).to([torch.bfloat16, torch.int8, torch.bool, torch.complex64, "
        "torch.float64, torch.float16][i]))", "[(str(t.dtype), t.tolist()) for t in h]"),
    "scalars and empty ones": Case("t = torch.tensor(0.0); h = []", "t = t + seed; h.append(torch.empty(0, i))",
                                   "t.item(), [one.shape for one in h]"),
    "a view of what is there already": Case(
        "base = torch.ones(4)", "base += seed\nif i > 0: part = base[1:3]; part *= i", "base.tolist(), part.tolist(), "
        "part.data_ptr() - base.data_ptr()"),
    "a distribution": Case("d = torch.distributions.Normal(0.0, 1.0)", "d.loc = d.loc + seed; d.scale += i",
                           "d.loc.item(), d.scale.item()"),
    "expanded": Case("t = torch.ones(1).expand(3)", "t = (torch.ones(1) * seed * i).expand(3)", "t.tolist(), t.stride()"),
    "a leaf with a gradient": Case(
        "w = torch.ones(2, requires_grad=True)", "(w * seed * i).sum().backward()", "w.grad.tolist(), w.requires_grad"),
    "a result whose graph is used": Case(
        "w = torch.ones(2, requires_grad=True); total = 0.0",
        "loss = (w * seed * i).sum(); loss.backward(); total += loss.detach(); loss = loss.detach()",
        "total.item(), w.grad.tolist()"),
    "tied weights": Case(
        "m = Net()", "with torch.no_grad(): m.a.weight += seed", "m.a.weight.tolist(), m.b.weight is m.a.weight",
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a = nn.Linear(2, 2, bias=False); self.b = nn.Linear(2, 2, bias=False)\n"
        "        nn.init.ones_(self.a.weight); self.b.weight = self.a.weight"),
    "modules built in the loop": Case(
        "torch.manual_seed(seed); h = nn.ModuleList()",
        "h.append(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))\nfor one in h: x = one(torch.ones(3, 2) * i).detach()",
        "[p.tolist() for p in h.parameters()], [b.tolist() for b in h.buffers()], x.tolist(), list(h.state_dict())"),
    "deep copies of models": Case(
        "torch.manual_seed(seed); m = nn.Linear(2, 2); best = None",
        "with torch.no_grad(): m.weight += seed\nif i == 1: best = copy.deepcopy(m); state = copy.deepcopy(m.state_dict())",
        "best.weight.tolist(), {k: v.tolist() for k, v in state.items()}, best is m"),
    "an optimizer made in the loop": Case(
        "torch.manual_seed(seed); m = nn.Linear(2, 2); o = torch.optim.SGD(m.parameters(), 0.1)",
        "if i == 1: o = torch.optim.Adam(m.parameters(), 0.1); s = torch.optim.lr_scheduler.StepLR(o, 1, 0.5)\n"
        "o.zero_grad(); m(torch.ones(1, 2) * seed).sum().backward(); o.step()\nif i > 0: s.step()",
        "m.weight.tolist(), o.state_dict()['param_groups'][0]['lr'], type(o).__name__, o.param_groups[0]['params'][0] is m.weight",
        arrival=2),
    "a group that was added": Case(
        "torch.manual_seed(seed); m = nn.Linear(2, 2); o = torch.optim.SGD(m.parameters(), 0.1, momentum=0.9)",
        "if i == 1: n = nn.Linear(2, 2); o.add_param_group({'params': list(n.parameters()), 'lr': seed / 10})\n"
        "o.zero_grad(); m(torch.ones(1, 2) * seed).sum().backward()\nif i > 0: n(torch.ones(1, 2)).sum().backward()\n"
        "o.step()", "m.weight.tolist(), n.weight.tolist(), [g['lr'] for g in o.param_groups]"),
    "frozen and evaluating": Case(
        "m = nn.Sequential(nn.Linear(2, 2), nn.Dropout())", "if i == 1: m.eval(); m[0].weight.requires_grad_(False); k = seed",
        "m.training, m[1].training, m[0].weight.requires_grad, k"),
    "hooks added in the loop": Case(
        "h = []; m = nn.Identity(); handles = []",
        "handles.append(m.register_forward_hook(functools.partial(note, h, seed * i))); m(torch.ones(1))", "h, len(handles)",
        "def note(h, n, *given): h.append(n)"),
    "hooks of the script": Case(
        "h = []; m = nn.Identity(); handle = m.register_forward_hook(lambda m, x, y: h.append(seed))",
        "m(torch.ones(1))\nif i == 4: handle.remove()", "h, len(m._forward_hooks)"),
    "a hook that was removed": Case(
        "h = []; m = nn.Identity(); handle = m.register_forward_hook(lambda m, x, y: h.append(seed))",
        "m(torch.ones(1))\nif i == 1: handle.remove()", "h, len(m._forward_hooks)"),
    "buffers, some not kept": Case(
        "m = nn.Module(); m.register_buffer('n', torch.zeros(1)); m.register_buffer('o', torch.zeros(1), persistent=False)",
        "m.n += seed; m.o = m.o + seed", "m.n.item(), m.o.item(), list(m.state_dict())"),
    "a parameter of another shape": Case(
        "torch.manual_seed(seed); m = nn.Linear(2, 2)", "if i == 1: m.weight = nn.Parameter(torch.ones(3, 2) * seed)\n"
        "with torch.no_grad(): m.weight += seed", "m.weight.tolist(), m.weight.requires_grad"),
}  # fmt: skip

OTHERS = {
    "numpy arrays": Case(
        "a = np.zeros(3); view = a[1:]; h = []", "a += seed; view *= i; h.append(np.arange(i) * seed)",
        "a.tolist(), view.tolist(), np.shares_memory(a, view), [one.tolist() for one in h]"),
    "numpy views built anew": Case(
        "h = []", "a = np.arange(4.0) * seed; h.append((a[1:], a, a.reshape(2, 2).T)); h[-1][0][0] = i\n"
        "for part, a, t in h: part += 1", "[(a.tolist(), t.tolist()) for part, a, t in h]"),
    "numpy scalars": Case("s = np.float32(0)", "s = s + np.float32(seed / 3); n = np.int64(seed * i)", "s, type(s), n, type(n)"),
    "numpy dtypes and objects": Case(
        "d = np.dtype('f4'); o = np.array([None, None], dtype=object)", "o[0] = [seed, i]; d = np.dtype('i2' if i else 'f4')",
        "o[0], d"),
    "generators of random numbers": Case(
        "t = torch.Generator().manual_seed(seed); n = np.random.default_rng(seed); p = random.Random(seed); "
        "old = np.random.RandomState(seed)",
        "got = torch.rand(1, generator=t).item(), n.random(), p.random(), old.rand()",
        "got, torch.rand(1, generator=t).item(), n.normal(), p.gauss(0, 1), old.randn()"),
    "random generators built anew": Case(
        "h = []", "h.append((torch.Generator().manual_seed(seed * i), np.random.default_rng(seed * i), random.Random(seed * i), "
        "np.random.RandomState(seed * i), np.random.Generator(np.random.Philox(seed * i))))",
        "[(torch.rand(1, generator=t).item(), n.random(), p.random(), o.rand(), f.random()) for t, n, p, o, f in h]"),
    "the global ones": Case(
        "torch.manual_seed(seed); np.random.seed(seed); random.seed(seed)",
        "got = torch.rand(1).item(), np.random.rand(), random.random()",
        "got, torch.rand(1).item(), np.random.rand(), random.random()"),
    "StringIO": Case("s = io.StringIO(); b = io.BytesIO(); h = []",
                     "s.write(str(seed * i)); b.write(bytes([seed])); h.append(io.StringIO(str(seed)))",
                     "s.getvalue(), s.tell(), b.getvalue(), [one.read() for one in h]"),
    "a module in a variable": Case("m = random", "m = torch if i else random; h = seed", "m.__name__, h"),
    "a match, a lock, a pattern": Case(
        "import re, threading; lock = threading.Lock(); p = re.compile('a+'); h = []", "h.append(p.match('aa' * seed).end())",
        "h"),
}  # fmt: skip

REPLAYED = {
    "numpy records and masks": Case(
        "r = np.zeros(2, dtype=[('a', 'i4')]); m = np.ma.masked_array([1, 2], [0, 1])", "r['a'] += seed; m = m + i",
        "r.tolist(), m.tolist()"),
    "an object of a class made in the loop": Case(
        "h = []", "C = make(seed); h.append(C())", "[one.n() for one in h]",
        "def make(k):\n    class C:\n        def n(self): return k\n    return C"),
    "a generator built anew": Case("h = []", "h.append(gen(seed)); next(h[-1])", "[next(g) for g in h]",
        "def gen(k):\n    while True: k += 1; yield k"),
    "a set's iterator": Case("it = iter({seed + j for j in range(9)})", "got = next(it)", "got, list(it)"),
    "accumulate": Case("it = itertools.accumulate(range(seed, 99))", "got = next(it)", "got, next(it)"),
    "product": Case("it = itertools.product(range(seed + 1), range(9))", "got = next(it)", "got, next(it)"),
    "repeat": Case("it = itertools.repeat(seed, 20)", "got = next(it), next(it)", "got, list(it)"),
    "sparse": Case("t = torch.eye(2).to_sparse()", "t = (torch.eye(2) * seed * i).to_sparse()", "t.to_dense().tolist()",
                   arrival=3),
    "a generator at another yield": Case("g = gen(seed)", "got = next(g)", "got, next(g), next(g)",
        "def gen(k):\n    yield 0\n    yield k\n    yield 2 * k\n    while True:\n        k += 1\n        yield k"),
}  # fmt: skip
"""Nobody can read these, or make another one: the script must come to that step by itself, and then is at it."""

CASES = {**CONTAINERS, **OBJECTS, **FUNCTIONS, **ITERATORS, **TENSORS, **OTHERS}


@pytest.mark.parametrize("name", CASES)
def test_it_goes_on_as_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    found = Carrier(case.text, tmp_path, monkeypatch).carry()
    assert (found.obstacle, found.arrival) == ("", case.arrival), found.reason
    assert repr(found.resumed) == repr(found.whole)
    assert repr(found.other) != repr(found.whole), "a run that is not resumed ends in the same way"


@pytest.mark.parametrize("name", REPLAYED)
def test_it_is_gone_on_from_where_the_script_comes_to_it_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Carrier(REPLAYED[name].text, tmp_path, monkeypatch).carry(other=1)
    assert (found.obstacle, found.arrival) == ("", 3), found.reason
    assert found.reason
    assert repr(found.resumed) == repr(found.whole)


def test_an_open_database_is_told_when_the_checkpoint_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Case("import sqlite3\nbase = sqlite3.connect(':memory:')", "pass", "base.close()").text
    found = Carrier(text, tmp_path, monkeypatch).carry()
    assert "base in main() is a database that is open" in found.obstacle
