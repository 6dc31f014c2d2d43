"""One DuckDB file per session: appended in batches, each a transaction, acknowledged after it.

Writes come from one thread; reads run on cursors of the same database in other threads, and see committed rows only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import duckdb

from onthefly.errors import Refused
from onthefly.hub import evaluations, health, journal, schema
from onthefly.hub.columns import (
    TRAIN,
    Words,
    backward_columns,
    metric_columns,
    optional_columns,
    sample_columns,
    stacked,
)
from onthefly.protocol import MAX_COMPONENTS, Logged, Metrics, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

    from onthefly.hub.columns import Array

log = logging.getLogger("onthefly.hub")

T = TypeVar("T")

STORE_NAME = "store.duckdb" if schema.FORMAT == 1 else f"store-{schema.FORMAT}.duckdb"
"""The format stands in the name: a hub that knows an older one leaves this file alone."""


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
    logs: int
    journal: int
    left_out: list[str]
    """Components of losses that have no column, since there are enough: said once of each."""


class Store:
    """The records of one session."""

    def __init__(self, path: Path, session: str) -> None:
        """Open or create the file.

        One that is damaged, or no store, is renamed and a new one begun: what it holds is for a person to look at.
        Raises ``duckdb.Error`` or OSError if it cannot be opened (disk, permissions, another process that holds it),
        :class:`~onthefly.errors.Refused` if a newer version wrote it.
        """
        self._session = session
        self.folder = path.parent
        self._components: set[str] = set()
        """Columns of components, in small letters: DuckDB takes `loss.a` and `loss.A` for one."""
        self._left_out: set[str] = set()
        self.set_aside: Path | None = None
        """Where the damaged store is now that stood here."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        newer = [other.name for other in path.parent.glob("store-*.duckdb") if _format(other.name) > schema.FORMAT]
        if newer:
            raise Refused(f"session {session} was recorded by a newer version of OnTheFly ({newer[0]})",
                          "look at it from the environment that made it, or upgrade this one")  # fmt: skip
        if path.exists() and not path.stat().st_size:
            path.unlink()  # of an attempt that ended before anything was in it
        fresh = not path.exists()
        try:
            self._open(path)
        except duckdb.Error as error:
            if fresh:
                path.unlink(missing_ok=True)
            if fresh or not _damaged(path, error):
                raise
            self.set_aside = _rename(path)
            log.error("session %s: its store is damaged (%s): kept as %s, a new one begins", session, error,
                      self.set_aside)  # fmt: skip
            self._open(path)

    def _open(self, path: Path) -> None:
        # Extensions would be fetched from the network: nothing leaves this machine.
        self._database = duckdb.connect(":memory:", config={
            "autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "2",
        })  # fmt: skip
        with contextlib.ExitStack() as stack:
            stack.callback(self._database.close)
            self._attach(path)
            stack.pop_all()

    def _attach(self, path: Path) -> None:
        quoted = str(path).replace("'", "''")
        self._database.execute(f"ATTACH '{quoted}' AS store (TYPE duckdb, STORAGE_VERSION '{schema.STORAGE_VERSION}')")
        path.chmod(0o600)
        self._database.execute("USE store")
        for name, columns in schema.TABLES.items():
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        for name, columns in schema.LATER_COLUMNS.items():
            for column, kind in columns.items():
                self._database.execute(f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column} {kind}")
        described = self._database.execute("SELECT * FROM samples LIMIT 0").description or ()
        self._components = {column[0].lower() for column in described if column[0].startswith(schema.COMPONENT)}
        for name, query in schema.VIEWS.items():
            self._database.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
        self.backward_rows = self._count("backwards")
        self.metric_rows = self._count("metrics_stored")
        self.sample_rows = self._count("samples")
        self.log_rows = self._count("logs")
        self.journal_rows = self._count("journal")
        self.health_rows = self._count("health")
        self.backwards = self._count("backwards WHERE phase = 'train'")
        """Calls of the training, and below the samples of these; the rows of both tables have validation as well."""
        self.samples = self._count("samples WHERE phase = 'train'")
        found = self._database.execute("SELECT rank, pid, seq FROM saved").fetchall()
        self._saved: dict[tuple[int, int], int] = {(rank, pid): seq for rank, pid, seq in found}

    def _count(self, table: str) -> int:
        row = self._database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(row[0]) if row else 0

    def saved(self, rank: int, pid: int) -> int:
        """The highest committed ``seq`` of that agent."""
        return self._saved.get((rank, pid), 0)

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
        """Add frames in one transaction; :class:`~onthefly.hub.columns.BadColumns` writes nothing.

        Frames that are in the store already (sent again after a connection broke) are left out.
        """
        fresh, newest = self._fresh(frames)
        runs, loaders, reasons, names, keys = Words(), Words(), Words(), Words(), Words()
        backwards: list[dict[str, Array]] = []
        samples: dict[tuple[str, ...], list[dict[str, Array]]] = {}
        left_out: list[str] = []
        metrics: list[dict[str, Array]] = []
        for source, message in fresh:
            if isinstance(message, Records):
                columns = backward_columns(message, source.rank, runs, loaders, reasons)
                backwards.append(columns)
                part, more = sample_columns(message, columns), optional_columns(message, keys)
                left_out += self._make_room(more)
                samples.setdefault(tuple(more), []).append({**part, **more})
            elif isinstance(message, Metrics) and message.values:
                metrics.append(metric_columns(message, source.rank, runs, names))
        examined = evaluations.Rows(fresh, runs, loaders, keys)
        logs = [(source, message) for source, message in fresh if isinstance(message, Logged)]
        entries, answers = journal.entry_rows(fresh), journal.answer_rows(fresh)
        results = health.rows(fresh)
        written = Written(stacked(backwards), self.backward_rows, stacked(metrics), self.metric_rows, names.words,
                          runs.words, sum(len(part["sample"]) for parts in samples.values() for part in parts),
                          len(logs), len(entries["entries"]), left_out)  # fmt: skip
        words = {"session": self._session, "runs": runs.words}
        self._database.begin()
        try:
            if backwards:
                self._insert(schema.INSERT_BACKWARDS, written.backwards,
                             {**words, "loaders": loaders.words, "reasons": reasons.words})  # fmt: skip
            for more, parts in samples.items():
                self._insert(schema.insert_samples(more), stacked(parts),
                             {**words, "loaders": loaders.words, "keys": keys.words})  # fmt: skip
            if metrics:
                self._insert(schema.INSERT_METRICS, written.metrics, {**words, "names": names.words})
            if logs:
                self._insert_logs(logs)
            for statement, rows in (
                (schema.INSERT_JOURNAL, entries), (schema.INSERT_HEALTH, results), (schema.INSERT_ANSWERS, answers),
            ):  # fmt: skip
                if rows["ranks"]:
                    self._database.execute(statement, rows)
            examined.insert(self._database, {**words, "loaders": loaders.words, "keys": keys.words})
            for (rank, pid), seq in newest.items():
                self._database.execute(schema.UPSERT_SAVED, [rank, pid, seq])
            self._database.commit()
        except duckdb.Error:
            with contextlib.suppress(duckdb.Error):  # a transaction that failed to commit is over already
                self._database.rollback()
            raise
        self._saved.update(newest)
        self.backward_rows += len(written.backwards.get("backward", ()))
        self.metric_rows += len(written.metrics.get("value", ()))
        self.sample_rows += written.samples + examined.count
        self.backwards += sum(int((part["phase"] == TRAIN).sum()) for part in backwards)
        self.samples += sum(int((part["phase"] == TRAIN).sum()) for parts in samples.values() for part in parts)
        self.log_rows += written.logs
        self.journal_rows += written.journal
        self.health_rows += len(results["results"])
        return written

    def edit(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run ``work(connection)`` in one transaction: what people change through the hub. For the writer's thread."""
        self._database.begin()
        try:
            found = work(self._database)
            self._database.commit()
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._database.rollback()
            raise
        return found

    def _make_room(self, columns: dict[str, Array]) -> list[str]:
        """See that each component has its column; what gets none is taken out, and returned the first time."""
        left_out: list[str] = []
        for name in [name for name in columns if name.startswith(schema.COMPONENT)]:
            if name.lower() in self._components:
                continue
            if len(self._components) < MAX_COMPONENTS:
                self._database.execute(f'ALTER TABLE samples ADD COLUMN "{name}" REAL')
                self._components.add(name.lower())
                continue
            del columns[name]
            if name not in self._left_out and len(self._left_out) < MAX_COMPONENTS:
                self._left_out.add(name)
                left_out.append(name)
        return left_out

    def _fresh(
        self, frames: Sequence[tuple[Source, Any]]
    ) -> tuple[list[tuple[Source, Any]], dict[tuple[int, int], int]]:
        """The frames that are not in the store, each once, and the newest of each agent."""
        fresh: list[tuple[Source, Any]] = []
        newest: dict[tuple[int, int], int] = {}
        for source, message in frames:
            agent = source.rank, source.pid
            if source.seq > newest.get(agent, self._saved.get(agent, 0)):
                newest[agent] = source.seq
                fresh.append((source, message))
        return fresh, newest

    def _insert(self, statement: str, columns: dict[str, Array], words: dict[str, Any]) -> None:
        self._database.execute(statement, {name: value for name, value in words.items() if f"${name}" in statement})

    def _insert_logs(self, entries: Iterable[tuple[Source, Logged]]) -> None:
        rows = [(source.rank, source.pid, entry.time, entry.stream, entry.text) for source, entry in entries]
        names = ("ranks", "pids", "times", "streams", "texts")
        self._database.execute(schema.INSERT_LOGS, dict(zip(names, map(list, zip(*rows)))))

    def close(self) -> None:
        """Write everything to the file proper, and let go of it."""
        self._database.close()


def _format(name: str) -> int:
    number = name[len("store-") : -len(".duckdb")]
    return int(number) if number.isascii() and number.isdigit() else 0


def _damaged(path: Path, error: duckdb.Error) -> bool:
    """Whether it is the file's content that keeps it from being opened, and not the disk or another process.

    DuckDB says it in words that change from version to version; so the other reasons are ruled out by trying them.
    """
    try:
        with path.open("r+b") as file:
            file.read(4096)
            if os.name != "nt":
                import fcntl

                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the lock that DuckDB takes
    except OSError:
        return False
    said = str(error).lower()
    return not any(word in said for word in ("no space", "could not write", "out of memory", "too many open files"))


def _rename(path: Path) -> Path:
    """Keep a damaged store, and its write-ahead log, under a name that says so."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    path.rename(target)
    log_file = path.with_name(f"{path.name}.wal")
    if log_file.exists():
        log_file.rename(path.with_name(f"{target.name}.wal"))
    return target
