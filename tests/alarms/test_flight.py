"""The flight record of a step that went wrong, there and back through JSON."""

from __future__ import annotations

import json
import math
from array import array
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onthefly.alarms.finding import Finding
from onthefly.alarms.flight import Batch, FlightRecord, batch_of
from onthefly.alarms.nonfinite import NonfiniteLoss
from onthefly.protocol import IDENTITIES
from tests.alarms.planted import Log, mlp, step, watched
from tests.alarms.test_nonfinite import block


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


floats = st.floats(width=32, allow_nan=False)
texts = st.text(max_size=10)
numbers = st.dictionaries(texts, floats, max_size=3)
batches = st.builds(
    Batch, step=st.integers(0, 2**40), epoch=st.integers(0, 9), backward=st.integers(0, 2**40), loader=texts,
    loss=floats, samples=st.lists(st.integers(0, 2**62), max_size=4), keys=st.lists(texts, max_size=3),
    losses=st.lists(floats, max_size=4),
)  # fmt: skip
records = st.builds(
    FlightRecord,
    finding=st.builds(Finding, texts, st.integers(0, 99), texts, st.sampled_from(["warning", "severe"]), numbers),
    batches=st.lists(batches, max_size=2).map(tuple), position=st.integers(-1, 99),
    random_states=st.dictionaries(texts, st.binary(max_size=40), max_size=3), origin=st.none(), replay=texts,
    versions=st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip


@settings(deadline=None)
@given(records)
def test_there_and_back(record: FlightRecord) -> None:
    text = record.to_json()
    assert FlightRecord.from_dict(json.loads(text, parse_constant=refuse)) == record


def test_of_a_step_that_went_wrong() -> None:
    net, generator = mlp((1, Log())), torch.get_rng_state()
    with watched() as origin:
        step(net, torch.rand(4, 8))
    message = block([(1.0, [0.5, 1.5]), (math.nan, [1.0, math.inf, math.nan])], first=7)
    finding = NonfiniteLoss().take(message)
    assert finding is not None
    batch = batch_of(message, int(finding.numbers["backward"]))
    assert batch is not None
    record = FlightRecord(
        finding, (batch,), 3, {"torch": bytes(generator.numpy())}, origin.found,
        "onthefly run --replay 8 -- python train.py", {"torch": torch.__version__},
    )  # fmt: skip
    data = json.loads(record.to_json(), parse_constant=refuse)
    assert data["batches"][0]["samples"] == [2, 3, 4]
    assert data["batches"][0]["losses"] == [1.0, "inf", "nan"]
    assert data["batches"][0]["loss"] == "nan"
    assert (data["finding"]["step"], data["finding"]["name"]) == (8, "nonfinite-loss")
    assert data["origin"]["operation"] == "aten::log"
    assert data["origin"]["text"].startswith("aten::log in 1 (Log) of Sequential")
    again = FlightRecord.from_dict(data)
    assert again.origin == origin.found
    assert math.isnan(again.batches[0].losses[2])
    torch.set_rng_state(torch.frombuffer(bytearray(again.random_states["torch"]), dtype=torch.uint8))
    assert torch.equal(torch.get_rng_state(), generator)


def test_batches_by_key_and_without_samples() -> None:
    message = block([(1.0, [0.5, 1.5]), (2.0, [])])
    assert batch_of(message, 2) is None
    without = batch_of(message, 1)
    assert without is not None
    assert (without.samples, without.losses, without.loader) == ([], [], "")
    message.identity = bytes([IDENTITIES.index("key"), IDENTITIES.index("none")])
    message.keys, message.key = ["a.jpg"], array("i", [0, -1]).tobytes()
    message.loaders, message.loader = ["loader0"], array("h", [0, -1]).tobytes()
    keyed = batch_of(message, 0)
    assert keyed is not None
    assert (keyed.samples, keyed.keys, keyed.loader) == ([], ["a.jpg", ""], "loader0")


@pytest.mark.parametrize("wrong", [{}, {"finding": 3}, {"finding": {"numbers": {"x": "y"}}, "origin": None}])
def test_what_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        FlightRecord.from_dict(wrong)
