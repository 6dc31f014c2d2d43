"""Results of health checks: kept, bounded, read again by the next hub, and compared between ranks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.hub.health import MAX_ROWS, agreement
from onthefly.protocol import Checked, Denied, HealthResult
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47860) as running:
        yield running


def result(check: str = "numerics", **changes: Any) -> HealthResult:
    given: dict[str, Any] = {
        "check": check, "verdict": "good", "says": "all is well", "run": "baseline", "step": 3, "time": time.time(),
        "by": "ana", "examination": 1,
    }  # fmt: skip
    return HealthResult(**{**given, **changes})


def test_results_are_kept_in_their_order_and_counted(hub: Running, tmp_path: Path) -> None:
    with Agent(hub.file) as agent:
        agent.say(Checked(result=result(numbers={"nonfinite": 3, "share": float("nan"), "why": "x" * 9999})))
        agent.say(Checked(result=result("memory", rows=[{"name": str(row)} for row in range(MAX_ROWS + 9)])))
        agent.saved(2)
        found = hub.json("sessions/last/health")
        assert [one["check"] for one in found["results"]] == ["numerics", "memory"]
        numbers = found["results"][0]["numbers"]
        assert (numbers["nonfinite"], numbers["share"], len(numbers["why"])) == (3, None, 2000)
        assert len(found["results"][1]["rows"]) == MAX_ROWS
        wait_for("the count", lambda: hub.json("sessions/last")["health"] == 2)
    hub.stop()
    with running_hub(tmp_path, 47862) as again:
        assert again.json("sessions/last/health")["results"] == found["results"]


def test_what_cannot_be_told_costs_its_agent_the_connection(hub: Running) -> None:
    with Agent(hub.file) as agent:
        agent.say(Checked(result=result(time=float("inf"))))
        assert "without a time" in agent.wait(Denied).reason
    assert hub.json("sessions/last/health")["results"] == []


def ranks(**changes: Any) -> list[HealthResult]:
    """Three that agree, the last one changed."""
    same: dict[str, Any] = {"structure": "a", "weights": "b", "buffers": "c"}
    return [
        result("distribution", rank=rank, numbers={**same, "samples": f"s{rank}", **(changes if rank == 2 else {})})
        for rank in range(3)
    ]


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        ({}, "good", "train on different samples"),
        ({"structure": "x", "weights": "y"}, "bad", "structure on rank 2"),
        ({"weights": "x"}, "bad", "weights differ on rank 2"),
        ({"buffers": "x"}, "warning", "buffers"),
        ({"samples": None}, "good", "not known"),
        ({"weights": None}, "good", "the same structure"),
    ],
)
def test_ranks_are_compared(changes: dict[str, Any], verdict: str, says: str) -> None:
    found = agreement(ranks(**changes))
    assert found.verdict == verdict
    assert says in found.says
    assert len(found.rows) == 3


def test_ranks_that_draw_the_same_samples_are_told() -> None:
    given = ranks()
    for one in given:
        one.numbers["samples"] = "same"
    found = agreement(given)
    assert (found.verdict, found.numbers["same_samples"]) == ("warning", True)
    assert "DistributedSampler" in found.do


def test_results_of_ranks_are_one_result(hub: Running) -> None:
    with Agent(hub.file) as agent, Agent(hub.file, hello(pid=2**31 - 1, rank=1)) as other:
        one, two = ranks(weights="x")[0], ranks(weights="x")[2]
        agent.say(Checked(result=one))
        agent.say(Checked(result=result(rank=0)))
        other.say(Checked(result=two))
        agent.saved(2)
        other.saved(1)
        found = hub.json("sessions/last/health")["results"]
        assert sorted(one["check"] for one in found) == ["distribution", "numerics"]
        merged = next(one for one in found if one["check"] == "distribution")
        assert (merged["verdict"], merged["numbers"]["ranks"]) == ("bad", 2)
        assert "rank 1" in merged["says"]
