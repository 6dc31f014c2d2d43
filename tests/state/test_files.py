"""The writer: off the training thread, from copies, durable or with a reason; gone in forked children."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from onthefly.bundle import files as bundle_files
from onthefly.errors import Guard
from onthefly.state import files
from onthefly.state.export import export_pt
from onthefly.state.files import WAITING, Outcome, Writer, read_form
from onthefly.state.form import Form
from onthefly.state.objects import find
from tests.conftest import wait_for
from tests.faults.test_store import ROOT, mounted
from tests.state.trainings import PLACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def form(size: int = 100) -> Form:
    """A form with so many numbers."""
    return Form.of(find({"model": nn.Linear(size, 1)}), PLACE)


def in_child(test: Callable[[], bool]) -> None:
    """Have a forked child find something true. No operator of torch may run there: its threads are gone."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            os._exit(0 if test() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


class Writing:
    """A writer and its outcomes."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.outcomes: Queue[Outcome] = Queue()
        self.writer = Writer(parent, Guard("checkpoints", strict=True))

    def write(self, name: str, size: int = 100, given: Form | None = None) -> Outcome:
        """Write one, and what became of it."""
        self.writer.submit(given or form(size), name, self.outcomes.put)
        return self.outcomes.get(timeout=30)


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    given = Writing(tmp_path / "checkpoints")
    yield given
    assert given.writer.close(30)


def test_an_outcome_says_what_is_on_the_disk(writing: Writing) -> None:
    outcome = writing.write("baseline-3")
    assert (outcome.durability, outcome.error, outcome.path) == ("durable", "", writing.parent / "baseline-3")
    assert outcome.path is not None
    assert outcome.bytes == sum(path.stat().st_size for path in outcome.path.iterdir())
    assert outcome.seconds > 0
    assert read_form(outcome.path).place == PLACE


def test_one_that_exists_is_not_written_over(writing: Writing) -> None:
    assert writing.write("a").durability == "durable"
    again = writing.write("a")
    assert (again.durability, again.path) == ("", None)
    assert "there already" in again.error
    assert "no name" in writing.write("../a").error


def test_it_writes_on_a_thread_of_its_own_and_without_operators(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, seen = threading.Event(), list[int]()
    original = bundle_files.write_file

    def slow(*given: Any, **more: Any) -> int:
        seen.append(threading.get_ident())
        held.wait(30)
        return original(*given, **more)

    monkeypatch.setattr(bundle_files, "write_file", slow)
    for number in range(WAITING + 1):
        writing.writer.submit(form(), f"a-{number}", writing.outcomes.put)
        wait_for("the first to begin", lambda: seen)
    assert writing.writer.busy
    writing.writer.submit(form(), "one-too-many", writing.outcomes.put)
    refused = writing.outcomes.get_nowait()
    assert (refused.name, refused.durability) == ("one-too-many", "")
    assert "wait already" in refused.error
    assert not writing.writer.flush(0.01)
    held.set()
    assert writing.writer.flush(30)
    assert [writing.outcomes.get_nowait().durability for _ in range(WAITING + 1)] == ["durable"] * (WAITING + 1)
    assert set(seen).isdisjoint({threading.get_ident()})
    assert not writing.writer.busy


def test_closing_waits_and_takes_no_more(writing: Writing) -> None:
    writing.writer.submit(form(), "a", writing.outcomes.put)
    assert writing.writer.close(30)
    assert writing.outcomes.get_nowait().durability == "durable"
    assert "closing" in writing.write("b").error


def test_a_forked_child_has_none(writing: Writing) -> None:
    writing.write("a")
    given, outcomes = form(), list[Outcome]()

    def refused() -> bool:
        writing.writer.submit(given, "b", outcomes.append)
        said = outcomes[0].error == "a forked child writes no checkpoints"
        return said and writing.writer.close(0) and writing.writer.busy

    with writing.writer._changed:  # held by another thread while it forks, for all that the child knows
        in_child(refused)
    assert writing.write("b").durability == "durable"


def test_what_has_no_form_is_said_and_the_writer_goes_on(writing: Writing) -> None:
    bad = form()
    bad.sections["random"] = {"generator": object()}
    writing.writer.submit(bad, "a", writing.outcomes.put)
    assert writing.outcomes.get(timeout=30).error == "random.generator: an object"
    assert writing.write("a").durability == "durable"


def test_a_fault_of_ours_is_told_once_and_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    writer, outcomes = Writer(tmp_path, Guard("checkpoints")), Queue[Outcome]()
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_form", lambda *given: 1 / 0)
        writer.submit(form(), "a", outcomes.put)
        assert "ZeroDivisionError" in outcomes.get(timeout=30).error
        assert writer.flush(30)
    writer.submit(form(), "b", outcomes.put)
    assert outcomes.get(timeout=30).durability == "durable"
    assert writer.close(30)
    assert capfd.readouterr().err.count("checkpoints failed: ZeroDivisionError") == 1


@ROOT
@pytest.mark.parametrize("reason", ["full", "read-only"])
def test_a_disk_that_does_not_take_it(tmp_path: Path, reason: str) -> None:
    data = tmp_path / "data"
    with mounted(data, "1m"):
        writing = Writing(data / "checkpoints")
        assert writing.write("good").durability == "durable"
        if reason == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(data)], check=True)
        failed = writing.write("bad", 400_000)
        assert (failed.path, failed.durability) == (None, "")
        assert ("the disk is full" if reason == "full" else "read-only") in failed.error
        assert failed.remedy
        assert [path.name for path in writing.parent.iterdir()] == ["good"]
        read_form(writing.parent / "good")
        if reason == "full":
            with pytest.raises(files.OnTheFlyError, match="the disk is full"):
                export_pt(form(400_000), data / "model.pt")
            assert [path.name for path in data.iterdir()] == ["checkpoints"]
            assert writing.write("small").durability == "durable"
        assert writing.writer.close(30)


def test_a_folder_that_nobody_may_write_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # above it are folders that only root may enter
    parent = tmp_path / "checkpoints"
    parent.mkdir(mode=0o500)
    given = form()

    def refused() -> bool:
        if os.getuid() == 0:
            os.setgroups([])
            os.setresuid(65534, 65534, 65534)
        failed = Writing(Path("checkpoints")).write("a", given=given)
        return bool("permission denied" in failed.error and failed.remedy)

    in_child(refused)
    assert list(parent.iterdir()) == []


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    large, small = form(100_000), form()

    def refused() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        writing = Writing(tmp_path)
        failed, good = writing.write("bad", given=large), writing.write("good", given=small)
        return "limit on file sizes" in failed.error and good.durability == "durable"

    in_child(refused)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_no_operator_runs_while_it_is_written(tmp_path: Path) -> None:
    """Only the training thread may run one: what is written are addresses and shapes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise AssertionError(f"{func} ran")

    made = Form.of(find({"model": nn.Linear(3, 3)}), PLACE, more={"c": torch.tensor([1j]), "e": torch.ones(0)})
    with Seen():
        files.write_form(made, tmp_path, "a")
    assert torch.equal(read_form(tmp_path / "a").sections["c"], torch.tensor([1j]))
