"""Samples are described so that a page can draw them, or it is said why not; and the run does not notice."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from onthefly.insight.showing import describe
from tests.actions.desk import desk

if TYPE_CHECKING:
    from collections.abc import Iterator


def pixels(part: dict[str, Any]) -> Any:
    """The bytes of a picture: [height, width, channels]; read by the letter of the standard."""
    data = base64.b64decode(part["png"])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, content, head = 8, b"", b""
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        piece = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(name + piece)
        head, content = (piece if name == b"IHDR" else head), content + (piece if name == b"IDAT" else b"")
        at += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", head)
    assert (width, height, depth) == (part["width"], part["height"], 8)
    channels = {0: 1, 2: 3}[colour]
    lines = np.frombuffer(zlib.decompress(content), np.uint8).reshape(height, 1 + width * channels)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, channels)


def only(value: Any, size: int = 96) -> dict[str, Any]:
    """The one part of that value."""
    (part,) = describe(value, size)["parts"]
    return part


def test_pictures_have_the_values_that_were_there() -> None:
    grey = torch.arange(64.0).reshape(1, 8, 8) / 63
    assert (pixels(only(grey))[:, :, 0] == (grey[0] * 255).round().numpy()).all()
    colour = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    assert (pixels(only(colour)) == colour.permute(1, 2, 0).numpy()).all()
    assert (pixels(only(colour.permute(1, 2, 0).numpy())) == colour.permute(1, 2, 0).numpy()).all()
    normalised = torch.tensor([[-2.0, 2.0] * 4] * 8)[None]
    part = only(normalised)
    assert pixels(part)[0, :2, 0].tolist() == [0, 255]
    assert part["says"] == "1x8x8 float32, -2 to 2; darkest to brightest"
    small = pixels(only(torch.cat([torch.zeros(1, 100, 50), torch.ones(1, 100, 50)], 2), 50))
    assert small.shape == (50, 50, 1)
    assert small[:, :25].max() == 0
    assert small[:, 25:].min() == 255
    broken = torch.full((1, 4, 4), 0.5)
    broken[0, 0, 0] = float("nan")
    assert pixels(only(broken))[0, :2, 0].tolist() == [0, 128]


class Pair(NamedTuple):
    image: Tensor
    label: int


@pytest.mark.parametrize(("value", "kinds", "target"), [
    ((torch.zeros(1, 8, 8), 3), ["image", "value"], "3"), (Pair(torch.zeros(3, 9, 9), 4), ["image", "value"], "4"),
    ({"text": "a bird", "label": 1}, ["row"], None),
    ({"x": torch.zeros(16), "y": torch.tensor(2)}, ["row", "value"], "2"),
    (("a bird in a tree", 1), ["text", "value"], "1"), (torch.zeros(16000), ["audio"], None),
    (torch.zeros(2, 4000), ["audio"], None), (torch.zeros(20, 30), ["heat"], None),
    (torch.zeros(3, 5, 6, 7), ["heat"], None), (torch.arange(500), ["text"], None), ([1.0, 2.0], ["row"], None),
    (np.zeros(5, np.float32), ["row"], None), (7, ["value"], None), (torch.zeros(0), ["none"], None),
    (object(), ["none"], None), (torch.full((4,), float("nan")), ["none"], None),
    (torch.zeros(5, dtype=torch.complex64), ["row"], None), (torch.eye(5).to_sparse(), ["heat"], None),
    (None, ["none"], None),
])  # fmt: skip
def test_each_kind_is_told_by_shape_and_type(value: Any, kinds: list[str], target: str | None) -> None:
    told = describe(value, 96)
    assert [part["kind"] for part in told["parts"]] == kinds
    assert all(part["says"] for part in told["parts"])
    assert told["target"] == target


def test_a_waveform_keeps_its_peaks() -> None:
    wave = torch.zeros(16000)
    wave[777], wave[9000] = 1.5, -2.5
    part = only(wave)
    assert (len(part["low"]), max(part["high"]), min(part["low"])) == (200, 1.5, -2.5)
    assert part["high"].index(1.5) == 777 * 200 // 16000


class Augmented(Dataset[Any]):
    """Draws from every generator, counts, and cannot give one of its samples."""

    def __init__(self) -> None:
        self.asked = 0
        self.own = np.random.default_rng(3)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, place: int) -> Any:
        self.asked += 1
        if place == 5:
            raise ValueError("a file that is damaged")
        shift = random.random() + float(torch.rand(())) + float(np.random.rand()) + float(self.own.random())
        return torch.full((4,), place + shift / 100), torch.tensor(float(place))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from (torch.zeros(4) for _ in range(4))


def train(commands: list[tuple[str, dict[str, Any]]], dataset: Any) -> tuple[list[float], list[Any]]:
    """Losses of a loop, with these commands before its second step; and their answers."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    losses: list[float] = []
    with desk() as commander:
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for step, batch in enumerate(DataLoader(dataset, 2)):
            x, y = batch if isinstance(batch, list) else (batch, torch.zeros(2))
            if step == 1:
                for name, args in commands:
                    commander.send(name, **args)
            optimizer.zero_grad()
            loss = (model(x).squeeze(1) - y).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, commander.answers()


def test_the_run_does_not_notice_that_samples_were_read() -> None:
    dataset = Augmented()
    plain, _ = train([], Subset(dataset, [0, 1, 2, 3, 4, 6, 7, 8]))
    again = Augmented()
    looked, answers = train(
        [
            ("pause", {}),
            ("show", {"samples": [8, 5, 2, 99]}),
            ("show", {"samples": [0], "loader": "loader7"}),
            ("resume", {}),
        ],
        Subset(again, [0, 1, 2, 3, 4, 6, 7, 8]),
    )
    assert looked == plain
    assert again.asked == dataset.asked
    _, shown, refused, _ = answers
    assert shown.status == "applied", shown
    samples = shown.result["samples"]
    assert [one["sample"] for one in samples] == [8, 5, 2, 99]
    assert samples[0]["target"] == "8"
    assert 8 <= float(samples[0]["parts"][0]["row"][0][1]) < 8.1, "its number is that in the root data set"
    assert samples[1]["reason"] == "the data set raises ValueError: a file that is damaged"
    assert (refused.status, refused.reason) == ("refused", "there is no loader loader7")


def test_it_is_refused_while_the_script_runs_and_of_a_stream() -> None:
    _, answers = train([("show", {"samples": [1]})], [torch.zeros(4) for _ in range(8)])
    assert (answers[0].status, answers[0].remedy) == ("refused", "onthefly ctl SESSION pause")
    _, answers = train([("pause", {}), ("show", {"samples": [1]}), ("resume", {})], Stream())
    assert "stream" in answers[1].reason
