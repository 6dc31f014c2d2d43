"""Follows the rows of a session's samples, and keeps their training dynamics up to date.

The table is the truth, and what is kept here a fold over it: up to some row, everything is taken in. So a resent frame
counts once, a hub that starts anew comes to the same numbers, and writing costs nothing. The newest run of a session
that trains is followed while its records arrive, a stretch of rows at a time; everything else when it is asked for.
Every few million rows the state goes to a file, so that after a restart only what came since is to be added up.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

from onthefly.errors import StoreUnavailable
from onthefly.hub import folded
from onthefly.hub.dynamics import Dynamics, Presentations
from onthefly.hub.tables import Selection, render

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from onthefly.hub.columns import Array
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession
    from onthefly.hub.store import Store, Written

log = logging.getLogger("onthefly.hub")

STRIDE = 1 << 18
"""Rows that may wait to be followed: they are taken in within a fraction of a second when somebody asks."""

CHUNK = 1 << 20
"""Rows that are taken in at once: about 100 MB of temporary columns."""

KEPT = 8
"""Runs that are kept at a time, each with about 110 bytes for every sample; the one longest not asked for goes."""

WORTH_A_FILE = 1 << 21
"""Rows after which the state is written down: they are added up again in half a second.

But never fewer than two for each sample: the file of many samples takes longer, and wears a disk more.
"""

_READ = """
SELECT {name} AS name, epoch, backward, rank, loss, coalesce(confidence, 'nan') AS confidence,
    coalesce(margin, 'nan') AS margin
FROM samples WHERE run = $run AND phase = $phase AND identity = $identity AND {name} {there} AND {rows} {order}"""

_NAMES = {"index": ("sample", ">= 0"), "key": ("key", "IS NOT NULL")}
"""Rows with these identities tell which sample they are of: by which column, and what must hold of it."""

_MARK = "SELECT run, rank, backward, position, sample, key, loss, epoch_us(time) FROM samples WHERE rowid = ?"

_TABLE = """
CREATE OR REPLACE TEMP TABLE dynamics AS SELECT '{run}' AS run, '{phase}' AS phase,
    CASE WHEN sample >= 0 THEN sample END AS sample, key::VARCHAR AS key, count, epochs, loss_mean, loss_variance,
    coalesce(loss_last, 'nan') AS loss_last, loss_min, loss_max, nullif(forgetting, -1)::INTEGER AS forgetting,
    nullif(learned, -1)::INTEGER AS learned, confidence, variability, margin FROM columns"""
"""DuckDB reads NaN in a NumPy array as NULL: so it is meant, but for a newest loss that is NaN."""

COLUMNS = (
    "run VARCHAR, phase VARCHAR, sample BIGINT, key VARCHAR, count BIGINT, epochs BIGINT, loss_mean DOUBLE, "
    "loss_variance DOUBLE, loss_last DOUBLE, loss_min DOUBLE, loss_max DOUBLE, forgetting INTEGER, learned INTEGER, "
    "confidence DOUBLE, variability DOUBLE, margin DOUBLE"
)
"""Of that table, as the API describes it."""


class Follower:
    """The dynamics of one run and phase. May be used from several threads."""

    def __init__(self, run: str, phase: str, folder: Path | None = None) -> None:
        """``folder``: of the session, where the state is kept over a restart."""
        self.run = run
        self.phase = phase
        self._folder = folder
        self.rows = 0
        """Of the table of samples, from its first: those that are taken in, or belong to other runs and phases."""
        self._written = 0
        """Of these, the ones that are in the file."""
        self._dynamics = Dynamics()
        self._keys: list[str] = []
        """A sample that is known by its key has the number -1 - its place here."""
        self._places: dict[str, int] = {}
        self._lock = threading.Lock()

    def follow(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Take in the rows that are new."""
        with self._lock:
            self._follow(cursor)

    def table(self, cursor: duckdb.DuckDBPyConnection, order: str, limit: int | None = None) -> dict[str, Array]:
        """What is known by now, in that order: see :meth:`onthefly.hub.dynamics.Dynamics.table`; and column ``key``."""
        with self._lock:
            self._follow(cursor)
            columns = self._dynamics.table(order, limit)
        keys = [None if number >= 0 else self._keys[-1 - number] for number in columns["sample"].tolist()]
        columns["key"] = np.array(keys, dtype=object)
        return columns

    def render(self, cursor: duckdb.DuckDBPyConnection, order: str, limit: int | None, form: str) -> bytes:
        """The table in that order and format."""
        columns = self.table(cursor, order, limit)
        assert columns  # found by DuckDB under the name of this variable
        cursor.execute(_TABLE.format(run=self.run, phase=self.phase))
        return render(cursor, Selection("temp.dynamics", "true", [], "rowid", None, timed=False), form)

    def _follow(self, cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.begin()  # one state of the table, however often it is read
        try:
            if not self.rows:
                self._resume(cursor)
            self._take_in(cursor)
            self._write_down(cursor)
        except BaseException:
            # Half taken in, it would stay wrong.
            self.rows = self._written = 0
            self._dynamics, self._keys, self._places = Dynamics(), [], {}
            raise
        finally:
            cursor.rollback()

    def _take_in(self, cursor: duckdb.DuckDBPyConnection) -> None:
        row = cursor.execute("SELECT count(*) FROM samples").fetchone()
        total = int(row[0]) if row else 0
        late: list[Array] = []
        while self.rows < total:
            end = min(self.rows + CHUNK, total)
            rows = {name: self._read(cursor, name, f"rowid >= {self.rows} AND rowid < {end}") for name in _NAMES}
            late.append(self._dynamics.add(Presentations(*map(np.concatenate, zip(*rows.values())))))
            self.rows = end
        if late:
            self._repeat(cursor, np.unique(np.concatenate(late)))

    def _resume(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Go on from the file, if it is of this very table."""
        found = None if self._folder is None else folded.read(self._folder, self.run, self.phase)
        if found is not None and found.mark == self._mark(cursor, found.rows):
            self.rows = self._written = found.rows
            self._dynamics, self._keys = found.dynamics, found.keys
            self._places = {key: -1 - place for place, key in enumerate(found.keys)}

    def _write_down(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Write the file anew, if enough has come since."""
        if self._folder is None or self.rows - self._written < max(WORTH_A_FILE, 2 * len(self._dynamics.samples)):
            return
        self._written = self.rows
        state = folded.Folded(self.run, self.phase, self.rows, self._mark(cursor, self.rows), self._keys,
                              self._dynamics)  # fmt: skip
        try:
            folded.write(self._folder, state)
        except OSError as error:
            log.warning("the dynamics of run %s are not kept over a restart of the hub: %s", self.run, error)

    def _mark(self, cursor: duckdb.DuckDBPyConnection, rows: int) -> str:
        """What stands in the last of so many rows."""
        return str(cursor.execute(_MARK, [rows - 1]).fetchone())

    def _repeat(self, cursor: duckdb.DuckDBPyConnection, late: Array) -> None:
        """Begin anew with samples whose rows were not saved in the order of training: rare, but with several ranks."""
        parts = np.cumsum(self._dynamics.counts(late), dtype=np.int64) // CHUNK
        self._dynamics.forget(late)
        for part in range(int(parts[-1]) + 1 if len(parts) else 0):
            numbers = late[parts == part]
            keys = [self._keys[-1 - number] for number in numbers[numbers < 0].tolist()]
            wanted = {"index": numbers[numbers >= 0], "key": np.array(keys, dtype=object)}
            for name, names in wanted.items():
                if len(names):
                    rows = self._read(cursor, name, f"rowid < {self.rows}", names)
                    again = self._dynamics.add(rows)
                    assert not len(again), "all rows of a sample at once are in order"

    def _read(
        self, cursor: duckdb.DuckDBPyConnection, identity: str, rows: str, among: Array | None = None
    ) -> Presentations:
        column, there = _NAMES[identity]
        order = ""  # DuckDB keeps the order of the table where it only filters
        if among is not None:
            wanted = {"name": among}  # found by DuckDB under the name of this variable
            rows, order = f"{rows} AND {column} IN (SELECT name FROM wanted)", "ORDER BY rowid"
            assert wanted
        query = _READ.format(name=column, there=there, rows=rows, order=order)
        found = cursor.execute(query, {"run": self.run, "phase": self.phase, "identity": identity}).fetchnumpy()
        if identity == "key":
            found["name"] = np.array([self._number(key) for key in found["name"].tolist()], dtype=np.int64)
        return Presentations(*found.values())

    def _number(self, key: str) -> int:
        if key not in self._places:
            self._places[key] = -1 - len(self._keys)
            self._keys.append(key)
        return self._places[key]


class Followers:
    """Those of all sessions; on the event loop."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._kept: dict[tuple[Store, str, str], Follower] = {}
        """Longest not asked for first."""
        self._under_way: dict[Follower, asyncio.Task[None]] = {}
        keeper.listen(self._committed)

    async def render(
        self, live: LiveSession, run: str, phase: str, *, order: str, limit: int | None, form: str
    ) -> bytes:  # fmt: skip
        """The dynamics of a session's samples."""
        follower = await self.of(live, run, phase)
        return await self._keeper.read(live, lambda cursor: follower.render(cursor, order, limit, form))

    async def of(self, live: LiveSession, run: str, phase: str) -> Follower:
        """Of a run and phase; it may have everything to do yet."""
        store = await self._keeper.store(live)
        key = store, run, phase
        follower = self._kept[key] = self._kept.pop(key, None) or Follower(run, phase, store.folder)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return follower

    def _committed(self, live: LiveSession, written: Written) -> None:
        store, run = live.store, live.info.run
        if store is None or not written.samples:
            return
        follower = self._kept.get((store, run, "train"))
        if follower is None:
            if len(self._kept) >= KEPT:
                return  # begun anew again and again, none would ever get far
            follower = self._kept[store, run, "train"] = Follower(run, "train", store.folder)
        if store.sample_rows - follower.rows >= STRIDE and follower not in self._under_way:
            task = asyncio.ensure_future(self._follow(live, follower))
            self._under_way[follower] = task
            task.add_done_callback(lambda _: self._under_way.pop(follower))

    async def _follow(self, live: LiveSession, follower: Follower) -> None:
        try:
            await self._keeper.read(live, follower.follow)
        except StoreUnavailable as error:
            log.warning("session %s: its dynamics are not followed: %s", live.info.id, error.message)
