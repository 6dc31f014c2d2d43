"""Tests and scans of every kind: modes, checkpoints, subsets, embeddings, registered functions, and what is told."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from onthefly.insight import trace
from onthefly.protocol import Examined
from tests.insight import scripts
from tests.insight.played import Asked, ask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.actions.played import Commands, Run

pytestmark = pytest.mark.dear

ON: Commands = {place: [("resume", {})] for place in range(3, 18)}
"""Wherever the script is held after its steps."""


def played(folder: Path, source: str, *commands: tuple[str, dict[str, Any]]) -> Asked:
    """A script that is held at its third pause point and asked that; the rest must be as it would have been."""
    asked, plain = ask(folder, scripts.HEAD + source + scripts.TAIL, {2: [("pause", {}), *commands], **ON},
                       str(folder / "brute.json"))  # fmt: skip
    unchanged(asked, plain)
    return asked


def unchanged(asked: Asked, plain: Run) -> None:
    """Bit for bit."""
    assert asked.run.out == plain.out
    assert asked.run.hashes == plain.hashes


def test_a_test_tells_accuracy_and_confusion(tmp_path: Path) -> None:
    asked = played(tmp_path, scripts.CLASSIFIER, ("test", {}))
    done = asked.test
    label = done.label
    assert (done.loader, done.count, done.mode) == ("valid_loader", 30, "eval")
    result = done.result
    targets, predicted = (torch.tensor(asked.column(label, name, "d")) for name in ("target", "predicted"))
    assert result["accuracy"] == (targets == predicted).double().mean().item()
    assert result["error"] == pytest.approx(1 - result["accuracy"])
    confusion = torch.tensor(result["confusion"])
    for wanted in range(3):
        for given in range(3):
            assert confusion[wanted, given] == ((targets == wanted) & (predicted == given)).sum()
    for row in result["per_class"]:
        of_class = targets == row["class"]
        assert row["count"] == of_class.sum()
        assert row["accuracy"] == pytest.approx((predicted[of_class] == row["class"]).double().mean().item())
    losses = asked.column(label, "loss", "f")
    assert result["loss"] == pytest.approx(sum(losses) / 30, rel=1e-6)
    assert asked.column(label, "certificate", "B") == [0] * 30
    confidence = torch.tensor(asked.column(label, "confidence", "f"))
    assert torch.allclose(confidence.log(), -torch.tensor(losses), atol=1e-5)


def test_residuals_and_perplexity(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    asked = played(tmp_path / "a", scripts.MSE, ("scan", {}))
    residuals = asked.evaluations["scan_1"].result["residuals"]
    target, predicted = (torch.tensor(asked.column("scan_1", name, "d")) for name in ("target", "predicted"))
    assert residuals["mae"] == pytest.approx((predicted - target).abs().mean().item())
    assert residuals["rmse"] == pytest.approx(math.sqrt(((predicted - target) ** 2).mean().item()))
    assert residuals["r2"] == pytest.approx(
        1 - ((predicted - target) ** 2).sum().item() / ((target - target.mean()) ** 2).sum().item()
    )
    assert sum(residuals["histogram"]) == 80
    asked = played(tmp_path / "b", scripts.SEQUENCE, ("scan", {}))
    losses, valid = asked.column("scan_1", "loss", "f"), asked.column("scan_1", "valid", "i")
    per_token = sum(loss * count for loss, count in zip(losses, valid)) / sum(valid)
    assert asked.evaluations["scan_1"].result["perplexity"] == pytest.approx(math.exp(per_token), rel=1e-5)


def test_a_checkpoint_s_weights(tmp_path: Path) -> None:
    asked, plain = ask(tmp_path, scripts.HEAD + scripts.CLASSIFIER + scripts.TAIL, {
        1: [("checkpoint", {"name": "early"})],
        5: [("pause", {}), ("scan", {"checkpoint": "early"})], **{place: [("resume", {})] for place in range(6, 12)},
    }, str(tmp_path / "brute.json"))  # fmt: skip
    unchanged(asked, plain)
    brute = json.loads((tmp_path / "brute.json").read_text())[1]
    assert asked.evaluations["scan_1"].step == 8
    assert asked.losses("scan_1") == pytest.approx(dict(enumerate(brute)), rel=1e-5)


def test_the_step_after_several_of_them_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second was traced as if it were the step, and where it was long, nothing behind it was seen."""
    monkeypatch.setattr(trace, "MAX_OPERATIONS", 200)
    at: Commands = {2: [("pause", {}), ("test", {})]}
    at.update({place: [("scan", {}), ("resume", {})] for place in range(3, 9)})
    asked, plain = ask(tmp_path, scripts.HEAD + scripts.CLASSIFIER, at)
    unchanged(asked, plain)
    assert asked.test.how == asked.evaluations["scan_1"].how == "recipe, reproduced 3 of 3"


def test_batches_larger_than_the_step_can_be_given(tmp_path: Path) -> None:
    source = scripts.CLASSIFIER.replace("x[:30], y[:30]), batch_size=16", "x[:30], y[:30]), batch_size=30")
    source = source.replace("cross_entropy(net(inputs), targets)",
                            "cross_entropy(net(inputs), targets, reduction='sum') / len(targets)")  # fmt: skip
    asked = played(tmp_path, source, ("test", {}))
    done = asked.test
    assert (done.partial, done.count) == (False, 30), done.reason
    brute = json.loads((tmp_path / "brute.json").read_text())[done.step - 1]
    assert asked.losses(done.label) == pytest.approx(dict(enumerate(brute[:30])), rel=1e-5)


def test_some_samples_alone(tmp_path: Path) -> None:
    asked = played(tmp_path, scripts.CLASSIFIER, ("scan", {"samples": [3, 88, 41, 1000]}))
    done = asked.evaluations["scan_1"]
    brute = json.loads((tmp_path / "brute.json").read_text())[done.step - 1]
    assert asked.losses("scan_1") == pytest.approx({index: brute[index] for index in (3, 41, 88)}, rel=1e-5)


def test_in_the_mode_of_training(tmp_path: Path) -> None:
    asked = played(tmp_path, scripts.CLASSIFIER, ("scan", {"mode": "train"}))
    done = asked.evaluations["scan_1"]
    brute = json.loads((tmp_path / "brute.json").read_text())[done.step - 1]
    losses = asked.losses("scan_1")
    assert losses.keys() == set(range(90))
    assert sum(abs(losses[index] - brute[index]) > 1e-3 for index in range(90)) > 45, "dropout is on"


def test_embeddings(tmp_path: Path) -> None:
    wide = scripts.CLASSIFIER.replace(" 16)", " 80)").replace("(16", "(80")
    asked = played(tmp_path, wide, ("scan", {"module": "0"}))
    assert asked.evaluations["scan_1"].embeddings == 64
    vectors = torch.tensor(asked.column("scan_1", "vectors", "f")).reshape(90, 64)
    assert {one.dimensions for one in asked.messages if isinstance(one, Examined)} == {64}
    assert (vectors.std(0) > 0).all()


def test_what_the_script_registers_is_used(tmp_path: Path) -> None:
    source = scripts.CLASSIFIER.replace("for epoch in range(2):", """
def whole(loader):
    hits = total = 0
    for inputs, targets in loader:
        hits += (net(inputs).argmax(1) == targets).sum().item()
        total += len(targets)
    return {"accuracy": hits / total, "samples": total}

import onthefly
from onthefly import sessions
sessions.current().register(
    test=whole, step=lambda batch: F.cross_entropy(net(batch[0]), batch[1], reduction="none"))
for epoch in range(2):""", 1)  # fmt: skip
    asked = played(tmp_path, source, ("test", {}), ("scan", {}), ("resume", {}))
    test, scan = asked.test, asked.evaluations["scan_1"]
    assert (test.how, scan.how) == ("registered", "registered")
    assert (test.step, scan.step) == (3, 3), "no step was taken for it"
    assert test.result["samples"] == 30
    brute = json.loads((tmp_path / "brute.json").read_text())[2]
    assert asked.losses("scan_1") == pytest.approx(dict(enumerate(brute)), rel=1e-5)
