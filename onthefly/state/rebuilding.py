"""Putting an image into this process: what was matched is written in place, what was not is built, loops are set.

First everything that has no counterpart is built, beside the script and without running code of its (``__new__`` of the
plain base, then its attributes); what cannot be built is named, and nothing has been touched. Then all is written.
"""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from onthefly.state import openfiles, remaking, script, stack, values
from onthefly.state.building import Builder, Unbuildable, one_text
from onthefly.state.contents import CLASS, GLOBALS, SLOTS, form_of
from onthefly.state.frames import has_own_variables, managed, set_variables, variables
from onthefly.state.image import EMPTY_IN_MODULES, OURS
from onthefly.state.kept import ATOMS
from onthefly.state.random import generator_of
from onthefly.state.tensors import fill, grad_of, sample_of, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from onthefly.state.matching import Match

_Base: Any = torch._C.TensorBase  # pyright: ignore[reportPrivateUsage]


class Loading(NamedTuple):
    """A loader's iterator that has to be wound to its place."""

    node: dict[str, Any]
    loader: Any
    live: Any
    """The iterator that is to stand there: the script's, or one that is empty yet."""
    value: Callable[[Any], Any]
    """What a token stands for."""


class Rebuild:
    """One image on its way into this process."""

    def __init__(self, match: Match, winder: Callable[[Loading], None], cut: Path, *, last: bool = False) -> None:
        """``winder(loading)`` lets an iterator of a loader go on from its place.

        ``cut``: a folder for what is cut off files that go on where they were.

        ``last``: the script has been run again up to the very step, so that what nobody can read is as it was.
        """
        self._match = match
        self._nodes = match.nodes
        self._winder = winder
        self._cut = cut
        self._last = last
        self.told: list[str] = []
        """What is not as it was, though it was put back, in sentences."""
        self._builder = builder = Builder(match)
        self._value, self._values, self._made = builder.value, builder.values, builder.made

    def check(self) -> None:
        """Build what is missing. Raises :class:`Unbuildable`; nothing of the script's is touched."""
        with undisturbed():
            for number, node in enumerate(self._nodes):
                if node["kind"] == "tensor" and "print" not in node and number in self._match.live:
                    self._check_tensor(node, self._match.live[number])
                elif "print" in node and number in self._match.live:
                    self._check_unread(node, self._match.live[number])
            for number in reversed(range(len(self._nodes))):  # what tuples hold comes behind them: none is deep then
                if self._nodes[number]["kind"] == "sequence":
                    self._value([number])
            for number in range(len(self._nodes)):
                self._value([number])
            for frame, given in zip(self._match.frames, self._match.image["frames"]):
                if given.get("managers"):
                    self._check_managers(given, frame)

    def write(self) -> None:
        """Put everything there.

        Twice: workers of a loader take the data set as it is when they begin, and what is fetched on the way moves
        whatever the script's data set moves.
        """
        self._write_all()
        wound = [self._wind(number, node) for number, node in enumerate(self._nodes) if node["kind"] == "loading"]
        self._advance()
        if any(wound):
            self._write_all(again=True)
        with undisturbed():
            for frame, given in zip(self._match.frames, self._match.image["frames"]):
                self._write_frame(frame, given)

    def _write_all(self, *, again: bool = False) -> None:
        """What every node holds, and the globals; ``again``: but for files, which are not to be cut twice."""
        with undisturbed():
            numbers = [number for number in self._match.live if self._made[number] is self._match.live[number]]
            pairs = [(self._nodes[number], self._made[number]) for number in [*numbers, *self._builder.late]]
            pairs = [(node, made) for node, made in pairs if not again or node["kind"] != "file"]
            keyed = [isinstance(made, (dict, set)) for _, made in pairs]
            for (node, made), by_key in zip(pairs, keyed):
                self._write(node, made, content=not by_key)
            for (node, made), by_key in zip(pairs, keyed):
                if by_key:  # what keys are known by is written now
                    self._write_content(node, made)
            RemovableHandle.next_id = max(RemovableHandle.next_id, self._match.image.get("hooks", 0))
            for number, node in enumerate(self._nodes):
                if node["kind"] == "iterator" and "place" in node:
                    remaking.set_to_place(node, self._made[number], self._value)
            held = dict(script.modules())
            for name, tokens in self._match.image["modules"].items():
                if name in held:
                    GLOBALS.write(held[name], self._values(tokens))

    def _wind(self, number: int, node: dict[str, Any]) -> bool:
        """Take an iterator of a loader to its place, unless it has come there by itself; whether anything was done."""
        if node.get("ended"):
            return False
        live, drawn = self._made[number], self._value(node["drawn"])
        if self._last and live._num_yielded == node["yielded"] and vars(live).get("_onthefly_drawn") == drawn:
            return False
        self._winder(Loading(node, self._value(node["loader"]), live, self._value))
        return True

    def _advance(self) -> None:
        """Make iterators that can be made only over what is written."""
        for number, node in enumerate(self._nodes):
            iterator = node["kind"] == "iterator" and remaking.advances(node)
            if iterator and not remaking.stands(node, self._made[number]):
                self._made[number] = remaking.advanced(node, self._value(node["over"]))

    def _check_tensor(self, node: dict[str, Any], live: Tensor) -> None:
        if "sample" in node and not torch.equal(sample_of(live.detach()), node["sample"]):
            raise Unbuildable(f"{node['name']}, a large tensor of which only a sample is kept, has other values")

    def _check_unread(self, node: dict[str, Any], live: Any) -> None:
        if not self._last and (not node["print"] or values.fingerprint(live) != node["print"]):
            kind = node["type"].replace(":", ".")
            raise Unbuildable(
                f"{node['name']}, a {kind}, was changed by the run, and only the script can do that again"
            )

    # -- writing

    def _write(self, node: dict[str, Any], live: Any, *, content: bool = True) -> None:
        if "attributes" in node:
            self._write_attributes(node, live)
        if "slots" in node:
            SLOTS.write(live, self._values(node["slots"]))
        if content:
            self._write_content(node, live)

    def _write_content(self, node: dict[str, Any], live: Any) -> None:
        writer = _WRITERS.get(node["kind"])
        if writer is not None:
            writer(self, node, live)

    def _write_attributes(self, node: dict[str, Any], live: Any) -> None:
        held: Any = getattr(live, "__dict__", None)
        if held is None:
            return
        wanted = {one_text(key): self._value(token) for key, token in node["attributes"].items()}
        for key, value in wanted.items():
            if key not in held or held[key] is not value:
                held[key] = value
        if node["kind"] != "object":
            return  # of a data set, a loader, a function only settings are known
        for key in [key for key in held if key not in wanted]:
            if isinstance(live, nn.Module) and key in EMPTY_IN_MODULES:
                held[key].clear()
            elif not values.is_ours(held[key]):
                del held[key]

    def _write_object(self, node: dict[str, Any], live: Any) -> None:
        form = form_of(live)
        if form is not None and "content" in node:
            wanted, now = self._values(node["content"]), form.read(live)
            keys = wanted if isinstance(live, set) else wanted[::2] if isinstance(live, dict) else ()
            changed = any(not _same(one, other) for one, other in zip(now, wanted))
            if len(now) != len(wanted) or changed or any(map(_hashed_by_content, keys)):
                form.write(live, wanted)
        if "factory" in node:
            setattr(live, "default_factory", self._value(node["factory"]))  # noqa: B010 - of a defaultdict

    def _write_class(self, node: dict[str, Any], live: Any) -> None:
        if "content" in node:
            CLASS.write(live, self._values(node["content"]))

    def _write_tensor(self, node: dict[str, Any], live: Tensor) -> None:
        if "data" in node and live.is_leaf:
            fill(live, node["data"])
        if live.is_leaf:
            if node.get("needs", live.requires_grad) != live.requires_grad:
                live.requires_grad_(node["needs"])
            grad = self._value(node.get("grad"))
            if grad_of(live) is not grad:
                live.grad = grad

    def _write_array(self, node: dict[str, Any], live: Any) -> None:
        if "items" in node:
            for place, one in enumerate(self._values(node["items"])):
                live.flat[place] = one
        if "data" not in node or live is node["data"]:
            return
        if live.tobytes() != node["data"].tobytes():
            live[...] = node["data"]

    def _write_random(self, node: dict[str, Any], live: Any) -> None:
        kind: Any = generator_of(live)
        kind.write(live, node["state"])

    def _write_function(self, node: dict[str, Any], live: FunctionType) -> None:
        live.__defaults__ = self._value(node["defaults"])
        live.__kwdefaults__ = self._value(node["keywords"])
        for cell, token in zip(live.__closure__ or (), node["cells"]):
            other = self._value(token)
            if cell is not other:  # of another call: it holds the same
                form: Any = form_of(cell)
                form.write(cell, self._values(self._nodes[token[0]]["content"]))

    def _write_file(self, node: dict[str, Any], live: Any) -> None:
        told = openfiles.restore(live, node["file"], self._cut)
        if told:
            self.told.append(told)

    # -- frames

    def _write_frame(self, frame: FrameType, given: dict[str, Any], *, waits: bool = False) -> None:
        if given.get("stack") or given.get("managers"):
            held = stack.read(frame, waits=waits)[0]
            for at, inner in given["managers"].items():
                waiting = managed(held[int(at)])
                if waiting is not None:
                    self._write_frame(waiting, inner, waits=True)
            for at, token in given["stack"].items():
                value = self._value(token)
                if not _same(held[int(at)], value):
                    stack.write(frame, int(at), value)
        if "variables" in given and has_own_variables(frame):
            foreign = not script.is_own(frame.f_code.co_filename)
            kept = {
                name: value
                for name, value in variables(frame).items()
                if values.is_ours(value) or (foreign and name in OURS)
            }
            set_variables(frame, {**{n: self._value(token) for n, token in given["variables"].items()}, **kept})

    def _write_generator(self, node: dict[str, Any], live: Any) -> None:
        if "frame" in node:
            self._write_frame(live.gi_frame, node["frame"], waits=True)

    def _check_managers(self, given: dict[str, Any], frame: FrameType) -> None:
        held = stack.read(frame)[0]
        for at in given["managers"]:
            if managed(held[int(at)]) is None:
                raise Unbuildable("what is managed by a with block is not there")


def _hashed_by_content(key: Any) -> bool:
    """Whether its place in a table follows from what it holds, which may have been written anew."""
    return type(key) not in ATOMS and type(key).__hash__ not in (object.__hash__, Tensor.__hash__)


def _same(now: Any, wanted: Any) -> bool:
    """Whether nothing is to be written: the very object, or a method of it that is made anew at each look."""
    if now is wanted:
        return True
    if isinstance(now, MethodType) and isinstance(wanted, MethodType):
        return now.__self__ is wanted.__self__ and now.__func__ is wanted.__func__
    return False


_WRITERS: dict[str, Callable[[Rebuild, dict[str, Any], Any], None]] = {
    "object": Rebuild._write_object,
    "class": Rebuild._write_class,
    "tensor": Rebuild._write_tensor,
    "array": Rebuild._write_array,
    "random": Rebuild._write_random,
    "function": Rebuild._write_function,
    "file": Rebuild._write_file,
    "partial": lambda rebuild, node, live: live.__setstate__((*rebuild._values(node["parts"]), vars(live) or None)),
    "exception": lambda rebuild, node, live: setattr(live, "args", rebuild._value(node["args"])),
    "generator": lambda rebuild, node, live: rebuild._write_generator(node, live),
}
