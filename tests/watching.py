"""A session in this process whose messages are kept instead of sent, for comparisons with brute force."""

from __future__ import annotations

import contextlib
from array import array
from typing import TYPE_CHECKING, Any

import onthefly.agent
from onthefly.protocol import CERTIFICATES, IDENTITIES, PHASES, Metrics, Noticed, Records, StateChanged
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from onthefly.agent import Session


class Row:
    """One backward call with its samples."""

    def __init__(self, records: Records, call: int, start: int) -> None:
        def at(data: bytes, code: str) -> Any:
            return array(code, data)[call]

        count = at(records.count, "i")
        self.run = records.run
        self.backward: int = at(records.backward, "q")
        self.step: int = at(records.step, "q")
        self.epoch: int = at(records.epoch, "i")
        self.phase = PHASES[at(records.phase, "B")]
        self.loss: float = at(records.loss, "d")
        self.time: float = at(records.time, "d")
        self.certificate = CERTIFICATES[at(records.certificate, "B")]
        self.identity = IDENTITIES[at(records.identity, "B")]
        self.error: float = at(records.error, "d")
        place = at(records.reason, "h")
        self.reason = records.reasons[place] if place >= 0 else ""
        self.samples = array("q", records.sample)[start : start + count].tolist()
        self.losses = array("f", records.sample_loss)[start : start + count]
        self.valid = array("i", records.valid)[start : start + count].tolist()
        self.confidence = array("f", records.confidence)[start : start + count]
        self.margin = array("f", records.margin)[start : start + count]
        self.shared: float = at(records.shared, "d")
        self.components = {
            name: array("f", column)[start : start + count] for name, column in records.components.items()
        }
        self.keys = [records.keys[place] for place in array("i", records.key)[start : start + count] if place >= 0]


class Kept:
    """What a watched loop sent."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.messages: list[Any] = []

    def rows(self) -> list[Row]:
        """All backward calls, in their order; each must be there once."""
        rows = sorted((row for row in self.every() if row.phase == "train"), key=lambda row: row.backward)
        assert [row.backward for row in rows] == list(range(len(rows))), "a call is lost or doubled"
        return rows

    def validation(self) -> list[Row]:
        """What was computed without gradients, in its order."""
        return sorted((row for row in self.every() if row.phase == "valid"), key=lambda row: row.time)

    def every(self) -> list[Row]:
        """All calls, as they were sent."""
        rows: list[Row] = []
        for message in self.messages:
            if isinstance(message, Records):
                start = 0
                for call in range(len(message.backward) // 8):
                    row = Row(message, call, start)
                    start += len(row.losses)
                    rows.append(row)
        return rows

    def metric(self, name: str) -> list[float]:
        """The values of a per-step metric, in order."""
        return [
            value
            for message in self.messages
            if isinstance(message, Metrics)
            for value in array("d", message.values.get(name, b""))
        ]

    def notices(self) -> list[str]:
        """What the user was told."""
        return [message.text for message in self.messages if isinstance(message, Noticed)]

    def states(self) -> list[str]:
        """The states that were announced."""
        return [message.state for message in self.messages if isinstance(message, StateChanged)]


class _NoLink:
    """Takes the link's place: keeps what it is given."""

    def __init__(self, *given: Any, **callbacks: Any) -> None:
        self.messages: list[Any] = []

    def start(self) -> None: ...

    def soon(self) -> None: ...

    def send(self, message: Any) -> None:
        self.messages.append(message)

    def close(self, timeout: float) -> None: ...

    def abandon(self) -> None: ...


@contextlib.contextmanager
def watched(**environment: str) -> Generator[Kept, None, None]:
    """Arm a session; on leaving, what it still holds is worked off, and every hook is out again."""
    real, onthefly.agent.Link = onthefly.agent.Link, _NoLink  # type: ignore[misc, assignment]
    try:
        session = onthefly.agent.Session(
            Settings({"ONTHEFLY_STRICT": "1", "ONTHEFLY_SESSION": "testtest", **environment}),
            onthefly.agent.Role(0, 1, ""),
        )
    finally:
        onthefly.agent.Link = real  # type: ignore[misc]
    kept = Kept(session)
    link: Any = session._link
    kept.messages = link.messages
    session.start()
    try:
        yield kept
    finally:
        session.close()
