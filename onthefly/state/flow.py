"""How a code object goes on from an instruction: which ``for`` loops may be entered again, how deep its stack is.

The interpreter keeps a loop's iterator, and the operands of an expression that is being computed, on the frame's value
stack. ``total += train_step(batch)`` has the old total there while the step runs. Where they lie follows from the code
alone, since the compiler gives every instruction one depth.
"""

from __future__ import annotations

import bisect
import dis
import functools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import CodeType

_UNCONDITIONAL = {
    "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE", "RETURN_VALUE", "RETURN_CONST",
    "RAISE_VARARGS", "RERAISE",
}  # fmt: skip
_JUMPS = {*dis.hasjrel, *dis.hasjabs}


class Unreadable(Exception):
    """What lies on a value stack is not known."""


class Standing(NamedTuple):
    """What a frame that stands at an instruction has on its value stack."""

    depth: int
    """Values that stay there while the instruction's call runs."""
    loops: dict[int, int]
    """The places of iterators whose loops may go on, with the line of each."""


@functools.lru_cache(maxsize=256)
def standing(code: CodeType, lasti: int) -> Standing:
    """What the value stack holds while the call at byte ``lasti`` runs; raises :class:`Unreadable`."""
    flow = _flow(code)
    at = flow.owner(lasti)
    instruction = flow.instructions[at]
    name, depth = instruction.opname, flow.depth(at)
    if name == "PRECALL":  # of Python 3.11: a call of a builtin, which replaces both instructions
        depth += dis.stack_effect(instruction.opcode, instruction.arg)
        instruction = flow.instructions[flow.behind(at)]
        name = instruction.opname
    if name.startswith(("CALL", "BINARY_", "COMPARE_")):
        depth += dis.stack_effect(instruction.opcode, _argument(instruction)) - 1
    elif name in ("SEND", "YIELD_FROM", "YIELD_VALUE"):
        depth -= 1
    elif name != "FOR_ITER":
        raise Unreadable(f"a step that is taken inside {name}")
    return Standing(depth, flow.open_loops(at))


def suspended(code: CodeType, lasti: int) -> Standing:
    """The same of a generator that waits at a ``yield``."""
    flow = _flow(code)
    at = flow.owner(lasti)
    name, before, behind = (flow.name(place) for place in (at, flow.before(at), flow.behind(at)))
    if lasti < 0 or name in ("RETURN_GENERATOR", "GEN_START") or before == "RETURN_GENERATOR":
        return Standing(0, {})  # it was never resumed
    if behind == "YIELD_FROM":  # before Python 3.11 it waits in front of that
        return Standing(flow.depth(at), flow.open_loops(at))
    if name == "RESUME":  # from Python 3.13 on it waits behind the yield, for the value that is sent
        return Standing(flow.depth(at) - 1, flow.open_loops(at))
    return standing(code, lasti)


def calls_at(code: CodeType, lasti: int) -> str:
    """The name of the instruction there."""
    flow = _flow(code)
    return flow.name(flow.owner(lasti))


class _Flow:
    """The instructions of a code object, what follows on each, and how deep the stack is before it."""

    def __init__(self, code: CodeType) -> None:
        listed = list(dis.get_instructions(code))
        self.instructions: dict[int, dis.Instruction] = {}
        self.line: dict[int, int] = {}
        self._alias: dict[int, int] = {}
        """Where a jump to an EXTENDED_ARG really leads."""
        prefix: list[int] = []
        starts, line = dict(dis.findlinestarts(code)), code.co_firstlineno
        for one in listed:
            line = starts.get(one.offset) or line
            if one.opname in ("EXTENDED_ARG", "CACHE"):
                prefix.append(one.offset)
                continue
            self._alias.update(dict.fromkeys(prefix, one.offset))
            prefix.clear()
            self.instructions[one.offset] = one
            self.line[one.offset] = line
        offsets = list(self.instructions)
        self._offsets = offsets
        self._behind = dict(zip(offsets, offsets[1:]))
        self._caught: dict[int, list[int]] = {}
        """Handlers that an exception in an instruction leads to."""
        self.depths: dict[int, int] = {}
        self._follow(self._handlers(code, offsets))

    def owner(self, lasti: int) -> int:
        """The instruction that a frame stands at: in Python 3.11 and 3.12 it points into the cache behind a call."""
        return self._offsets[max(bisect.bisect_right(self._offsets, lasti) - 1, 0)]

    def depth(self, offset: int) -> int:
        """How many values the stack has before that instruction."""
        if offset not in self.depths:
            raise Unreadable("an instruction that cannot be followed")
        return self.depths[offset]

    def name(self, offset: int) -> str:
        """Its name, empty where there is none."""
        return self.instructions[offset].opname if offset in self.instructions else ""

    def behind(self, offset: int) -> int:
        """The next, -1 if it is the last."""
        return self._behind.get(offset, -1)

    def before(self, offset: int) -> int:
        """The one in front, -1 if it is the first."""
        place = bisect.bisect_left(self._offsets, offset)
        return self._offsets[place - 1] if place else -1

    def _handlers(self, code: CodeType, offsets: list[int]) -> dict[int, int]:
        """The depth at the start of each handler of the exception table (from Python 3.11 on)."""
        parse: Any = getattr(dis, "_parse_exception_table", None)
        depths: dict[int, int] = {}
        if parse is not None:
            for entry in parse(code):
                target: int = self._alias.get(entry.target) or entry.target
                depths[target] = entry.depth + 1 + entry.lasti
                for offset in offsets:
                    if entry.start <= offset < entry.end:
                        self._caught.setdefault(offset, []).append(target)
            return depths
        for one in self.instructions.values():
            if one.opname.startswith("SETUP_") and one.opcode in _JUMPS:  # the handler's depth follows from the jump
                for offset in offsets:
                    if one.offset < offset < one.argval:
                        self._caught.setdefault(offset, []).append(self._target(one))
        return depths

    def _target(self, one: dis.Instruction) -> int:
        return self._alias.get(one.argval) or one.argval

    def _follow(self, handlers: dict[int, int]) -> None:
        """Give each instruction that can be reached its depth."""
        first = self._offsets[0]
        # Python 3.10 hands a generator the value that it is started with on its stack.
        pending = [(first, int(self.name(first) == "GEN_START")), *handlers.items()]
        while pending:
            offset, depth = pending.pop()
            if offset in self.depths:
                if self.depths[offset] != depth:
                    raise Unreadable("a stack whose depth is not one")
                continue
            self.depths[offset] = depth
            one = self.instructions[offset]
            if one.opname not in _UNCONDITIONAL and offset in self._behind:
                pending.append((self._behind[offset], depth + _effect(one, jump=False)))
            if one.opcode in _JUMPS:
                pending.append((self._target(one), depth + _effect(one, jump=True)))

    def open_loops(self, lasti: int) -> dict[int, int]:
        """The stack places of loops that may take another item after that instruction, with their lines.

        A ``for`` is entered by falling into it, and goes on by a jump back: what reaches that without entering anew.
        """
        loops: dict[int, int] = {}
        for offset, one in self.instructions.items():
            if one.opname == "FOR_ITER" and offset in self.depths and self._goes_on(lasti, offset):
                loops[self.depths[offset] - 1] = self.line[offset]
        return loops

    def _goes_on(self, lasti: int, loop: int) -> bool:
        if lasti == loop:
            return True
        reached: set[int] = set()
        pending = self._after(lasti)
        while pending:
            offset, jumped = pending.pop()
            if offset == loop:
                if jumped:
                    return True
                continue
            if offset not in reached:
                reached.add(offset)
                pending += self._after(offset)
        return False

    def _after(self, offset: int) -> list[tuple[int, bool]]:
        one = self.instructions[offset]
        after = [(target, True) for target in self._caught.get(offset, ())]
        if one.opname not in _UNCONDITIONAL and offset in self._behind:
            after.append((self._behind[offset], False))
        if one.opcode in _JUMPS:
            after.append((self._target(one), True))
        return after


def _effect(one: dis.Instruction, *, jump: bool) -> int:
    effect = dis.stack_effect(one.opcode, _argument(one), jump=jump)
    if one.opname == "RETURN_GENERATOR":
        return 1  # what the generator is sent first; not every compiler counts it
    if one.opname == "SEND" and sys.version_info >= (3, 12):
        return 0  # what it has sent to stays where it is, until END_SEND
    return effect


def _argument(one: dis.Instruction) -> int | None:
    return one.arg if one.opcode >= dis.HAVE_ARGUMENT else None


@functools.lru_cache(maxsize=256)
def _flow(code: CodeType) -> _Flow:
    return _Flow(code)
