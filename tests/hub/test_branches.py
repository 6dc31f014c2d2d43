"""A run that goes on from a step of another: its chart begins with what is its own of that."""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from onthefly.hub.branches import MAX_BRANCHES, checked, show
from onthefly.hub.columns import BadColumns
from onthefly.protocol import Branch, Described, Welcome
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.made import ENDED
from tests.hub.running import running_hub

if TYPE_CHECKING:
    from pathlib import Path


def test_a_rewound_run_goes_on_from_its_parents_steps(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.state("running")
        agent.say(records(0, 10, 2))
        agent.say(Described(name="n", project="", run="rewind1", parent="baseline", step=6))
        again = records(6, 3, 2, run="rewind1", loss=array("d", [60.0, 70.0, 80.0]).tobytes())
        agent.say(again)
        agent.say(Described(name="n", project="", run="rewind2", parent="rewind1", step=7))
        agent.say(records(7, 2, 2, run="rewind2", loss=array("d", [700.0, 800.0]).tobytes()))
        agent.saved(agent.seq)

        def series(run: str) -> tuple[list[int], list[float]]:
            found = hub.json(f"sessions/abcdefgh/metrics?name=loss&points=100&run={run}")
            return found["step"], found["value"]

        assert series("baseline") == (list(range(10)), [float(step) for step in range(10)])
        assert series("rewind1") == (list(range(9)), [0, 1, 2, 3, 4, 5, 60, 70, 80])
        assert series("rewind2") == (list(range(9)), [0, 1, 2, 3, 4, 5, 60, 700, 800])
        assert [run["parents"] for run in hub.json("sessions/abcdefgh/runs")["runs"]] == [[], ["baseline"], ["rewind1"]]
        wait_for("the step of the newest run", lambda: hub.json("sessions/abcdefgh")["step"] == 8)
        assert hub.json("sessions/abcdefgh")["run"] == "rewind2"


def told(run: str, /, **more: Any) -> Described:
    """Of a run, in full."""
    given: dict[str, Any] = {"run": run, "parent": "baseline", "step": 6, "kind": "fork", "selection": "worst=2"}
    return Described(name="n", project="", run=run, branch=Branch(**{**given, **more}))


def test_a_branch_is_told_again_and_survives_the_hub(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47931) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.state("running")
        agent.say(records(0, 10, 2))
        agent.say(told("fork1"))
        agent.say(records(6, 3, 2, run="fork1", loss=array("d", [60.0, 70.0, 80.0]).tobytes()))
        agent.say(told("fork1", trained=3, verdict="3 steps", changes={"lr": 0.1, "betas": [0.9, 0.99]}))
        agent.say(Described(name="n", project="", run="baseline", branch=told("fork1").branch))
        agent.say(told("fork1", trained=4, selection="sample=" + ",".join(map(str, range(1000)))))
        agent.say(
            told("merge1", kind="merge", parent="fork1", parents=["fork1", "baseline"], step=9, strategy="fisher")
        )
        agent.say(records(9, 1, 2, run="merge1", loss=array("d", [90.0]).tobytes()))
        agent.saved(agent.seq)
        found = hub.json("sessions/abcdefgh")
        assert [(one["run"], one["trained"], one["kind"]) for one in found["branches"]] == [
            ("fork1", 4, "fork"), ("merge1", 0, "merge"),
        ]  # fmt: skip
        assert len(found["branches"][0]["selection"]) == 500
        assert found["branches"][0]["selection"].endswith(" ..."), "no part of it is taken for the whole"
        assert found["run"] == "merge1"
        series = hub.json("sessions/abcdefgh/metrics?name=loss&points=100&run=merge1")
        assert series["value"] == [0, 1, 2, 3, 4, 5, 60, 70, 80, 90]
        parents = {run["name"]: run["parents"] for run in hub.json("sessions/abcdefgh/runs")["runs"]}
        assert parents == {"baseline": [], "fork1": ["baseline"], "merge1": ["fork1", "baseline"]}
        kept = json.loads((tmp_path / "data" / "sessions" / "abcdefgh" / "session.json").read_text())
        assert len(kept["session"]["branches"]) == 2, "on disk when it is acknowledged"
    with running_hub(tmp_path, 47931) as hub:
        assert hub.json("sessions/abcdefgh")["branches"] == found["branches"]


BAD: dict[str, dict[str, Any]] = {
    "a run that is none": {"run": "a b"},
    "a parent that is none": {"parent": ""},
    "itself as its parent": {"parents": ["baseline", "fork1"]},
    "parents without end": {"parents": [f"r{number}" for number in range(40)]},
    "a checkpoint that is none": {"checkpoint": "../x"},
    "a step below none": {"step": -1},
    "a number beyond all": {"samples": 1 << 60},
    "a time that is none": {"time": float("nan")},
    "a change that is no number": {"changes": {"lr": "much"}},
    "changes without a shape": {"changes": {"lr": {"a": 1}}},
}


@pytest.mark.parametrize("name", BAD)
def test_a_branch_that_is_none_is_refused(name: str) -> None:
    branch = told("fork1", **BAD[name]).branch
    assert branch is not None
    with pytest.raises(BadColumns):
        checked(branch)


def test_what_is_too_long_is_cut_and_no_number_json_lacks_is_kept() -> None:
    branch = told("fork1", verdict="a" * 1000, changes={"lr": float("nan"), "b": 1.0}, by="b" * 1000).branch
    assert branch is not None
    kept = checked(branch)
    assert (len(kept.verdict), len(kept.by), kept.changes) == (500, 500, {"b": 1.0})


def test_a_bad_branch_costs_its_agent_the_connection_and_nobody_else(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47932) as hub:
        with Agent(hub.file, hello("abcdefgh")) as agent:
            agent.state("running")
            agent.say(told("fork1", step=-1))
            with pytest.raises(OSError):
                agent.wait(Welcome)
        assert hub.json("sessions/abcdefgh")["branches"] == []


def test_branches_are_bounded() -> None:
    info = replace(ENDED, branches=[])
    for number in range(MAX_BRANCHES + 5):
        show(info, told(f"fork{number}"))
    assert len(info.branches) == MAX_BRANCHES
    show(info, told("fork3", trained=7))
    assert (len(info.branches), info.branches[3].trained) == (MAX_BRANCHES, 7)
