"""A compiled script computes what it did, and is not compiled into more graphs because we watch."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.watching import watched

if TYPE_CHECKING:
    from tests.conftest import Home

SCRIPT = """
import torch, torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import torch._dynamo.utils as counting
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
compiled = torch.compile(model, backend="eager")
loader = DataLoader(TensorDataset(torch.randn(640, 20), torch.randint(0, 10, (640,))), 64, shuffle=True)
for x, y in loader:
    optimizer.zero_grad()
    loss = F.cross_entropy(compiled(x), y)
    loss.backward()
    optimizer.step()
    print(loss.item())
print(dict(counting.counters["stats"]), sum(counting.counters["graph_break"].values()))

@torch.compile(backend="eager")
def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

for x, y in loader:
    print(step(x, y).item())
print(dict(counting.counters["stats"]))
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="torch.compile wants a compiler")
def test_compiled_model_and_compiled_step(home: Home) -> None:
    (home.folder / "s.py").write_text(SCRIPT)
    plain, ours = home.python("s.py"), home.watched("s.py")
    assert ours.code == plain.code == 0
    assert ours.out == plain.out
    session = home.wait_state("ended")
    assert session["samples"] >= 640, "a compiled model with the loss outside is captured in full"


INSIDE = "it was computed inside of what torch.compile compiled, whose graph keeps no losses"


@pytest.mark.skipif(not shutil.which("gcc"), reason="torch.compile wants a compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_is_captured_of_compiled_parts() -> None:
    """A loss outside: all, by its target. Inside of a graph that was compiled: nothing, and why."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    data = TensorDataset(torch.randn(24, 6), torch.randint(0, 4, (24,)))
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def inside(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(x), y)

    @torch.compile(backend="aot_eager")
    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    losses: list[tuple[Any, str, str, str]] = [
        (lambda x, y: F.cross_entropy(compiled(x), y), "exact", "index", ""),
        (lambda x, y: F.mse_loss(compiled(x), F.one_hot(y, 4).float()), "exact", "index", ""),
        (lambda x, y: F.cross_entropy(compiled(x), y.flip(0)), "exact", "none", ""),
        (lambda x, y: inside(x, y) + F.cross_entropy(compiled(x), y), "none", "none", INSIDE),
    ]
    torch._dynamo.reset()
    with watched() as kept:
        for loss, *_ in losses:
            for x, y in DataLoader(data, 8, shuffle=True):
                optimizer.zero_grad()
                loss(x, y).backward()
                optimizer.step()
        for x, y in DataLoader(data, 8, shuffle=True):
            step(x, y)
    expected = [wanted for _, *wanted in losses for _ in range(3)] + [["none", "none", INSIDE]] * 3
    assert [[row.certificate, row.identity, row.reason] for row in kept.rows()] == expected
    assert len(kept.metric("step_ms")) == len(expected), "compiled or not, a step is a step"
    assert any("the loss's target is not a tensor of a batch" in notice for notice in kept.notices())
