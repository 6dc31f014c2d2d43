"""The tables of a session's store, and how a column of codes becomes words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onthefly.protocol import CERTIFICATES, IDENTITIES, PHASES

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1
"""Raised when an older hub could not read the tables.

Columns that are added at the end (:data:`LATER_COLUMNS`, those of components) leave it as it is: an older hub shows
all rows, and hands the new columns on; it leaves alone a table that it does not know (``journal``, ``answers``,
``health``). What it cannot do is add rows; it says so, and the agent keeps its records.
Another format would have that hub refuse the whole session, and would gain nothing.
"""

STORAGE_VERSION = "v1.2.0"
"""Of the DuckDB file: the newest that the DuckDB of Python 3.9 reads; a file of DuckDB 2.0's own version it cannot."""

TABLES = {
    "samples": (
        "session VARCHAR, run VARCHAR, rank SMALLINT, step BIGINT, epoch INTEGER, backward BIGINT, phase VARCHAR, "
        "loader VARCHAR, position INTEGER, sample BIGINT, key VARCHAR, loss REAL, valid INTEGER, certificate VARCHAR, "
        "identity VARCHAR, time TIMESTAMPTZ, confidence REAL, margin REAL, evaluation VARCHAR, target DOUBLE, "
        "predicted DOUBLE"
    ),
    "backwards": (
        "session VARCHAR, run VARCHAR, rank SMALLINT, step BIGINT, epoch INTEGER, backward BIGINT, phase VARCHAR, "
        "loader VARCHAR, loss DOUBLE, shared DOUBLE, certificate VARCHAR, error DOUBLE, reason VARCHAR, "
        "time TIMESTAMPTZ"
    ),
    "metrics_stored": (
        "session VARCHAR, run VARCHAR, rank SMALLINT, step BIGINT, epoch INTEGER, time TIMESTAMPTZ, name VARCHAR, "
        "value DOUBLE"
    ),
    "logs": "rank SMALLINT, pid BIGINT, time TIMESTAMPTZ, stream VARCHAR, text VARCHAR",
    # Kept as the JSON that is handed out: an entry's columns would have to be altered with each new kind of change.
    "journal": "rank SMALLINT, pid BIGINT, entry VARCHAR",
    "answers": "rank SMALLINT, pid BIGINT, n BIGINT, id VARCHAR, answer VARCHAR",
    # Put on by people, through the hub: of no process. One of each group for a sample (see TagRequest).
    "tags": 'loader VARCHAR, sample BIGINT, key VARCHAR, tag VARCHAR, "by" VARCHAR, time TIMESTAMPTZ',
    "health": "rank SMALLINT, pid BIGINT, result VARCHAR",
    # One row for each time that something is told of an evaluation: the last of a label counts.
    "evaluations": "rank SMALLINT, pid BIGINT, label VARCHAR, entry VARCHAR",
    "embeddings": (
        "run VARCHAR, evaluation VARCHAR, rank SMALLINT, position INTEGER, sample BIGINT, key VARCHAR, vector FLOAT[]"
    ),
    "saved": "rank SMALLINT, pid BIGINT, seq BIGINT, PRIMARY KEY (rank, pid)",
}

LATER_COLUMNS = {
    "samples": {
        "confidence": "REAL", "margin": "REAL", "evaluation": "VARCHAR", "target": "DOUBLE", "predicted": "DOUBLE"
    }
}  # fmt: skip
"""That the tables of older files lack."""

COMPONENT = "loss."
"""Before the name of a loss's component: its column, behind all others, once there is one."""

VIEWS = {
    # The loss of each backward call is in `backwards`; storing it twice would be two truths.
    "metrics": (
        "SELECT session, run, rank, step, epoch, time, name, value FROM metrics_stored UNION ALL "
        "SELECT session, run, rank, step, epoch, time, 'loss', loss FROM backwards WHERE phase = 'train'"
    ),
}


def _words(words: tuple[str, ...], column: str) -> str:
    return f"([{', '.join(repr(word) for word in words)}])[{column}::INTEGER + 1]"


def _number(column: str) -> str:
    # DuckDB reads NaN in a NumPy array as NULL; a loss that is NaN must stay one.
    return f"coalesce({column}, 'nan')"


INSERT_BACKWARDS = f"""
INSERT INTO backwards SELECT $session, $runs[run::INTEGER + 1], rank, step, epoch, backward, {_words(PHASES, "phase")},
    $loaders[loader::INTEGER + 1], {_number("loss")}, {_number("shared")}, {_words(CERTIFICATES, "certificate")},
    {_number("error")},
    $reasons[reason::INTEGER + 1], make_timestamptz(time) FROM columns"""

_SAMPLES = {
    "session": "$session", "run": "$runs[run::INTEGER + 1]", "rank": "rank", "step": "step", "epoch": "epoch",
    "backward": "backward", "phase": _words(PHASES, "phase"), "loader": "$loaders[loader::INTEGER + 1]",
    "position": "position", "sample": "nullif(sample, -1)", "loss": _number("loss"), "valid": "valid",
    "certificate": _words(CERTIFICATES, "certificate"), "identity": _words(IDENTITIES, "identity"),
    "time": "make_timestamptz(time)",
}  # fmt: skip
OPTIONAL = {
    "key": "$keys[key::INTEGER + 1]", "confidence": "confidence", "margin": "margin",
    "evaluation": "$evaluations[evaluation::INTEGER + 1]", "target": "target", "predicted": "predicted",
}  # fmt: skip
"""Columns that not all rows have."""


def insert_samples(more: Iterable[str]) -> str:
    """The statement for rows that have these optional columns too; others stay NULL, as NaN in these does.

    But for components: that of a loss which is NaN must stay one.
    """
    columns = {**_SAMPLES, **{name: OPTIONAL.get(name) or _number(f'"{name}"') for name in more}}
    names = ", ".join(f'"{name}"' for name in columns)
    return f"INSERT INTO samples ({names}) SELECT {', '.join(columns.values())} FROM columns"


def insert_embeddings(width: int) -> str:
    """The statement for embeddings of so many numbers."""
    vector = ", ".join(f"v{place}" for place in range(width))
    return (
        "INSERT INTO embeddings SELECT $runs[run::INTEGER + 1], $evaluations[evaluation::INTEGER + 1], rank, position, "
        f"nullif(sample, -1), $keys[key::INTEGER + 1], [{vector}] FROM columns"
    )


INSERT_METRICS = f"""
INSERT INTO metrics_stored SELECT $session, $runs[run::INTEGER + 1], rank, step, epoch, make_timestamptz(time),
    $names[name::INTEGER + 1], {_number("value")} FROM columns"""

INSERT_LOGS = """
INSERT INTO logs SELECT unnest($ranks), unnest($pids), to_timestamp(unnest($times)), unnest($streams), unnest($texts)"""

INSERT_JOURNAL = "INSERT INTO journal SELECT unnest($ranks), unnest($pids), unnest($entries)"

INSERT_HEALTH = "INSERT INTO health SELECT unnest($ranks), unnest($pids), unnest($results)"

INSERT_ANSWERS = (
    "INSERT INTO answers SELECT unnest($ranks), unnest($pids), unnest($numbers), unnest($ids), unnest($answers)"
)

INSERT_EVALUATIONS = "INSERT INTO evaluations SELECT unnest($ranks), unnest($pids), unnest($labels), unnest($entries)"

INSERT_TAGS = (
    "INSERT INTO tags SELECT unnest($loaders), unnest($samples::BIGINT[]), unnest($keys::VARCHAR[]), unnest($tags), "
    "unnest($who), to_timestamp(unnest($times))"
)

UPSERT_SAVED = "INSERT INTO saved VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq"
