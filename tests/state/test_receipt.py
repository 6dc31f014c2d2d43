"""The receipt counts steps that are bit for bit the same, and names the first that is not."""

from __future__ import annotations

import math

from onthefly.state.receipt import Losses


def noted() -> Losses:
    losses = Losses(limit=5)
    for step in range(8):
        losses.note(step, step, math.sqrt(step))
    return losses


def test_all_the_same() -> None:
    receipt = noted().from_call(5)
    receipt.note(5, math.sqrt(5))
    assert (str(receipt), receipt.complete) == ("1 of 3 steps bit-identical", False)
    for step in (6, 7, 8):
        receipt.note(step, math.sqrt(step))
    assert (str(receipt), receipt.complete) == ("3 of 3 steps bit-identical", True)


def test_not_a_number_is_the_same_as_itself() -> None:
    losses = Losses()
    losses.note(1, 1, math.nan)
    receipt = losses.from_call(1)
    receipt.note(1, math.nan)
    assert str(receipt) == "1 of 1 steps bit-identical"


def test_the_last_bit_differs() -> None:
    losses = noted()
    receipt = losses.from_call(4)
    receipt.note(4, 2.0)
    receipt.note(5, math.nextafter(math.sqrt(5), 3) if hasattr(math, "nextafter") else 2.0)
    receipt.note(6, math.sqrt(6))
    assert receipt.complete
    assert str(receipt).startswith("step 5 differs: its loss was 2.23606797749979, and is 2.236067977499790")


def test_steps_that_are_taken_anew_are_noted_anew() -> None:
    losses = noted()
    losses.from_call(6)
    losses.note(6, 6, 1.0)
    receipt = losses.from_call(6)
    receipt.note(6, 1.0)
    assert str(receipt) == "1 of 1 steps bit-identical"


def test_a_step_of_several_calls_is_the_same_when_all_of_them_are() -> None:
    losses = Losses()
    for call in range(12):
        losses.note(call // 4, call, float(call))
    assert losses.between(0, 4) == [1.5, 5.5, 9.5, None]
    receipt = losses.from_call(4)
    for call in range(4, 11):
        receipt.note(call, float(call))
    assert (str(receipt), receipt.complete) == ("1 of 2 steps bit-identical", False)
    receipt.note(11, 11.5)
    assert str(receipt) == "step 2 differs: its loss was 11.0, and is 11.5"
