"""Scripts that are played under us with tests and scans at their pause points, and what these are compared with."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from onthefly.protocol import Answered, Evaluated, Examined
from tests.actions.played import Commands, Run, plain, play

if TYPE_CHECKING:
    from pathlib import Path

    from onthefly.protocol import Answer, EvaluationInfo


class Asked:
    """A played script and what came of its tests and scans."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.messages: list[Any] = run.commander.kept.messages

    @property
    def evaluations(self) -> dict[str, EvaluationInfo]:
        """By label, as they were told last."""
        return {one.evaluation.label: one.evaluation for one in self.messages if isinstance(one, Evaluated)}

    @property
    def test(self) -> EvaluationInfo:
        """The one test: tests are numbered through a process, and so through all that are played in it."""
        (found,) = [one for label, one in self.evaluations.items() if label.startswith("test_")]
        return found

    @property
    def answers(self) -> list[Answer]:
        """Of commands, in order."""
        return [one.answer for one in self.messages if isinstance(one, Answered)]

    def column(self, label: str, name: str, code: str) -> list[Any]:
        """A column of the rows of one evaluation."""
        return [value for one in self.messages if isinstance(one, Examined) and one.evaluation == label
                for value in array(code, getattr(one, name))]  # fmt: skip

    def losses(self, label: str) -> dict[int, float]:
        """The loss of each sample, by its index."""
        return dict(zip(self.column(label, "sample", "q"), self.column(label, "loss", "f")))


def ask(folder: Path, source: str, at: Commands, *arguments: str, **environment: Any) -> tuple[Asked, Run]:
    """The script with these commands at these pause points, and plainly."""
    path = folder / "script.py"
    path.write_text(source)
    undisturbed = plain(path, *arguments)
    return Asked(play(path, *arguments, folder=folder / "data", at=at, **environment)), undisturbed
