"""What checks of a run's health have found: rows of a session's store, and what ranks say of the same put together.

Kept as the JSON that is handed out, checked when it comes, as the journal is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from onthefly.hub.columns import BadColumns
from onthefly.protocol import Checked, HealthResult, HealthResults, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb

    from onthefly.hub.store import Source

MAX_RESULT = 256 * 1024
"""Bytes of one result."""

MAX_TEXT, MAX_ROWS, MAX_VALUES = 2000, 500, 100
DISTRIBUTION = "distribution"
"""The check whose results of several ranks are compared here: no rank sees another's."""

_results = msgspec.json.Decoder(HealthResult)


def rows(frames: Iterable[tuple[Source, Any]]) -> dict[str, list[Any]]:
    """Parameters of the INSERT for the results among these frames; ``BadColumns`` for what cannot be told."""
    found = [(source, _text(message.result)) for source, message in frames if isinstance(message, Checked)]
    return {
        "ranks": [source.rank for source, _ in found], "pids": [source.pid for source, _ in found],
        "results": [text for _, text in found],
    }  # fmt: skip


def _text(result: HealthResult) -> str:
    """Short enough, and with no number that JSON lacks."""
    if not math.isfinite(result.time):
        raise BadColumns("a result without a time")
    for name in ("check", "says", "do", "run", "by"):
        setattr(result, name, getattr(result, name)[:MAX_TEXT])
    result.numbers = _bounded(result.numbers)
    result.rows = [_bounded(row) for row in result.rows[:MAX_ROWS]]
    try:
        text = msgspec.json.encode(result)
        _results.decode(text)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise BadColumns(f"a result that cannot be told: {error}") from error
    if len(text) > MAX_RESULT:
        raise BadColumns(f"a result of {len(text)} bytes is over the limit of {MAX_RESULT}")
    return text.decode()


def _bounded(values: dict[str, Value]) -> dict[str, Value]:
    return {name[:MAX_TEXT]: _told(value) for name, value in list(values.items())[:MAX_VALUES]}


def _told(value: Value) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value[:MAX_TEXT] if isinstance(value, str) else value


def read(cursor: duckdb.DuckDBPyConnection, session: str) -> HealthResults:
    """All results in the order in which they were committed; where several ranks said the same, one for all."""
    found: list[HealthResult] = []
    compared: dict[tuple[Any, ...], list[HealthResult]] = {}
    for rank, text in cursor.execute("SELECT rank, result FROM health ORDER BY rowid").fetchall():
        result = _results.decode(text)
        result.rank = rank
        if result.check == DISTRIBUTION:
            alike = compared.setdefault((result.run, result.step, result.examination), [])
            alike.append(result)
            if len(alike) > 1:
                continue
        found.append(result)
    for place, result in enumerate(found):
        ranks = compared.get((result.run, result.step, result.examination), ())
        if result.check == DISTRIBUTION and len(ranks) > 1:
            found[place] = agreement(sorted(ranks, key=lambda one: one.rank))  # they came in any order
    return HealthResults(session=session, results=found)


def agreement(ranks: Sequence[HealthResult]) -> HealthResult:
    """What hashes of all ranks say: structure, weights and buffers must be the same, the samples must not.

    ``ranks``: one result of each, of one moment.
    """
    others = {name: _different(ranks, name) for name in ("structure", "weights", "buffers")}
    samples = [result.numbers.get("samples") for result in ranks]
    same_samples = None not in samples and len(set(samples)) == 1
    numbers: dict[str, Value] = {"ranks": len(ranks), "same_samples": same_samples}
    numbers.update({f"{name}_differs": ", ".join(map(str, which)) or None for name, which in others.items()})
    rows: list[dict[str, Value]] = [{"rank": result.rank, **result.numbers} for result in ranks]
    verdict, says, do = "good", f"{len(ranks)} ranks have the same structure and weights", ""
    if others["structure"]:
        verdict, says = "bad", f"models have another structure on rank {_listed(others['structure'])}"
        do = "build the same model on every rank: the gradients of others are averaged into it"
    elif others["weights"]:
        verdict, says = "bad", f"weights differ on rank {_listed(others['weights'])} from those of rank {ranks[0].rank}"
        do = "wrap the model in DistributedDataParallel, or send the weights of rank 0 to all (broadcast) at the start"
    elif same_samples:
        verdict, says = "warning", f"all {len(ranks)} ranks train on the same samples"
        do = "give the loader a DistributedSampler, and call its set_epoch"
    elif others["buffers"]:
        verdict, says = "warning", f"buffers (running statistics) differ on rank {_listed(others['buffers'])}"
        do = "use SyncBatchNorm, or evaluate and save on one rank only"
    elif None in samples:
        says += "; which samples each trains on is not known"
    else:
        says += ", and train on different samples"
    return msgspec.structs.replace(
        ranks[0], verdict=verdict, says=says, do=do, numbers=numbers, rows=rows, rank=ranks[0].rank
    )


def _different(ranks: Sequence[HealthResult], name: str) -> list[int]:
    """Ranks whose hash is another than the first's; what is not known on either side says nothing."""
    first = ranks[0].numbers.get(name)
    return [
        result.rank for result in ranks[1:]
        if first is not None and result.numbers.get(name) not in (None, first)
    ]  # fmt: skip


def _listed(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
