"""Calls that wait to be sent together, and those on their way from an accelerator."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from torch import Tensor

from onthefly.capture.group import Group, groups
from onthefly.capture.margins import Margins
from onthefly.capture.plans import Plan
from onthefly.capture.quiet import intercepted, profiling, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onthefly.capture.expression import Term
    from onthefly.protocol import Records


class Blocks:
    """Calls, as tuples with the fields of :class:`~onthefly.capture.group.Call`, in their order."""

    def __init__(self, emit: Callable[[Records], None]) -> None:
        self._emit = emit
        self.calls: list[tuple[Any, ...]] = []
        self.rows = 0
        """Of these calls."""
        self.margins = Margins()
        """Of these calls."""
        self._groups: deque[Group] = deque()

    def slot_of(self, terms: Iterable[Term], rows: int) -> int:
        """Note the scores of the term that classifies samples, if there is one; -1 if not."""
        for term in terms:
            target = term.read.target
            if term.reader.classifies and target is not None and target.shape == (rows,):
                return self.margins.note(term.reader.scores(term.node), target)
        return -1

    def _worked_off(self, calls: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """These calls, those of plans with their values."""
        planned: dict[Plan, list[tuple[Any, ...]]] = {}
        for call in calls:
            if type(call[8]) is Plan:
                planned.setdefault(call[8], []).append(call)
        worked = {plan: iter(plan.work_off(its, self.margins)) for plan, its in planned.items()}
        return [next(worked[call[8]]) if type(call[8]) is Plan else call for call in calls] if worked else calls

    def send(self, run: str, *, wait: bool) -> None:
        """Send what has arrived; with ``wait`` also what is still under way from an accelerator."""
        calls, self.calls, self.rows = self.calls, [], 0
        if calls and (intercepted() or profiling()):  # operators of ours would show up there: what needs them waits
            self.calls = [call for call in calls if call[7] or type(call[5]) is Tensor]
            self._groups.extend(groups([call for call in calls if not call[7] and type(call[5]) is float]))
        elif calls:
            with undisturbed():
                calls = self._worked_off(calls)
                self._groups.extend(groups(calls, self.margins.take()))
        while self._groups and (wait or self._groups[0].ready()):
            self._emit(self._groups.popleft().records(run))
