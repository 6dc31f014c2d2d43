"""The scripts, what is in each, and how its pause points are counted."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple


class Case(NamedTuple):
    """One script of ``scripts/``."""

    name: str
    what: str
    """What is in it."""
    points: int = 1
    """Pause points for each line ``step N ...`` that it prints."""
    unit: str = "point"
    """``point``: its optimizers' steps are pause points; ``backward``: it has none, and backward calls are counted."""
    seeded: bool = True
    """Whether two plain runs are equal; if not, the whole run that is compared with is the watched one."""
    needs: str = ""
    """A package that it imports beside torch and numpy."""

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        return f"{self.needs} is not installed" if self.needs and find_spec(self.needs) is None else ""


CASES = {
    case.name: case
    for case in [
        Case("epochs", "epochs with StepLR, validation, best model saved, csv.writer held open"),
        Case(
            "range_steps", "for step in range(N) over an endless generator, OneCycleLR, dropout, numbered checkpoints"
        ),
        Case(
            "trainer_class", "a trainer class, batches through a generator of its own, a warm-up loop before the epochs"
        ),
        Case(
            "while_iterator",
            "while step < n, next(it) with StopIteration, ReduceLROnPlateau, deque, log in try/finally",
        ),
        Case("amp_accumulation", "autocast bfloat16, GradScaler, accumulation with a remainder, cosine schedule"),
        Case(
            "workers_augment", "augmentation by torch, numpy, random in 2 workers, label smoothing, whole model saved"
        ),
        Case("early_stopping", "patience counters, deep copies of the best state and model, break, for ... else"),
        Case("gan", "GAN with two Adams, noise drawn in the loop, samples from fixed noise", points=2),
    ]
}
