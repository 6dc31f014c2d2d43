"""The examples for Lightning run as they stand."""

from __future__ import annotations

import csv
import sys

import torch

from tests.conftest import FULL, REPOSITORY, Home
from tests.loops import digest


@FULL
def test_the_quickstart_is_recorded_and_trains_as_without_us(home: Home) -> None:
    script = str(REPOSITORY / "examples" / "lightning_quickstart.py")
    off = home.run(sys.executable, script, "--epochs", "2", "--save", "off.ckpt", ONTHEFLY_DISABLE="1")
    ours = home.run(sys.executable, script, "--epochs", "2", "--save", "ours.ckpt", ONTHEFLY_STRICT="1")
    assert (off.code, ours.code) == (0, 0), ours.err.decode()
    assert ours.out == off.out
    assert ours.err.count(b"onthefly: ") == 1
    states = [torch.load(home.folder / f"{name}.ckpt", weights_only=False) for name in ("off", "ours")]
    assert digest(states[0]["state_dict"]) == digest(states[1]["state_dict"])
    assert digest(states[0]["optimizer_states"]) == digest(states[1]["optimizer_states"])
    info = home.wait_state("ended")
    assert (info["project"], info["name"], info["backwards"], info["samples"]) == (
        "digits", "lightning-quickstart", 90, 2874)  # fmt: skip
    assert {"train_loss", "val_loss", "val_accuracy", "lr"} <= set(info["metrics"])
    assert info["notices"] == []


@FULL  # tests/ways/test_readmes.py names one by its label too
def test_the_test_names_its_file_by_the_label(home: Home) -> None:
    script = str(REPOSITORY / "examples" / "lightning_test_label.py")
    ended = home.run(sys.executable, script, "--epochs", "2", ONTHEFLY_STRICT="1")
    assert ended.code == 0, ended.err.decode()
    (file,) = (home.folder / "predictions").iterdir()
    assert file.name == "predictions_test_1.csv"
    with file.open(encoding="utf-8") as opened:
        assert len(list(csv.DictReader(opened))) == 88
    info = home.wait_state("ended")
    assert {"train_loss", "test_loss"} <= set(info["metrics"])
