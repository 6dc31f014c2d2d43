"""The flight record: what is needed to understand, and to do again, the step in which a number was lost.

As plain data (numbers, texts, lists, dictionaries), which every JSON reader takes: bytes are base64, and what JSON has
no number for is the text ``nan``, ``inf`` or ``-inf``.
"""

from __future__ import annotations

import base64
import json
import math
from array import array
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.alarms.finding import Finding
from onthefly.alarms.origin import Event
from onthefly.protocol import IDENTITIES

if TYPE_CHECKING:
    from onthefly.protocol import Records

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Batch(NamedTuple):
    """What a record says about the batch of one backward call."""

    step: int
    epoch: int
    backward: int
    loader: str
    """Empty where no loader gave it."""
    loss: float
    samples: list[int]
    """Index of each sample in the root dataset, in the order of the batch; empty where they have none."""
    keys: list[str]
    """Or what each is called."""
    losses: list[float]
    """Of each sample; empty where they are not known."""


def batch_of(records: Records, backward: int) -> Batch | None:
    """The batch of that backward call, if this block has it."""
    calls = array("q", records.backward)
    if backward not in calls:
        return None
    row, counts = calls.index(backward), array("i", records.count)
    start = sum(counts[:row])
    end = start + counts[row]
    loader = array("h", records.loader)[row]
    identity = IDENTITIES[records.identity[row]]
    keys = array("i", records.key)[start:end]
    return Batch(
        step=array("q", records.step)[row],
        epoch=array("i", records.epoch)[row],
        backward=backward,
        loader=records.loaders[loader] if loader >= 0 else "",
        loss=array("d", records.loss)[row],
        samples=list(array("q", records.sample)[start:end]) if identity in ("index", "stream") else [],
        keys=[records.keys[key] if key >= 0 else "" for key in keys] if identity == "key" else [],
        losses=list(array("f", records.sample_loss)[start:end]),
    )


@dataclass(frozen=True)
class FlightRecord:
    """One finding, and the step it is about."""

    finding: Finding
    batches: tuple[Batch, ...]
    """Of the step: several with accumulation."""
    position: int
    """How many batches of its epoch the loader had given before the first of them; -1 where that is not known."""
    random_states: dict[str, bytes]
    """Before the step, by generator: ``python``, ``numpy``, ``torch``, ``cuda:0``, ..."""
    origin: Event | None
    """The first operation that gave a number that is not finite; None where it was not looked for."""
    replay: str
    """The command that does this step again."""
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "finding": _plain(asdict(self.finding)),
            "batches": [_plain(batch._asdict()) for batch in self.batches],
            "position": self.position,
            "random_states": {
                name: base64.b64encode(state).decode("ascii") for name, state in self.random_states.items()
            },
            "origin": None if self.origin is None else {**_plain(asdict(self.origin)), "text": self.origin.text},
            "replay": self.replay,
            "versions": dict(self.versions),
        }

    def to_json(self) -> str:
        """As standard JSON, without its additions for infinite numbers."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> FlightRecord:
        """From :meth:`to_dict`; ``KeyError``, ``TypeError`` or ``ValueError`` if it is none."""
        finding, origin = dict(given["finding"]), given["origin"]
        finding["numbers"] = {name: _number(value) for name, value in finding["numbers"].items()}
        if origin is not None:
            origin = {name: value for name, value in origin.items() if name != "text"}
            origin["shape"] = tuple(origin["shape"])
        return cls(
            finding=Finding(**finding),
            batches=tuple(
                Batch(**batch)._replace(loss=_number(batch["loss"]), losses=[_number(one) for one in batch["losses"]])
                for batch in given["batches"]
            ),
            position=given["position"],
            random_states={
                name: base64.b64decode(state, validate=True) for name, state in given["random_states"].items()
            },
            origin=None if origin is None else Event(**origin),
            replay=given["replay"],
            versions=dict(given["versions"]),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _number(value: float | str) -> float:
    return _FLOATS[value] if isinstance(value, str) else float(value)
