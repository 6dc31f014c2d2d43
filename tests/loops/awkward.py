"""Loops that invite a wrong record: rows moved inside a batch, buffers used again, losses of another batch, threads."""

from __future__ import annotations

import queue
import random
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from tests.loops.loop import MADE, State, captured, data, fit, net, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def moved(change: Callable[[torch.Tensor, torch.Tensor], Any], count: int = 80) -> State:
    """Train on 16 rows at a time, each batch changed by the script."""
    changed = (change(x, y) for x, y in DataLoader(values(count), 16, shuffle=True))
    return fit(net(1), changed, epochs=1, loss=lambda out, y: F.mse_loss(out, y))


@captured("exact")
def shuffled_in_the_batch() -> State:
    def shuffle(x: torch.Tensor, y: torch.Tensor) -> Any:
        rows = torch.randperm(len(x))
        return x[rows], y[rows]

    return moved(shuffle)


@captured("exact")
def masked_to_the_same_length() -> State:
    return moved(lambda x, y: (x[torch.ones(len(x), dtype=torch.bool)], y[torch.ones(len(x), dtype=torch.bool)]))


@captured("index")
def half_a_batch() -> State:
    """A loss of a slice: rows that follow on each other, though not as many as the batch has."""
    return moved(lambda x, y: (x[4:12], y[4:12]))


@captured("exact")
def halves_joined() -> State:
    """The end of the batch before and the start of this one: as many rows as a batch has."""
    before: list[Any] = [(torch.zeros(16, 6), torch.zeros(16, 1))]

    def join(x: torch.Tensor, y: torch.Tensor) -> Any:
        u, v = before.pop()
        before.append((x, y))
        return torch.cat([u[8:], x[:8]]), torch.cat([v[8:], y[:8]])

    return moved(join)


@captured("exact")
def reversed_in_place() -> State:
    """The batch's own tensors, whose rows the script puts into another order."""

    def reverse(x: torch.Tensor, y: torch.Tensor) -> Any:
        return x.copy_(x.flip(0)), y.copy_(y.flip(0))

    return moved(reverse)


@captured("exact")
def replaced_by_data() -> State:
    """The same through ``.data``."""

    def replace(x: torch.Tensor, y: torch.Tensor) -> Any:
        x.data, y.data = x.flip(0), y.flip(0)
        return x, y

    return moved(replace)


@captured("index")
def time_first() -> State:
    """As many time steps as samples, time first: rows are no samples."""
    made, head = values(64, 8), nn.Linear(6, 8)
    return fit(head, DataLoader(made, 8), loss=lambda out, y: F.mse_loss(out.t(), y.t()))


@captured("index")
def contrasted() -> State:
    """Targets that are the row's own number, made once and used for every batch."""
    model, places = nn.Linear(6, 4), torch.arange(16)
    return fit(model, DataLoader(data(count=80), 16, shuffle=True), loss=lambda out, y: F.cross_entropy(
        out @ out.t(), places))  # fmt: skip


@captured("index")
def buffers() -> State:
    """Targets written into one buffer, losses changed in place after the backward call, memory shared with NumPy."""
    model, dataset = net(), data(count=80)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    held = torch.empty(16, dtype=torch.int64)
    shared = np.empty(16, dtype=np.int64)
    total = torch.zeros(())
    for number, (x, y) in enumerate(DataLoader(dataset, 16)):
        held.copy_(y)
        shared[:] = y.numpy()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), held if number % 2 else torch.from_numpy(shared))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            total += loss.mul_(2)
    return [model.state_dict(), total]


@captured("index")
def a_batch_late() -> State:
    """Each loss is back-propagated when the next batch is there already, and another loader ran in between."""
    model, waiting = nn.Linear(6, 1), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(values(), 16, shuffle=True):
        waiting.append(F.mse_loss(model(x), y))
        for _ in DataLoader(values(), 40):
            pass
        if len(waiting) > 1:
            optimizer.zero_grad()
            waiting.pop(0).backward()
            optimizer.step()
    return [model.state_dict()]


@captured("index", "exact")
def a_batch_again() -> State:
    """A batch that was learned once is learned again, after the next."""
    model, before = net(1), None
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(values(80), 16, shuffle=True):
        for u, v in [(x, y)] if before is None else [(x, y), before]:
            optimizer.zero_grad()
            F.mse_loss(model(u), v).backward()
            optimizer.step()
        before = x, y
    return [model.state_dict()]


@captured("index", "exact")
def without_a_loader_after_one() -> State:
    """A loader for a first phase, index tensors for a second: nothing of the second is the first one's."""
    model, made = net(1), values(80)
    state = fit(model, DataLoader(made, 16), loss=lambda out, y: F.mse_loss(out, y), epochs=1)
    x, y = made.tensors
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for rows in [*torch.randperm(80).view(5, 16), *torch.randperm(80).view(4, 20)]:
        optimizer.zero_grad()
        F.mse_loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return [state, model.state_dict()]


@captured("index", "its rows are not samples")
def penalty_as_long_as_a_batch() -> State:
    """A penalty on a layer of as many rows as the batch has: its rows are no samples."""
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    weight: Any = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(values(80), 16):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        F.mse_loss(weight, torch.zeros_like(weight)).backward()
        optimizer.step()
    return [model.state_dict()]


class Backwards(Dataset[Any]):
    """Looks like a Subset and is none."""

    def __init__(self, dataset: TensorDataset) -> None:
        self.dataset = dataset
        self.indices = list(range(len(dataset)))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Any:
        return self.dataset[self.indices[-1 - place]]


@captured("index")
def like_a_subset() -> State:
    """A wrapper with ``dataset`` and ``indices`` that uses them its own way: the wrapper's numbers, or none."""
    made = Backwards(values())
    MADE.append(TensorDataset(*[torch.stack(part) for part in zip(*(made[place] for place in range(len(made))))]))
    return fit(net(1), DataLoader(made, 16), loss=lambda out, y: F.mse_loss(out, y))


class Sorted(TensorDataset):
    """Reads many samples at a time, in the order in which they lie in the file."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in sorted(indices)]


@captured("exact")
def fetched_in_file_order() -> State:
    """``__getitems__`` may give them in any order: the sampler's is not the batch's."""
    made = Sorted(*values().tensors)
    return fit(net(1), DataLoader(made, 16, shuffle=True), loss=lambda out, y: F.mse_loss(out, y))


@captured("index")
def fetched_together() -> State:
    """``__getitems__`` of a Subset, which is torch's own."""
    part = Subset(values(), torch.randperm(60).tolist())
    return fit(net(1), DataLoader(part, 16, shuffle=True), loss=lambda out, y: F.mse_loss(out, y))


@captured("index")
def subset_changed_after_the_fetch() -> State:
    """Indices of a Subset that are put into another order while a batch is under way."""
    part = Subset(values(), list(range(60)))

    def shuffled() -> Iterator[Any]:
        for x, y in DataLoader(part, 16):
            random.shuffle(part.indices)  # type: ignore[arg-type]
            yield x, y

    return fit(net(1), shuffled(), loss=lambda out, y: F.mse_loss(out, y), epochs=1)


@captured("index")
def subset_changed_under_workers() -> State:
    """The same between epochs, while persistent workers go on with their own copies."""
    part = Subset(values(), list(range(60)))
    loader = DataLoader(part, 16, num_workers=1, persistent_workers=True)
    state: State = []
    for _ in range(2):
        state += fit(net(1), loader, loss=lambda out, y: F.mse_loss(out, y), epochs=1)
        random.shuffle(part.indices)  # type: ignore[arg-type]
    return state


@captured("index")
def counted_from_the_end() -> State:
    """A sampler of negative indices."""
    made = values()
    sampler: Any = list(range(-1, -60, -1))
    return fit(net(1), DataLoader(made, 16, sampler=sampler), loss=lambda out, y: F.mse_loss(out, y))


def ahead(loader: DataLoader[Any], depth: int) -> Iterator[Any]:
    """Batches fetched by a thread of the script's, as many ahead as ``depth``."""
    ready: queue.Queue[Any] = queue.Queue(depth)

    def fetch() -> None:
        for batch in loader:
            ready.put(batch)
        ready.put(None)

    thread = threading.Thread(target=fetch)
    thread.start()
    while (batch := ready.get()) is not None:
        yield batch
    thread.join()


@captured("index")
def fetched_by_a_thread() -> State:
    """A thread of the script's runs the loader, while the batches before are trained on."""
    loader = DataLoader(values(), 4, shuffle=True, generator=torch.Generator().manual_seed(4))
    return fit(nn.Linear(6, 1), ahead(loader, 2), loss=lambda out, y: F.mse_loss(out, y), epochs=1)


def lets_go(early: bool) -> State:
    """Notes when each batch is gone: before the next is fetched if the script deletes it, else after."""
    told: list[str] = []
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(values(), 16):
        told.append("came")
        weakref.finalize(x, told.append, "gone")
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        if early:
            del x, y
        told.append("done")
    return [model.state_dict(), told]


@captured("index")
def lets_go_of_its_batch() -> State:
    return lets_go(early=False)


@captured("index")
def deletes_its_batch() -> State:
    return lets_go(early=True)


@captured("a profiler was on")
def profiled() -> State:
    """Counts its operators."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        state = fit(nn.Linear(6, 1), DataLoader(values(), 16), loss=lambda out, y: F.mse_loss(out, y))
    return [state, sorted((event.key, event.count) for event in profile.key_averages())]


@captured("dispatch mode")
def flops_counted() -> State:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        state = fit(nn.Linear(6, 1), DataLoader(values(), 16), loss=lambda out, y: F.mse_loss(out, y))
    return [state, counter.get_total_flops()]
