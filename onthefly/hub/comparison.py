"""Runs side by side: the newest test of each on one loader, sample by sample, and what that says in words.

Of the event loop: rows are read in a reader's thread, and computed with in another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from onthefly.errors import Refused, UsageError
from onthefly.hub import evaluations, queries, verdicts
from onthefly.hub.choice import parse
from onthefly.hub.chosen import ADDED, Scope
from onthefly.hub.explore import nothing
from onthefly.hub.paired import Tested, aligned, at, part
from onthefly.protocol import RUN_PATTERN, ComparedRun, Comparison
from onthefly.protocol.runs import MAX_RUNS, MOST_DRAWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

    from onthefly.hub.choice import Term
    from onthefly.hub.columns import Array
    from onthefly.hub.explore import Explorer
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession
    from onthefly.protocol import Branch, ComparedPart, EvaluationInfo

MAX_CLASSES = 100
"""That have a part of their own: those with the most samples."""

_ROWS = """
SELECT loss, certificate <> 'none' AS own, {target} AS target, {predicted} AS predicted, {name} AS name,
    {inside} AS inside
FROM {table} WHERE phase = 'test' AND run = $run AND evaluation = $evaluation ORDER BY samples.rowid"""

_CODES = """
CREATE OR REPLACE TEMP TABLE codes AS SELECT key AS word, min(rowid) AS code FROM samples
WHERE phase = 'test' AND run = $run AND evaluation = $evaluation GROUP BY key"""
"""A number for each key of the first test: NumPy takes a second for what DuckDB does with texts in a tenth of it."""


class Slice(NamedTuple):
    """A part of the samples that somebody asked for."""

    words: str
    terms: Sequence[Term] = ()
    """On the test of the first run;"""
    fork: str = ""
    """or the samples that this run was trained on."""


class Comparer:
    """Answers ``GET .../comparison``."""

    def __init__(self, keeper: Keeper, explorer: Explorer) -> None:
        self._keeper = keeper
        self._explorer = explorer

    async def compare(self, live: LiveSession, runs: Sequence[str], loader: str, select: str) -> Comparison:
        """:class:`~onthefly.errors.OnTheFlyError` where it cannot be told, and why."""
        _check(runs)
        info = live.info
        tests = await self._keeper.read(live, lambda cursor: newest(cursor, info.id, runs, loader))
        part_of = await self._slice(live, select, tests[0].loader)
        if part_of is not None and part_of.terms:
            scope = Scope(runs[0], "test", tests[0].label)

            def look(cursor: duckdb.DuckDBPyConnection, chosen: Any) -> list[Tested]:
                if not chosen.count:
                    raise Refused(nothing(cursor, scope, select), "a wider selection")
                return read(cursor, tests, part_of)

            rows = await self._explorer.look(live, scope, part_of.terms, look)
        else:
            rows = await self._keeper.read(live, lambda cursor: read(cursor, tests, part_of))
        classes = all("accuracy" in one.result for one in tests)
        parts = await asyncio.get_running_loop().run_in_executor(
            None, lambda: parted(rows, classes=classes, sliced=part_of is not None)
        )
        broken = [int((~np.isfinite(one.loss)).sum()) for one in rows]
        return Comparison(
            session=info.id, loader=tests[0].loader, parts=parts, select="" if part_of is None else part_of.words,
            runs=[ComparedRun(run=one.run, evaluation=one.label, step=one.step) for one in tests],
            verdict=verdicts.told(runs, parts, broken),
        )  # fmt: skip

    async def _slice(self, live: LiveSession, select: str, loader: str) -> Optional[Slice]:
        """What is meant: words on the samples that were tested, or the name of a fork."""
        if not select.strip():
            return None
        if not RUN_PATTERN.fullmatch(select):
            terms = parse(select)
            return Slice(select, terms)
        fork = next((one for one in live.info.branches if one.run == select and one.kind == "fork"), None)
        if fork is None:
            raise Refused(f"{select!r} is no fork of this session, and no selection",
                          "the name of a fork, or terms such as worst=100 class=3")  # fmt: skip
        if not fork.samples:
            raise Refused(f"{select} was trained on all samples: it has no slice of its own", "a selection")
        return await self._keeper.read(live, lambda cursor: own_slice(cursor, fork, loader))


def _check(runs: Sequence[str]) -> None:
    for run in runs:
        if not RUN_PATTERN.fullmatch(run):
            raise UsageError(f"{run[:40]!r} is no name of a run", "runs=baseline,fork1")
    if not 2 <= len(runs) <= MAX_RUNS or len(set(runs)) < len(runs):
        raise UsageError(f"from 2 to {MAX_RUNS} different runs are compared", "runs=baseline,fork1")


def newest(cursor: duckdb.DuckDBPyConnection, session: str, runs: Sequence[str], loader: str) -> list[EvaluationInfo]:
    """Of each run the newest test on that loader that has rows; without one, on that of the newest they all have.

    Those in evaluation mode and with the run's own weights count, not those of a checkpoint.
    """
    there = _tested(cursor)
    by_run: dict[str, list[EvaluationInfo]] = {run: [] for run in runs}
    found = [one for one in evaluations.read(cursor, session).evaluations
             if one.kind == "test" and one.mode == "eval" and not one.checkpoint
             and one.run in by_run and (one.run, one.label) in there]  # fmt: skip
    for one in found:
        by_run[one.run].append(one)
    if not loader:
        loaders = [{one.loader for one in tests} for tests in by_run.values()]
        loader = next((one.loader for one in reversed(found) if all(one.loader in each for each in loaders)), "")
    tests: list[EvaluationInfo] = []
    remedy = f"at a pause: onthefly ctl SESSION compare {' '.join(runs)}{' --loader ' + loader if loader else ''}"
    for run, mine in by_run.items():
        if not mine:
            known = {one.name for one in queries.runs(cursor).runs} | {run for run, _ in there}
            raise Refused(f"{run} was never tested" if run in known else f"there is no run {run}", remedy)
    for run, of_all in by_run.items():
        mine = [one for one in of_all if one.loader == loader]
        if not mine:
            raise Refused(f"{run} was never tested on {loader}" if loader else
                          f"there is no loader that {', '.join(runs)} were all tested on", remedy)  # fmt: skip
        if mine[-1].partial:
            raise Refused(f"{mine[-1].label} of {run} is partial: {mine[-1].reason}", remedy)
        tests.append(mine[-1])
    return tests


def _tested(cursor: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
    """Runs and tests that have rows."""
    if "evaluation" not in _columns(cursor):
        return set()
    return set(cursor.execute("SELECT DISTINCT run, evaluation FROM samples WHERE phase = 'test'").fetchall())


def _columns(cursor: duckdb.DuckDBPyConnection) -> set[str]:
    return {column[0] for column in cursor.execute("SELECT * FROM samples LIMIT 0").description or ()}


def own_slice(cursor: duckdb.DuckDBPyConnection, fork: Branch, loader: str) -> Slice:
    """The samples that it was trained on, where the test is of the same data; else its words, on that other data.

    On its own data the words would mean other samples by now: the worst of then are not the worst of today.
    """
    trained = cursor.execute("SELECT loader FROM backwards WHERE phase = 'train' AND loader IS NOT NULL "
                             "GROUP BY loader ORDER BY min(rowid)").fetchall()  # fmt: skip
    if loader == (fork.loader or next((name for (name,) in trained), "")):
        return Slice(f"the samples that {fork.run} was trained on", fork=fork.run)
    try:
        terms = parse(fork.selection)
    except UsageError as error:
        raise Refused(f"what {fork.run} was trained on is not told in words that mean something on {loader}",
                      "a selection") from error  # fmt: skip
    if not terms or any(term.name in ("sample", "key") for term in terms):
        raise Refused(f"{fork.run} was given samples of another loader by name, which mean nothing on {loader}",
                      "a selection")  # fmt: skip
    return Slice(fork.selection, terms)


def read(cursor: duckdb.DuckDBPyConnection, tests: Sequence[EvaluationInfo], part_of: Optional[Slice]) -> list[Tested]:
    """The rows of these tests, paired by sample."""
    there = _columns(cursor)
    more = {name: name if name in there else f"NULL::{kind}" for name, kind in ADDED.items()}
    given = [{"run": one.run, "evaluation": one.label} for one in tests]
    name, table = _identity(cursor, given), "samples"
    if name == "key":
        cursor.execute(_CODES, given[0])
        name, table = "code", "samples JOIN temp.codes ON samples.key = codes.word"
    inside = "false" if part_of is None else "samples.rowid IN (SELECT row FROM temp.chosen)"
    if part_of is not None and part_of.fork:
        inside = "sample IN (SELECT sample FROM samples WHERE run = $fork AND phase = 'train')"
    found: list[Tested] = []
    for place, one in enumerate(given):
        query = _ROWS.format(name=name, table=table, inside="false" if place else inside, **more)
        extra = {"fork": part_of.fork} if "$fork" in query and part_of is not None else {}
        columns = cursor.execute(query, {**one, **extra}).fetchnumpy()
        found.append(_made(one["run"], columns))
    if name == "position":
        _check_places(found)
    rows = aligned(found)
    if part_of is not None and not rows[0].inside.any():
        raise Refused(f"the slice is empty: {part_of.words}", "another one")
    return rows


def _identity(cursor: duckdb.DuckDBPyConnection, given: Sequence[Mapping[str, str]]) -> str:
    """By which column samples are paired."""
    counts = [cursor.execute(
        "SELECT count(*), count(sample), count(key) FROM samples WHERE phase = 'test' AND run = $run AND "
        "evaluation = $evaluation", one,
    ).fetchall()[0] for one in given]  # fmt: skip
    if all(rows == indices for rows, indices, _ in counts):
        return "sample"
    if all(rows == keys for rows, _, keys in counts):
        return "key"
    if len({rows for rows, _, _ in counts}) > 1:
        raise Refused("the samples of these tests are known by no index and no key, and are not equally many",
                      "a data set with indices, or samples that carry a key")  # fmt: skip
    return "position"


def _made(run: str, columns: Mapping[str, Any]) -> Tested:
    """Without the rows that have no loss of their own."""
    own = np.ma.filled(columns["own"], False)
    loss, target, predicted = (_floats(columns[name])[own] for name in ("loss", "target", "predicted"))
    return Tested(run, np.ma.getdata(columns["name"]).astype(np.int64)[own], loss, target, predicted,
                  np.ma.filled(columns["inside"], False)[own])  # fmt: skip


def _floats(column: Any) -> Array:
    return np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)


def _check_places(tests: Sequence[Tested]) -> None:
    """Pairs by position are believed where the labels say nothing against it: a loader may shuffle."""
    first = aligned(tests)
    for one in first[1:]:
        differ = (one.target != first[0].target) & ~np.isnan(one.target) & ~np.isnan(first[0].target)
        if differ.any():
            raise Refused("the samples of these tests are known by no index and no key, and came in another order",
                          "a loader that does not shuffle")  # fmt: skip


def parted(rows: Sequence[Tested], *, classes: bool, sliced: bool) -> list[ComparedPart]:
    """All samples, the slice and the rest, and each class (of more than :data:`MAX_CLASSES` the most frequent)."""
    most = MOST_DRAWN if len(rows[0].loss) <= MOST_DRAWN else MOST_DRAWN // MAX_CLASSES

    def of(name: str, tests: Sequence[Tested]) -> ComparedPart:
        return part(name, tests, classes=classes, most=most)

    found = [of("all", rows)]
    if sliced:
        inside = rows[0].inside
        found.append(of("slice", [at(one, inside) for one in rows]))
        if not inside.all():
            found.append(of("rest", [at(one, ~inside) for one in rows]))
    if classes:
        order = np.argsort(rows[0].target, kind="stable")  # one cut for each class, where a mask would go through all
        ordered = [at(one, order) for one in rows]
        labels, first, counts = np.unique(ordered[0].target, return_index=True, return_counts=True)
        most_frequent = np.argsort(-counts, kind="stable")[:MAX_CLASSES]
        for place in np.sort(most_frequent):
            if not np.isnan(labels[place]):
                cut = slice(first[place], first[place] + counts[place])
                found.append(of(f"class {labels[place]:.0f}", [at(one, cut) for one in ordered]))
    return found
