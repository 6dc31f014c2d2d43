"""Samples that a script draws itself have the index it drew them by, or none; brute force tells which is right."""

from __future__ import annotations

import contextlib
import gc
import linecache
import random
import textwrap
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from onthefly.capture.draws import DEEPEST, Draws
from tests.conftest import FULL
from tests.watching import watched

if TYPE_CHECKING:
    from pathlib import Path

    from tests.watching import Row

N, B = 40, 8

BEGINNING = """
import random
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

N, B = 40, 8
X = torch.randn(N, 6)
X[:, 0] = torch.arange(N)
Y = torch.arange(N).float()[:, None]
LABELS = torch.randint(0, 3, (N,))
SAME = torch.zeros(N, dtype=torch.int64)
TABLES = torch.randn(N, 1), torch.randn(N, 1)
M, V = TABLES
model = nn.Linear(6, 1)
"""
"""The first column of the inputs tells the sample."""

EACH = "for step in range(5):\n    "
TRAIN = "F.mse_loss(model(x), y).backward(); tell(x)"

KNOWN = {
    "tensor": f"{EACH}ix = torch.randint(0, X.shape[0], (B,)); x, y = X[ix], Y[ix]\n    {TRAIN}",
    "one by one": f"{EACH}ix = torch.randperm(N)[:B]\n    x = X[ix]\n    y = Y[ix]\n    {TRAIN}",
    "int": f"{EACH}ix = torch.randperm(N)[:B].int()\n    x, y = X[ix], Y[ix]\n    {TRAIN}",
    "annotated": f"ix: torch.Tensor\n{EACH}ix: torch.Tensor = torch.randperm(N)[:B]\n"
    f"    x: torch.Tensor = X[ix]\n    y = Y[ix]\n    {TRAIN}",
    "list": f"{EACH}ix = random.sample(range(N), B)\n    x, y = X[ix], Y[ix]\n    {TRAIN}",
    "array": f"{EACH}ix = np.random.choice(N, B)\n    x, y = X[ix], Y[ix]\n    {TRAIN}",
    "from the end": f"{EACH}ix = torch.randperm(N)[:B] - N\n    x, y = X[ix], Y[ix]\n    {TRAIN}",
    "selected": f"{EACH}ix = torch.randperm(N)[:B]\n"
    f"    x, y = X.index_select(0, ix), torch.index_select(Y, 0, ix)\n    {TRAIN}",
    "a slice of a permutation": "perm = torch.randperm(N)\nfor i in range(0, N, B):\n"
    f"    x, y = X[perm[i : i + B]], Y[perm[i : i + B]]\n    {TRAIN}",
    "a slice of an array": "order = np.arange(N)\nfor epoch in range(2):\n    np.random.shuffle(order)\n"
    f"    for i in range(0, N, B):\n        ix = order[i : i + B]\n        x, y = X[ix], Y[ix]\n        {TRAIN}",
    "rows of a permutation": f"for rows in torch.randperm(N).view(5, B):\n    x, y = X[rows], Y[rows]\n    {TRAIN}",
    "parts": f"for i, rows in enumerate(torch.randperm(N).split(B)):\n    x, y = X[rows], Y[rows]\n    {TRAIN}",
    "a list of parts": "perm = torch.randperm(N)\nparts = [perm[i : i + B] for i in range(0, N, B)]\n"
    f"random.shuffle(parts)\nfor rows in parts:\n    x, y = X[rows], Y[rows]\n    {TRAIN}",
    "labels of few classes": f"{EACH}ix = torch.randint(0, N, (B,))\n    x, y = X[ix], LABELS[ix]\n"
    "    F.cross_entropy(model(x) * torch.ones(3), y).backward(); tell(x)",
    "labels of one class": f"{EACH}ix = torch.randint(0, N, (B,))\n    x, y = X[ix], SAME[ix]\n"
    "    F.cross_entropy(model(x) * torch.ones(3), y).backward(); tell(x)",
    "a loss with a name": f"{EACH}ix = torch.randint(0, N, (B,))\n    x, y = X[ix], Y[ix]\n    model.zero_grad()\n"
    "    loss = F.mse_loss(model(x), y)\n    print(end='')\n    loss.backward()\n    tell(x)",
    "by hand": f"{EACH}ix = torch.randint(0, N, (B,))\n    x, y = X[ix], Y[ix]\n"
    "    ((model(x) - y) ** 2).mean().backward(); tell(x)",
    "cast": f"{EACH}ix = torch.randint(0, N, (B,))\n    x, y = X[ix], Y[ix]\n"
    "    loss = F.mse_loss(model(x).double(), y.double())\n    loss.backward(); tell(x)",
    "in one statement": f"{EACH}ix = torch.randperm(N)[:B]\n"
    "    F.mse_loss(model(X[ix]), Y[ix]).backward()\n    tell(X[ix])",
    "in the loss": f"{EACH}ix = torch.randperm(N)[:B]\n    loss = F.mse_loss(model(X[ix]), Y[ix]) / 2\n"
    "    model.zero_grad()\n    loss.backward()\n    tell(X[ix])",
    "in the loss of a module": f"loss_of = nn.MSELoss()\n{EACH}ix = torch.randperm(N)[:B]\n    x = X[ix]\n"
    "    loss = loss_of(model(x), Y[ix])\n    loss.backward()\n    tell(X[ix])",
    "the next key is drawn after": "ix = torch.randperm(N)[:B]\n"
    f"for step in range(5):\n    x, y = X[ix], Y[ix]\n    {TRAIN}\n    ix = torch.randperm(N)[:B]",
    "a cut of a shuffle": "perm = torch.randperm(N)\nXs, Ys = X[perm], Y[perm]\nfor i in range(0, N, B):\n"
    f"    x, y = Xs[i : i + B], Ys[i : i + B]\n    {TRAIN}",
    "a cut of a cut": "train = torch.arange(N - 1, -1, -1)\nXs, Ys = X[train], Y[train]\n"
    f"{EACH}ix = torch.randint(0, len(Xs), (B,))\n    x, y = Xs[ix], Ys[ix]\n    {TRAIN}",
    "an index from a table": "table = torch.randperm(N)\n"
    f"{EACH}ix = table[torch.randint(0, N, (B,))]\n    x, y = X[ix], Y[ix]\n    {TRAIN}",
    "the end of the data": f"Xs, Ys = X[4:], Y[4:]\n{EACH}ix = torch.randint(0, N - 4, (B,))\n"
    f"    x, y = Xs[ix], Ys[ix]\n    {TRAIN}",
    "flat": f"Xs, Ys = X.view(N, 2, 3).view(N, 6), Y.view(N, 1)\n{EACH}ix = torch.randint(0, N, (B,))\n"
    f"    x, y = Xs[ix], Ys[ix]\n    {TRAIN}",
    "branches": f"{EACH}ix = torch.randperm(N)[:B]\n    if step % 2:\n        x, y = X[ix], Y[ix]\n        {TRAIN}\n"
    f"    else:\n        jx = torch.randint(0, N, (B,))\n        x, y = X[jx], Y[jx]\n        {TRAIN}",
    "two draws": f"{EACH}ix, jx = torch.randint(0, N, (B,)), torch.randint(0, N, (B,))\n    x, y = X[ix], Y[ix]\n"
    "    u, v = X[jx], Y[jx]\n    F.mse_loss(model(u), v).backward(); tell(u)\n"
    "    F.mse_loss(model(x), y).backward(); tell(x)",
    "in a class": "class Data:\n    def __init__(self): self.X, self.Y = X, Y\n    def train(self):\n"
    f"        ix = torch.randint(0, N, (B,))\n        x, y = self.X[ix], self.Y[ix]\n        {TRAIN}\n"
    f"data = Data()\n{EACH}data.train()",
    "in a closure": "optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)\n"
    f"{EACH}ix = torch.randint(0, N, (B,))\n    x, y = X[ix], Y[ix]\n    def closure():\n"
    "        loss = F.mse_loss(model(x), y)\n        loss.backward()\n        return loss\n"
    "    optimizer.step(closure); tell(x)",
    "the loss is handed down": "def step_on(loss):\n    loss.backward()\n"
    f"{EACH}ix = torch.randint(0, N, (B,))\n    x, y = X[ix], Y[ix]\n"
    "    step_on(F.mse_loss(model(x), y)); tell(x)",
}

UNKNOWN = {
    "a function of the script's own": "def randint(low, high, size): return LABELS[:size[0]]\n"
    f"{EACH}ix = randint(0, N, (B,))\n    x, y = X[ix], Y[ix]\n    {TRAIN}",
    "looked up": f"{EACH}ix = torch.randperm(N)[:B]\n    y = (ix + 1) % 10\n    x = X[ix]\n"
    "    F.mse_loss(torch.tensor(1.0) * model(x.clone()), M[y]).backward()",
    "looked up twice": f"{EACH}ix = torch.randperm(N)[:B]\n    x, y = X[ix], torch.tensor([3, 1, 2, 4, 5, 6, 7, 0])\n"
    "    x, m, v = x.neg(), M[y], V[y]\n    F.mse_loss(model(x), m).backward()",
    "labels of a function": f"def batch(): return torch.randn(B, 6), torch.randperm(N)[:B]\n{EACH}x, y = batch()\n"
    "    m, v = M[y], V[y]\n    F.mse_loss(model(x), m).backward()",
    "labels that are chosen": f"classes = LABELS.unique()\n{EACH}y = np.random.choice(classes, B)\n"
    "    m, v = M[y], V[y]\n    F.mse_loss(model(torch.randn(B, 6)), m).backward()",
    "labels, counted on": f"def batch(): return torch.randn(B, 6), torch.randperm(N)[:B]\n{EACH}x, y = batch()\n"
    "    flat = torch.arange(B) * 0 + y\n    m, v = M[flat], V[flat]\n    F.mse_loss(model(x), m).backward()",
    "alone": f"{EACH}ix = torch.randperm(N)[:B]\n    x, y = X[ix], torch.tensor(Y.numpy()[ix.numpy()])\n    {TRAIN}",
    "changed": f"{EACH}ix = torch.randperm(N)[:B]\n    x, y = X[ix], Y[ix]\n    x += 1\n    y += 1\n    {TRAIN}",
    "changed in place": f"{EACH}ix = torch.randperm(N)[:B]\n    x, y = X[ix], Y[ix]\n    y.mul_(2)\n    {TRAIN}",
    "strided": f"Xs, Ys = X[::2], Y[::2]\n{EACH}ix = torch.randperm(20)[:B]\n    x, y = Xs[ix], Ys[ix]\n    {TRAIN}",
    "masks": f"{EACH}ix = torch.arange(N) * 2 // N\n    ix = ix.bool()\n    x, y = X[ix], Y[ix]\n    {TRAIN}",
    "rows": f"{EACH}ix = torch.randperm(N)[:B]\n    x, y = X[ix[None]][0], Y[ix[None]][0]\n    {TRAIN}",
    "the next key is drawn before": "ix = torch.randperm(N)[:B]\n"
    f"for step in range(5):\n    x, y = X[ix], Y[ix]\n    ix = torch.randperm(N)[:B]\n    {TRAIN}",
    "the last draw is trained on": "ix = torch.randperm(N)[:B]\nx, y = X[ix], Y[ix]\n"
    f"{EACH}ix = torch.randperm(N)[:B]\n    {TRAIN}\n    x, y = X[ix], Y[ix]",
    "now and then": f"x, y = X[:B].clone(), Y[:B].clone()\n{EACH}ix = torch.randperm(N)[:B]\n"
    f"    if step % 2:\n        x, y = X[ix], Y[ix]\n    {TRAIN}",
    "a key in a buffer": f"ix = torch.randperm(N)[:B]\n{EACH}x, y = X[ix], Y[ix]\n    ix.random_(N)\n    {TRAIN}",
    "a key that is written to elsewhere": "perm = torch.randperm(N)\nix = perm[:B]\n"
    f"{EACH}x, y = X[ix], Y[ix]\n    perm.random_(N)\n    {TRAIN}",
    "a list that is shuffled": f"ix = random.sample(range(N), B)\n{EACH}x, y = X[ix], SAME[ix]\n"
    "    random.shuffle(ix)\n    F.cross_entropy(model(x) * torch.ones(3), y).backward()",
    "data replaced": f"{EACH}ix = torch.randperm(N)[:B]\n    x, y = X[ix], Y[ix]\n    X = X.clone()\n    {TRAIN}",
    "another's key": "def turn():\n    global ix\n    ix = torch.randperm(N)[:B]\nix = torch.randperm(N)[:B]\n"
    f"{EACH}x, y = X[ix], SAME[ix]\n    turn()\n    F.cross_entropy(model(x) * torch.ones(3), y).backward()",
    "drawn in a function": "def batch():\n    ix = torch.randperm(N)[:B]\n    return X[ix], Y[ix]\n"
    f"{EACH}x, y = batch()\n    {TRAIN}",
    "a loss of before": f"ix = torch.randperm(N)[:B]\nx, y = X[ix], SAME[ix]\nout = torch.zeros(3)\n"
    "def first(one, other): return one\n"
    f"{EACH}loss = F.cross_entropy(model(x.neg()) * torch.ones(3), y.clone())\n    ix = torch.randperm(N)[:B]\n"
    "    first(loss, F.cross_entropy(model(X[ix]) * torch.ones(3), SAME[ix])).backward()",
}


class Told:
    """What a script says of its samples."""

    def __init__(self) -> None:
        self.truth: list[list[int]] = []

    def __call__(self, inputs: Tensor) -> None:
        self.truth.append(inputs[:, 0].int().tolist())


def played(folder: Path, text: str, *, inside: bool = False, after: bool = False) -> tuple[list[Row], list[list[int]]]:
    """What is recorded of a script, and the samples in truth; within a function, and after a loader was iterated."""
    if inside:
        text = f"def main():\n{textwrap.indent(text, '    ')}\nmain()\n"
    path = folder / "script.py"
    path.write_text(BEGINNING + text)
    tell = Told()
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    with watched() as kept:
        if after:
            for _ in DataLoader(TensorDataset(torch.ones(4)), 2):
                pass
        exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), {"__name__": "script", "tell": tell})
    return kept.rows(), tell.truth


@pytest.mark.parametrize("inside", [False, True], ids=["module", "function"])
@pytest.mark.parametrize("name", KNOWN)
def test_the_index_is_the_scripts(tmp_path: Path, name: str, inside: bool) -> None:
    rows, truth = played(tmp_path, KNOWN[name], inside=inside)
    assert rows
    assert [row.samples for row in rows] == truth
    assert {(row.certificate, row.identity, row.epoch) for row in rows} == {("exact", "index", 0)}


@pytest.mark.parametrize("inside", [False, True], ids=["module", "function"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_be_no_draw_has_no_index(tmp_path: Path, name: str, inside: bool) -> None:
    text = UNKNOWN[name]
    if inside and name in ("data replaced", "another's key"):
        text = f"global X, ix\n{text}"
    rows, _ = played(tmp_path, text, inside=inside)
    assert rows
    assert {(row.certificate, row.identity) for row in rows} == {("exact", "none")}


def test_after_a_loader_nothing_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr(Draws, "look", lambda *given: looked.append(given))
    rows, _ = played(tmp_path, KNOWN["tensor"], after=True)
    assert {(row.certificate, row.identity) for row in rows} == {("exact", "none")}
    assert not looked
    played(tmp_path, KNOWN["tensor"])
    assert len(looked) == 5


def test_torchs_classes_stay_as_they_are() -> None:
    before = dict(vars(Tensor)), torch.index_select
    with watched():
        assert "__getitem__" not in vars(Tensor)
        assert (vars(Tensor).get("index_select"), torch.index_select) == (before[0].get("index_select"), before[1])


PEEPING = {
    "locals": "seen = locals()",
    "exec": "exec('ix = 3')",
    "inspect": "import sys; seen = sys._getframe().f_locals",
}


@pytest.mark.parametrize("name", PEEPING)
def test_a_function_that_looks_at_its_names_is_let_alone(tmp_path: Path, name: str) -> None:
    """What ``locals()`` returned to it would be brought up to date by our asking, before Python 3.13."""
    text = f"{PEEPING[name]}\nold = dict(locals()) if {name == 'locals'} else 0\n{KNOWN['tensor']}\n"
    if name == "locals":
        text += "assert 'x' not in seen and 'ix' not in seen, seen\n"
    rows, _ = played(tmp_path, text, inside=True)
    assert {row.identity for row in rows} == {"none"}


def test_what_a_script_is_given_is_no_way_to_look(tmp_path: Path) -> None:
    """``vars`` of an object says nothing of a frame, and ``model.eval`` is no ``eval``."""
    rows, truth = played(tmp_path, f"print(vars(model).keys() and ''); model.eval()\n{KNOWN['tensor']}", inside=True)
    assert [row.samples for row in rows] == truth


def test_no_name_is_held_longer(tmp_path: Path) -> None:
    """A frame keeps what its ``f_locals`` said, which may be a whole batch and its graph."""
    text = """
import weakref
ix = torch.randperm(N)[:B]
x, y = X[ix], Y[ix]
activation = model(x)
F.mse_loss(activation, y).backward(); tell(x)
seen = [weakref.ref(one) for one in (x, y, activation)]
del x, y, activation
assert [one() for one in seen] == [None] * 3
"""
    rows, truth = played(tmp_path, text, inside=True)
    assert [row.samples for row in rows] == truth


def test_nothing_is_kept(tmp_path: Path) -> None:
    text = "gone = [weakref.ref(one) for one in (X, Y, x, y, ix, loss)]\ndel X, Y, x, y, ix, loss\n"
    text = f"import weakref\n{KNOWN['a loss with a name']}\n{text}gone = [one() for one in gone]\nkeep(gone)"
    found: list[Any] = []
    path = tmp_path / "script.py"
    path.write_text(BEGINNING + text)
    names: dict[str, Any] = {"__name__": "script", "tell": Told(), "keep": found.extend}
    with watched():
        exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), names)
        assert found == [None] * 6
        gone = weakref.ref(names["model"])
        names.clear()
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("how", ["moved", "other", "gone", "nameless"])
def test_a_source_that_is_not_what_runs_is_no_source(tmp_path: Path, how: str) -> None:
    text = BEGINNING + KNOWN["tensor"]
    path = tmp_path / "script.py"
    path.write_text({"moved": "# a line\n", "other": "", "gone": "", "nameless": ""}[how] + text)
    if how == "other":
        path.write_text(text.replace("Y[ix]", "Y[:B]"))
    elif how == "gone":
        path.unlink()
    name = "<string>" if how == "nameless" else str(path)
    with watched() as kept:
        exec(compile(text, name, "exec", dont_inherit=True), {"__name__": "script", "tell": Told()})
    assert {(row.certificate, row.identity) for row in kept.rows()} == {("exact", "none")}


def test_samples_are_counted_in_one_table(tmp_path: Path) -> None:
    """Where it is told late that a table was cut out of another, its rows stay what they were called."""
    text = f"""
def train(deep):
    if deep:
        train(deep - 1)
        return
    for step in range(2):
        ix = torch.randint(0, 20, (B,))
        x, y = Xs[ix], Ys[ix]
        F.mse_loss(model(x), y).backward()
        tell({{told}})
PLACES = torch.arange(20)[:, None]
perm = torch.randperm(N)[:20]
Xs, Ys = X[perm], Y[perm]
train({{deep}})
{EACH}ix = torch.randint(0, 20, (B,))
    x, y = Xs[ix], Ys[ix]
    F.mse_loss(model(x), y).backward()
    tell({{told}})
"""
    for deep, told in ((DEEPEST, "PLACES[ix]"), (0, "x")):
        rows, truth = played(tmp_path, text.format(deep=deep, told=told))
        assert [row.samples for row in rows] == truth
        linecache.clearcache()


def test_what_is_looked_up_by_labels_is_of_their_samples(tmp_path: Path) -> None:
    text = f"""
weights = torch.rand(3, 1)
{EACH}ix = torch.randperm(N)[:B]
    x, y = X[ix], LABELS[ix]
    F.cross_entropy(model(x) * torch.ones(3), y).backward(); tell(x)
    F.mse_loss(model(x), weights[y]).backward(); tell(x)
"""
    rows, truth = played(tmp_path, text)
    assert [row.samples for row in rows] == truth


STATEMENTS = [
    "ix = torch.randint(0, N, (B,))",
    "jx = torch.randperm(N)[:B]",
    "ix = jx",
    "jx = ix.flip(0)",
    "ix = perm[i : i + B]",
    "i = (i + B) % N",
    "perm = torch.randperm(N)",
    "ix = random.sample(range(N), B)",
    "ix = torch.randint(0, N, (B,)).tolist()",
    "ix = torch.randint(0, N, (B,)).numpy()",
    "xb, yb = X[ix], Y[ix]",
    "xb, yb = X[ix], Y[ix]",
    "xb, yb = X[jx], Y[jx]",
    "xb, yb = X[perm[i : i + B]], Y[perm[i : i + B]]",
    "xb = X[ix]",
    "yb = Y[ix]",
    "xb, yb = X.index_select(0, jx), torch.index_select(Y, 0, jx)",
    "yb = yb.clone()",
    "yb = Y[jx].clone()",
    "xb, yb = yb, xb",
    "ix, jx = jx, ix",
    "xb, yb, ix = X[ix], Y[ix], jx",
    "ix[0] = 3",
    "jx[1:] -= 1; jx[1:] += 1",
    "random.shuffle(ix) if type(ix) is list else None",
    "jx.random_(N) if type(jx) is torch.Tensor else None",
    "np.random.shuffle(ix) if type(ix) is np.ndarray else None",
    "renew()",
    "loss = F.mse_loss(model(xb), yb)",
    "loss = F.mse_loss(model(xb), yb)",
    "loss = F.mse_loss(model(X[ix]), Y[ix])",
    "loss = F.mse_loss(model(X[jx]), Y[jx]) / 2",
    "loss.backward(retain_graph=True)",
    "loss.backward(retain_graph=True)",
    "loss.backward(retain_graph=True)",
    "F.mse_loss(model(xb), yb).backward()",
    "F.mse_loss(model(X[ix]), Y[ix]).backward()",
    "F.mse_loss(model(xb), Y[ix]).backward()",
    "back(loss)",
    "back(F.mse_loss(model(xb), yb))",
]

FRAME = """
N, B = 40, 4
def back(loss):
    loss.backward(retain_graph=True)
{renew}
{main}
"""


def _loop(chance: random.Random) -> str:
    """Statements of a training loop in any order, some of them in branches, some on one line."""
    lines = ["ix = jx = torch.randperm(N)[:B]", "perm, i = torch.randperm(N), 0", "xb, yb = X[ix], Y[ix]",
             "loss = F.mse_loss(model(xb), yb)"]  # fmt: skip

    def block(deep: int, count: int) -> list[str]:
        found: list[str] = []
        for _ in range(count):
            kind = chance.random()
            if deep and kind < 0.1:
                found += ["if torch.rand(()) < 0.5:", *[f"    {line}" for line in block(deep - 1, 3)]]
            elif deep and kind < 0.15:
                found += ["for _ in range(2):", *[f"    {line}" for line in block(deep - 1, 3)]]
            elif deep and kind < 0.2:
                found += ["try:", *[f"    {line}" for line in block(deep - 1, 2)], "finally:",
                          *[f"    {line}" for line in block(deep - 1, 2)]]  # fmt: skip
            else:
                found.append("; ".join(chance.choices(STATEMENTS, k=chance.choice((1, 1, 1, 2)))))
        return found

    lines += ["for step in range(6):", *[f"    {line}" for line in block(2, chance.randint(4, 12))]]
    inside, text = chance.random() < 0.5, "\n".join(lines)
    main = f"def main():\n{textwrap.indent(text, '    ')}\nmain()" if inside else text
    renewed = "def renew(): pass" if inside else "def renew():\n    global ix\n    ix = torch.randperm(N)[:B]"
    return FRAME.format(renew=renewed, main=main)


def _signs(tensor: Tensor) -> list[int]:
    """The samples that rows of zeros are of: equal numbers, whose signs tell them apart."""
    return (tensor.signbit()[:, :6] * 2 ** torch.arange(6)).sum(1).tolist()


class Blind:
    """Runs scripts on data whose rows are all equal: that what was drawn is compared catches nothing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "loop0.py"
        self._truth: list[list[list[int]]] = []
        places = torch.arange(N)
        self._table = torch.where((places[:, None] >> torch.arange(6)) % 2 == 1, -0.0, 0.0)
        assert _signs(self._table) == places.tolist()
        self._backward = torch.autograd.backward

    def spy(self, tensors: Any, *rest: Any, **named: Any) -> None:
        """In the place of ``torch.autograd.backward``: notes of which samples target and inputs are."""
        node: Any = tensors.grad_fn
        while not node.name().startswith("MseLoss"):
            node = node.next_functions[0][0]
        below = node.next_functions[0][0]
        self._truth.append([])
        for owner, kept in ((node, "_saved_target"), (below, "_saved_mat1")):
            with contextlib.suppress(RuntimeError):  # changed in place since
                self._truth[-1].append(_signs(getattr(owner, kept)))
        self._backward(tensors, *rest, **named)

    def run(self, text: str, seed: int = 0, source: str | None = None) -> list[bool]:
        """Of each backward call, whether it has an index; it must be true. ``source``: what the file says by then."""
        self._path = self._path.with_name(f"loop{seed}.py")
        self._path.write_text(text if source is None else source)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        names = {"__name__": "script", "X": self._table.clone(), "Y": self._table.clone(), "torch": torch, "np": np,
                 "F": F, "random": random, "model": nn.Linear(6, 6)}  # fmt: skip
        self._truth.clear()
        with watched() as kept, contextlib.suppress(AttributeError, IndexError, TypeError, RuntimeError):
            exec(compile(text, str(self._path), "exec", dont_inherit=True), names)
        rows = kept.rows()
        assert len(rows) == len(self._truth)
        for row, true in zip(rows, self._truth):
            assert row.identity == "none" or row.samples in true, f"{row.samples} of call {row.backward} in\n{text}"
        return [row.identity == "index" for row in rows]


@pytest.fixture
def blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blind:
    made = Blind(tmp_path)
    monkeypatch.setattr(torch.autograd, "backward", made.spy)
    return made


BLIND_TRAIN = "F.mse_loss(model(xb), yb).backward()"
DRAWN = "ix = torch.randperm(N)[:B]"
BLIND = {
    "a list that is shuffled": "ix = random.sample(range(N), B)\nxb, yb = X[ix], Y[ix]\n"
    f"random.shuffle(ix)\n{BLIND_TRAIN}",
    "an array that is shuffled": "order = np.arange(N)\nix = order[:B]\nxb, yb = X[ix], Y[ix]\n"
    f"np.random.shuffle(order)\n{BLIND_TRAIN}",
    "an entry of a list": f"ix = random.sample(range(N), B)\nxb, yb = X[ix], Y[ix]\nix[0] = 7\n{BLIND_TRAIN}",
    "a key by another name": "perm = torch.randperm(N)\nix = perm[:B]\nxb, yb = X[ix], Y[ix]\n"
    f"perm += 1\nperm %= N\n{BLIND_TRAIN}",
    "a tensor in a list": f"{DRAWN}\nkept = [ix]\nxb, yb = X[ix], Y[ix]\nkept[0].random_(N)\n{BLIND_TRAIN}",
    "a list in a list": "ix = random.sample(range(N), B)\nkept = [ix]\nxb, yb = X[ix], Y[ix]\n"
    f"random.shuffle(kept[0])\n{BLIND_TRAIN}",
    "memory of an array": "order = torch.randperm(N)\nmemory = order.numpy()\nix = order[:B]\n"
    f"xb, yb = X[ix], Y[ix]\nnp.random.shuffle(memory)\n{BLIND_TRAIN}",
    "an array in a tensor": "memory = np.arange(N)\nother = memory\nix = torch.from_numpy(memory)[:B]\n"
    f"xb, yb = X[ix], Y[ix]\nnp.random.shuffle(other)\n{BLIND_TRAIN}",
    "written to in a function": "order = np.arange(N)\ndef turn(): order[:] = order[::-1].copy()\n"
    f"xb, yb = X[order[:B]], Y[order[:B]]\nturn()\n{BLIND_TRAIN}",
    "bound where it is drawn": f"{DRAWN}\nxb, yb, ix = X[ix], Y[ix], torch.randperm(N)[:B]\n{BLIND_TRAIN}",
    "bound by a function": f"def turn():\n    global ix\n    {DRAWN}\nturn()\n{DRAWN}\n"
    f"xb, yb = X[ix], Y[ix]\nturn()\n{BLIND_TRAIN}",
    "bound in a function around": f"def main():\n    def turn():\n        nonlocal ix\n        {DRAWN}\n"
    f"    {DRAWN}\n    xb, yb = X[ix], Y[ix]\n    turn()\n    {BLIND_TRAIN}\nmain()",
    "bound while it is drawn": f"{DRAWN}\nxb, yb, _ = X[ix], Y[ix], (ix := torch.randperm(N)[:B])\n{BLIND_TRAIN}",
    "bound by a loop": "perm = torch.randperm(N).view(-1, B)\nix = perm[0]\nxb, yb = X[ix], Y[ix]\n"
    f"for ix in perm[1:]:\n    {BLIND_TRAIN}",
    "bound by an import": f"{DRAWN}\nxb, yb = X[ix], Y[ix]\nimport math as ix\n{BLIND_TRAIN}",
    "data that is shuffled": "for epoch in range(3):\n    perm = torch.randperm(N)\n    X, Y = X[perm], Y[perm]\n"
    f"    xb, yb = X[:B], Y[:B]\n    {BLIND_TRAIN}",
    "on one line": "xb, yb = X[:B], Y[:B]\nfor step in range(3):\n"
    f"    {DRAWN}\n    {BLIND_TRAIN}; xb, yb = X[ix], Y[ix]; print(end='')",
    "another loss": f"xb, yb = X[:B].clone(), Y[:B].clone()\n{DRAWN}\nold = F.mse_loss(model(xb), yb)\n"
    "loss = F.mse_loss(model(X[ix]), Y[ix])\nloss = old\nloss.backward()",
    "an argument after it": f"def back(loss, *more): loss.backward()\n{DRAWN}\nxb, yb = X[ix], Y[ix]\n"
    f"loss = F.mse_loss(model(xb), yb)\n{DRAWN}\nback(loss, F.mse_loss(model(X[ix]), Y[ix]))",
}


@pytest.mark.parametrize("name", BLIND)
def test_equal_rows_are_told_apart_or_not_named(blind: Blind, name: str) -> None:
    named = blind.run(f"N, B = 40, 4\n{BLIND[name]}\n")
    assert named
    assert not any(named)


def test_lines_that_moved_are_no_source(blind: Blind) -> None:
    text = f"""
N, B = 40, 4
xb, yb = X[:B], Y[:B]
for step in range(3):
    ix = torch.randperm(N)[:B]
    {BLIND_TRAIN}
    xb, yb = X[ix], Y[ix]
    step += 1
"""
    moved = text.strip().replace("N, B = 40, 4\n", "N, B = 40, 4; ")
    named = blind.run(text, source=moved)
    assert named == [False] * 3


def test_random_loops_have_the_index_that_is_true(blind: Blind) -> None:
    """Statements in any order."""
    named = [one for seed in range(40) for one in blind.run(_loop(random.Random(seed)), seed)]
    assert len(named) > sum(named) > 20


@FULL
def test_more_random_loops_have_the_index_that_is_true(blind: Blind) -> None:
    named = [one for seed in range(1000, 1600) for one in blind.run(_loop(random.Random(seed)), seed)]
    assert len(named) > sum(named) > 300
