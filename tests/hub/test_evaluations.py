"""Rows of tests and scans in a store: what is kept, what is refused, and what an older bundle lacks."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.hub import evaluations
from onthefly.hub.columns import BadColumns
from onthefly.hub.store import STORE_NAME, Source, Store
from onthefly.protocol import Evaluated, EvaluationInfo, Examined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / STORE_NAME, "abcdefgh")
    yield made
    made.close()


def examined(**other: Any) -> Examined:
    """Two samples."""
    given: dict[str, Any] = {
        "run": "baseline", "evaluation": "scan_1", "kind": "scan", "step": 7, "epoch": 1, "backward": 8,
        "loader": "loader0", "time": 1.0, "first": 4, "sample": array("q", [5, -1]).tobytes(),
        "loss": array("f", [0.5, float("nan")]).tobytes(), "valid": array("i", [1, 1]).tobytes(),
        "certificate": bytes([0, 2]), "identity": bytes([0, 3]),
    }  # fmt: skip
    return Examined(**{**given, **other})


def info(**other: Any) -> EvaluationInfo:
    """One that is over."""
    given: dict[str, Any] = {
        "kind": "scan", "label": "scan_1", "run": "baseline", "step": 7, "epoch": 1, "loader": "loader0",
        "mode": "eval", "by": "ana", "began": 1.0, "seconds": 2.0, "count": 2, "how": "recipe, reproduced 2 of 2",
    }  # fmt: skip
    return EvaluationInfo(**{**given, **other})


def rows(store: Store, query: str) -> list[tuple[Any, ...]]:
    """Of the store."""
    with store.reading() as cursor:
        return cursor.execute(query).fetchall()


def test_rows_and_vectors_are_kept(store: Store) -> None:
    both = {"target": array("d", [1, 2]).tobytes(), "predicted": array("d", [1, 0]).tobytes()}
    store.write([
        (Source(0, 1, 1), examined(**both, dimensions=3, vectors=array("f", range(6)).tobytes())),
        (Source(0, 1, 2), examined(evaluation="test_1", kind="test", first=0, keys=["a", ""])),
        (Source(0, 1, 3), examined(first=6, dimensions=2, vectors=array("f", [7, 8, 9, 10]).tobytes())),
    ])  # fmt: skip
    found = rows(store, "SELECT evaluation, phase, position, sample, key, target, predicted, step FROM samples "
                        "ORDER BY evaluation, position")  # fmt: skip
    assert found == [
        ("scan_1", "scan", 4, 5, None, 1, 1, 7), ("scan_1", "scan", 5, None, None, 2, 0, 7),
        ("scan_1", "scan", 6, 5, None, None, None, 7), ("scan_1", "scan", 7, None, None, None, None, 7),
        ("test_1", "test", 0, 5, "a", None, None, 7), ("test_1", "test", 1, None, None, None, None, 7),
    ]  # fmt: skip
    assert rows(store, "SELECT position, sample, vector FROM embeddings ORDER BY position") == [
        (4, 5, [0, 1, 2]), (5, None, [3, 4, 5]), (6, 5, [7, 8]), (7, None, [9, 10]),
    ]  # fmt: skip
    assert (store.samples, store.sample_rows) == (0, 6), "none of training"


def test_what_was_told_last_counts(store: Store) -> None:
    store.write([(Source(0, 1, 1), Evaluated(evaluation=info())),
                 (Source(0, 1, 2), Evaluated(evaluation=info(label="test_1", kind="test")))])  # fmt: skip
    store.write([(Source(0, 1, 3), Evaluated(evaluation=info(how="recipe, reproduced 3 of 3")))])
    with store.reading() as cursor:
        found = evaluations.read(cursor, "abcdefgh").evaluations
    assert [(one.label, one.how) for one in found] == [
        ("scan_1", "recipe, reproduced 3 of 3"), ("test_1", "recipe, reproduced 2 of 2"),
    ]  # fmt: skip


BAD: dict[str, Any] = {
    "a loss too few": examined(loss=array("f", [1]).tobytes()),
    "a step beyond all": examined(step=1 << 70),
    "an epoch beyond all": examined(epoch=1 << 40),
    "a place below none": examined(first=-1),
    "a code that is none": examined(certificate=bytes([0, 9])),
    "no label": examined(evaluation=""),
    "too many numbers": examined(dimensions=65, vectors=bytes(65 * 8)),
    "a vector too short": examined(dimensions=3, vectors=bytes(8)),
    "a key too few": examined(keys=["a"]),
    "a time that is none": Evaluated(evaluation=info(began=float("nan"))),
    "a run that is none": Evaluated(evaluation=info(run="a b")),
    "a label of 65 letters": Evaluated(evaluation=info(label="a" * 65)),
    "more than may be kept": Evaluated(evaluation=info(result={"a": "b" * (1 << 20)})),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(store: Store, name: str) -> None:
    with pytest.raises(BadColumns):
        store.write([(Source(0, 1, 1), BAD[name])])
    assert rows(store, "SELECT count(*) FROM samples") == [(0,)]
    assert rows(store, "SELECT count(*) FROM evaluations") == [(0,)]
