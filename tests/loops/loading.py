"""Loops by where their batches come from: samplers, workers, streams, collating, and data sets that draw numbers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    StackDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
    random_split,
)

from tests.loops.loop import MADE, State, captured, data, fit, net, values

if TYPE_CHECKING:
    from collections.abc import Iterator


@captured("index")
def workers() -> State:
    """Two persistent workers and a nested Subset."""
    model = net()
    subset = Subset(Subset(data(), list(range(80, 0, -1))), list(range(0, 80, 2)))
    loader = DataLoader(subset, 7, shuffle=True, num_workers=2, persistent_workers=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y, weight=torch.tensor([1.0, 2.0, 0.5, 3.0])).backward()
            optimizer.step()
    return [model.state_dict(), optimizer.state_dict()]


class Drawing(Dataset[Any]):
    """Noise on each sample, from all three generators: the same only if nobody else draws."""

    def __init__(self) -> None:
        self.made = data(count=40)

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, index: int) -> Any:
        x, y = self.made[index]
        return x + torch.randn(6) * 0.1 + random.random() + float(np.random.rand()), y


def seed_worker(worker: int) -> None:
    """As torch's notes on reproducibility have it."""
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


@captured("index")
def data_that_draws() -> State:
    return fit(net(), DataLoader(Drawing(), 8, shuffle=True))


@captured("index")
def data_that_draws_in_workers() -> State:
    """With prefetching, a seed for each worker, and a generator of the loader's own."""
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(
        Drawing(), 8, shuffle=True, num_workers=2, prefetch_factor=3, worker_init_fn=seed_worker, generator=generator,
        pin_memory=False, drop_last=True,
    )  # fmt: skip
    return [fit(net(), loader), generator.get_state()]


class Stream(IterableDataset[Any]):
    """Samples without an index, shared out among the workers."""

    def __init__(self) -> None:
        self.made = data(count=40)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        for index in range(info.id if info else 0, 40, info.num_workers if info else 1):
            x, y = self.made[index]
            yield x + torch.rand(6), y


@captured("exact")
def stream() -> State:
    return fit(net(), DataLoader(Stream(), 8))


@captured("exact")
def stream_from_workers() -> State:
    return fit(net(), DataLoader(Stream(), 8, num_workers=2))


class Sentences(IterableDataset[Any]):
    """Samples of four tokens each."""

    def __iter__(self) -> Iterator[Any]:
        yield from torch.randint(0, 12, (40, 5))


@captured("exact")
def stream_of_tokens() -> State:
    """A language model on a stream: a row is a token, and samples are as many as the batch has."""
    model = nn.Sequential(nn.Embedding(12, 8), nn.Linear(8, 12))
    loader: DataLoader[Any] = DataLoader(Sentences(), 8)
    return fit(model, ((x[:, :-1], x[:, 1:]) for x in loader), loss=lambda out, y: F.cross_entropy(
        out.reshape(-1, 12), y.reshape(-1)))  # fmt: skip


@captured("index")
def weighted_sampler() -> State:
    """Rare classes more often: a sample may be in a batch twice."""
    made = data()
    weights = torch.bincount(made.tensors[1]).float().reciprocal()[made.tensors[1]]
    return fit(net(), DataLoader(made, 16, sampler=WeightedRandomSampler(weights.tolist(), 64)))


@captured("index")
def batch_sampler() -> State:
    made = data()
    return fit(net(), DataLoader(made, batch_sampler=BatchSampler(RandomSampler(made, replacement=True), 16, True)))


class Reused:
    """A batch sampler of somebody's own that hands out one list again and again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in torch.randperm(self.count).tolist():
            batch.append(index)
            if len(batch) == 16:
                yield batch
                batch.clear()

    def __len__(self) -> int:
        return self.count // 16


@captured("index")
def batch_sampler_that_reuses_its_list() -> State:
    made = data()
    return fit(net(), DataLoader(made, batch_sampler=Reused(len(made))))  # type: ignore[arg-type]


@captured("exact")
def collated_by_the_script() -> State:
    """Sorted by length, padded: the order of rows is the script's."""
    lengths = torch.randint(1, 6, (40,)).tolist()
    samples = [(torch.randn(length, 6), torch.tensor(length % 4)) for length in lengths]

    def collate(batch: list[Any]) -> Any:
        batch.sort(key=lambda sample: len(sample[0]))
        return nn.utils.rnn.pad_sequence([x for x, _ in batch], True).sum(1), default_collate([y for _, y in batch])

    return fit(net(), DataLoader(samples, 8, shuffle=True, collate_fn=collate))  # type: ignore[arg-type]


@captured("index")
def batched_by_the_data_set() -> State:
    """``batch_size=None``: a sampler of lists, and a data set that is indexed by them."""
    made = data()
    sampler = BatchSampler(RandomSampler(made), 16, False)
    return fit(net(), DataLoader(made, batch_size=None, sampler=sampler))


class Endless(DataLoader[Any]):
    """One iterator for all epochs, as detection and image libraries have it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        object.__setattr__(self, "batch_sampler", Repeated(self.batch_sampler))
        self.batches = super().__iter__()

    def __iter__(self) -> Any:
        for _ in range(6):
            yield next(self.batches)


class Repeated:
    """A batch sampler that never ends."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.inner


@captured("index")
def endless_loader() -> State:
    return fit(net(), Endless(data(), 16, shuffle=True))


@captured("index")
def batches_kept_in_a_list() -> State:
    """Read once, used for all epochs; the last is short."""
    return fit(net(1), list(DataLoader(values(), 4)), loss=lambda out, y: F.mse_loss(out, y))


@captured("index")
def limited_epochs() -> State:
    """The first batches of each epoch only, and validation in inference mode on a loader that ends."""
    model, made = net(1), values()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    state: State = []
    for _ in range(3):
        batches = iter(DataLoader(made, 16, shuffle=True))
        model.train()
        state += fit(model, [next(batches), next(batches)], optimizer, lambda out, y: F.mse_loss(out, y), epochs=1)
        model.eval()
        with torch.inference_mode():
            state += [F.mse_loss(model(x), y).item() for x, y in DataLoader(made, 16)]
    return state


@captured("index")
def nested_data() -> State:
    """Split, joined, stacked."""
    made = values()
    part, rest = random_split(made, [40, 43], generator=torch.Generator().manual_seed(1))
    state = fit(net(1), DataLoader(part, 8), loss=lambda out, y: F.mse_loss(out, y), epochs=1)
    state += fit(net(1), DataLoader(Subset(rest, range(3, 30)), 8), loss=lambda out, y: F.mse_loss(out, y), epochs=1)
    joined = ConcatDataset([Subset(made, list(range(50))), Subset(made, list(range(50, 83)))])
    state += fit(net(1), DataLoader(joined, 8), loss=lambda out, y: F.mse_loss(out, y), epochs=1)
    columns: Any = made.tensors
    stacked = StackDataset(*columns)
    return state + fit(net(1), DataLoader(stacked, 8), loss=lambda out, y: F.mse_loss(out, y), epochs=1)


@captured("index")
def same_data_in_two_loaders() -> State:
    """Zipped, shuffled differently; each loss is of the loader that its targets came from."""
    model, made = net(1), values()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for (x, y), (u, v) in zip(DataLoader(made, 8, shuffle=True), DataLoader(made, 8, shuffle=True)):
        optimizer.zero_grad()
        F.mse_loss(model(u), v).backward()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    return [model.state_dict()]


@captured("index")
def an_iterator_left_behind() -> State:
    """Two iterators of one loader at a time, one abandoned; batches kept and gone through again."""
    model, loader = net(1), DataLoader(values(), 8, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    first, second = iter(loader), iter(loader)
    for _ in range(3):
        (x, y), (u, v) = next(first), next(second)
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        F.mse_loss(model(u), v).backward()
        optimizer.step()
    kept = [next(first) for _ in range(3)]
    return [model.state_dict(), fit(model, reversed(kept), loss=lambda out, y: F.mse_loss(out, y), epochs=1)]


class Frame(torch.Tensor):
    """A data set's own kind of tensor."""


@captured("index")
def tensor_subclass() -> State:
    """Images and labels of a class of their own; ``DataLoader`` keeps it."""
    made = TensorDataset(torch.randn(40, 6).as_subclass(Frame), torch.randint(0, 4, (40,)).as_subclass(Frame))
    MADE.append(made)
    model = net()
    fit(model, DataLoader(made, 8, shuffle=True))
    return [{name: tensor.as_subclass(torch.Tensor) for name, tensor in model.state_dict().items()}]


class Faulty(Dataset[Any]):
    """One sample cannot be read."""

    def __init__(self) -> None:
        self.made = data(count=40)

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, index: int) -> Any:
        if index == 13:
            raise OSError("a broken file")
        return self.made[index]


@captured("index")
def faulty_samples_in_workers() -> State:
    """The script goes on after an error of a worker."""
    model, raised = net(), 0
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches = iter(DataLoader(Faulty(), 4, num_workers=2))
    while True:
        try:
            x, y = next(batches)
        except StopIteration:
            return [model.state_dict(), raised]
        except OSError:
            raised += 1
            continue
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
