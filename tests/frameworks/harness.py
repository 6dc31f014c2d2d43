"""Runs a framework's training plain and watched, with a witness beside it that knows nothing of how losses are found.

The witness is a forward hook on the model. Inputs are made so that each tells which sample it is; losses are computed
afterwards, from the model's outputs and the targets of those samples in the data set, one by one.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import random
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch

from tests.loops.state import digest
from tests.reporting import seen
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.watching import Kept, Row

    Play = Callable[["Witness"], "State"]

State = Any
"""Whatever training could change: hashed."""

Names = Any
Losses = Any
Look = Any
"""Callables; the arguments of ``forward`` have too many shapes to be typed."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "KERAS_BACKEND": "torch", "WANDB_DISABLED": "true"}


class Forward(NamedTuple):
    """One call of the model."""

    training: bool
    samples: list[int]
    each: torch.Tensor
    """The loss of each element, [samples, elements]; NaN where an element does not count."""

    @property
    def valid(self) -> torch.Tensor:
        """Elements that count, [samples]."""
        return (~self.each.isnan()).sum(1)


class Witness:
    """What the model was really given, and which losses that makes."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], Forward]] = []

    def attend(
        self, model: torch.nn.Module, names: Names, losses: Losses, look: Look = lambda args, output: output
    ) -> None:
        """Look at each call of this model.

        Args:
            model: its ``forward`` is hooked.
            names: of the call's arguments (all by name where they were given so), the index of each sample.
            losses: of these indices and the model's output, the loss of each element [samples, elements] or [samples].
            look: of its positional arguments and its output, what is given to ``losses``.
        """

        def hook(module: Any, args: Any, named: Any, output: Any) -> None:
            if getattr(output, "is_meta", False):  # Keras asks for shapes
                return
            samples, kept, training = names(*args, **named), _copied(look(args, output)), torch.is_grad_enabled()

            def later() -> Forward:
                with torch.no_grad():
                    each = losses(samples, kept)
                return Forward(training, samples, each.reshape(len(samples), -1).float())

            self._calls.append(later)

        model.register_forward_hook(hook, with_kwargs=True)

    def forwards(self) -> list[Forward]:
        """All calls, in their order: computed now, when nobody watches."""
        return [call() for call in self._calls]


def _copied(output: Any) -> Any:
    """Tensors detached and copied, in whatever they are in."""
    if isinstance(output, torch.Tensor):
        return output.detach().clone()
    if isinstance(output, (tuple, list)):
        return [_copied(part) for part in output]
    return {name: _copied(part) for name, part in output.items()} if hasattr(output, "items") else output


def content(known: torch.Tensor) -> Callable[[torch.Tensor], list[int]]:
    """Which rows of ``known`` (no two are alike) a batch is made of, whatever dtype it was cast to."""

    def names(given: torch.Tensor, *rest: Any, **named: Any) -> list[int]:
        alike = (given.double()[:, None] == known.to(given.dtype).double()[None]).flatten(2).all(2)
        assert (alike.sum(1) == 1).all()
        return alike.int().argmax(1).tolist()

    return names


class Case(NamedTuple):
    """A script of a framework's."""

    name: str
    """Said to a person."""
    play: Play
    outcome: str
    """``index`` (exact, every sample named), ``exact`` (not named), or words of the reason for less."""
    wrong: str
    """What is recorded wrongly today; empty: nothing."""


class Cases(dict[str, Case]):
    """The scripts of one framework."""

    def add(
        self, name: str, outcome: str, wrong: str = ""
    ) -> Callable[[Callable[[Witness], State]], Callable[[Witness], State]]:
        """Enter one, with what is captured of it."""

        def enter(play: Play) -> Play:
            self[play.__name__] = Case(name, play, outcome, wrong)
            return play

        return enter

    def marked(self) -> list[Any]:
        """Their names, as parameters of a test: what is wrong is expected to fail."""
        return [
            pytest.param(name, marks=pytest.mark.xfail(raises=AssertionError, reason=case.wrong, strict=True))
            if case.wrong else name
            for name, case in self.items()
        ]  # fmt: skip


def need(*packages: str) -> None:
    """Skip this file where a package is not installed; but in the full tier, fail."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing and os.environ.get("ONTHEFLY_FULL"):
        raise ModuleNotFoundError(f"the full tier needs {', '.join(missing)}: see `frameworks` in pyproject.toml")
    if missing:
        pytest.skip(f"{', '.join(missing)}: of the full tier", allow_module_level=True)


def load(module: str) -> Any:
    """Import a module of a framework when a script does; many warn of what others deprecate."""
    os.environ.update(OFFLINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


@contextlib.contextmanager
def seeded() -> Generator[None, None, None]:
    """One thread, and the same numbers as ever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def judge(case: Case) -> None:
    """Run it plain and watched, and compare: the state bit for bit, and every record with what the witness saw."""
    with seeded():
        plain = digest(case.play(Witness()))
    witness = Witness()
    with watched() as kept, seeded():
        state = digest(case.play(witness))
    assert state == plain, "watching changes what is trained"
    compare([*kept.rows(), *kept.validation()], witness.forwards())
    found = outcomes(kept)
    assert case.outcome == found if case.outcome in ("index", "exact") else case.outcome in found, found
    seen("framework", case.name, kept)


def outcomes(kept: Kept) -> str:
    """What became of all backward calls, in words."""
    found = {
        row.reason if row.certificate == "none" else "index" if row.identity == "index" else "exact"
        for row in kept.rows()
        if row.phase == "train"
    }
    return "; ".join(sorted(found))


def compare(rows: list[Row], forwards: list[Forward]) -> None:
    """No value and no index is wrong; what is not there says why.

    Of a validation not all need be recorded: what is must be of one of its batches, in their order.
    """
    trained = [row for row in rows if row.phase == "train"]
    given = [forward for forward in forwards if forward.training]
    assert len(trained) == len(given)
    for row, forward in zip(trained, given):
        assert fault(row, forward) == ""
    evaluated = iter([forward for forward in forwards if not forward.training])
    for row in rows:
        if row.phase != "train":
            assert any(not fault(row, forward) for forward in evaluated)


def fault(row: Row, forward: Forward) -> str:
    """What is wrong with this record; empty if nothing is.

    A sample's value is its elements' mean, or their sum where the script sums, times what makes the script's number of
    it. Which of the two is the script's matter (a sum over tokens, divided by their number in several batches): both
    turn into its number, and nothing else does.
    """
    if row.certificate == "none":
        return "" if row.reason and not row.losses else "no values, or no reason"
    if len(row.losses) != len(forward.samples):
        return f"{len(row.losses)} values for {len(forward.samples)} samples"
    if row.identity == "index" and row.samples != forward.samples:
        return f"{row.samples}, and not {forward.samples}"
    if row.identity == "none" and set(row.samples) != {-1}:
        return "samples that are not known are numbered"
    found, summed, valid = torch.tensor(row.losses), forward.each.nansum(1), forward.valid
    total = summed.sum()
    ways = [summed / valid.clamp(min=1) * (row.loss / (total / valid.sum())), summed * (row.loss / total)]
    if max(row.valid) > 1 and row.valid != valid.tolist():
        return f"{row.valid} elements, and not {valid.tolist()}"
    return "" if any(torch.allclose(found, way, 1e-4, 1e-7) for way in ways) else f"{found}, and not {ways}"
