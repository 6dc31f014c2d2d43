"""A pause that gives the accelerator's memory back, and every command that wants the tensors where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onthefly.errors import Refused, report
from onthefly.state.release import Released, here

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.core.gate import Gate, Place
    from onthefly.protocol import State
    from onthefly.state.deliveries import Deliveries

WITHOUT_TENSORS = frozenset({"pause", "cancel", "keep", "drop"})
"""Commands that look at no tensor of the script: memory that was given back stays so."""


class Releasing:
    """The memory of one script's tensors, while it is paused."""

    def __init__(self, gate: Gate, deliveries: Deliveries, announce: Callable[[State, str, str], None]) -> None:
        """``announce(state, by, reason)`` tells clients."""
        self._gate = gate
        self._deliveries = deliveries
        self._announce = announce
        self.released = Released()

    def pause(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``pause --release``: refused, it leaves a script running that ran."""
        if given.step is not None or given.epoch is not None or given.when:
            raise Refused("memory is given back by a pause at once, not by one that is planned", "pause, then release")
        running = not self._gate.paused
        self._gate.pause(given, place, by)
        try:
            return {"released": self.released.release(here(), self._deliveries.parts())}
        except Refused:
            if running:
                self._gate.go_on(by)
            raise

    def with_tensors(self, action: Callable[..., Any]) -> Callable[..., Any]:
        """``action``, before which the memory is brought back; where that fails, the script stays as it is, paused."""

        def acting(given: Any, place: Place, by: str) -> Any:
            try:
                self.released.take_back()
            except Refused as refusal:
                self._announce("paused", by, refusal.message)
                raise
            return action(given, place, by)

        return acting

    def over(self) -> None:
        """The script goes on in any case (Ctrl-C, a signal): with its tensors where they were, or in the host's."""
        try:
            self.released.take_back()
        except Refused as refusal:
            self.released.stay()
            report(f"{refusal.message}; the script's tensors lie in the host's memory now")
