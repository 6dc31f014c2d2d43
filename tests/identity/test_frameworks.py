"""Loaders of other packages, where those are installed, against the data itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset

from tests.identity.truth import Numbers, Stream, delivered, is_true
from tests.watching import watched

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_loader(workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    with delivered() as deliveries:
        for data in (Numbers(23), Stream(23)):
            loader = stateful.StatefulDataLoader(data, 4, num_workers=workers)
            found = [deliveries.see(y) for _ in range(2) for _, y in loader]
            assert is_true(found)
            assert {d.epoch for d in found} == {0, 1}
    assert not hasattr(stateful.StatefulDataLoader.__iter__, "__wrapped__")


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_loader_that_goes_on(workers: int) -> None:
    """Indices are known in the middle of an epoch; places in a stream are not, until the next."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    for data in (Numbers(23), Stream(23)):
        first = stateful.StatefulDataLoader(data, 4, num_workers=workers)
        batches = iter(first)
        assert [len(next(batches)[1]) for _ in range(2)] == [4, 4]
        second = stateful.StatefulDataLoader(data, 4, num_workers=workers)
        second.load_state_dict(first.state_dict())
        with delivered() as deliveries:
            rest = [deliveries.see(y) for _, y in second]
            anew = [deliveries.see(y) for _, y in second]
        assert (len(rest), len(anew)) == (4, 6)
        assert is_true(anew)
        assert is_true(rest) if isinstance(data, Numbers) else all(d.drawn is None for d in rest)


def test_accelerate_fetches_one_ahead() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator, model = accelerate.Accelerator(cpu=True), nn.Linear(2, 1)
    truth: list[list[int]] = []
    with watched() as kept:
        prepared, loader = accelerator.prepare(model, DataLoader(Numbers(23), 4, shuffle=True))
        for x, y in loader:
            truth.append([int(number) for number in y])
            accelerator.backward(F.mse_loss(prepared(x)[:, 0], y))
    assert [row.samples for row in kept.rows()] == truth


def test_graphs() -> None:
    """What has a row a graph has an index, and what has one a node has none."""
    Data = pytest.importorskip("torch_geometric.data").Data
    Loader = pytest.importorskip("torch_geometric.loader").DataLoader
    edges = torch.zeros(2, 1, dtype=torch.long)
    graphs: list[Any] = [
        Data(x=torch.full((n % 3 + 1, 2), float(n)), edge_index=edges, y=torch.tensor([float(n)])) for n in range(11)
    ]
    alone: list[Any] = [Data(x=torch.full((n, 1), float(n)), edge_index=edges, y=torch.zeros(1)) for n in (2, 0, 1)]
    with delivered() as deliveries:
        assert is_true([deliveries.see(batch.y) for batch in Loader(graphs, batch_size=4, shuffle=True)])
        assert is_true([deliveries.see(batch.y) for batch in Loader(graphs, batch_size=4, num_workers=2)])
        assert [deliveries.see(batch.x).doubt for batch in Loader(alone, batch_size=3)] == ["not held"]
    truth: list[list[int]] = []
    with watched() as kept:
        weight = torch.ones(1, requires_grad=True)
        for batch in Loader(graphs, batch_size=4, shuffle=True):
            truth.append([int(number) for number in batch.y])
            F.mse_loss(weight * torch.ones(batch.num_graphs), batch.y).backward()
    assert [row.samples for row in kept.rows()] == truth


@pytest.mark.parametrize("workers", [0, 2])
def test_arrow(workers: int) -> None:
    datasets = pytest.importorskip("datasets")
    columns = {"x": [[float(n)] * 2 for n in range(17)], "y": [float(n) for n in range(17)]}
    made = datasets.Dataset.from_dict(columns).with_format("torch")
    reversing = made.with_transform(lambda rows: {name: torch.tensor(rows[name][::-1]) for name in rows})
    with delivered() as deliveries:
        for data in (made, Subset(made, range(16, 2, -1))):
            loader: Any = DataLoader(data, 4, shuffle=True, num_workers=workers)
            assert is_true([deliveries.see(batch["y"]) for batch in loader])
        lists = BatchSampler(RandomSampler(made), 4, False)
        assert is_true([deliveries.see(b["y"]) for b in DataLoader(made, batch_size=None, sampler=lists)])
        assert all(deliveries.see(batch["y"]).doubt for batch in DataLoader(reversing, 4))
        stream = [deliveries.see(b["y"]) for b in DataLoader(made.to_iterable_dataset(2), 4, num_workers=workers)]
        places = sorted(place for d in stream for place in d.drawn)
        assert len(set(places)) == 17
        assert workers or is_true(stream)


def collators(transformers: Any) -> list[Any]:
    """Each with what a feature is made of."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, **{str(n): n for n in range(3, 60)}}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]")),
        pad_token="[PAD]", mask_token="[MASK]",
    )  # fmt: skip
    return [
        transformers.default_data_collator,
        transformers.DataCollatorWithPadding(tokenizer),
        transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False),
        transformers.DataCollatorForSeq2Seq(tokenizer),
    ]


def test_collators_of_transformers() -> None:
    """Also by way of a function of the script's that calls one, and not for a class derived from one."""
    transformers = pytest.importorskip("transformers")
    known = collators(transformers)

    class Derived(transformers.DataCollatorWithPadding):
        def __call__(self, features: Any) -> Any:
            return super().__call__(features[::-1])

    RemoveColumnsCollator = pytest.importorskip("transformers.trainer_utils").RemoveColumnsCollator
    for collate in [*known, RemoveColumnsCollator(known[1], ["input_ids"]), lambda rows: known[1](rows)]:
        length = 3 if collate is known[0] else None
        features: list[Any] = [
            {"input_ids": [n] * (length or n % 4 + 1), **({"labels": [n] * (n % 4 + 1)} if collate is known[3] else {})}
            for n in range(3, 20)
        ]
        with delivered() as deliveries:
            for batch in DataLoader(features, 4, shuffle=True, collate_fn=collate):  # type: ignore[arg-type]
                found = deliveries.see(batch["input_ids"])
                assert not found.doubt
                assert found.drawn == [int(row.max()) - 3 for row in batch["input_ids"]]
    with delivered() as deliveries:
        for batch in DataLoader(features, 4, collate_fn=Derived(known[1].tokenizer)):  # type: ignore[arg-type]
            assert deliveries.see(batch["input_ids"]).doubt


@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle", "sequential"])
def test_loaders_of_lightning_side_by_side(mode: str) -> None:
    combined = pytest.importorskip("lightning.pytorch.utilities").CombinedLoader
    loaders = {"a": DataLoader(Numbers(12), 4, shuffle=True), "b": DataLoader(Numbers(20), 3, shuffle=True)}
    model, truth = nn.Linear(2, 1), []
    with watched() as kept:
        for batch, _, _ in combined(loaders, mode):
            for x, y in filter(None, batch.values() if isinstance(batch, dict) else [batch]):
                truth.append([int(number) for number in y])
                F.mse_loss(model(x)[:, 0], y).backward()
    assert [row.samples for row in kept.rows()] == truth
