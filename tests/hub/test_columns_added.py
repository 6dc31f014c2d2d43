"""The optional columns of samples: kept, bounded in number, no way in for SQL; and stores made without them."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pytest

from onthefly.hub.columns import BadColumns
from onthefly.hub.store import Source, Store
from onthefly.protocol import MAX_COMPONENTS, Denied
from tests.hub.agent import Agent, records
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAN = math.nan
OLDER_TABLE = (
    "CREATE TABLE samples (session VARCHAR, run VARCHAR, rank SMALLINT, step BIGINT, epoch INTEGER, backward BIGINT, "
    "phase VARCHAR, loader VARCHAR, position INTEGER, sample BIGINT, key VARCHAR, loss REAL, valid INTEGER, "
    "certificate VARCHAR, identity VARCHAR, time TIMESTAMPTZ)"
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47960) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store.duckdb", "abcdefgh")
    yield opened
    opened.close()


def floats(*values: float) -> bytes:
    """A float32 column."""
    return array("f", values).tobytes()


def rows_of(store: Store, columns: str) -> list[Any]:
    """Those columns of all samples, in the order of the table."""
    with store.reading() as cursor:
        return cursor.execute(f"SELECT {columns} FROM samples ORDER BY backward, position").fetchall()


def test_all_outputs_carry_them(hub: Running, tmp_path: Path) -> None:
    with Agent(hub.file) as agent:
        agent.say(records(0, 1, 2))
        agent.say(records(
            1, 1, 2, components={"cross_entropy": floats(0.5, 1), "mse_loss": floats(NAN, 2)},
            confidence=floats(0.25, NAN), margin=floats(NAN, -1.5), key=array("i", [1, -1]).tobytes(), keys=["a", "b"],
        ))  # fmt: skip
        agent.saved(agent.seq)
        rows = hub.json("sessions/abcdefgh/samples")
        names = ("confidence", "margin", "key", "loss.cross_entropy", "loss.mse_loss")
        assert [[row[name] for name in names] for row in rows] == [
            [None] * 5, [None] * 5, [0.25, None, "b", 0.5, "nan"], [None, -1.5, None, 1.0, 2.0],
        ]  # fmt: skip
        for form, suffix in (("csv", "csv"), ("parquet", "parquet"), ("arrow", "feather")):
            body = hub.request(path=f"/api/v1/sessions/abcdefgh/samples?format={form}")[2]
            path = tmp_path / f"samples.{suffix}"
            path.write_bytes(body)
            if form == "arrow":
                from pyarrow import feather

                found = feather.read_table(str(path)).column_names
            else:
                found = [name for name, *_ in duckdb.connect().execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
            assert found[-6:-2] == ["margin", "evaluation", "target", "predicted"]
            assert found[-2:] == ["loss.cross_entropy", "loss.mse_loss"]
        agent.state("ended")


def test_blocks_with_and_without_them_in_one_transaction(store: Store) -> None:
    frames = [
        records(0, 1, 2, components={"b": floats(1, 2)}),
        records(1, 1, 2),
        records(2, 1, 2, components={"a": floats(3, 4), "b": floats(5, 6)}, margin=floats(7, 8)),
        records(3, 1, 2, keys=["y", "x"], key=array("i", [1, 0]).tobytes()),
        records(4, 1, 2, keys=["x"], key=array("i", [0, -1]).tobytes()),
    ]
    written = store.write([(Source(0, 1, 1 + place), frame) for place, frame in enumerate(frames)])
    assert written.samples == store.sample_rows == 10
    assert rows_of(store, '"loss.a", "loss.b", margin, key') == [
        (None, 1, None, None), (None, 2, None, None), (None,) * 4, (None,) * 4, (3, 5, 7, None), (4, 6, 8, None),
        (None, None, None, "x"), (None, None, None, "y"), (None, None, None, "x"), (None,) * 4,
    ]  # fmt: skip


BAD: dict[str, dict[str, Any]] = {
    "a confidence too many": {"confidence": floats(1, 2, 3)},
    "a margin too few": {"margin": floats(1)},
    "a component of another length": {"components": {"a": floats(1)}},
    "a key that is not there": {"key": array("i", [0, 1]).tobytes(), "keys": ["a"]},
    "a key below none": {"key": array("i", [0, -2]).tobytes(), "keys": ["a"]},
    "a name with a quote": {"components": {'a" REAL; DROP TABLE samples; --': floats(1, 2)}},
    "a name with an apostrophe": {"components": {"a'": floats(1, 2)}},
    "a name with a backslash": {"components": {"a\\": floats(1, 2)}},
    "a name with a line": {"components": {"a\nb": floats(1, 2)}},
    "a name that is no ASCII": {"components": {"é": floats(1, 2)}},
    "an empty name": {"components": {"": floats(1, 2)}},
    "a long name": {"components": {"a" * 65: floats(1, 2)}},
    "names that differ by capitals": {"components": {"a": floats(1, 2), "A": floats(1, 2)}},
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(store: Store, name: str) -> None:
    with pytest.raises(BadColumns):
        store.write([(Source(0, 1, 1), records(0, 1, 2, **BAD[name]))])
    store.write([(Source(0, 1, 1), records(0, 1, 2))])
    assert len(rows_of(store, "*")[0]) == 21, "no column was added"


def test_every_name_that_is_allowed_is_a_column(store: Store) -> None:
    odd = ["0", "a b", "a.b", "mse_loss:2", "x[0]", "f(x)", "f<lambda>", "a*b+c/d", "a#1", "SELECT", "loss", "u@v=w-1"]
    components = {name: floats(place, -place) for place, name in enumerate(odd)}
    store.write([(Source(0, 1, 1), records(0, 1, 2, components=components))])
    assert [row[21:] for row in rows_of(store, "*")] == [tuple(range(len(odd))), tuple(-p for p in range(len(odd)))]
    store.write([(Source(0, 1, 2), records(1, 1, 2, components={"Select": floats(8, 9)}))])
    assert rows_of(store, '"loss.select"')[2:] == [(8,), (9,)], "capitals make no other column"


def test_an_agent_that_invents_names_fills_no_store(hub: Running) -> None:
    with Agent(hub.file) as agent:
        for first in range(0, 100, 10):
            agent.say(records(
                first, 1, 1, components={f"c{number}": floats(number) for number in range(first, first + 10)}
            ))  # fmt: skip
        agent.saved(agent.seq)
        rows = hub.json("sessions/abcdefgh/samples")
        kept = [name for name in rows[0] if name.startswith("loss.")]
        assert kept == [f"loss.c{number}" for number in range(MAX_COMPONENTS)]
        assert rows[3]["loss.c30"] == 30
        assert len(rows) == 10
        texts = [notice["text"] for notice in hub.json("sessions/abcdefgh")["notices"]]
        assert texts
        assert all(str(MAX_COMPONENTS) in text for text in texts)
        agent.say(records(100, 1, 1, components={"c99": floats(99)}))
        agent.saved(agent.seq)
        assert len(hub.json("sessions/abcdefgh")["notices"]) == len(texts), "said once"
        agent.say(records(101, 1, 1, components={"a;b": floats(1)}))
        assert isinstance(agent.wait(Denied), Denied)


def test_an_older_store_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    older = duckdb.connect()
    older.execute(f"ATTACH '{path}' AS store (STORAGE_VERSION 'v1.2.0')")
    older.execute("USE store")
    older.execute(OLDER_TABLE)
    older.execute("INSERT INTO samples SELECT 'abcdefgh', 'baseline', 0, 0, 0, 0, 'train', 'loader0', 0, 7, NULL, 1.5, "
                  "1, 'exact', 'index', make_timestamptz(0)")  # fmt: skip
    older.close()
    for opening in range(2):
        store = Store(path, "abcdefgh")
        assert store.set_aside is None
        store.write([(Source(0, 1, 1 + opening), records(
            1 + opening, 1, 1, margin=floats(2), components={"a": floats(3)}))])  # fmt: skip
        assert rows_of(store, 'sample, margin, confidence, "loss.a"') == [
            (7, None, None, None), *[(0, 2, None, 3)] * (1 + opening),
        ]  # fmt: skip
        store.close()


def test_one_component_costs_nothing_more(store: Store) -> None:
    """The statement for a plain block names no optional column, so that none of them is looked at."""
    frame = records(0, 1000, 128)
    seen: list[str] = []
    insert = store._insert

    def spy(statement: str, columns: dict[str, Any], words: dict[str, Any]) -> None:
        seen.append(statement)
        insert(statement, columns, words)

    store._insert = spy  # pyright: ignore[reportAttributeAccessIssue]
    store.write([(Source(0, 1, 1), frame)])
    assert not any(word in statement for statement in seen for word in ('"key"', "margin", "confidence", "loss."))


def test_many_keys(store: Store) -> None:
    """Each sample of a stream with a key of its own: the store takes them as it takes numbers."""
    count = 50_000
    keys = [f"shard-{number % 7}/{number:08d}.jpg" for number in range(count)]
    frame = records(0, 1, count, keys=keys, key=np.arange(count, dtype="<i4").tobytes(), identity=bytes([2]))
    store.write([(Source(0, 1, 1), frame)])
    assert [key for (key,) in rows_of(store, "key")] == keys
