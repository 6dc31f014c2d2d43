"""Commands at chosen steps of a loop in this process, through the real gate and the real instruments."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from onthefly.protocol import Answer, Answered, Command, Controlled, Controls, Journaled, JournalEntry
from tests.watching import Kept, watched

if TYPE_CHECKING:
    from collections.abc import Generator


class Commander:
    """Sends commands before a step's end; they are done at its pause point."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self._count = 0

    def send(self, name: str, /, **args: Any) -> None:
        """Put it into the gate's queue, from the training thread itself."""
        self._count += 1
        self.kept.session._control.take(Command(n=self._count, id=str(self._count), name=name, args=args, by="ana"))

    def answers(self) -> list[Answer]:
        """All answers, in order."""
        return [message.answer for message in self.kept.messages if isinstance(message, Answered)]

    def journal(self) -> list[JournalEntry]:
        """All entries, in order."""
        return [message.entry for message in self.kept.messages if isinstance(message, Journaled)]

    def controls(self) -> Controls:
        """What clients were told last."""
        return [message.controls for message in self.kept.messages if isinstance(message, Controlled)][-1]


@contextlib.contextmanager
def desk(**environment: str) -> Generator[Commander, None, None]:
    """A watched session with a commander."""
    with watched(**environment) as kept:
        yield Commander(kept)
