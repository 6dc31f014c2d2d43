"""Figures that the tests found, for the docs: collected in the file that ``ONTHEFLY_REPORT`` names."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.watching import Kept, Row


def note(figure: str, **values: Any) -> None:
    """Merge these values into the figure's entry; nothing happens where no report is asked for."""
    name = os.environ.get("ONTHEFLY_REPORT")
    if not name:
        return
    path = Path(name)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        report.setdefault(figure, {}).update(values)
        path.write_text(json.dumps(report, indent=1, sort_keys=True), encoding="utf-8")


def row(kind: str, name: str, *, losses: str, identity: str, certificate: str, reason: str = "") -> None:
    """Put one line into the table of ``docs/fidelity.md``, in the words that stand there.

    Args:
        kind: which part of the table: ``loop``, ``loss``, ``framework``, ...
        name: what was run, said to a person.
        losses: whether each sample's loss is there: ``all``, ``none``, ``8 of 9 calls``.
        identity: how samples are known: ``index``, ``stream``, ``key``, ``none``.
        certificate: ``exact``, ``approximate``, ``none``.
        reason: why it is no better, if it is not exact with an index.
    """
    cells = {"losses": losses, "identity": identity, "certificate": certificate, "reason": reason}
    note("fidelity", **{f"{kind}: {name}": {"kind": kind, "name": name, **cells}})


def seen(kind: str, name: str, found: Kept | list[Row]) -> None:
    """A line of that table with what a watched run really recorded; call it when the comparison has succeeded.

    Of a whole run (``Kept``) there are notices, too, which say why samples have no index. Of reasons that differ in
    their numbers only, one stands for all.
    """
    calls, notices = (found, []) if isinstance(found, list) else (found.rows(), found.notices())
    read = [call for call in calls if call.certificate != "none"]
    reasons = {call.reason for call in calls if call.certificate == "none"}
    if not calls:
        reasons.add("there was no backward call")
    if any(call.identity == "none" for call in read):
        reasons |= {text.partition(": ")[2] for text in notices if text.startswith("samples have no index")}
    row(
        kind, name,
        losses="all" if read and len(read) == len(calls) else f"{len(read)} of {len(calls)} calls" if read else "none",
        identity=_mixed(call.identity for call in read),
        certificate=_mixed(call.certificate for call in calls),
        reason="; ".join(sorted({re.sub(r"\d+", "", reason): reason for reason in sorted(reasons)}.values())),
    )  # fmt: skip


def _mixed(words: Iterable[str]) -> str:
    """The word that all share; else each with its number."""
    counts = Counter(words)
    if len(counts) < 2:
        return next(iter(counts), "none")
    return ", ".join(f"{word} ({number})" for word, number in counts.most_common())
