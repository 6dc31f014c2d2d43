"""The table says what the watchdogs are."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from onthefly.alarms import activations, memory, nonfinite, spikes, stalls
from onthefly.alarms.table import ACTIONS, BY_NAME, ROWS
from onthefly.errors import UsageError
from tests.conftest import REPOSITORY


def test_every_watchdog_has_a_row() -> None:
    names = {name for row in ROWS for name in (row.name, *row.also)}
    assert names == {
        nonfinite.LOSS, nonfinite.GRADIENT, nonfinite.PARAMETER, spikes.LOSS, spikes.GRADIENT, stalls.STALL,
        stalls.BOUND, memory.NAME, activations.NAME,
    }  # fmt: skip
    assert len(BY_NAME) == len(ROWS)
    assert all(row.action in ACTIONS for row in ROWS)
    assert [row.name for row in ROWS if row.on and row.cost != "free"] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_defaults_are_those_of_the_code(row: Any) -> None:
    if row.made_by is None:
        assert row.parameters == ()
        return
    signature = inspect.signature(row.made_by).parameters
    numbers = {name: one.default for name, one in signature.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert row.settings({}) == numbers
    assert {type(value) for value in numbers.values()} <= {int, float}
    row.made_by(**row.settings({}))
    for parameter in row.parameters:
        assert parameter.lowest <= parameter.default <= parameter.highest
        for edge in (parameter.lowest, parameter.highest):
            made = row.settings({parameter.name: edge})
            assert made[parameter.name] == edge
            row.made_by(**made)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"windw": 3}, "known: window"), ({"window": 3}, "a whole number from 20 to 512"), ({"window": 50.5}, "whole"),
        ({"deviations": "8"}, "a number from 2 to 100"), ({"deviations": float("nan")}, "from 2"),
        ({"deviations": None}, "from 2"), ({"window": True}, "from 20"), ({"deviations": 1e400}, "from 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_set_is_refused(given: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UsageError) as refused:
        BY_NAME["loss-spike"].settings(given)
    assert remedy in refused.value.remedy


def test_whole_numbers_stay_whole() -> None:
    assert BY_NAME["loss-spike"].settings({"window": 50.0, "deviations": 9}) == {
        "window": 50, "deviations": 9.0, "rise": 0.1, "first": 30, "calm": 10,
    }  # fmt: skip
    with pytest.raises(UsageError, match="it has none"):
        BY_NAME["nonfinite-grad"].settings({"window": 3})


def test_the_docs_name_every_watchdog_and_parameter() -> None:
    page, _ = (REPOSITORY / "docs" / "watchdogs.md").read_text(encoding="utf-8").split("## The flight record")
    for row in ROWS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{row.name}`")]
        assert line.endswith(f"| {row.cost} | {'on' if row.on else 'off'}, `{row.action}` |")
        assert all(f"`{name}`" in line for name in row.also)
        assert all(f"`{parameter.name}`" in page for parameter in row.parameters)
