"""What a snapshot keeps alive, what it costs while there is none, and going back more than once."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onthefly.core.meter import Meter
from onthefly.errors import Guard, Refused
from onthefly.instruments.data import DataInstrument
from onthefly.state.batches import KeptBatch
from onthefly.state.deliveries import TAPE, Deliveries
from onthefly.state.frames import script_frames
from onthefly.state.random import RandomStates
from onthefly.state.snapshot import Snapshot
from tests.state.rewinding import Played, Source
from tests.state.scripts import SCRIPTS, START

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType


class Armed:
    """The data instrument, with deliveries."""

    def __init__(self, budget: int) -> None:
        self.seen: list[Any] = []
        self.deliveries = Deliveries(budget)
        guard = Guard("the data instrument", strict=True)
        self.instrument = DataInstrument(lambda loader: Source(self.seen), Meter(), guard, self.deliveries)


@pytest.fixture
def armed() -> Iterator[Armed]:
    made = Armed(4000)
    yield made
    made.instrument.disarm()


def loader(count: int = 40) -> Any:
    return DataLoader(TensorDataset(torch.arange(float(count)).reshape(count, 1)), 4)


def here() -> list[FrameType]:
    return script_frames(sys._getframe(1), lambda file: file == __file__)[:1]


def test_batches_come_again_and_then_go_on(armed: Armed) -> None:
    iterator = iter(loader())
    first = [next(iterator)[0].sum().item() for _ in range(2)]
    mark = armed.deliveries.mark()
    given = [next(iterator)[0].sum().item() for _ in range(3)]
    for _ in range(2):
        armed.deliveries.check(mark, set())
        armed.deliveries.wind(mark)
        assert iterator._num_yielded == 2
        assert [next(iterator)[0].sum().item() for _ in range(3)] == given
    inner = armed.deliveries.mark()
    rest = [batch[0].sum().item() for batch in iterator]
    assert sum(first + given + rest) == sum(range(40))
    with pytest.raises(Refused, match="earlier epoch"):
        armed.deliveries.check(inner, {inner.positions[0].key})
    assert armed.seen[2:5] == armed.seen[5:8] == armed.seen[8:11]


def test_a_mark_inside_of_what_comes_again(armed: Armed) -> None:
    iterator = iter(loader())
    early = armed.deliveries.mark()
    given = [next(iterator)[0].sum().item() for _ in range(5)]
    armed.deliveries.wind(early)
    assert [next(iterator)[0].sum().item() for _ in range(2)] == given[:2]
    later = armed.deliveries.mark()
    armed.deliveries.release(early)
    assert [next(iterator)[0].sum().item() for _ in range(3)] == given[2:]
    armed.deliveries.wind(later)
    armed.deliveries.release(later)
    assert armed.deliveries.keeping
    assert [next(iterator)[0].sum().item() for _ in range(3)] == given[2:]
    assert not armed.deliveries.keeping
    assert TAPE not in vars(iterator)
    assert armed.deliveries.nbytes == 0


def test_over_budget_the_oldest_is_given_up(armed: Armed) -> None:
    iterator = iter(loader(4000))
    old = armed.deliveries.mark()
    for _ in range(150):
        next(iterator)
    new = armed.deliveries.mark()
    for _ in range(150):
        next(iterator)
    with pytest.raises(Refused, match="more than the 0 MiB that are kept"):
        armed.deliveries.check(old, set())
    armed.deliveries.check(new, set())
    assert armed.deliveries.nbytes <= 4000


def test_nothing_is_kept_while_there_is_no_mark(armed: Armed) -> None:
    iterator = iter(loader())
    batch = weakref.ref(next(iterator)[0])
    gc.collect()
    assert batch() is None
    assert not armed.deliveries.keeping
    assert TAPE not in vars(iterator)


def one_epoch(armed: Armed) -> tuple[Snapshot, list[Any]]:
    """A snapshot at its first batch, and what it must not keep alive.

    No assertion here: pytest rewrites them with calls of ``locals()``, and a function that calls that keeps its copy.
    """
    model = nn.Linear(1, 1)
    held: list[Snapshot] = []
    watched: list[Any] = []
    for (x,) in loader(8):
        loss = model(x).sum()
        loss.backward()
        if not held:
            held.append(Snapshot(here(), armed.deliveries))
            watched = [weakref.ref(one) for one in (loss, *armed.deliveries._iterators)]
        del loss
    return held[0], watched


def test_a_snapshot_keeps_no_iterator_and_no_graph(armed: Armed) -> None:
    snapshot, watched = one_epoch(armed)
    gc.collect()
    assert [one() for one in watched] == [None, None]
    assert snapshot.nbytes > 0
    snapshot.close()
    assert snapshot.nbytes == 0
    assert not armed.deliveries.keeping


def test_batches_are_given_anew() -> None:
    x = torch.ones(3)
    batch = {"x": x, "pair": (x, [1, "a"]), "more": {"n": torch.zeros(2)}}
    kept = KeptBatch(batch, copied=False)
    batch.clear()
    one = kept.again()
    one["x"].requires_grad_()
    one["more"].clear()
    two = kept.again()
    assert not two["x"].requires_grad
    assert two["x"] is not x
    assert two["x"].data_ptr() == x.data_ptr()
    assert list(two["more"]) == ["n"]
    assert not kept.moved
    two["x"].add_(1)
    assert kept.moved


def test_a_batch_in_shared_memory_is_copied() -> None:
    x = torch.ones(3).share_memory_()
    assert not KeptBatch([x], copied=False).again()[0].is_shared()


def test_random_states_are_shared_and_compared() -> None:
    one = RandomStates.take()
    assert RandomStates.take(one) is one
    torch.rand(1)
    two = RandomStates.take(one)
    assert not one.same(two)
    assert two._python is one._python
    one.put_back()
    assert one.same(RandomStates.take())


def test_back_and_forth(tmp_path: Path) -> None:
    """Two snapshots; back to the later, to the earlier, and to the later, which the earlier had not reached yet."""
    path = tmp_path / "script.py"
    path.write_text(START + SCRIPTS["augmented"])
    plain = Played().run(path)
    held: list[Snapshot] = []
    at: list[int] = []

    def do(played: Played, step: int, frames: list[FrameType]) -> None:
        if step in (2, 5) and len(held) < 2:
            held.append(Snapshot(frames, played.deliveries))
        elif step == 7:
            held[1].restore(frames)  # stands where step 5 ended
            at.append(5)
        elif step == 9:
            held[0].restore(frames)
            at.append(2)
        elif step == 13:
            held[1].restore(frames)
            for snapshot in held:
                snapshot.close()
            at.append(5)

    again = Played(do).run(path)
    hashes = plain.hashes
    assert again.hashes == [*hashes[:7], *hashes[5:7], *hashes[2:6], *hashes[5:]]
    assert at == [5, 2, 5]
