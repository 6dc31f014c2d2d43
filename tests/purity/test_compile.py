"""A compiled script computes what it did, and is not compiled into more graphs because we watch."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

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
