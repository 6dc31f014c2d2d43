"""A script's own validation is recorded beside its training, and never taken for it."""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.protocol import PHASES, Metrics, Records
from tests.hub.agent import Agent, records
from tests.hub.dashboard import connected
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47940) as running:
        yield running


def validation(first: int, calls: int, loss: float, **changes: Any) -> Records:
    """Batches of two samples, all with this loss."""
    return records(
        first, calls, 2, phase=bytes([PHASES.index("valid")] * calls), loss=array("d", [loss] * calls).tobytes(),
        sample_loss=array("f", [loss] * 2 * calls).tobytes(), **changes,
    )  # fmt: skip


def one_pass(step: int, loss: float, accuracy: float) -> Metrics:
    """What one pass over the validation set came to."""
    values = {"valid/loss": array("d", [loss]).tobytes(), "valid/accuracy": array("d", [accuracy]).tobytes()}
    return Metrics(run="baseline", step=array("q", [step]).tobytes(), epoch=array("i", [0]).tobytes(),
                   time=array("d", [1.0]).tobytes(), values=values)  # fmt: skip


def test_validation_is_a_part_of_its_own(hub: Running) -> None:
    with Agent(hub.file) as agent:
        agent.saved(agent.say(records(0, 3, 4)))
        assert hub.json("sessions/last/histogram")["phases"] == ["train"]
        agent.saved(agent.say(validation(3, 5, 70.0, epoch=array("i", [7] * 5).tobytes())))
        agent.saved(agent.say(one_pass(3, 70.0, 0.5)))
        trained, validated = (hub.json(f"sessions/last/histogram?phase={phase}") for phase in ("train", "valid"))
        assert (trained["count"], trained["high"], trained["epoch"]) == (12, 3.0, 0)
        assert (validated["count"], validated["high"], validated["epoch"]) == (10, 70.0, 7)
        assert trained["phases"] == validated["phases"] == ["train", "valid"]
        worst = hub.json("sessions/last/samples?phase=valid&order=worst&limit=20&epoch=7")
        assert [row["loss"] for row in worst] == [70.0] * 10
        assert [row["count"] for row in hub.json("sessions/last/dynamics?phase=valid")] == [5, 5]
        agent.state("ended")


def test_the_loss_is_that_of_training(hub: Running) -> None:
    with Agent(hub.file) as agent:
        agent.saved(agent.say(records(0, 3, 4)))
        agent.saved(agent.say(validation(3, 2, 70.0, epoch=array("i", [7] * 2).tobytes())))
        session = hub.json("sessions/last")
        assert (session["loss"], session["epoch"]) == (2.0, 0)
        assert hub.json("sessions/last/metrics?name=loss&points=10")["value"] == [0.0, 1.0, 2.0]
        assert [row["value"] for row in hub.json("sessions/last/metrics?name=loss")] == [0.0, 1.0, 2.0]
        agent.state("ended")


def test_a_client_is_told_of_both(hub: Running) -> None:
    async def scene() -> None:
        async with connected(hub.file) as one:
            await one.send(type="subscribe", session="last", metrics=["loss", "valid/loss"])
            await one.read(lambda: one.steps.keys() == {"loss", "valid/loss"})
            for message in (validation(3, 2, 70.0), one_pass(3, 70.0, 0.5), records(5, 2, 4)):
                agent.say(message)
            await one.read(lambda: len(one.values["loss"]) == 5 and one.values["valid/loss"])
            assert (one.values["loss"], one.values["valid/loss"]) == ([0.0, 1.0, 2.0, 5.0, 6.0], [70.0])
            assert one.steps["valid/loss"] == [3]

    with Agent(hub.file) as agent:
        agent.saved(agent.say(records(0, 3, 4)))
        asyncio.run(asyncio.wait_for(scene(), 30))
        agent.state("ended")
