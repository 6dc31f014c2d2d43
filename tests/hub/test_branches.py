"""A run that goes on from a step of another: its chart begins with what is its own of that."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from onthefly.protocol import Described
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
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
