"""How the finite losses of some rows are spread: counts in equal parts of their range, and exact quantiles.

Two passes over the rows and plain arithmetic: sorting ten million losses takes a second, counting them in parts 0.1 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from onthefly.hub.columns import Array

FINE = 64
"""Parts of a bin of a histogram: the values of one part are few enough to be put in order."""

_PART = "floor((loss - $low) * $scale)::INTEGER"


class Look:
    """Queries about the rows of one epoch."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, where: str, given: dict[str, Any]) -> None:
        self._cursor = cursor
        self._where = where
        self._given = given

    def rows(self, what: str, table: str, more: str = "", **given: Any) -> list[Any]:
        """``SELECT what FROM table WHERE ... more``."""
        query = f"SELECT {what} FROM {table} WHERE {self._where} {more}"
        return self._cursor.execute(query, {**self._given, **given}).fetchall()

    def columns(self, what: str, table: str, more: str = "", **given: Any) -> dict[str, Any]:
        """The same as arrays."""
        query = f"SELECT {what} FROM {table} WHERE {self._where} {more}"
        return self._cursor.execute(query, {**self._given, **given}).fetchnumpy()

    def value(self, what: str, table: str, more: str = "") -> Any:
        """The one value of a query."""
        return self.rows(what, table, more)[0][0]

    def words(self, column: str, words: tuple[str, ...], count: int) -> dict[str, int]:
        """How many of ``count`` rows hold which word; the first is the usual one and gets what is left."""
        others = dict(self.rows(f"{column}, count(*)", "samples", f"AND {column} <> '{words[0]}' GROUP BY {column}"))
        usual = count - sum(others.values())
        return {words[0]: usual, **others} if usual else others


class Spread:
    """The finite losses, counted in equal parts of their range."""

    def __init__(self, look: Look, number: int) -> None:
        self._look = look
        low, high = look.rows("min(loss), max(loss)", "samples")[0]
        self._finite = ""
        if not (_is_finite(low) and _is_finite(high)):
            self._finite = "AND isfinite(loss)"
            low, high = look.rows("min(loss), max(loss)", "samples", self._finite)[0]
        self.low, self.high = float(low or 0.0), float(high or 0.0)
        self._scale = number / ((self.high - self.low) or 1.0)
        self.counts = [0] * number
        for place, count in look.rows(
            f"{_PART} AS part, count(*)", "samples", f"{self._finite} GROUP BY part",
            low=self.low, scale=self._scale,
        ):  # fmt: skip
            self.counts[min(place, number - 1)] += count  # the highest value opens a part of its own

    def quantiles(self, at: Sequence[float]) -> list[float]:
        """The values below which these shares of the losses lie; between two losses, on the line between them.

        As ``numpy.quantile`` has them; empty where no loss is finite. Only the values of the parts that hold them are
        fetched, in one pass, and put in order.
        """
        count = sum(self.counts)
        if not count:
            return []
        ranks = np.asarray(at) * (count - 1)
        low, high = np.floor(ranks).astype(np.int64), np.ceil(ranks).astype(np.int64)
        places = {int(rank): self._place(int(rank)) for rank in np.concatenate((low, high))}
        ends = {0: self.low, count - 1: self.high}  # of these the values are known
        parts = sorted({part for rank, (part, _) in places.items() if rank not in ends})
        before = dict(zip(parts, np.cumsum([0, *(self.counts[part] for part in parts)]).tolist()))
        found = {rank: before[part] + rank - below for rank, (part, below) in places.items() if rank not in ends}
        values = np.partition(self._values(parts), sorted(set(found.values()))) if parts else np.empty(0)
        known = {**{rank: float(values[place]) for rank, place in found.items()}, **ends}
        first, second = (np.array([known[int(rank)] for rank in ranked]) for ranked in (low, high))
        return (first + (second - first) * (ranks - low)).tolist()

    def _values(self, parts: list[int]) -> Array:
        """The losses in these parts."""
        last = [len(self.counts)] if parts[-1] == len(self.counts) - 1 else []  # which has the highest value
        inside = f"{_PART} IN ({', '.join(map(str, [*parts, *last]))})"
        near: dict[str, float] = {}
        if len(parts) == 1:
            # A range a little wider than the part: the column is compared as it is stored, blocks that hold nothing are
            # skipped, and few values are asked for their part. That takes a third of the time; of several ranges, more.
            first, after = (self.low + place / self._scale for place in (parts[0] - 0.01, parts[0] + 1.01))
            inside = f"loss >= $first::REAL AND loss <= $after::REAL AND {inside}"
            near = {"first": -least_above(-first), "after": least_above(after)}
        given = {"low": self.low, "scale": self._scale, **near}
        return self._look.columns("loss", "samples", f"{self._finite} AND {inside}", **given)["loss"]

    def _place(self, rank: int) -> tuple[int, int]:
        """The part with the value that has ``rank`` below it, and how many are below that part."""
        part = below = 0
        while below + self.counts[part] <= rank:
            below += self.counts[part]
            part += 1
        return part, below


def least_above(value: float) -> float:
    """The least number of 32 bits, as losses are stored, that is not below that."""
    near = np.float32(value)
    return float(near if near >= value else np.nextafter(near, np.float32(np.inf)))


def _is_finite(value: Optional[float]) -> bool:
    return value is not None and abs(value) < float("inf")
