"""Suspected label errors, and regions of the data set, from the training dynamics. Pure NumPy, no I/O.

Ranked by the area under the margin (Pleiss et al. 2020): the mean of the label's logit minus the highest other one. A
network learns what most samples say before it learns single ones by heart; whose label is wrong stays below 0 for long.
Regions are those of the data maps of Swayamdipta et al. 2020, which take the third that varies most as ambiguous.

Of digits with a tenth of the labels wrong on purpose (five seeds, ``tests/noise``): after 3, 5, 8 and 15 epochs at
least 94, 98, 99 and 99.9 % of the wrong ones are within the first 1.5 times as many rows of the ranking; ranks by
confidence, by mean loss, or by sums of these, were not better. What is marked as suspected held 96 to 100 % of them
from the fifth epoch on, and 80 to 89 % of what is marked was wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onthefly.errors import Refused
from onthefly.hub.choice import REGIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onthefly.hub.columns import Array

MIN_PRESENTATIONS = 3
"""Below which the dynamics say nothing of a label: at first everything is wrong."""

SPREADS = 2.0
"""How many robust standard deviations (1.4826 times the median distance from the median) a margin lies below the
median of all where its label is suspected."""

AMBIGUOUS = 2 / 3
"""Share of the samples that vary less than an ambiguous one."""


def order_of(table: Mapping[str, Array]) -> str:
    """By which measure labels are suspected: the margin where it is known, else the mean loss."""
    return "margin" if np.isfinite(table["margin"]).any() else "loss_mean"


def suspected(table: Mapping[str, Array]) -> Array:
    """Bool for each sample: another class won on average, and by far more than usual."""
    margin = table["margin"]
    known = np.isfinite(margin) & (table["count"] >= MIN_PRESENTATIONS)
    if not known.any():
        return known
    median = np.median(margin[known])
    spread = 1.4826 * np.median(np.abs(margin[known] - median))
    return known & (np.where(known, margin, 0.0) < min(0.0, float(median - SPREADS * spread)))


def regions(table: Mapping[str, Array]) -> dict[str, Array]:
    """Bool for each sample, by region; all but ``suspect`` part the samples. Refused where no confidence is known."""
    confidence, variability = table["confidence"], table["variability"]
    known = np.isfinite(confidence) & np.isfinite(variability) & (table["count"] >= MIN_PRESENTATIONS)
    if not known.any():
        told = np.isfinite(confidence).any()
        raise Refused(
            f"regions need {MIN_PRESENTATIONS} epochs of each sample" if told
            else "the probability that the model gave the class of a sample was not recorded",
            "let it train longer" if told else "it is known for losses that choose among classes (cross entropy)",
        )  # fmt: skip
    varies = known & (variability > np.quantile(variability[known], AMBIGUOUS))
    sure = known & ~varies & (np.where(known, confidence, 0.0) >= 0.5)
    found = {"easy": sure, "ambiguous": varies, "hard": known & ~varies & ~sure, "suspect": suspected(table)}
    return {name: found[name] for name in REGIONS}


def evidence(row: Mapping[str, Any]) -> str:
    """What speaks against the label of a sample, in words; ``row`` as the table has it, None for what is not known."""
    said: list[str] = []
    if row["margin"] is not None:
        other = "another class" if row.get("predicted_label") is None else f"class {_label(row['predicted_label'])}"
        ahead = row["margin"] < 0
        said.append(f"{other} led by {-row['margin']:.2f} on average" if ahead
                    else f"its own class led by {row['margin']:.2f} on average")  # fmt: skip
    if row["label_quality"] is not None:
        said.append(f"its class was given {100 * row['label_quality']:.0f} %")
    if row["forgetting"] is not None:
        times = row["forgetting"]
        said.append(
            f"never right in {_times(row['count'])}" if row["learned"] is None
            else f"right from epoch {row['learned']} on{f', forgotten {_times(times)}' if times else ''}"
        )  # fmt: skip
    if not said and row["loss_mean"] is not None:
        said.append(f"mean loss {row['loss_mean']:.3g} in {_times(row['count'])}")
    return "; ".join(said)


def _times(number: int) -> str:
    return f"{number} time{'' if number == 1 else 's'}"


def _label(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
