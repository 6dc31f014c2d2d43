"""A command under way: who is to answer it, what each has said, and what all of that makes together."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

import msgspec

from onthefly.protocol import Answer, Command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onthefly.hub.processes import Key

_DURABILITY = ("accepted", "saved", "durable")


class Pending:
    """One command until it is settled."""

    def __init__(self, command: Command, to: Iterable[Key], *, job: bool, whole: bool = True) -> None:
        """``job``: its processes are ranks, which act at one step; ``whole``: its arguments are known."""
        self.command = command
        self.to: dict[Key, Optional[Answer]] = dict.fromkeys(to)
        """What each process has answered to whom it was sent; empty while it was sent to none."""
        self.job = job
        self.whole = whole
        self.accepted = Answer(id=command.id, n=command.n, status="accepted")
        self.committed: set[Key] = set()
        """Those whose answer is on disk."""
        self.judged: set[Key] = set()
        """Those for whom the hub has answered."""
        self.asked_because = ""
        """Why a process or the hub itself asked for it; empty: a client did."""
        self.shown_soon = False
        self.done = False
        self._waiters: list[asyncio.Future[None]] = []

    @cached_property
    def size(self) -> int:
        """Bytes of its arguments as JSON: a million samples are not to be counted at each word of the session."""
        return len(msgspec.json.encode(self.command.args))

    def address(self, keys: Iterable[Key], at: int) -> None:
        """It is for these now, and nobody has answered."""
        self.to = dict.fromkeys(keys)
        self.command = msgspec.structs.replace(self.command, at=at)

    def take(self, key: Key, answer: Answer) -> bool:
        """One has answered; False if it had before. One that was not asked is heard too: it was, by an older hub."""
        if self.to.get(key) is not None:
            return False
        self.to[key] = answer
        return True

    def judge(self, key: Key, answer: Answer) -> None:
        """The hub answers for one that will not."""
        self.to[key] = answer
        self.judged.add(key)

    def forget_those_that_do_not_train(self, training: list[Key]) -> None:
        """Where processes act each on its own: one that came before those that train (it starts them) never will."""
        if not self.job and any(self.to[key] is not None for key in training):
            self.to = {key: answer for key, answer in self.to.items() if answer is not None or key in training}

    def is_answered(self) -> bool:
        """All have answered."""
        return bool(self.to) and None not in self.to.values()

    def is_committed(self) -> bool:
        """All have, and of those who did so themselves it is on disk."""
        return self.is_answered() and self.committed >= set(self.to) - self.judged

    def merged(self) -> Answer:
        """One answer for all, once all are there: applied where all have applied it, ranks at one step."""
        answers = {key: answer for key, answer in sorted(self.to.items()) if answer is not None}
        first = next(iter(answers.values()))
        if len(answers) == 1:
            return self._with(first, first.result, self._durability(answers.values()))
        others = {key: answer for key, answer in answers.items() if answer.status != "applied"}
        durability = self._durability(answers.values())
        if others:
            key, worst = next(iter(others.items()))
            alike = len(others) == len(answers) and len({answer.reason for answer in others.values()}) == 1
            reason = worst.reason if alike else f"{self._called(key)}: {worst.reason or worst.status}"
            refused = len(others) == len(answers) and all(answer.status == "refused" for answer in others.values())
            if not refused and len(others) < len(answers):
                done = ", ".join(self._called(key) for key in answers if key not in others)
                reason += f" (done by {done})"
            return self._with(worst, {}, durability, "refused" if refused else "failed", reason)
        if self.job and len({answer.step for answer in answers.values()}) > 1:
            steps = ", ".join(f"{self._called(key)} after step {answer.step}" for key, answer in answers.items())
            return self._with(first, {}, durability, "failed", f"not done at one step: {steps}")
        result: dict[str, Any] = dict(first.result)
        different = {self._called(key): answer.result for key, answer in answers.items()
                     if answer.result != first.result}  # fmt: skip
        if different:
            result["others"] = different
        if not self.job:
            result["processes"] = len(answers)
        return self._with(max(answers.values(), key=lambda answer: answer.step), result, durability)

    def _called(self, key: Key) -> str:
        return f"rank {key[0]}" if self.job else f"process {key[0]}"

    def _durability(self, answers: Iterable[Answer]) -> Any:
        """The least of all: what is on disk is saved, unless its process knows better; what is not, is not."""
        least = min(_DURABILITY.index(answer.durability) for answer in answers)
        return _DURABILITY[max(least, 1) if self.is_committed() and not self.judged else min(least, 0)]

    def _with(self, answer: Answer, result: dict[str, Any], durability: Any, status: Any = None,
              reason: Optional[str] = None) -> Answer:  # fmt: skip
        return msgspec.structs.replace(
            answer, id=self.command.id, n=self.command.n, result=result, durability=durability,
            status=status or answer.status, reason=answer.reason if reason is None else reason,
        )  # fmt: skip

    async def settled(self, seconds: float) -> None:
        """Wait so long for it to be settled."""
        if self.done:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            self._waiters.remove(future)

    def settle(self) -> None:
        """It is over: whoever waits goes on."""
        self.done = True
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
