"""What is said of collate functions, against what they do with items that can be told apart."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch

from onthefly.capture.loaders import tensors_in, tensors_of
from onthefly.capture.order.proof import prove
from tests.identity import corpus

LENGTHS = (5, 2, 7, 3, 6)


def items(kind: str) -> list[Any]:
    """Five items, in no order of size; each of its numbers occurs in no other."""
    numbers = [30.0, 10.0, 50.0, 20.0, 40.0]
    if kind == "vectors":
        return [torch.full((4,), n) + torch.arange(4) for n in numbers]
    if kind == "dicts":
        return [{"ids": [int(n) + i for i in range(length)], "label": int(n), "score": n / 8, "text": str(n)}
                for n, length in zip(numbers, LENGTHS)]  # fmt: skip
    lengths = [4] * 5 if kind == "pairs of one length" else LENGTHS
    return [(torch.full((length,), n) + torch.arange(length), int(n)) for n, length in zip(numbers, lengths)]


def changed(item: Any) -> Any:
    """The same item with other numbers, in the same place of any order."""
    if isinstance(item, dict):
        return {"ids": [v + 1 for v in item["ids"]], "label": item["label"] + 1, "score": item["score"] + 0.1,
                "text": item["text"]}  # fmt: skip
    if isinstance(item, tuple):
        return item[0] + 1, item[1] + 1
    return item + 1


def collated(collate: Any, batch: list[Any]) -> Any:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return collate(copy.deepcopy(batch))


def held(form: Any, data: Any) -> list[torch.Tensor]:
    return [t for t in (tensors_of(data) if form is True else tensors_in(form, data)) if t.dim()]


def truth(collate: Any, kind: str, form: Any) -> list[str]:
    """Where rows depend on other items than theirs: each item is changed in turn."""
    batch, faults = items(kind), []
    before = held(form, collated(collate, batch))
    for place in range(len(batch)):
        other = [*batch[:place], changed(batch[place]), *batch[place + 1 :]]
        after = held(form, collated(collate, other))
        assert len(before) == len(after)
        for one, two in zip(before, after):
            if one.shape != two.shape or one.shape[0] != len(batch):
                faults.append(f"{tuple(one.shape)}, {tuple(two.shape)}")
                continue
            moved = [row for row in range(len(batch)) if not torch.equal(one[row], two[row])]
            faults += [f"item {place} changes row {row}" for row in moved if row != place]
    return faults


def name(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__) if not isinstance(value, str) else value


@pytest.mark.parametrize(("kind", "collate"), corpus.RIGHT, ids=name)
def test_right_ones_are_proven(kind: str, collate: Any) -> None:
    proof = prove(collate)
    assert proof.doubt == ""
    assert held(proof.form, collated(collate, items(kind))) != []
    assert truth(collate, kind, proof.form) == []


@pytest.mark.parametrize(("kind", "collate"), corpus.WRONG, ids=name)
def test_wrong_ones_are_doubted(kind: str, collate: Any) -> None:
    assert prove(collate).doubt


@pytest.mark.parametrize(("kind", "collate"), corpus.PLAIN, ids=name)
def test_what_is_not_followed_is_right_or_doubted(kind: str, collate: Any) -> None:
    proof = prove(collate)
    assert proof.doubt or truth(collate, kind, proof.form) == []
