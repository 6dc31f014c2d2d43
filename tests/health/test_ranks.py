"""Two real ranks of torchrun are examined at one step: compared, looked at, and as they would be without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import FULL, wait_for
from tests.ranks.job import EACH_STEP, Job

if TYPE_CHECKING:
    from tests.conftest import Home


def examined(job: Job, *checks: str) -> dict[str, list[dict[str, Any]]]:
    """The results of all ranks by check."""
    job.wait_training(8)
    job.do("pause")
    before = job.held()
    answer = job.do("health", checks=list(checks))
    later = "after the next step" in answer["result"]

    def results() -> Any:
        found: dict[str, list[dict[str, Any]]] = {}
        for result in job.home.get("sessions/last/health")["results"]:
            found.setdefault(result["check"], []).append(result)
        whole = all(len(found.get(name, ())) == job.ranks for name in checks if name != "distribution")
        compared = "distribution" not in checks or (
            "distribution" in found and found["distribution"][-1]["numbers"].get("ranks") == job.ranks)  # fmt: skip
        return found if whole and compared else None

    found = wait_for("all results", results)
    if later:
        wait_for("the pause", lambda: job.home.get("sessions/last")["state"] == "paused")
        assert job.held() == before + 1
    return found


@FULL
def test_ranks_that_agree_are_good_and_stay_bit_for_bit_what_they_are(home: Home) -> None:
    job = Job(home, 2)
    found = examined(job, "distribution", "gradients", "numerics")
    (result,) = found["distribution"]
    assert result["verdict"] == "good", result
    assert "train on different samples" in result["says"]
    assert [row["rank"] for row in result["rows"]] == [0, 1]
    assert {result["step"] for result in found["gradients"]} == {found["numerics"][0]["step"] + 1}
    norms = {result["numbers"]["norm"] for result in found["gradients"]}
    assert len(norms) == 1, "DDP averages gradients: both ranks step with the same ones"
    stop = job.do("stop")
    job.wait_end()
    assert job.plain(stop["step"], {}).code == 0
    assert job.states() == job.states("plain")


@pytest.mark.parametrize(
    ("before", "kind", "says"),
    [
        ("if rank: plain[0].weight.data[0, 0] += 1", "bad", "weights differ on rank"),
        pytest.param("torch.manual_seed(1); pace.seed(1)", "warning", "the same samples", marks=FULL),
    ],
    ids=["weights", "samples"],
)
def test_ranks_that_do_not_are_found(home: Home, before: str, kind: str, says: str) -> None:
    job = Job(home, 2, f"{before}\n{EACH_STEP}")
    (result,) = examined(job, "distribution")["distribution"]
    assert result["verdict"] == kind, result
    assert says in result["says"]
    job.do("stop")
    job.wait_end()
