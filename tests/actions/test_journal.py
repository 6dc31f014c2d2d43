"""The journal, and a fresh run in which its changes are made again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

from onthefly.actions import journal
from onthefly.errors import Refused
from tests.actions.desk import Commander, desk

if TYPE_CHECKING:
    from pathlib import Path

CHANGES: dict[int, tuple[str, dict[str, Any]]] = {
    3: ("set", {"name": "lr", "value": 0.03}),
    8: ("clip", {"norm": 0.5}),
    11: ("freeze", {"pattern": "0.weight"}),
    15: ("set", {"name": "betas", "value": [0.5, 0.9], "optimizer": 1}),
    20: ("unfreeze", {}),
    24: ("clip", {}),
}


def adversaries(commands: dict[int, tuple[str, dict[str, Any]]], **environment: str) -> tuple[list[Any], Commander]:
    """Two optimizers in turn, schedulers, dropout; commands by the pause point at which they are done."""
    torch.manual_seed(4)
    first = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    second = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    pairs: list[Any] = []
    for model, kind in ((first, torch.optim.SGD), (second, torch.optim.Adam)):
        optimizer = kind(model.parameters(), lr=0.1)
        pairs.append((model, optimizer, schedules.CosineAnnealingLR(optimizer, 20)))
    losses: list[Any] = []
    point = 0
    with desk(**environment) as commander:
        for _ in range(15):
            for model, optimizer, scheduler in pairs:
                optimizer.zero_grad()
                loss = model(torch.randn(8, 4)).pow(2).mean()
                loss.backward()
                point += 1
                if point in commands:
                    commander.send(commands[point][0], **commands[point][1])
                optimizer.step()
                scheduler.step()
                losses.append(loss.item())
    return [losses, *[tensor.tolist() for model, _, _ in pairs for tensor in model.state_dict().values()]], commander


def written(commander: Commander, path: Path) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in commander.journal()))
    return path


def test_a_fresh_run_with_the_journal_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    changed, commander = adversaries(CHANGES)
    assert [answer.status for answer in commander.answers()] == ["applied"] * len(CHANGES)
    path = written(commander, tmp_path / "journal.jsonl")
    plain, _ = adversaries({})
    assert plain != changed
    again, replayed = adversaries({}, ONTHEFLY_REPLAY=str(path))
    assert again == changed
    assert [entry.point for entry in replayed.journal()] == [entry.point for entry in commander.journal()]
    assert replayed.journal()[0].by == "ana (replay)"
    without_one = path.read_text().splitlines()[1:]
    path.write_text("\n".join(without_one))
    assert adversaries({}, ONTHEFLY_REPLAY=str(path))[0] != changed


def test_without_an_optimizer_backward_calls_tell_the_moment(tmp_path: Path) -> None:
    """Nothing of an optimizer can be set there; that is said, and the script goes on."""
    path = tmp_path / "journal.jsonl"
    entry = {"name": "set", "args": {"name": "lr", "value": 1.0}, "after": {}, "point": 0, "backward": 2, "step": 2}
    path.write_text(json.dumps(entry) + "\n")
    weight = torch.ones(3, requires_grad=True)
    with desk(ONTHEFLY_REPLAY=str(path)) as commander:
        for _ in range(5):
            (weight * 2).sum().backward()
        assert [text for text in commander.kept.notices() if "was not repeated at step 2" in text]


def test_what_a_rewind_took_back_is_not_replayed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    base = {"args": {}, "backward": 1, "step": 1}
    lines = [
        {**base, "name": "clip", "point": 1, "after": {}}, {**base, "name": "freeze", "point": 2, "after": {}},
        {**base, "name": "rewind", "point": 3, "after": {"entries": 1}},
        {**base, "name": "set", "point": 2, "after": {}},
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [entry["name"] for entry in journal.read(path)] == ["clip", "set"]


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"name": 1}', '{"name": "set"}', "[" * 100_000, "\x00"])
def test_a_file_that_is_no_journal_is_refused(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(text)
    with pytest.raises(Refused, match="line 1 of"):
        journal.read(path)
    with desk(ONTHEFLY_REPLAY=str(path)):
        pass
    assert "nothing is replayed" in capfd.readouterr().err
