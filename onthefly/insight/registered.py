"""What the script gives us to evaluate with: ``onthefly.session().register(test=fn, step=fn)``.

``step(batch)`` returns the loss of a batch, as one number or one a sample. ``test(loader)`` goes through a loader as
the script would, and returns a number or a dictionary of numbers. Both are called with gradients as they need them, the
model in the mode that was asked for, and all is put back as it was.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch

from onthefly.core import test_label
from onthefly.errors import Refused, outcome
from onthefly.insight.evaluation import Outcome, Way
from onthefly.insight.keeping import as_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from onthefly.insight.split import Split

REMEDY = "in the script: onthefly.session().register(test=fn, step=fn)"


class Again:
    """A loader's samples, in their order: stands for the loader where a registered function goes through it."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self.dataset = split.loader.dataset
        self.batch_size = split.size

    def __iter__(self) -> Iterator[Any]:
        return (batch.data for batch in self._split.batches())

    def __len__(self) -> int:
        return -(-self._split.count // self._split.size)


class Registered:
    """The functions."""

    def __init__(self) -> None:
        self._test: Callable[[Any], Any] | None = None
        self._step: Callable[[Any], Any] | None = None
        self.embed: Callable[[Any], Any] | None = None
        """Makes an embedding of what a module gave."""

    def register(
        self, test: Callable[[Any], Any] | None = None, step: Callable[[Any], Any] | None = None,
        embed: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        """Take what is given; the rest stays as it was."""
        self._test, self._step, self.embed = test or self._test, step or self._step, embed or self.embed

    @property
    def tests(self) -> bool:
        """Whether there is a function for whole tests."""
        return self._test is not None

    def serves(self, kind: str) -> bool:
        """Whether there is anything for that."""
        return self._step is not None or (kind == "test" and self._test is not None)

    def check(self, kind: str) -> None:
        """Refuse where there is nothing."""
        if not self.serves(kind):
            raise Refused(f"the script has registered nothing for a {kind}", REMEDY)

    def way(self, modules: Sequence[nn.Module]) -> Way:
        """By ``step``."""
        step = self._step
        assert step is not None

        def loss(batch: Any) -> Any:
            with torch.enable_grad():
                return step(batch)

        modes = [(one, one.training) for module in modules for one in module.modules()]
        return Way(loss, modules, modes, lambda batch: True, 0)

    def test(self, split: Split, modules: Sequence[nn.Module], label: str, mode: str) -> Outcome:
        """By ``test``."""
        began, function = time.monotonic(), self._test
        assert function is not None
        with as_before(modules, [split.loader.dataset, split.loader.collate_fn]) as kept, test_label.next_test(label):
            if mode == "eval":
                for one in kept.modules:
                    one.training = False
            with torch.no_grad():
                found, fault = outcome(function, Again(split))
        if fault is not None:
            raise Refused(f"the registered function failed: {type(fault).__name__}: {fault}"[:300])
        return Outcome(split.count, _numbers(found), "", time.monotonic() - began)


def _numbers(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        found = {"loss": found}
    values: dict[str, Any] = {}
    for name, value in list(found.items())[:100]:
        number = float(value) if value is not None and not isinstance(value, str) else math.nan
        if math.isfinite(number):
            values[str(name)[:100]] = number
    return values
