"""Samples that a script draws itself have the index it drew them by, or none; brute force tells which is right."""

from __future__ import annotations

import random
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

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
    "looked up": f"{EACH}ix = torch.randperm(N)[:B]\n    y = (ix + 1) % 10\n    x = X[ix]\n"
    "    F.mse_loss(torch.tensor(1.0) * model(x.clone()), M[y]).backward()",
    "looked up twice": f"{EACH}ix = torch.randperm(N)[:B]\n    x, y = X[ix], torch.tensor([3, 1, 2, 4, 5, 6, 7, 0])\n"
    "    x, m, v = x.neg(), M[y], V[y]\n    F.mse_loss(model(x), m).backward()",
    "labels of a function": f"def batch(): return torch.randn(B, 6), torch.randperm(N)[:B]\n{EACH}x, y = batch()\n"
    "    m, v = M[y], V[y]\n    F.mse_loss(model(x), m).backward()",
    "labels that are chosen": f"classes = LABELS.unique()\n{EACH}y = np.random.choice(classes, B)\n"
    "    m, v = M[y], V[y]\n    F.mse_loss(model(torch.randn(B, 6)), m).backward()",
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
