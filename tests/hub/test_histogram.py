"""A histogram is of one moment: its counts, certificates and identities add up while records pour in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from onthefly.hub import queries
from onthefly.hub.store import Source, Store
from tests.hub.agent import records

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def looks(store: Store, count: int) -> list[bool]:
    """Whether the figures of each of so many looks add up, up to the first that do not, while a writer adds blocks."""
    done = threading.Event()

    def write() -> None:
        seq = 1
        while not done.is_set():
            store.write([(Source(0, 1, seq), records(10 * seq, 10, 50))])
            seq += 1

    writer = threading.Thread(target=write)
    store.write([(Source(0, 1, 0), records(0, 10, 50))])
    writer.start()
    try:
        found: list[bool] = []
        for _ in range(count):
            with store.reading() as cursor:
                try:
                    seen = queries.histogram(cursor, "abcdefgh", "baseline", "train", None, 20)
                except ValueError:  # a rank beyond the values that there were
                    return [False]
            totals = (sum(seen.counts), sum(seen.certificates.values()), sum(seen.identities.values()))
            found.append(totals == (seen.count,) * 3)
            if not found[-1]:
                break
        return found
    finally:
        done.set()
        writer.join()


def test_figures_of_one_look_add_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb", "abcdefgh")
    assert all(looks(store, 100))
    store.close()


def test_without_the_transaction_they_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "histogram", queries.collect_histogram)
    store = Store(tmp_path / "s.duckdb", "abcdefgh")
    assert not all(looks(store, 300))
    store.close()
