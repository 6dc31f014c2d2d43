"""torch-geometric: loaders of graphs, and one graph without a loader."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.frameworks.harness import Cases, State, Witness, judge, load, need

need("torch_geometric")

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = Cases()
COUNT = 29
NODES = "they are not samples"
"""More nodes than graphs."""


def graphs() -> list[Any]:
    """Rings of 3 to 6 nodes; the first node's first feature is the graph's number. One class a graph."""
    generator, made = torch.Generator().manual_seed(1), []
    for number in range(COUNT):
        size = 3 + number % 4
        nodes = torch.randn(size, 5, generator=generator)
        nodes[0, 0] = number / 10
        ring = torch.stack([torch.arange(size), (torch.arange(size) + 1) % size])
        label = torch.randint(0, 3, (1,), generator=generator)
        value = torch.randn(1, 1, generator=generator)
        each = torch.randint(0, 3, (size,), generator=generator)
        made.append(load("torch_geometric.data").Data(x=nodes, edge_index=ring, y=label, value=value, each=each))
    return made


def numbers(batch: Any) -> list[int]:
    """Which graphs a batch is of."""
    return [round(float(value) * 10) for value in batch.x[batch.ptr[:-1], 0]]


class Net(nn.Module):
    """Two convolutions, pooled."""

    def __init__(self, out: int) -> None:
        super().__init__()
        geometric = load("torch_geometric.nn")
        self.first, self.second = geometric.GCNConv(5, 8), geometric.GCNConv(8, 8)
        self.head = nn.Linear(8, out)

    def forward(self, batch: Any) -> torch.Tensor:
        hidden = self.second(self.first(batch.x, batch.edge_index).relu(), batch.edge_index)
        return self.head(load("torch_geometric.nn").global_mean_pool(hidden, batch.batch))


def train(witness: Witness, out: int, loss: Any, each: Any, kind: Any = None, **options: Any) -> State:
    """The loop of torch-geometric's examples."""
    data, model = graphs(), (kind or Net)(out)
    witness.attend(model, numbers, lambda samples, output: each(output, [data[sample] for sample in samples]))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(2):
        for batch in load("torch_geometric.loader").DataLoader(data, batch_size=8, shuffle=True, **options):
            optimizer.zero_grad()
            loss(model(batch), batch).backward()
            optimizer.step()
    return [model.state_dict(), optimizer.state_dict()]


def classes(output: torch.Tensor, made: list[Any]) -> torch.Tensor:
    return F.cross_entropy(output, torch.cat([graph.y for graph in made]), reduction="none")


@CASES.add("torch-geometric: DataLoader of graphs, a class for each", "index")
def classified(witness: Witness) -> State:
    return train(witness, 3, lambda out, batch: F.cross_entropy(out, batch.y), classes)


@CASES.add("torch-geometric: DataLoader of graphs, two workers", "index")
def workers(witness: Witness) -> State:
    return train(witness, 3, lambda out, batch: F.cross_entropy(out, batch.y), classes, num_workers=2)


@CASES.add("torch-geometric: DataLoader of graphs, a value for each", "index")
def regressed(witness: Witness) -> State:
    return train(witness, 1, lambda out, batch: F.mse_loss(out, batch.value), lambda out, made: F.mse_loss(
        out, torch.cat([graph.value for graph in made]), reduction="none"))  # fmt: skip


class Nodes(Net):
    """The same without pooling: an output for each node."""

    def forward(self, batch: Any) -> torch.Tensor:
        return self.head(self.second(self.first(batch.x, batch.edge_index).relu(), batch.edge_index))


@CASES.add("torch-geometric: DataLoader of graphs, a class for each node", NODES)
def of_nodes(witness: Witness) -> State:
    def losses(output: torch.Tensor, made: list[Any]) -> torch.Tensor:
        each = F.cross_entropy(output, torch.cat([graph.each for graph in made]), reduction="none")
        by_graph = each.split([len(graph.each) for graph in made])
        return nn.utils.rnn.pad_sequence(list(by_graph), batch_first=True, padding_value=float("nan"))

    return train(witness, 3, lambda out, batch: F.cross_entropy(out, batch.each), losses, kind=Nodes)


@CASES.add("torch-geometric: one graph, a loss of the masked nodes, no loader", "exact")
def nodes(witness: Witness) -> State:
    generator = torch.Generator().manual_seed(1)
    x, edges = torch.randn(40, 5, generator=generator), torch.randint(0, 40, (2, 90), generator=generator)
    y, mask = torch.randint(0, 3, (40,), generator=generator), torch.rand(40, generator=generator) < 0.6
    model = load("torch_geometric.nn").GCNConv(5, 3)
    chosen = mask.nonzero()[:, 0].tolist()
    witness.attend(model, lambda x, edges: chosen, lambda samples, out: F.cross_entropy(
        out[samples], y[samples], reduction="none"))  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(x, edges)[mask], y[mask]).backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
