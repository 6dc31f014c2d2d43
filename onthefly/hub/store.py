"""One DuckDB file per session: appended in batches, each a transaction, acknowledged after it.

Writes come from one thread; reads run on cursors of the same database in other threads, and see committed rows only.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from onthefly.hub import schema
from onthefly.hub.columns import Words, backward_columns, metric_columns, sample_columns, stacked
from onthefly.protocol import Metrics, Records

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from onthefly.hub.columns import Array


class Source(NamedTuple):
    """Where a frame came from."""

    rank: int
    pid: int
    seq: int


class Written(NamedTuple):
    """What one transaction added: columns and the row numbers at which they begin."""

    backwards: dict[str, Array]
    first_backward_row: int
    metrics: dict[str, Array]
    first_metric_row: int
    metric_names: list[str]
    runs: list[str]
    samples: int


class Store:
    """The records of one session."""

    def __init__(self, path: Path, session: str) -> None:
        """Open or create the file; ``duckdb.Error`` if it cannot be."""
        self._session = session
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Extensions would be fetched from the network: nothing leaves this machine.
        self._database = duckdb.connect(":memory:", config={
            "autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "2",
        })  # fmt: skip
        quoted = str(path).replace("'", "''")
        self._database.execute(f"ATTACH '{quoted}' AS store (STORAGE_VERSION '{schema.STORAGE_VERSION}')")
        path.chmod(0o600)
        self._database.execute("USE store")
        for name, columns in schema.TABLES.items():
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        for name, query in schema.VIEWS.items():
            self._database.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
        self.backward_rows = self._count("backwards")
        self.metric_rows = self._count("metrics_stored")
        self.sample_rows = self._count("samples")

    def _count(self, table: str) -> int:
        row = self._database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(row[0]) if row else 0

    def saved(self, rank: int, pid: int) -> int:
        """The highest committed ``seq`` of that agent."""
        query = "SELECT seq FROM store.saved WHERE rank = ? AND pid = ?"
        row = self._database.cursor().execute(query, [rank, pid]).fetchone()
        return int(row[0]) if row else 0

    @contextlib.contextmanager
    def reading(self) -> Generator[duckdb.DuckDBPyConnection, None, None]:
        """A cursor for one reader, in any thread."""
        cursor = self._database.cursor()
        try:
            cursor.execute("USE store")
            yield cursor
        finally:
            cursor.close()

    def write(self, frames: Sequence[tuple[Source, Any]]) -> Written:
        """Add frames in one transaction; :class:`~onthefly.hub.columns.BadColumns` writes nothing."""
        runs, loaders, reasons, names = Words(), Words(), Words(), Words()
        backwards: list[dict[str, Array]] = []
        samples: list[dict[str, Array]] = []
        metrics: list[dict[str, Array]] = []
        for source, message in frames:
            if isinstance(message, Records):
                columns = backward_columns(message, source.rank, runs, loaders, reasons)
                backwards.append(columns)
                samples.append(sample_columns(message, columns))
            elif isinstance(message, Metrics) and message.values:
                metrics.append(metric_columns(message, source.rank, runs, names))
        written = Written(stacked(backwards), self.backward_rows, stacked(metrics), self.metric_rows, names.words,
                          runs.words, sum(len(part["sample"]) for part in samples))  # fmt: skip
        words = {"session": self._session, "runs": runs.words}
        self._database.begin()
        try:
            if backwards:
                self._insert(schema.INSERT_BACKWARDS, written.backwards,
                             {**words, "loaders": loaders.words, "reasons": reasons.words})  # fmt: skip
            if written.samples:
                self._insert(schema.INSERT_SAMPLES, stacked(samples), {**words, "loaders": loaders.words})
            if metrics:
                self._insert(schema.INSERT_METRICS, written.metrics, {**words, "names": names.words})
            newest = {(source.rank, source.pid): source.seq for source, _ in frames}
            for (rank, pid), seq in newest.items():
                self._database.execute(schema.UPSERT_SAVED, [rank, pid, seq])
            self._database.commit()
        except duckdb.Error:
            self._database.rollback()
            raise
        self.backward_rows += len(written.backwards.get("backward", ()))
        self.metric_rows += len(written.metrics.get("value", ()))
        self.sample_rows += written.samples
        return written

    def _insert(self, statement: str, columns: dict[str, Array], words: dict[str, Any]) -> None:
        self._database.execute(statement, {name: value for name, value in words.items() if f"${name}" in statement})

    def close(self) -> None:
        """Write everything to the file proper, and let go of it."""
        self._database.close()
