"""The harness sees what differs: each of these would be a wrong resume that ends with exit code 0."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Any, Callable

import pytest
import torch

from tests.conftest import FULL
from tests.resume.cases import CASES
from tests.resume.compare import content, differences
from tests.resume.harness import EXACT, REFUSED, UNWRITTEN, WRONG, Result, drawn, judge, total
from tests.resume.running import SCRIPTS, Bench, Cut, Ran

if TYPE_CHECKING:
    from pathlib import Path

CASE = CASES["epochs"]
LINES = [f"step {number} loss {number / 7:.6f}\n" for number in range(1, 21)]
OUT = "".join(LINES)


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def state(weight: float = 1.0) -> dict[str, Any]:
    return {"model": {"weight": torch.tensor([0.0, weight])}, "steps": 20, "best": float("inf")}


WHOLE = Ran(0, OUT, "bar\n", {"model.pt": saved(state()), "log.csv": b"1,2\n"})
RESUMED = WHOLE._replace(out="".join(LINES[7:]), err="onthefly: resumed at step 7\nbar\n")


class Pretended(Bench):
    """Runs nothing: what the processes left is given."""

    def __init__(self, folder: Path, ran: list[Ran], manifest: str = "{}") -> None:
        super().__init__(folder, CASE)
        self.session = "abcdefgh"
        self.ran, self.manifest = ran, manifest

    def watched(self, cut: Cut | None, resume: Path | None = None) -> Ran:
        if cut is not None and self.manifest:
            self.checkpoint(cut.point).mkdir(parents=True)
            (self.checkpoint(cut.point) / "manifest.json").write_text(self.manifest)
        return self.ran.pop(0)


def judged(folder: Path, resumed: Ran, way: str = "hold", manifest: str = "{}") -> Result:
    """The verdict on a script that was interrupted after step 7 and left that."""
    later = 0 if way == "hold" else 2
    interrupted = WHOLE._replace(code=-9, out="".join(LINES[: 7 + later]))
    with Pretended(folder, [interrupted, resumed], manifest) as bench:
        return judge(CASE, [Cut(7, way, later)], bench, WHOLE)


@pytest.mark.parametrize("way", ["hold", "kill", "stop"])
def test_what_is_equal_is_exact(way: str, tmp_path: Path) -> None:
    assert judged(tmp_path, RESUMED, way).verdict == EXACT


FAULTS: dict[str, tuple[Callable[[Ran], Ran], str]] = {
    "from its start": (lambda ran: ran._replace(out=OUT), "it ran from its start"),
    "a step twice": (lambda ran: ran._replace(out="".join(LINES[5:])), "printed"),
    "a step left out": (lambda ran: ran._replace(out="".join(LINES[9:])), "printed"),
    "another loss": (lambda ran: ran._replace(out=ran.out.replace("step 20 loss 2", "step 20 loss 3")), "printed"),
    "nothing printed": (lambda ran: ran._replace(out=""), "printed"),
    "another code": (lambda ran: ran._replace(code=1), "exit code 1, not 0"),
    "one bit of a tensor": (
        lambda ran: ran._replace(files={**ran.files, "model.pt": saved(state(1.0000001))}), "['weight']: off by"),
    "a counter": (
        lambda ran: ran._replace(files={**ran.files, "model.pt": saved({**state(), "steps": 21})}), "['steps'] is 21"),
    "a line of a log twice": (lambda ran: ran._replace(files={**ran.files, "log.csv": b"1,2\n1,2\n"}), "file log.csv"),
    "a file more": (lambda ran: ran._replace(files={**ran.files, "best.pt": b""}), "best.pt is one too many"),
    "a file less": (lambda ran: ran._replace(files={"log.csv": b"1,2\n"}), "model.pt is missing"),
    "standard error": (lambda ran: ran._replace(err="bar\nbar\n"), "standard error"),
}  # fmt: skip


@pytest.mark.parametrize("way", ["hold", "kill"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_differs_is_wrong(fault: str, way: str, tmp_path: Path) -> None:
    spoil, said = FAULTS[fault]
    result = judged(tmp_path, spoil(RESUMED), way)
    assert (result.verdict, result.sound) == (WRONG, False)
    assert said in result.detail


def test_a_refusal_must_be_one(tmp_path: Path) -> None:
    refused = Ran(5, "", "onthefly: it cannot be resumed: there is another version of torch\n", {})
    assert judged(tmp_path / "a", refused).verdict == REFUSED
    assert judged(tmp_path / "b", refused._replace(out="step 8\n")).verdict == WRONG
    assert judged(tmp_path / "c", refused._replace(err="")).verdict == WRONG
    assert judged(tmp_path / "d", refused._replace(code=1)).verdict == WRONG
    told = judged(tmp_path / "e", RESUMED, manifest='{"resume": "a thread trains"}')
    assert (told.verdict, told.detail) == (UNWRITTEN, "a thread trains")
    assert "no checkpoint was made" in judged(tmp_path / "f", RESUMED, manifest="").detail


def test_what_was_printed_before_the_cut_counts(tmp_path: Path) -> None:
    interrupted = WHOLE._replace(out="".join(LINES[:6]) + "step 7 loss 0\n")
    with Pretended(tmp_path, [interrupted, RESUMED]) as bench:
        assert judge(CASE, [Cut(7)], bench, WHOLE).verdict == WRONG


def test_archives_are_compared_by_what_is_in_them() -> None:
    shared = [1.5, "a"]
    once, twice = saved((shared, shared)), saved(([1.5, "a"], [1.5, "a"]))
    assert once != twice
    assert content(once, twice) == ""
    pairs: list[tuple[Any, Any]] = [
        (1, 1.0), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (torch.zeros(2), torch.zeros(2, 1)),
        (torch.zeros(2), torch.tensor([0.0, -0.0])), (torch.zeros(2), torch.zeros(2, dtype=torch.double)),
        ([1], [1, 2]),
    ]  # fmt: skip
    for one, other in pairs:
        assert content(saved({"x": one}), saved({"x": other})) != ""
    nan = saved({"x": float("nan"), "y": torch.tensor(float("nan"))})
    assert content(nan, nan) == ""
    assert differences(WHOLE, "", WHOLE, None) == []


def test_equal_values_in_other_bytes_are_told(tmp_path: Path) -> None:
    shared = [1.5, "a"]
    whole = WHOLE._replace(files={"model.pt": saved((shared, shared))})
    resumed = RESUMED._replace(files={"model.pt": saved(([1.5, "a"], [1.5, "a"]))})
    with Pretended(tmp_path, [WHOLE._replace(out="".join(LINES[:7])), resumed]) as bench:
        result = judge(CASE, [Cut(7)], bench, whole)
    assert (result.verdict, result.detail) == (EXACT, "model.pt: equal values in other bytes")


def test_every_script_is_a_case() -> None:
    here = {path.stem for path in SCRIPTS.glob("*.py")}
    assert here - set(CASES) == {"two_files_engine"}
    assert set(CASES) <= here


def test_cuts_are_within_the_run() -> None:
    for seed in range(50):
        chains = drawn(CASE, WHOLE, random.Random(seed))
        assert [chain[0].way for chain in chains] == ["hold", "kill", "stop", "hold"]
        assert all(cut.point >= 1 and cut.point + cut.later <= 20 for chain in chains for cut in chain)
        one, two = chains[-1]
        assert one.point < two.point <= one.point + 5


@FULL
def test_a_rerun_from_the_start_is_no_resume(tmp_path: Path) -> None:
    """The real processes, with a launcher that has forgotten what it was to resume."""

    class Forgetful(Bench):
        def watched(self, cut: Cut | None, resume: Path | None = None) -> Ran:
            return super().watched(cut)

    case = CASES["range_steps"]
    with Forgetful(tmp_path, case) as bench:
        whole = bench.plain()
        result = judge(case, [Cut(20, "kill", 3)], bench, whole)
    assert result.verdict == WRONG
    assert "it ran from its start" in result.detail
    assert total(case, whole) == 60
