"""Samples that a selection means, looked up in a session's store; see :mod:`onthefly.hub.choice` for the language.

Without an epoch, each sample of the training counts once, with its newest loss (from the training dynamics: they are in
memory). With one, or of a test or a scan, the rows of the table do. Row numbers are found first, and whole rows fetched
of those that are shown: of ten million, the thousand worst take a tenth of a second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from onthefly.errors import Refused
from onthefly.hub.spread import FINE, Look, Spread, least_above

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

    from onthefly.hub.choice import Term
    from onthefly.hub.columns import Array

PARTS = 48
MORE = 4
"""Rows looked at for each of the k worst: a sample may be in an epoch more than once (ranks, weights)."""

ADDED = {"evaluation": "VARCHAR", "target": "DOUBLE", "predicted": "DOUBLE"}
"""Columns of tests and scans that a store of earlier versions lacks."""

_SAME = "{a}.sample IS NOT DISTINCT FROM {b}.sample AND {a}.key IS NOT DISTINCT FROM {b}.key"
COLUMNS = (
    "run VARCHAR, phase VARCHAR, evaluation VARCHAR, epoch INTEGER, step BIGINT, backward BIGINT, loader VARCHAR, "
    "position INTEGER, sample BIGINT, key VARCHAR, loss REAL, valid INTEGER, certificate VARCHAR, identity VARCHAR, "
    "confidence REAL, margin REAL, target DOUBLE, predicted DOUBLE, tags VARCHAR"
)
"""Of the rows that are shown."""

_SHOWN = ", ".join(column.split()[0] for column in COLUMNS.split(", ")[:-1])


class Scope(NamedTuple):
    """Which records are meant, before any term is looked at."""

    run: str
    phase: str
    evaluation: str = ""
    """Of a test or a scan."""
    epoch: Optional[int] = None
    """None: of a test or a scan; of training, each sample's newest."""

    @property
    def newest(self) -> bool:
        """Each sample's newest record is meant."""
        return self.epoch is None and self.phase in ("train", "valid")


class Known(NamedTuple):
    """What is known of samples beside their records: columns of one length."""

    sample: Array
    """int64; negative where it has a key instead."""
    key: Array
    loss: Array
    """The newest, float32."""
    regions: Mapping[str, Array]
    """Bool; empty unless it was asked for."""


class Chosen:
    """One look at one state of a store."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, scope: Scope, known: Known | None,
                 clusters: Mapping[str, Array] | None = None) -> None:  # fmt: skip
        """``known``: of the training; needed for :attr:`Scope.newest` and for regions."""
        self._cursor, self.scope, self._known, self._clusters = cursor, scope, known, clusters
        self.count = 0
        """Samples that are chosen."""
        there = {column[0] for column in cursor.execute("SELECT * FROM samples LIMIT 0").description or ()}
        more = ", ".join(f"NULL::{kind} AS {name}" for name, kind in ADDED.items() if name not in there)
        self._table = f"(SELECT *, rowid AS row{', ' + more if more else ''} FROM samples)"
        self._has_targets = "target" in there
        trained = cursor.execute("SELECT coalesce(loader, '') FROM backwards WHERE phase = 'train' GROUP BY 1 "
                                 "ORDER BY min(rowid)").fetchall()  # fmt: skip
        self.trained = [name for (name,) in trained]
        first = self.trained[0] if self.trained else ""
        quoted = ", ".join(_quoted(name) for name in [*self.trained, ""])
        self._home = f"CASE WHEN coalesce(loader, '') IN ({quoted}) THEN {_quoted(first)} ELSE loader END"
        """Whose data set: loaders that are trained on count as one, as in the training dynamics."""
        self._given: dict[str, Any] = {"run": scope.run, "phase": scope.phase, "first": first}
        self._where = "run = $run AND phase = $phase"
        if scope.evaluation:
            self._where += " AND evaluation = $evaluation"
            self._given["evaluation"] = scope.evaluation
        if scope.epoch is not None:
            self._where += " AND epoch = $epoch"
            self._given["epoch"] = scope.epoch

    def choose(self, terms: Sequence[Term]) -> int:
        """Find the samples, into the temporary table ``chosen`` (row, home, sample, key, loss); how many there are."""
        self.count = self._choose(terms)
        return self.count

    def _choose(self, terms: Sequence[Term]) -> int:
        worst = next((int(term.ranges[0][0]) for term in terms if term.name == "worst"), None)
        conditions = " AND ".join(["true", *(self._condition(term) for term in terms if term.name != "worst")])
        if self.scope.newest:
            self._run(f"CREATE OR REPLACE TEMP TABLE chosen AS SELECT * FROM {self._pool()} WHERE {conditions} "
                      f"{_order(worst)}")  # fmt: skip
            return self._count("chosen")
        if worst is None:
            self._run(f"CREATE OR REPLACE TEMP TABLE candidates AS SELECT row, home, sample, key, loss FROM "
                      f"{self._pool()} WHERE {conditions}")  # fmt: skip
            return self._distinct(None)
        for limit in (f"LIMIT {MORE * worst}", ""):
            # Row numbers first: with the names of the samples in the same pass it took twice as long.
            self._run(f"CREATE OR REPLACE TEMP TABLE found AS SELECT row FROM {self._pool()} WHERE {conditions} "
                      f"ORDER BY loss DESC {limit}")  # fmt: skip
            self._run(f"CREATE OR REPLACE TEMP TABLE candidates AS SELECT rowid AS row, {self._home} AS home, sample, "
                      "key, loss FROM samples WHERE rowid IN (SELECT row FROM temp.found)")  # fmt: skip
            count = self._distinct(worst)
            if count == worst or self._count("found") < MORE * worst:
                break
        return count

    def _distinct(self, most: int | None) -> int:
        """Each sample once, by its newest record; at most so many, the highest losses."""
        nameless = "CASE WHEN sample IS NULL AND key IS NULL THEN row END"
        self._run(
            "CREATE OR REPLACE TEMP TABLE chosen AS SELECT max(row) AS row, home, sample, key, arg_max(loss, row) AS "
            f"loss FROM temp.candidates GROUP BY home, sample, key, {nameless} {_order(most)}"
        )
        return self._count("chosen")

    def _count(self, table: str) -> int:
        return int(self._cursor.execute(f"SELECT count(*) FROM temp.{table}").fetchall()[0][0])

    def _pool(self) -> str:
        if not self.scope.newest:
            return (f"(SELECT row, {self._home} AS home, sample, key, loss, target, predicted FROM {self._table} "
                    f"WHERE {self._where})")  # fmt: skip
        assert self._known is not None
        self._fill(
            "newest", "NULL::BIGINT AS row, $first AS home", "coalesce(loss, 'nan')::REAL AS loss, "
            "NULL::DOUBLE AS target, NULL::DOUBLE AS predicted",
            sample=self._known.sample, key=self._known.key, loss=self._known.loss,
        )  # fmt: skip
        return "temp.newest"

    def _run(self, statement: str) -> None:
        self._cursor.execute(statement, {name: value for name, value in self._given.items() if f"${name}" in statement})

    def _condition(self, term: Term) -> str:
        found = getattr(self, f"_of_{term.name}")(term)
        return f"NOT coalesce({found}, false)" if term.negated else found

    def _of_loss(self, term: Term) -> str:
        low, high = term.ranges[0]
        # NaN is above all numbers to DuckDB, and so to an open upper end.
        return " AND ".join(["true", *([f"loss >= {low!r}::REAL"] if low > -math.inf else []),
                             *([f"loss <= {high!r}::REAL"] if high < math.inf else [])])  # fmt: skip

    def _of_quantile(self, term: Term) -> str:
        if self.scope.newest:
            assert self._known is not None
            losses = self._known.loss[np.isfinite(self._known.loss)]
            ends = np.quantile(losses.astype(np.float64), term.ranges[0]).tolist() if len(losses) else []
        else:
            given = {name: value for name, value in self._given.items() if f"${name}" in self._where}
            ends = Spread(Look(self._cursor, self._where, given), PARTS * FINE).quantiles(term.ranges[0])
        if not ends:
            return "false"
        # As the column's own kind: blocks of rows that hold nothing are skipped, which a cast of each value prevents.
        # Between two finite ends there is no NaN and no infinity.
        return f"loss >= {least_above(ends[0])!r}::REAL AND loss <= {-least_above(-ends[1])!r}::REAL"

    def _of_class(self, term: Term) -> str:
        """By the label in this record, or in another record of the same sample."""
        self._need("target", "classes of samples are")
        return f"({_inside('target', term)} OR (target IS NULL AND {self._elsewhere('target', term)}))"

    def _of_predicted(self, term: Term) -> str:
        self._need("predicted", "predictions are")
        if self.scope.newest:
            return self._elsewhere("predicted", term)
        return _inside("predicted", term)

    def _need(self, column: str, what: str) -> None:
        query = f"SELECT 1 FROM samples WHERE {column} IS NOT NULL LIMIT 1"
        if not self._has_targets or not self._cursor.execute(query).fetchone():
            raise Refused(f"{what} not recorded in this session", "a test or a scan records them, at a pause")

    def _elsewhere(self, column: str, term: Term) -> str:
        """By the newest other record of that sample that has the column."""
        self._run(
            f"CREATE OR REPLACE TEMP TABLE {column}s AS SELECT {self._home} AS home, sample, key, "
            f"arg_max({column}, rowid) AS value FROM samples WHERE {column} IS NOT NULL GROUP BY ALL"
        )
        return f"({_named()}) IN (SELECT {_named()} FROM temp.{column}s WHERE {_inside('value', term)})"

    def _of_region(self, term: Term) -> str:
        known = self._known
        assert known is not None
        found = np.logical_or.reduce([known.regions[word] for word in term.words])
        self._fill("in_region", "$first AS home", sample=known.sample[found], key=known.key[found])
        return f"({_named()}) IN (SELECT {_named()} FROM temp.in_region)"

    def _of_cluster(self, term: Term) -> str:
        if self._clusters is None:
            raise Refused("there are no clusters: they need embeddings of the samples",
                          "a scan with embeddings of the same loader makes them")  # fmt: skip
        number = self._clusters["cluster"]
        found = np.logical_or.reduce([(number >= low) & (number <= high) for low, high in term.ranges])
        self._fill("in_cluster", "home", **{name: column[found] for name, column in self._clusters.items()})
        return f"({_named()}) IN (SELECT {_named()} FROM temp.in_cluster)"

    def _fill(self, table: str, first: str, last: str = "", **columns: Array) -> None:
        """A temporary table of these columns; a negative ``sample`` has a key instead."""
        assert columns  # found by DuckDB under the name of this variable
        given = {"first": self._given["first"]} if "$first" in first else {}
        self._cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {first}, CASE WHEN sample >= 0 THEN sample END AS sample, "
            f"key::VARCHAR AS key{', ' + last if last else ''} FROM columns", given,
        )  # fmt: skip

    def _of_tag(self, term: Term) -> str:
        self._given["tags"] = list(term.words)
        self._run("CREATE OR REPLACE TEMP TABLE tagged AS SELECT loader AS home, sample, key FROM tags "
                  "WHERE tag IN (SELECT unnest($tags))")  # fmt: skip
        return f"({_named()}) IN (SELECT {_named()} FROM temp.tagged)"

    def _of_sample(self, term: Term) -> str:
        single = [int(low) for low, high in term.ranges if low == high]
        ranges = [(max(low, 0.0), min(high, 2.0**62)) for low, high in term.ranges if low < high]
        parts = [f"sample BETWEEN {low:.0f} AND {high:.0f}" for low, high in ranges]
        if single:
            parts.append(f"sample IN ({', '.join(map(str, single))})")
        return f"({' OR '.join(parts)})"

    def _of_key(self, term: Term) -> str:
        self._given["keys"] = list(term.words)
        return "key IN (SELECT unnest($keys))"

    def rows(self, limit: int | None) -> str:
        """A query for the rows of what was chosen, with their tags; the highest loss first."""
        cut = "" if limit is None else f"LIMIT {limit}"
        self._run(
            "CREATE OR REPLACE TEMP TABLE shown AS SELECT row_number() OVER () AS place, * FROM (SELECT * FROM "
            f"temp.chosen ORDER BY loss DESC, row DESC, sample, key {cut})"
        )
        rows = "" if self.scope.newest else "WHERE row IN (SELECT row FROM temp.shown)"  # which a join alone reads past
        found = f"SELECT samples.*, shown.place, shown.home FROM (FROM {self._table} {rows}) samples JOIN temp.shown"
        if self.scope.newest:
            found += (f" ON {_SAME.format(a='samples', b='shown')} WHERE {self._where} QUALIFY row_number() OVER "
                      "(PARTITION BY place ORDER BY backward DESC, rank DESC, position DESC) = 1")  # fmt: skip
        else:
            found += " ON samples.row = shown.row"
        self._run(f"CREATE OR REPLACE TEMP TABLE whole AS SELECT place, home, {_SHOWN} FROM ({found})")
        return (f"SELECT {_SHOWN}, (SELECT string_agg(tag, ' ' ORDER BY tag) FROM tags WHERE tags.loader = home AND "
                f"{_SAME.format(a='tags', b='whole')}) AS tags FROM temp.whole ORDER BY place")  # fmt: skip

    def labels(self) -> str:
        """A query for sample, key, label and newest prediction of the data set ``$home``."""
        if not self._has_targets:
            return "SELECT NULL, NULL, NULL, NULL WHERE $home IS NULL"
        return (
            "SELECT sample, key, arg_max(target, rowid), arg_max(predicted, rowid) FROM samples WHERE "
            f"{self._home} = $home AND coalesce(target, predicted) IS NOT NULL GROUP BY sample, key"
        )

    def indices(self) -> list[int]:
        """Indices of what was chosen, ascending; Refused where a sample has none."""
        nameless = self._cursor.execute("SELECT count(*) FROM temp.chosen WHERE sample IS NULL").fetchall()[0][0]
        if nameless:
            raise Refused(f"{nameless} of the samples that are meant have no index in the data set",
                          "only samples of a data set with indices can be fetched again")  # fmt: skip
        found = self._cursor.execute("SELECT DISTINCT sample FROM temp.chosen ORDER BY sample").fetchnumpy()
        return np.asarray(found["sample"]).tolist()

    def names(self) -> list[Any]:
        """Indices of what was chosen, ascending, then keys; Refused where one is known by neither."""
        nameless = self._cursor.execute("SELECT count(*) FROM temp.chosen WHERE sample IS NULL AND key IS NULL")
        number = nameless.fetchall()[0][0]
        if number:
            raise Refused(f"{number} of the samples are known by no index and no key", "export the rows instead")
        found = self._cursor.execute("SELECT DISTINCT sample, key FROM temp.chosen ORDER BY sample, key").fetchall()
        return [key if sample is None else sample for sample, key in found]


def _order(most: int | None) -> str:
    """The highest losses first, where only so many are wanted."""
    return "" if most is None else f"ORDER BY loss DESC, row DESC, sample, key LIMIT {most}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _named() -> str:
    """What a sample is called, as one value that is never NULL."""
    return "home || chr(1) || coalesce('i' || sample, 'k' || key)"


def _inside(column: str, term: Term) -> str:
    return f"({' OR '.join(f'{column} BETWEEN {low!r} AND {high!r}' for low, high in term.ranges)})".replace(
        "-inf", "'-inf'::DOUBLE").replace("AND inf", "AND 'inf'::DOUBLE")  # fmt: skip
