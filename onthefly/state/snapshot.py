"""A snapshot of everything live in the script at a pause point, put back in place in the same process.

The contract. :meth:`Snapshot.take` changes nothing. :meth:`Snapshot.restore` either refuses before the first write,
with the reason, or leaves the script such that it goes on bit for bit as it went on from the snapshot. What cannot be
put back and is not known to matter is named in :attr:`Snapshot.left_out`; what is known to matter makes the snapshot
refuse, from the start (:attr:`Snapshot.obstacle`).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Optional

import torch

from onthefly.errors import Refused
from onthefly.state import script
from onthefly.state.contents import GLOBALS
from onthefly.state.frames import FrameState, check, drivers
from onthefly.state.kept import Keeper, give
from onthefly.state.places import EARLIER, Place
from onthefly.state.random import RandomStates, generator_of
from onthefly.state.structure import Structure
from onthefly.state.tensors import TensorState, undisturbed
from onthefly.state.walk import Walk

if TYPE_CHECKING:
    from types import FrameType

    from onthefly.state.deliveries import Deliveries

_ENDLESS = (tuple, str, bytes, range, frozenset)
"""What a loop may go over without anything to be put back below it."""


class Snapshot:
    """Everything live at one pause point."""

    def __init__(self, frames: list[FrameType], deliveries: Deliveries, before: Optional[Snapshot] = None) -> None:
        """Take it, on the training thread, in a step's post hook.

        ``frames``: :func:`onthefly.state.frames.script_frames`. ``before``: the snapshot taken last; a large tensor
        that was written since is copied from now on.
        """
        self.left_out: list[str] = []
        """What is not wound back, in plain words."""
        self.obstacle: Optional[Refused] = None
        """Why this moment cannot be gone back to; None: as far as can be told now, it can."""
        self.nbytes = 0
        """Memory of the copies. Batches that are kept for it are counted by the deliveries."""
        self._closed = False
        self._random = RandomStates.take()
        self._gradients = torch.is_grad_enabled()
        self._deliveries = deliveries
        self._keeper = Keeper()
        with undisturbed():
            self._take(frames, before)
        self._mark = deliveries.mark()

    def _take(self, frames: list[FrameType], before: Optional[Snapshot]) -> None:
        keeper = self._keeper
        walk = Walk(keeper, self._deliveries.parts())
        self._frames = [FrameState(frame, keeper.keep) for frame in frames]
        for state in self._frames:
            walk.go((f"{name} in {state.name}()", value) for name, value in state.roots)
        for name, variables in script.modules():
            walk.add(variables, GLOBALS, name)
            walk.go((name, value) for name, value in list(variables.items()) if not name.startswith("__"))
        self._obstacle(walk, frames)
        for state in self._frames:
            state.let_go()
        moved = before.moved() if before is not None else set()
        self._tensors = [
            (name, TensorState(tensor, essential=essential, copied=id(tensor) in moved))
            for tensor, name, essential in walk.tensors.values()
        ]
        self._arrays = [(array, array.copy()) for array in walk.arrays]
        self._generators = [
            (one, kind, kind.read(one)) for one in walk.generators.values() for kind in [generator_of(one)] if kind
        ]
        self._contents = walk.contents
        self._places: list[tuple[Any, Place, str]] = walk.places
        self._waiting = [(weakref.ref(one), state) for one, state in walk.frames]
        self._structure = Structure(walk.modules, walk.optimizers)
        self.left_out = walk.left_out
        self._needed = self._iterators_held(walk)
        self.nbytes = keeper.nbytes + sum(state.nbytes for _, state in self._tensors)
        self.nbytes += sum(copy.nbytes for _, copy in self._arrays)
        keeper.finish()
        walk.finish()

    def _iterators_held(self, walk: Walk) -> set[int]:
        """The ``id`` of what a variable, an object or a loop that is wound holds of loaders' iterators."""
        held = [leaf for leaf, _, _ in walk.leaves] + [weak() for weak in self._keeper.weak]
        return {id(one) for one in held}

    def _obstacle(self, walk: Walk, frames: list[FrameType]) -> None:
        """What is known already to make going back impossible."""
        reason, remedy = drivers(frames), "write the loop out"
        walk.leaves += [(leaf, state.name, line) for state in self._frames for leaf, line in state.leaves]
        running = {id(frame) for frame in frames}
        states = [*self._frames, *(state for _, state in walk.frames)]
        reason = reason or next((state.obstacle for state in states if state.obstacle), "")
        for leaf, name, line in walk.leaves:
            frame: Any = getattr(leaf, "gi_frame", None)
            covered = isinstance(leaf, _ENDLESS) or id(leaf) in walk.covered or id(frame) in running
            if not reason and not covered and not self._deliveries.knows(leaf):
                kind = type(leaf)
                reason = f"the loop in line {line} of {name} goes over a {kind.__module__}.{kind.__qualname__}"
                reason += ", whose place is not known"
        if not reason and self._keeper.waiting:
            shape = tuple(self._keeper.waiting[0].shape)
            reason = f"a tensor of shape {shape} waits for its backward here, which cannot run twice"
            remedy = "take the checkpoint after another optimizer's step"
        self.obstacle = Refused(reason, remedy) if reason else None

    def doubt(self) -> str:
        """Why it cannot be gone back to, as far as can be told without looking at the script; empty: perhaps it can."""
        if self._closed:
            return "the checkpoint is gone"
        if self.obstacle is not None:
            return self.obstacle.message
        try:
            self._deliveries.check(self._mark, self._needed)
        except Refused as refusal:
            return refusal.message
        return ""

    def values(self) -> dict[int, torch.Tensor]:
        """What each tensor held that was copied, by the ``id`` of the tensor."""
        return {id(state.tensor): state.content for _, state in self._tensors if state.content is not None}

    def moved(self) -> set[int]:
        """The ``id`` of tensors that were written since."""
        return {id(state.tensor) for _, state in self._tensors if state.moved}

    def check(self, frames: list[FrameType]) -> None:
        """Refuse unless :meth:`restore` will put everything back; touches nothing."""
        if self._closed:
            raise Refused("the checkpoint is gone")
        if self.obstacle is not None:
            raise self.obstacle
        self._deliveries.check(self._mark, self._needed)
        check(self._frames, frames)
        self._check_iterators()
        reason = self._structure.differs()
        with undisturbed():
            reason = reason or next(filter(None, (state.differs(name) for name, state in self._tensors)), "")
        if reason:
            raise Refused(reason, "take a checkpoint after the change")

    def _check_iterators(self) -> None:
        for iterator in self._deliveries.moved_since(self._mark):
            if id(iterator) not in self._needed:
                raise Refused("what goes over a loader cannot be reached", "write the loop out")
        for refer, state in self._waiting:
            generator = refer()
            if generator is None or generator.gi_frame is None:
                raise Refused(EARLIER, f"the generator {state.name} has come to its end")
            reason = state.differs(generator.gi_frame)
            if reason:
                raise Refused(reason)
        for iterator, place, name in self._places:
            reason = place.differs(iterator)
            if reason:
                raise Refused(f"{name}: {reason}")
        if self._keeper.gone:
            raise Refused(EARLIER, f"{self._keeper.gone}, which the script held then, is there no more")

    def restore(self, frames: list[FrameType]) -> None:
        """Put everything back, on the training thread, in a step's post hook; or raise :class:`Refused`."""
        self.check(frames)
        with undisturbed():
            for content in self._contents:
                content.put_back()
            for _, state in self._tensors:
                state.put_back()
            for array, copy in self._arrays:
                if array.tobytes() != copy.tobytes() or array.dtype.hasobject:
                    array[...] = copy
            for iterator, place, _ in self._places:
                place.put_back(iterator)
            for refer, state in self._waiting:
                generator: Any = refer()
                state.put_back(generator.gi_frame, give)
            for state, frame in zip(self._frames, frames):
                state.put_back(frame, give)
            for one, kind, value in self._generators:
                kind.write(one, value)
        torch._C._set_grad_enabled(self._gradients)
        self._deliveries.wind(self._mark)
        self._random.put_back()

    def close(self) -> None:
        """Let go of everything."""
        if not self._closed:
            self._closed = True
            self._deliveries.release(self._mark)
            for name in (
                "_contents",
                "_tensors",
                "_arrays",
                "_places",
                "_waiting",
                "_frames",
                "_generators",
                "_structure",
            ):
                delattr(self, name)
            self.nbytes = 0
