"""The receipt counts steps that are bit for bit the same, and names the first that is not."""

from __future__ import annotations

import math

from onthefly.state.receipt import Losses


def noted() -> Losses:
    losses = Losses(limit=5)
    for step in range(8):
        losses.note(step, math.sqrt(step))
    return losses


def test_all_the_same() -> None:
    receipt = noted().after(4)
    receipt.note(5, math.sqrt(5))
    assert (str(receipt), receipt.complete) == ("1 of 3 steps bit-identical", False)
    for step in (6, 7, 8):
        receipt.note(step, math.sqrt(step))
    assert (str(receipt), receipt.complete) == ("3 of 3 steps bit-identical", True)


def test_not_a_number_is_the_same_as_itself() -> None:
    losses = Losses()
    losses.note(1, math.nan)
    receipt = losses.after(0)
    receipt.note(1, math.nan)
    assert str(receipt) == "1 of 1 steps bit-identical"


def test_the_last_bit_differs() -> None:
    losses = noted()
    receipt = losses.after(3)
    receipt.note(4, 2.0)
    receipt.note(5, math.nextafter(math.sqrt(5), 3) if hasattr(math, "nextafter") else 2.0)
    receipt.note(6, math.sqrt(6))
    assert receipt.complete
    assert str(receipt).startswith("step 5 differs: its loss was 2.23606797749979, and is 2.236067977499790")


def test_steps_that_are_taken_anew_are_noted_anew() -> None:
    losses = noted()
    losses.after(5)
    losses.note(6, 1.0)
    receipt = losses.after(5)
    receipt.note(6, 1.0)
    assert str(receipt) == "1 of 1 steps bit-identical"
