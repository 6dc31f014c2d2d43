"""Watches what Lightning logs, in ``lightning.pytorch`` and ``pytorch_lightning``: the values that it gives to loggers.

The slot is the method that Lightning hands them to, at its own pace, whether the script has a logger or not. Everything
is computed by then: nothing of the model runs once more, no metric is reduced by us. (``trainer.callback_metrics`` and
its like would do that, and are not read.) Callbacks that go to the loggers themselves (``LearningRateMonitor``) do not
come by.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onthefly.errors import Guard

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""The two names under which Lightning is installed; a process may use both."""

CONNECTOR = "trainer.connectors.logger_connector.logger_connector"
METHODS = ("log_metrics", "on_batch_start")


class LightningInstrument:
    """The slots ``_LoggerConnector.log_metrics`` and ``on_batch_start`` of each package, from when it is there."""

    def __init__(
        self,
        log: Callable[[Mapping[str, Any], int], None],
        step: Callable[[], int],
        begin: Callable[[], None],
        notice: Callable[[str, str], None],
        guard: Guard,
    ) -> None:
        """``log(values, step)`` takes what is logged, ``step()`` says how many steps have ended.

        ``begin()`` is called before the first batch that other optimizers train on than the last: a new ``fit``.
        """
        self._log = log
        self._step = step
        self._begin = begin
        self._notice = notice
        self._guard = guard
        self._seen: set[str] = set()
        self._slots: list[Slot] = []
        self._enabled = True
        self._optimizer: Callable[[], Any] = lambda: None
        """The first of those that are trained with: a weak reference."""
        self._batch = 0
        """Steps that had ended when the newest training batch began."""
        self.look = guard.around(self._look)
        """Fill the slots if Lightning has been imported by now. Cheap: to be called once an epoch."""

    def disarm(self) -> None:
        """Put back what was there."""
        self._enabled = False
        for slot in reversed(self._slots):
            slot.restore()

    def _look(self) -> None:
        for package in PACKAGES:
            if package in sys.modules and package not in self._seen and self._enabled:
                self._seen.add(package)
                self._arm(package)

    def _arm(self, package: str) -> None:
        owner = getattr(sys.modules.get(f"{package}.{CONNECTOR}"), "_LoggerConnector", None)
        if owner is None or not all(callable(getattr(owner, name, None)) for name in METHODS):
            version = getattr(sys.modules[package], "__version__", "unknown")
            self._notice(f"what {package} {version} logs is not recorded: it does so in a way that is not known here",
                         "values given to session.log are recorded")  # fmt: skip
            return
        for name, ours in zip(METHODS, (self._logged, self._batch_began)):
            self._slots.append(
                Slot(owner, name, lambda slot, original, ours=ours: self._guard.ahead_of(original, ours, slot))
            )

    def _batch_began(self, connector: Any, *batch: Any, **named: Any) -> None:
        trainer = connector.trainer
        if not trainer.training:
            return
        optimizers = trainer.optimizers
        if optimizers and optimizers[0] is not self._optimizer():
            self._optimizer = weakref.ref(optimizers[0])
            self._begin()
        self._batch = self._step()

    def _logged(self, connector: Any, metrics: Mapping[str, Any], step: Any = None) -> None:
        """Values of a training batch, of its validation and of its epoch belong to the step that the batch began with.

        Lightning's own number for it differs where the script steps by hand, or goes on from a checkpoint. A value
        named ``step`` is a number for the loggers, and no metric.
        """
        values = {name: value for name, value in metrics.items() if name != "step"}
        if values:
            self._log(values, self._batch if connector.trainer.state.fn == "fit" else self._step())
