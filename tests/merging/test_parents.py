"""What holds for every strategy: what is alike stays, ties stay ties, integers have no mean, what cannot be is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from onthefly.errors import Refused
from onthefly.merging.averaging import average
from onthefly.merging.parents import Parents
from onthefly.merging.table import STRATEGIES, strategy
from tests.merging.models import copied, parents

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_is_alike_stays_to_the_bit() -> None:
    given = parents()
    frozen = torch.full((6,), 0.1)
    for state in given.states:
        state["0.bias"] = frozen.clone()
    merged = average(Parents(dict(zip(given.names, given.states))), [0.3, 0.3, 0.4])
    assert torch.equal(merged["0.bias"], frozen)
    assert list(merged) == list(given.states[0])


def test_tied_parameters_stay_tied_and_are_merged_once() -> None:
    states: list[dict[str, Tensor]] = []
    for number in range(2):
        table = nn.Embedding(5, 4)
        head = nn.Linear(4, 5, bias=False)
        head.weight = table.weight
        with torch.no_grad():
            table.weight.fill_(number)
        states.append(nn.ModuleList([table, head]).state_dict())
    asked: list[str] = []

    def combine(name: str, stacked: Tensor) -> Tensor:
        asked.append(name)
        return stacked.mean(0)

    merged = Parents({"a": states[0], "b": states[1]}).combined(combine)
    assert asked == ["0.weight"]
    assert merged["0.weight"] is merged["1.weight"]
    assert torch.equal(merged["0.weight"], torch.full((5, 4), 0.5))


def test_counters_are_left_to_the_statistics_and_other_integers_refused() -> None:
    given = parents(2)
    given.states[0]["1.num_batches_tracked"] += 3
    states = dict(zip(given.names, given.states))
    assert int(average(Parents(states))["1.num_batches_tracked"]) == 8
    assert Parents(states).statistics == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    for number, state in enumerate(states.values()):
        state["ids"] = torch.tensor([number])
    with pytest.raises(Refused, match="ids holds integers that differ"):
        average(Parents(states))


def test_the_types_stay_and_half_precision_is_merged_in_double() -> None:
    one, other = (
        {"x": torch.tensor([1.0]).bfloat16()},
        {"x": torch.tensor([1.0078125]).bfloat16()},
    )
    merged = average(Parents({"a": one, "b": other}), [0.25, 0.75])
    assert merged["x"].dtype == torch.bfloat16
    assert float(merged["x"]) == float(torch.tensor(0.25 + 0.75 * 1.0078125, dtype=torch.float64).bfloat16())


def _renamed(state: dict[str, Tensor]) -> None:
    state["other.weight"] = state.pop("0.weight")


def _reshaped(state: dict[str, Tensor]) -> None:
    state["0.weight"] = state["0.weight"].T.clone()


def _retyped(state: dict[str, Tensor]) -> None:
    state["0.weight"] = state["0.weight"].double()


def _broken(state: dict[str, Tensor]) -> None:
    state["0.weight"][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("change", "says"),
    [(_renamed, "different structure: 0.weight, other"), (_reshaped, r"32 \[6, 8\] in fork1 and float32 \[8,"),
     (_retyped, r"32 \[6, 8\] in fork1 and float64"), (_broken, "0.weight of fork2 holds values that are not")],
)  # fmt: skip
def test_models_that_do_not_fit_are_refused(change: Callable[[dict[str, Tensor]], None], says: str) -> None:
    given = parents(2)
    change(given.states[1])
    with pytest.raises(Refused, match=says):
        Parents(dict(zip(given.names, given.states)))


def test_one_model_alone_and_what_overflows_is_refused() -> None:
    with pytest.raises(Refused, match="two models"):
        Parents({"a": copied(nn.Linear(1, 1))})
    huge = {"x": torch.tensor([3e38])}
    with pytest.raises(Refused, match="x would hold values that are not finite"):
        Parents({"a": huge, "b": {"x": torch.tensor([3.1e38])}}).combined(lambda name, stacked: stacked.sum(0))


@pytest.mark.parametrize("given", [[1.0], [0.5, -0.5], [0.0, 0.0], [float("nan"), 1.0]])
def test_weights_that_are_none_are_refused(given: list[float]) -> None:
    with pytest.raises(Refused, match="weight"):
        average(parents(2), given)


def test_a_strategy_that_is_not_known_is_refused_and_never_another_taken() -> None:
    with pytest.raises(Refused, match="no strategy 'nonsense'") as caught:
        strategy("nonsense")
    assert all(name in caught.value.remedy for name in STRATEGIES)
