"""Plays a script to its end, and once more with a snapshot at one step and a rewind to it at a later one.

What a script is compared by: after each optimizer's step the hash of the model, the optimizer and all random states,
and what it prints. After a rewind all of it must be what followed the first time.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
import warnings
from typing import TYPE_CHECKING, Any, Optional

from torch.optim.optimizer import register_optimizer_step_post_hook

from onthefly.core.meter import Meter
from onthefly.errors import Guard, Refused
from onthefly.instruments.data import DataInstrument
from onthefly.state.deliveries import Deliveries
from onthefly.state.frames import script_frames
from onthefly.state.snapshot import Snapshot
from tests.loops.state import digest, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType


class Source:
    """Takes deliveries, and keeps what they were drawn from."""

    def __init__(self, seen: list[Any]) -> None:
        self._seen = seen

    def deliver(self, drawn: Any, data: Any) -> None:
        self._seen.append(repr(drawn))

    def finish(self) -> None: ...

    def begin(self, iterator: Any) -> None: ...

    def stream(self, workers: int) -> None: ...


class Played:
    """One run of a script under the hook."""

    def __init__(self, do: Callable[[Played, int, list[FrameType]], None] = lambda played, step, frames: None) -> None:
        """``do(played, step, frames)`` is called after each step, before its hash is taken."""
        self.hashes: list[str] = []
        self.printed: list[int] = []
        """Characters that were printed before each step."""
        self.drawn: list[str] = []
        self.counts: list[int] = []
        """Batches that were delivered before each step."""
        self.deliveries = Deliveries()
        self.output = ""
        self.refused: Optional[Refused] = None
        self._do = do
        self._out = io.StringIO()

    def run(self, path: Path) -> Played:
        """Play it in this process, as the main module."""
        self._file = str(path)
        guard = Guard("the data instrument", strict=True)
        instrument = DataInstrument(lambda loader: Source(self.drawn), Meter(), guard, self.deliveries)
        handle = register_optimizer_step_post_hook(self._stepped)
        try:
            with contextlib.redirect_stdout(self._out), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'set_vital'")  # torchdata calls what torch warns of
                runpy.run_path(str(path), run_name="__main__")
        finally:
            handle.remove()
            instrument.disarm()
        self.output = self._out.getvalue()
        return self

    def _stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        frames = script_frames(sys._getframe(1), lambda file: file == self._file)
        self._do(self, len(self.hashes), frames)
        self.hashes.append(_hash(optimizer, frames))
        self.printed.append(self._out.tell())
        self.counts.append(len(self.drawn))


def _hash(optimizer: Any, frames: list[FrameType]) -> str:
    around = surroundings()
    watched: Any = frames[-1].f_globals.get("WATCHED", ())
    return digest([
        optimizer.state_dict(),
        [[p.detach() for p in group["params"]] + [p.grad for p in group["params"]] for group in optimizer.param_groups],
        [one.state_dict() if hasattr(one, "state_dict") else one for one in watched],
        {name: around[name] for name in ("random", "numpy's random", "torch's random", "gradients")},
    ])  # fmt: skip


def rewound(path: Path, taken: int, back: int) -> Played:
    """Play the script with a snapshot at step ``taken`` and a rewind to it at step ``back``."""
    found: list[Snapshot] = []

    def do(played: Played, step: int, frames: list[FrameType]) -> None:
        if step == taken and not found:
            found.append(Snapshot(frames, played.deliveries))
        elif step == back and len(found) == 1:
            found.append(found[0])
            played.counts.append(len(played.drawn))
            played.printed.append(played._out.tell())
            try:
                found[0].restore(frames)
            except Refused as refused:
                played.refused = refused
            found[0].close()

    return Played(do).run(path)


def snapped(path: Path, *steps: int) -> Played:
    """Play the script with snapshots at those steps, and no rewind."""
    held: list[Snapshot] = []

    def do(played: Played, step: int, frames: list[FrameType]) -> None:
        if step in steps:
            held.append(Snapshot(frames, played.deliveries, held[-1] if held else None))
            if len(held) > 2:
                held[-3].close()

    return Played(do).run(path)


def expect_same(path: Path, taken: int, back: int, plain: Optional[Played] = None) -> Played:
    """Assert that what follows a rewind is what followed the first time; returns the rewound run."""
    plain = plain or Played().run(path)
    assert back < len(plain.hashes), "the script has fewer steps"
    again = rewound(path, taken, back)
    assert again.refused is None, str(again.refused)
    assert again.hashes == plain.hashes[:back] + plain.hashes[taken:], _first(again, plain, taken, back)
    printed = plain.output[: again.printed[back]] + plain.output[plain.printed[taken] :]
    assert again.output == printed
    delivered = plain.drawn[: again.counts[back]] + plain.drawn[plain.counts[taken] :]
    assert again.drawn == delivered
    return again


def _first(again: Played, plain: Played, taken: int, back: int) -> str:
    wanted = plain.hashes[:back] + plain.hashes[taken:]
    pairs = list(zip(again.hashes, wanted))
    different = [at for at, (one, other) in enumerate(pairs) if one != other]
    return f"step {different[:1]} of {len(again.hashes)}, wanted {len(wanted)}; back at {back} to {taken}"


def expect_refused(path: Path, taken: int, back: int, *words: str) -> None:
    """Assert that the rewind is refused in these words, and that the run goes on as if nothing had been asked."""
    plain, again = Played().run(path), rewound(path, taken, back)
    assert again.refused is not None, "it was not refused"
    assert all(word in str(again.refused) for word in words), str(again.refused)
    assert again.hashes == plain.hashes
    assert again.output == plain.output
    assert again.drawn == plain.drawn
