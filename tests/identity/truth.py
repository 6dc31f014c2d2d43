"""Data whose samples are their own number, and what was delivered of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


class Numbers(Dataset[Any]):
    """Sample *i* is ``([i, i], i)``."""

    def __init__(self, count: int, offset: int = 0) -> None:
        self.count, self.offset = count, offset

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if not -self.count <= index < self.count:
            raise IndexError(index)
        number = float(index % self.count + self.offset)
        return torch.full((2,), number), torch.tensor(number)


class Stream(IterableDataset[Any]):
    """The numbers from 0 on, every n-th to a worker; uneven where the count is."""

    def __init__(self, count: int, *, named: str = "", uneven: int = 0) -> None:
        self.count, self.named, self.uneven = count, named, uneven

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        for number in range(worker, self.count - self.uneven * worker, workers):
            sample = {"x": torch.full((2,), float(number)), "y": torch.tensor(float(number))}
            yield {**sample, self.named: f"sample {number}"} if self.named else (sample["x"], sample["y"])


class Delivery(NamedTuple):
    """One batch, as the script saw it and as it was recorded."""

    truth: list[int]
    drawn: Any
    doubt: str
    epoch: int
    loader: Any


class Deliveries:
    """What loaders deliver, beside what is recorded of it."""

    def __init__(self, session: Any) -> None:
        self._recent = session._recorder._recent

    def see(self, y: torch.Tensor) -> Delivery:
        """Of the batch that has just come, with its own numbers."""
        loader, epoch, drawn, held, _ = self._recent.newest
        truth = [int(number) for number in y.flatten().tolist()]
        return Delivery(truth, drawn, loader.doubt or ("" if any(t is y for t in held) else "not held"), epoch, loader)


@contextlib.contextmanager
def delivered() -> Generator[Deliveries, None, None]:
    """Loaders are watched while this lasts."""
    with watched() as kept:
        yield Deliveries(kept.session)


def is_true(found: list[Delivery]) -> bool:
    """Whether every batch was recorded with the numbers that its samples have."""
    return bool(found) and all(d.drawn == d.truth and not d.doubt for d in found)
