"""The check of data: every planted duplicate and overlap is found, and data sets and random states are left alone."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from onthefly.health import data
from onthefly.health.contents import sample
from onthefly.health.fetching import as_it_was, places, spread
from onthefly.health.scene import Cancelled, Scene
from tests.health.examined import Training, verdict

if TYPE_CHECKING:
    from pathlib import Path


def look(*datasets: Any, seconds: float = 20.0, **options: Any) -> Any:
    """At loaders of these, the first of which is trained on."""
    loaders = [(f"loader{number}", DataLoader(dataset)) for number, dataset in enumerate(datasets)]
    return data.look(Scene([], [], loaders, seconds=seconds, **options))


def numbers(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def test_sound_data_is_good_and_the_run_stays_what_it_is(tmp_path: Path) -> None:
    class Split(Training):
        def __init__(self) -> None:
            super().__init__()
            self.others = [DataLoader(TensorDataset(numbers(20)[:, :3], torch.arange(20) % 2), 4, shuffle=True)]

    found = verdict(tmp_path, Split(), "data", pure=True)
    assert found.verdict == "good", found
    assert (found.numbers["looked_at"], found.numbers["samples"]) == (60, 60)
    assert found.rows[0]["classes"] == 2


@pytest.mark.parametrize("seed", range(3))
def test_all_planted_duplicates_and_overlaps_are_found(seed: int) -> None:
    drawn = random.Random(seed)
    train, test = numbers(600, seed), numbers(200, seed + 99)
    twins = {drawn.randrange(300): 300 + drawn.randrange(300) for _ in range(12)}
    twins = {one: two for two, one in {two: one for one, two in twins.items()}.items()}
    for one, two in twins.items():
        train[two] = train[one]
    shared = dict(zip(drawn.sample(range(200), 9), drawn.sample(sorted(set(range(300)) - set(twins)), 9)))
    for tested, trained in shared.items():
        test[tested] = train[trained]
    found = look(TensorDataset(train, torch.arange(600) % 3), TensorDataset(test, torch.arange(200) % 3))
    assert (found.verdict, found.numbers["duplicates"], found.numbers["overlap"]) == ("bad", len(twins), len(shared))
    listed = [(row["loader"], row["samples"]) for row in found.rows if isinstance(row["samples"], str)]
    pairs = [tuple(sorted(map(int, text.split(" = ")))) for loader, text in listed if loader == "loader0"]
    assert set(pairs) == {tuple(sorted(pair)) for pair in twins.items()}
    overlaps = {tuple(map(int, text.split(" = "))) for loader, text in listed if "and" in loader}
    assert overlaps == {(trained, tested) for tested, trained in shared.items()}


CASES: list[tuple[str, Any, str, str]] = [
    ("classes", lambda: TensorDataset(numbers(120), (torch.arange(120) < 3).long()), "warning", "out of balance"),
    ("balanced", lambda: TensorDataset(numbers(120), torch.arange(120) % 4), "good", "no duplicates"),
    ("constant", lambda: TensorDataset(torch.ones(50, 5), torch.arange(50) % 2), "bad", "are the same"),
    ("blank", lambda: TensorDataset(torch.cat([numbers(50), torch.zeros(1, 5)])), "warning", "one constant value"),
    ("lost", lambda: TensorDataset(torch.cat([numbers(50), torch.full((1, 5), float("nan"))])), "bad", "not finite"),
    ("other labels", lambda: TensorDataset(numbers(20).repeat(2, 1), torch.arange(40) // 20), "warning",
     "20 of them with another label"),
    ("texts", lambda: [{"text": f"row {row % 30}", "label": row % 2} for row in range(40)], "warning", "10 of 40"),
    ("one duplicate", lambda: TensorDataset(torch.cat([numbers(1500), numbers(1500)[:1]])), "good",
     "1 of 1501 samples of loader0 equal another one (as 0 and 1500)"),
    ("stream", lambda: Stream(), "unknown", "no data set can be read by index"),
    ("broken", lambda: Broken(), "bad", "sample 7: ValueError: this one is damaged"),
    ("augmented", lambda: Augmented(), "good", "contents cannot be compared"),
]  # fmt: skip


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(numbers(5))


class Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        if index == 7:
            raise ValueError("this one is damaged")
        return numbers(20)[index]


class Augmented(Dataset[Any]):
    """Draws from every generator that there is, counts, and opens something at its first access."""

    def __init__(self) -> None:
        self.own = np.random.default_rng(3)
        self.torch = torch.Generator().manual_seed(4)
        self.calls, self.file = 0, None
        self.transforms: list[Any] = [Jitter()]

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Any:
        self.calls += 1
        self.file = self.file or object()
        noise = random.random() + np.random.rand() + float(self.own.random())
        return self.transforms[0](numbers(30)[index] + noise + torch.rand(1) + torch.rand(1, generator=self.torch))

    def state(self) -> Any:
        jitter = self.transforms[0]
        return (self.calls, self.file, str(self.own.bit_generator.state), self.torch.get_state().tolist(),
                len(vars(self)), jitter.random.getstate(), jitter.count)  # fmt: skip


class Jitter:
    def __init__(self) -> None:
        self.random, self.count = random.Random(1), 0

    def __call__(self, x: Any) -> Any:
        self.count += 1
        return x + self.random.random()


@pytest.mark.parametrize(("make", "kind", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_planted_is_found(make: Any, kind: str, says: str) -> None:
    found = look(make())
    assert (found.verdict, says in found.says) == (kind, True), found
    assert bool(found.do) == (kind in ("bad", "warning"))


def test_a_data_set_is_left_as_it_was() -> None:
    dataset = Augmented()
    before = dataset.state(), surroundings()
    look(dataset, dataset)
    assert (dataset.state(), surroundings()) == before
    with contextlib.suppress(KeyError), as_it_was(dataset):
        dataset[0]
        raise KeyError
    assert dataset.state() == before[0]


def surroundings() -> Any:
    numpy: Any = np.random.get_state()
    return random.getstate(), numpy[1].tolist(), torch.get_rng_state().tolist()


def test_a_test_on_what_is_trained_on_is_told() -> None:
    dataset = TensorDataset(numbers(40), torch.arange(40) % 2)
    found = look(dataset, Subset(dataset, range(10, 20)))
    assert (found.verdict, found.numbers["overlap"]) == ("warning", 10)
    assert "trains on" in found.says
    assert look(Subset(dataset, range(20)), Subset(dataset, range(20, 40))).verdict == "good"


def test_the_time_is_kept_and_said() -> None:
    found = look(TensorDataset(numbers(5000)), TensorDataset(numbers(5000)), seconds=0.0)
    assert found.verdict == "unknown"
    assert "0 of 5,000" in found.says


def test_it_can_be_cancelled() -> None:
    def cancel(done: int, of: int, what: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        look(TensorDataset(numbers(500)), progress=cancel)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_SAMPLES", 100)
    found = look(TensorDataset(numbers(5000)))
    assert found.numbers["looked_at"] == 100
    assert "100 of 5,000 samples were looked at" in found.says


def test_indices_of_a_sampler_are_those_that_are_looked_at() -> None:
    dataset = TensorDataset(numbers(40))
    sampler = torch.utils.data.SubsetRandomSampler([3, 5])
    assert places(DataLoader(dataset, sampler=sampler)) == [3, 5]
    assert list(places(DataLoader(dataset))) == list(range(40))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97, 1000])
def test_every_place_comes_once(count: int) -> None:
    assert sorted(spread(count)) == list(range(count))


def test_equal_contents_have_one_hash_and_others_another() -> None:
    def hashed(*parts: Any) -> bytes:
        return sample((*parts, 0)).input

    one = torch.arange(6.0)
    assert hashed(one) == hashed(one.clone())
    others = [one.view(2, 3), one.double(), one + 1e-7, one.numpy(), [one], "a", 1, 1.0, None, b"a", {"a": 1}, {"b": 1}]
    assert len({hashed(one), *map(hashed, others)}) == len(others) + 1
    assert sample((one, torch.tensor(3))).target == 3
    assert sample((one, np.int64(3))).target == 3
    assert sample((one, 0.5)).target is None
    assert sample({"x": one, "label": 4}).target == 4
