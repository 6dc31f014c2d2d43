"""How many of the planted wrong labels are among the worst samples, by our orders and by cleanlab's.

Ours come out of one training run on all samples, watched by the tool. cleanlab's are from the probabilities of five
models, each trained on four fifths of the same samples and asked for the rest. The precision is taken at the number of
planted errors. ``scripts/label_noise.py`` writes what is found into ``docs/dynamics.md``.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.conftest import FULL
from tests.noise.digits import load, train
from tests.reporting import note

if TYPE_CHECKING:
    from tests.conftest import Home

pytestmark = FULL

SCRIPT = Path(__file__).with_name("digits.py")
ORDERS = ("loss_mean", "confidence", "margin", "forgetting")
SEEDS = (0, 1, 2)
FOLDS = 5


def precision(worst: list[int], wrong: Any) -> float:
    """The share of planted errors among as many of the worst as there are planted errors."""
    return float(np.mean(wrong[worst[: int(wrong.sum())]]))


def ours(home: Home, seed: int, wrong: Any) -> dict[str, float]:
    """By each order of which the numbers are recorded."""
    done = home.watched(str(SCRIPT), "--seed", str(seed))
    assert done.code == 0, done.err
    home.wait_state("ended")
    found: dict[str, float] = {}
    for order in ORDERS:
        rows = home.get(f"sessions/last/dynamics?order={order}")
        assert sorted(row["sample"] for row in rows) == list(range(len(wrong)))
        if rows[0][order] is not None:
            found[order] = precision([row["sample"] for row in rows], wrong)
    return found


def cleanlabs(seed: int, images: Any, labels: Any, wrong: Any) -> float:
    """By cleanlab's label quality, from probabilities for samples that the model did not see."""
    rank = pytest.importorskip("cleanlab.rank", reason="pip install --group noise")
    from sklearn.model_selection import StratifiedKFold

    probabilities = np.empty((len(labels), 10))
    for seen, unseen in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(images, labels):
        model = train(images[seen], labels[seen], seed)
        with torch.no_grad():
            probabilities[unseen] = model(images[unseen]).softmax(1).double().numpy()
    quality = rank.get_label_quality_scores(labels.numpy(), probabilities)
    return precision(np.argsort(quality, kind="stable").tolist(), wrong)


@pytest.mark.timeout(600)
def test_wrong_labels_are_among_the_worst(home: Home) -> None:
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        images, labels, wrong = load(seed)
        assert wrong.sum() == len(wrong) // 10
        one = {**ours(home, seed, wrong), "cleanlab": cleanlabs(seed, images, labels, wrong)}
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    note("label noise", **{name: [round(value, 3) for value in values] for name, values in found.items()})
    means = {name: statistics.fmean(values) for name, values in found.items()}
    assert means["loss_mean"] > 0.85, means
    assert means["loss_mean"] > means["cleanlab"] - 0.1, means
