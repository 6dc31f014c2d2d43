"""What clients ask about single samples: which are meant, whose label is suspected, what their history is.

Of the event loop: it gathers what a question needs (training dynamics, clusters), and has it looked up in a thread.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from onthefly.errors import Refused
from onthefly.hub import suspects, tables, tags
from onthefly.hub.choice import parse
from onthefly.hub.chosen import Chosen, Known, Scope
from onthefly.hub.tables import Selection, json_number
from onthefly.protocol import History, Selected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import duckdb

    from onthefly.hub.choice import Term
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.maps import Maps
    from onthefly.hub.presentations import Follower, Followers
    from onthefly.hub.registry import LiveSession
    from onthefly.protocol import SelectionRequest

DEFAULT_ROWS, DEFAULT_CLUSTERS = 1000, 8

T = TypeVar("T")

SUSPECTS = (
    "place BIGINT, loader VARCHAR, sample BIGINT, key VARCHAR, is_label_issue BOOLEAN, label_quality DOUBLE, "
    "given_label DOUBLE, predicted_label DOUBLE, verdict VARCHAR, margin DOUBLE, variability DOUBLE, "
    "forgetting INTEGER, learned INTEGER, count BIGINT, loss_mean DOUBLE, loss_last DOUBLE, evidence VARCHAR"
)
"""Of the table of suspected label errors. Four names are cleanlab's, which reads the table as it is."""

_HISTORY = (
    "SELECT epoch, step, loss, confidence FROM samples WHERE run = $run AND phase = $phase AND {of} "
    "ORDER BY backward, rank, position LIMIT 100000"
)


class Explorer:
    """The questions about a session's samples."""

    def __init__(self, keeper: Keeper, followers: Followers, maps: Maps) -> None:
        self._keeper = keeper
        self.followers = followers
        self.maps = maps

    async def read(self, live: LiveSession, query: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Ask the session's store."""
        return await self._keeper.read(live, query)

    async def select(self, live: LiveSession, wanted: SelectionRequest) -> Selected:
        """The samples that are meant; where a format is asked for, as a file."""
        terms = parse(wanted.select)
        scope = await self._keeper.read(live, lambda cursor: scope_of(cursor, wanted, live.info.run))

        def answer(cursor: duckdb.DuckDBPyConnection, chosen: Chosen) -> Selected:
            return _answer(cursor, chosen, live.info.id, wanted)

        return await self.look(live, scope, terms, answer, wanted.clusters)

    async def look(
        self, live: LiveSession, scope: Scope, terms: Sequence[Term],
        use: Callable[[duckdb.DuckDBPyConnection, Chosen], T], clusters: int = DEFAULT_CLUSTERS,
    ) -> T:  # fmt: skip
        """Choose what is meant, and have ``use(cursor, chosen)`` look at that state of the store."""
        names = {term.name for term in terms}
        follower = None
        if scope.newest or "region" in names:
            phase = scope.phase if scope.newest else "train"
            follower = await self.followers.of(live, scope.run, phase)
        groups = None
        if "cluster" in names:
            groups = await self.maps.clusters(live, scope.run, clusters)

        def choose(cursor: duckdb.DuckDBPyConnection) -> T:
            known = None if follower is None else _known(cursor, follower, regions="region" in names)
            cursor.begin()  # rows are committed meanwhile, and what was counted and what is shown would differ
            try:
                chosen = Chosen(cursor, scope, known, groups)
                chosen.choose(terms)
                return use(cursor, chosen)
            finally:
                cursor.rollback()

        return await self._keeper.read(live, choose)

    async def suspects(self, live: LiveSession, run: str, limit: int | None, form: str) -> bytes:
        """The table of suspected label errors, the most suspected first."""
        follower = await self.followers.of(live, run, "train")

        def look(cursor: duckdb.DuckDBPyConnection) -> bytes:
            _suspects(cursor, follower, run, limit)
            return tables.render(cursor, Selection("temp.suspects", "true", [], "place", None, timed=False), form)

        return await self._keeper.read(live, look)

    async def history(self, live: LiveSession, run: str, phase: str, sample: int | None, key: str | None) -> History:
        """The presentations of one sample."""
        of, given = ("sample = $sample", {"sample": sample}) if sample is not None else ("key = $key", {"key": key})

        def look(cursor: duckdb.DuckDBPyConnection) -> History:
            rows = cursor.execute(_HISTORY.format(of=of), {"run": run, "phase": phase, **given}).fetchall()
            return History(
                session=live.info.id, run=run, sample=sample, key=key, epoch=[row[0] for row in rows],
                step=[row[1] for row in rows], loss=[json_number(row[2]) for row in rows],
                confidence=[row[3] for row in rows],
            )  # fmt: skip

        return await self._keeper.read(live, look)


def scope_of(cursor: duckdb.DuckDBPyConnection, wanted: SelectionRequest, newest_run: str) -> Scope:
    """Which records are meant; of a test or a scan that is not named, the newest one's."""
    run, evaluation, phase = wanted.run or newest_run, wanted.evaluation, wanted.phase
    there = {column[0] for column in cursor.execute("SELECT * FROM samples LIMIT 0").description or ()}
    if evaluation and "evaluation" not in there:
        raise Refused(f"there is no test or scan {evaluation!r} in this session")
    if evaluation:
        row = cursor.execute("SELECT run, phase FROM samples WHERE evaluation = ? LIMIT 1", [evaluation]).fetchone()
        if row is None:
            raise Refused(f"there is no test or scan {evaluation!r} in this session")
        return Scope(row[0], row[1], evaluation)
    if phase in ("test", "scan") and "evaluation" in there:
        row = cursor.execute("SELECT evaluation FROM samples WHERE run = ? AND phase = ? ORDER BY rowid DESC LIMIT 1",
                             [run, phase]).fetchone()  # fmt: skip
        return Scope(run, phase, (row[0] or "") if row else "")
    return Scope(run, phase, "", wanted.epoch)


def _known(cursor: duckdb.DuckDBPyConnection, follower: Follower, *, regions: bool) -> Known:
    table = follower.table(cursor, "loss_last")
    return Known(table["sample"], table["key"], table["loss_last"], suspects.regions(table) if regions else {})


def _answer(
    cursor: duckdb.DuckDBPyConnection, chosen: Chosen, session: str, wanted: SelectionRequest
) -> Selected:  # fmt: skip
    scope, count = chosen.scope, chosen.count
    phase: Any = scope.phase
    told = Selected(session=session, run=scope.run, phase=phase, evaluation=scope.evaluation, epoch=scope.epoch,
                    select=wanted.select, count=count, says="" if count else nothing(cursor, scope, wanted.select),
                    rows=[])  # fmt: skip
    if wanted.format and not count:
        raise Refused(told.says, "a wider selection")
    if wanted.format and wanted.what == "indices":
        names = chosen.names()
        told.file = base64.b64encode(tables.listed(cursor, names, wanted.format)).decode()
    elif wanted.format:
        query = chosen.rows(wanted.limit)
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE selected AS {query}")
        table = Selection("temp.selected", "true", [], "rowid", None, timed=False)
        told.file = base64.b64encode(tables.render(cursor, table, wanted.format)).decode()
    else:
        cursor.execute(chosen.rows(DEFAULT_ROWS if wanted.limit is None else wanted.limit))
        names = [column[0] for column in cursor.description or ()]
        told.rows = [dict(zip(names, map(json_number, row))) for row in cursor.fetchall()]
    return told


def nothing(cursor: duckdb.DuckDBPyConnection, scope: Scope, text: str) -> str:
    """Why nothing was found."""
    of = f"{scope.evaluation or scope.phase} of run {scope.run}"
    found = cursor.execute("SELECT count(*) FROM (SELECT 1 FROM samples WHERE run = ? AND phase = ? LIMIT 1)",
                           [scope.run, scope.phase]).fetchall()[0][0]  # fmt: skip
    if not found:
        return f"there are no records of samples: {of}"
    where = f"{of}, epoch {scope.epoch}" if scope.epoch is not None else of
    return f"no sample is meant by {text!r}: {where}"


def _suspects(cursor: duckdb.DuckDBPyConnection, follower: Follower, run: str, limit: int | None) -> None:
    """The temporary table ``suspects``."""
    table = follower.table(cursor, "margin")
    if suspects.order_of(table) != "margin":
        table = follower.table(cursor, "loss_mean")
    suspected = suspects.suspected(table)[:limit]
    rows = {name: column[:limit] for name, column in table.items()}
    chosen = Chosen(cursor, Scope(run, "train"), None)
    home = chosen.trained[0] if chosen.trained else ""
    labels, said = _labels(cursor, chosen, home), tags.verdicts(cursor)
    verdicts: list[str | None] = []
    given: list[float | None] = []
    predicted: list[float | None] = []
    issue: list[bool] = []
    words: list[str] = []
    columns = {name: _plain(column) for name, column in rows.items()}
    for place, (sample, key) in enumerate(zip(columns["sample"], columns["key"])):
        name = sample if key is None else key
        verdict = said.get((home, name))
        label, other = labels.get(name, (None, None))
        one = {**{column: values[place] for column, values in columns.items()}, "predicted_label": other}
        one["label_quality"] = one["confidence"]
        verdicts.append(verdict)
        given.append(label)
        predicted.append(other)
        issue.append(verdict == "wrong" or (verdict != "fine" and bool(suspected[place])))
        words.append(suspects.evidence(one))
    added = {"verdict": verdicts, "evidence": words}
    found = {
        **{name: column for name, column in rows.items() if name not in ("epochs", "loss_min", "loss_max")},
        **{name: np.array(values, dtype=object) for name, values in added.items()},
        "given_label": np.array(given, dtype=np.float64), "predicted_label": np.array(predicted, dtype=np.float64),
        "is_label_issue": np.array(issue, dtype=bool),
    }  # fmt: skip
    assert found  # DuckDB finds it under the name of this variable
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE suspects AS SELECT row_number() OVER () AS place, $home AS loader, "
        "CASE WHEN sample >= 0 THEN sample END AS sample, key::VARCHAR AS key, is_label_issue, "
        "confidence AS label_quality, given_label, predicted_label, verdict::VARCHAR AS verdict, margin, variability, "
        "nullif(forgetting, -1)::INTEGER AS forgetting, nullif(learned, -1)::INTEGER AS learned, "
        "count::BIGINT AS count, loss_mean, coalesce(loss_last, 'nan')::DOUBLE AS loss_last, "
        "evidence::VARCHAR AS evidence FROM found",
        {"home": home},
    )


def _labels(
    cursor: duckdb.DuckDBPyConnection, chosen: Chosen, home: str
) -> Mapping[Any, tuple[float | None, float | None]]:
    """Label and newest prediction by name, where records of that data set have them."""
    rows = cursor.execute(chosen.labels(), {"home": home}).fetchall()
    return {sample if sample is not None else key: (target, predicted) for sample, key, target, predicted in rows}


def _plain(column: Any) -> list[Any]:
    """Values with None for what is not known."""
    values = column.tolist()
    if column.dtype.kind == "f":
        return [value if value == value else None for value in values]
    return [None if value == -1 else value for value in values] if column.dtype.kind == "i" else values
