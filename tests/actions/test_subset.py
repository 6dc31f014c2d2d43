"""Which samples are drawn, compared with what the data set was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Subset

from tests.actions.desk import Commander, desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COUNT = 48


class Asked(Dataset[Any]):
    """A sample is its own index."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return torch.full((3,), float(index)), index


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        for index in range(COUNT):
            yield torch.full((3,), float(index)), index


def train(
    loader: Callable[[], Any], folder: Path, commands: dict[int, tuple[str, dict[str, Any]]], epochs: int = 3,
    **environment: str,
) -> tuple[list[list[int]], Commander]:  # fmt: skip
    """The indices of each batch in its order, and the commander; commands by finished steps. A pause ends at once."""
    torch.manual_seed(1)
    model = nn.Linear(3, COUNT)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    batches: list[list[int]] = []
    with desk(ONTHEFLY_DATA_DIR=str(folder), **environment) as commander:
        commander.kept.session._gate.held = lambda: commander.send("resume")
        for _ in range(epochs):
            for x, y in loader():
                y = torch.as_tensor(y).reshape(-1)
                batches.append(y.tolist())
                optimizer.zero_grad()
                F.cross_entropy(model(x.reshape(-1, 3)), y).backward()
                if len(batches) in commands:
                    commander.send(commands[len(batches)][0], **commands[len(batches)][1])
                optimizer.step()
    return batches, commander


def since(commander: Commander) -> int:
    return commander.answers()[-1].result["after"]["since"]


def one(make: Callable[[], Any]) -> Callable[[], Any]:
    made = make()
    return lambda: made


HALF = list(range(0, COUNT, 2))
LOADERS: dict[str, Callable[[], Any]] = {
    "plain": lambda: one(lambda: DataLoader(Asked(), 4, shuffle=True)),
    "workers": lambda: one(lambda: DataLoader(Asked(), 4, shuffle=True, num_workers=2)),
    "subset": lambda: one(lambda: DataLoader(Subset(Asked(), HALF), 4, shuffle=True)),
    "batch sampler": lambda: one(
        lambda: DataLoader(Asked(), batch_sampler=BatchSampler(RandomSampler(Asked()), 4, False))
    ),
    "one by one": lambda: one(lambda: DataLoader(Asked(), batch_size=None, shuffle=True)),
    "made anew": lambda: (lambda data: lambda: DataLoader(data, 4, shuffle=True))(Asked()),
}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("mode", ["exclude", "include"])
def test_from_the_next_drawn_batch_on(name: str, mode: str, tmp_path: Path) -> None:
    chosen = {0, 2, 8, 10, 16, 30, 44}
    plain, _ = train(LOADERS[name](), tmp_path, {})
    batches, commander = train(LOADERS[name](), tmp_path, {3: ("subset", {"mode": mode, "samples": sorted(chosen)})})
    assert commander.answers()[-1].status == "applied"
    first = since(commander)
    assert first == (3 if name != "workers" else 3 + 4)  # two workers with two batches each are under way
    assert batches[:first] == plain[:first]
    # As the sampler has drawn them, each list without what is left out, and none of the empty ones.
    kept = [[index for index in batch if (index in chosen) == (mode == "include")] for batch in plain[first:]]
    assert batches[first:] == [batch for batch in kept if batch]


def test_weights_and_all_again(tmp_path: Path) -> None:
    asked = {"mode": "weights", "samples": [0, 1, 2], "weights": [0.0, 3.0, 0.5]}
    commands: Any = {2: ("subset", asked), 12 * 11: ("subset", {"mode": "all"})}
    plain, _ = train(LOADERS["plain"](), tmp_path, {}, 12)
    batches, commander = train(LOADERS["plain"](), tmp_path, commands, 12)
    assert [answer.status for answer in commander.answers()] == ["applied"] * 2
    weighed = [index for batch in batches[12 : 12 * 11] for index in batch]
    assert 0 not in weighed
    assert weighed.count(1) == 3 * 10
    assert 0 < weighed.count(2) < 10  # each taken with one half
    assert weighed.count(3) == 10
    assert batches[12 * 11 :] == plain[12 * 11 :]
    again, _ = train(LOADERS["plain"](), tmp_path, commands, 12)
    assert again == batches


def test_added_to_what_was_chosen(tmp_path: Path) -> None:
    commands: Any = {
        1: ("subset", {"mode": "exclude", "samples": [1, 2]}),
        2: ("subset", {"mode": "exclude", "samples": [3], "add": True}),
        14: ("subset", {"mode": "exclude", "samples": [4]}),
    }
    batches, commander = train(LOADERS["plain"](), tmp_path, commands)
    assert [answer.result["after"]["count"] for answer in commander.answers()] == [2, 3, 1]
    assert not {1, 2, 3} & {index for batch in batches[2:14] for index in batch}
    assert {1, 2, 3} <= {index for batch in batches[24:] for index in batch}


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "stream": (lambda: one(lambda: DataLoader(Stream(), 4)), {"mode": "exclude", "samples": [1]}, "is a stream"),
    "unknown": (LOADERS["plain"], {"mode": "exclude", "samples": [1], "loader": "loader7"}, "no loader is called"),
    "nothing left": (LOADERS["plain"], {"mode": "exclude", "samples": list(range(COUNT))}, "no sample would be left"),
    "none given": (LOADERS["plain"], {"mode": "exclude"}, "needs samples"),
    "not there": (LOADERS["plain"], {"mode": "include", "samples": [COUNT]}, "none of these samples"),
    "weights": (LOADERS["plain"], {"mode": "weights", "samples": [1, 2, 3], "weights": [1.0, 2.0]}, "3 samples, and 2"),
    "weights without": (LOADERS["plain"], {"mode": "exclude", "samples": [1], "weights": [1.0]}, "go with the mode"),
    "all zero": (LOADERS["plain"], {"mode": "weights", "samples": list(range(COUNT)), "weights": [0.0]}, "no sample"),
    "all already": (LOADERS["plain"], {"mode": "all"}, "drawn already"),
    "one by one": (
        LOADERS["one by one"],
        {"mode": "weights", "samples": [1], "weights": [2.0]},
        "no batches of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_nothing_is_changed(name: str, tmp_path: Path) -> None:
    loader, given, words = REFUSED[name]
    plain, _ = train(loader(), tmp_path, {}, 1)
    batches, commander = train(loader(), tmp_path, {3: ("subset", given)}, 1)
    answer = commander.answers()[-1]
    assert answer.status == "refused"
    assert words in answer.reason
    assert batches == plain
