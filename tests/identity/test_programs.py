"""Collate functions that nobody wrote: statements drawn by chance. What is proven is compared with what they do."""

from __future__ import annotations

import linecache
import os
import signal
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from onthefly.capture.order.proof import prove
from tests.identity.test_collating import truth

FULL = bool(os.environ.get("ONTHEFLY_FULL"))
DRAWN = 4000 if FULL else 150

STATEMENTS = r"""
v = list(w)
v = tuple(w)
v = w[:]
v = w
v = w[::-1]
v = w[1:] + w[:1]
v = w + u
v = [x for x in w]
v = [(x, num(x)) for x in w]
v = [x[0] for x in w]
v = [x[1] for x in w]
v = [num(x) for x in w]
v = [num(x) for x in w if num(x) > 15]
v = [w[i] for i in range(len(w))]
v = [w[-i] for i in range(len(w))]
v = [w[i - 1] for i in range(len(w))]
v = [w[0] for x in u]
v = [a for a in b for b in w]
v = [x if num(x) > 15 else u for x in w]
v = [num(x) if num(x) > 15 else 0 for x in w]
v = (num(x) for x in w)
v = zip(w, u)
v = list(zip(w, u))
v = zip(*w)
v = list(zip(*w))
v = enumerate(w)
v = list(enumerate(w))
v = [x for _, x in enumerate(w)]
v = map(num, w)
v = list(map(num, w))
v = [num(x) for x in map(tuple, w)]
v = sorted(w, key=num)
v = list(reversed(w))
v = list(filter(num, w))
v = {num(x): x for x in w}
v = list({num(x) for x in w})
v = {"a": w, "b": u}
v = v["a"]
v = w["b"]
v["a"] = w
v, w = w, v
v, w = zip(*u)
v, *w = u
v = []
v, w = [], []
v = {"a": [], "b": []}
v = torch.zeros(len(batch))
v = torch.zeros(len(w), 2)
v = torch.tensor([num(x) for x in w])
v = torch.stack([torch.tensor(num(x)) for x in w])
v = torch.stack(list(w))
v = torch.stack([torch.stack(list(x)) for x in w])
v = torch.tensor(w)
v = torch.cat([torch.tensor([num(x)]) for x in w])
v = torch.cat([torch.tensor(num(x)).unsqueeze(0) for x in w])
v = torch.cat([w, u])
v = w.flip(0)
v = w[torch.randperm(len(w))]
v = w[torch.tensor([1, 0, 2, 4, 3])]
v = w.sort().values
v = w.unsqueeze(1)
v = w.view(-1)
v = w.reshape(len(w), -1)
v = w.reshape(-1, len(w))
v = w.t()
v = w.cumsum(0)
v = w.sum(1)
v = w[:, 0]
v = w[:, None]
v = w * 2
v = w * u
v = w - u
v = w + w[0]
v = -w
v = w > 20
v += 1
v += w
v[v > 20] = 0
v.reverse()
v.sort(key=num)
v.append(w)
v.append(num(w[0]))
v.extend(w)
v.pop()
v.insert(0, w[0])
v = v or w
v = w if len(u) > 2 else v
v = len(w)
v = max(w, key=num)
v = w[0]
v[0], v[1] = v[1], v[0]
v[0] = w[0]
w[0], u[0] = u[0], w[0]
del w
def v(x): return num(x)
def v(x): return [y for y in x][::-1]
v = lambda x: x[::-1]
v = w(u)
v = flip(w)
v = same(w)
v = [keep(x) for x in w]
v = [same(x) for x in w]
for x in w: v.append(x)
for x in w: v.append(num(x))
for x in w: v.append(num(x)); u.append(x)
for x in w: v.insert(0, x)
for x in w: v.append(x); v.append(x)
for x in w: v = x
for x in w: u.append(v); v = x
for x in w: v = num(x); u.append(v)
for x in w: u.append((x, v)); v = x
for x in w: v["a"].append(num(x))
for x in w: v["a"].append(x); v["b"].append(num(x))
for x in w: (v if num(x) > 25 else u).append(x)
for x in w: v.append(v[-1] if v else x)
for i, x in enumerate(w): v[i] = num(x)
for i, x in enumerate(w): v[-i] = num(x)
for i, x in enumerate(w): v[i - 1] = num(x)
for i, x in enumerate(w, 1): v[i % 5] = num(x)
for i, x in enumerate(w): v[i, 0] = num(x)
for i in range(len(w)): v[i] = num(w[i])
for i in range(len(w)): v[i] = w[i - 1]
for i in range(len(w) - 1): v[i] = w[i + 1]
for k in ("a", "b"): v[k] = w
for k in ("a", "b"): v[k] = [num(x) for x in w]
for k in v: u.append(v[k])
for k, x in v.items(): u.append(x)
for t in zip(*w): v.append(torch.tensor([num(x) for x in t]))
for x in w:\n        if num(x) > 15: v.append(x)
for x in w:\n        if num(x) > 15: continue\n        v.append(x)
for x in w:\n        if num(x) > 15: v.append(x)\n        else: u.append(x)
for x in w:\n        if num(x) > 15: v.append(x)\n        else: v.append(num(x))
for x in w:\n        y = num(x)\n        if y > 15: y = 0\n        v.append(y)
for x in w:\n        if num(x) > 15: y = num(x)\n        v.append(y)
if len(w) > 2: v = w
if len(w) > 2: v = u[::-1]
if len(w) > 9: v = w[::-1]
if isinstance(w, list): v = torch.tensor([num(x) for x in w])
""".strip().splitlines()

RETURNS = """
return torch.tensor([num(x) for x in v])
return torch.tensor(v)
return torch.stack(v)
return v
return v, w
return {"a": v, "b": w, "c": u}
return {k: torch.tensor(x) for k, x in v.items()}
return [torch.tensor(x) for x in v]
return [torch.tensor([num(y) for y in x]) for x in (v, w)]
return default_collate(v)
return default_collate([num(x) for x in v])
""".strip().splitlines()

BEGIN = """
def num(x):
    while not isinstance(x, (int, float)):
        x = x.flatten()[0].item() if isinstance(x, torch.Tensor) else next(iter(x))
    return x

def same(x):
    return x

def flip(x):
    return x[::-1]

kept = []

def keep(x):
    kept.append(x)
    return x

def collate(batch):
    v, w, u = batch, batch, [num(x) for x in batch]
"""


def names(text: str, order: str) -> str:
    """The statement with its variables exchanged."""
    return "".join(
        order["vwu".index(c)] if c in "vwu" and not _in_word(text, place) else c for place, c in enumerate(text)
    )


def _in_word(text: str, place: int) -> bool:
    around = text[max(place - 1, 0) : place] + text[place + 1 : place + 2]
    return any(c.isalnum() or c in "_." for c in around if c != "." or text[place - 1] == ".")


programs = st.tuples(
    st.lists(st.tuples(st.sampled_from(STATEMENTS), st.permutations("vwu").map("".join)), min_size=1, max_size=5),
    st.tuples(st.sampled_from(RETURNS), st.permutations("vwu").map("".join)),
).map(lambda drawn: BEGIN + "".join(f"    {names(text, order)}\n" for text, order in [*drawn[0], drawn[1]]))


def made(source: str) -> Any:
    """The function, with its source where it is looked for."""
    file = f"<drawn {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"torch": torch, "default_collate": torch.utils.data.default_collate}
    exec(compile(source.replace("\\n", "\n"), file, "exec"), scope)
    return scope["collate"]


def faults_of(collate: Any, form: Any) -> list[str]:
    """What is wrong about it; nothing where it raises, or appends to a list that it goes through: there is no batch."""
    before = signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        return truth(collate, "pairs of one length", form)
    except AssertionError:
        raise
    except Exception:  # noqa: BLE001 - whatever such a program does
        return []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end(*_: Any) -> None:
    raise TimeoutError


@pytest.mark.filterwarnings("ignore")
@seed(int(os.environ.get("ONTHEFLY_SEED", "0")))
@settings(
    max_examples=DRAWN,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
)
@given(programs)
def test_what_is_proven_is_true(source: str) -> None:
    source = source.replace("\\n", "\n")
    try:
        collate = made(source)
    except SyntaxError:
        return
    proof = prove(collate)
    if proof.doubt:
        return
    assert faults_of(collate, proof.form) == [], source
