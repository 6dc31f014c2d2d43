"""Row 25: whatever fails on our side, at any hook, the script ends as it would without us."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from onthefly import agent
from onthefly.capture import blocks, group, persample, recorder
from onthefly.capture.batches import RecentBatches
from onthefly.capture.evaluations import Evaluations
from onthefly.capture.expression import Expression
from onthefly.capture.loaders import LoaderRecord
from onthefly.capture.margins import Margins
from onthefly.capture.noted import OpenLosses
from onthefly.capture.packing import Packer
from onthefly.capture.persample import PerSample
from onthefly.capture.reading import NllReader
from onthefly.capture.recorder import Recorder
from onthefly.core.gate import Gate
from onthefly.errors import Guard
from onthefly.protocol import Command
from tests import loops
from tests.reporting import note
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.dear

POINTS: list[tuple[Any, str]] = [
    (Recorder, "open_source"),
    (Recorder, "observe"),
    (Recorder, "stepped"),
    (Recorder, "work_off"),
    (Packer, "pack"),
    (LoaderRecord, "deliver"),
    (LoaderRecord, "finish"),
    (RecentBatches, "retire"),
    (RecentBatches, "let_go"),
    (RecentBatches, "take_over"),
    (LoaderRecord, "renew"),
    (RecentBatches, "find"),
    (PerSample, "measure"),
    (Expression, "of"),
    (persample, "joined"),
    (OpenLosses, "note"),
    (Margins, "note"),
    (blocks, "groups"),
    (recorder, "metrics"),
    (group.Group, "records"),
    (group, "judge"),
    (NllReader, "read"),
    (Evaluations, "note"),
    (Evaluations, "trained"),
    (Gate, "serve"),
    (agent.Session, "notice"),
]
PLAYED = ("plain", "mixed_losses")
"""A loop with validation, and one whose losses have several terms."""

FAULTS = [ValueError, RecursionError, MemoryError, AttributeError, OSError]


def _name(part: Any) -> str:
    return part[1] if isinstance(part, tuple) else part.__name__


def _raise(kind: type[Exception]) -> Callable[..., Any]:
    def fails(*given: Any, **named: Any) -> Any:
        raise kind("injected")

    return fails


@pytest.fixture(scope="module")
def survived() -> Iterator[list[str]]:
    """The pairs of hook and fault that the script did not notice."""
    pairs: list[str] = []
    yield pairs
    note("F8", pairs=len(POINTS) * len(FAULTS), survived=len(pairs))


@pytest.mark.parametrize(("point", "kind"), list(itertools.product(POINTS, FAULTS)), ids=_name)
def test_a_fault_of_ours_is_ours(
    point: tuple[Any, str],
    kind: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    survived: list[str],
) -> None:
    plain = [loops.run(name) for name in PLAYED]
    with watched(ONTHEFLY_STRICT="0") as kept:
        monkeypatch.setattr(*point, _raise(kind))
        kept.session._gate.submit(Command(n=0, id="a", name="resume", args={}, by=""))
        assert [loops.run(name) for name in PLAYED] == plain
        monkeypatch.undo()
    said = [line.split(" failed")[0] for line in capfd.readouterr().err.splitlines() if line.startswith("onthefly: ")]
    for guard in set(said):
        assert said.count(guard) <= 2, "a fault is told once, and once more when its hook is switched off"
    survived.append(f"{point[1]} {kind.__name__}")


def test_without_the_guard_the_script_would_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard, "around", lambda self, function: function)
    with watched():
        monkeypatch.setattr(PerSample, "measure", _raise(ValueError))
        with pytest.raises(ValueError, match="injected"):
            loops.run("plain")


def test_a_hook_is_switched_off_after_three_failures(capfd: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []
    guard = Guard("the hook")
    guard.disarm = lambda: calls.append(-1)

    def fails(number: int) -> None:
        calls.append(number)
        raise KeyError(number)

    hook = guard.around(fails)
    for number in range(3):
        hook(number)
    assert calls == [0, 1, 2, -1]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "KeyError" in lines[0]
    assert "switched off" in lines[1]


def test_what_is_not_ours_passes() -> None:
    def interrupts() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guard("the hook").around(interrupts)()


def test_strict_is_loud() -> None:
    with pytest.raises(ValueError, match="injected"):
        Guard("the hook", strict=True).around(_raise(ValueError))()


def test_the_scripts_own_errors_pass_unchanged() -> None:
    import torch
    from torch.utils.data import DataLoader

    class Broken(torch.utils.data.Dataset[int]):
        def __getitem__(self, index: int) -> int:
            raise LookupError("the script's", index)

        def __len__(self) -> int:
            return 3

    with watched():
        with pytest.raises(LookupError) as caught:
            next(iter(DataLoader(Broken())))
        assert caught.value.args == ("the script's", 0)
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.ones(()).backward()
