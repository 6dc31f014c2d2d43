"""The routes: one table, from which they are registered and :mod:`onthefly.hub.openapi` describes them."""

from __future__ import annotations

from typing import Any, NamedTuple

from onthefly.hub import tables
from onthefly.hub.auth import ENTRY_ROUTE, UPLOAD_ROUTE
from onthefly.hub.dynamics import ORDERS
from onthefly.hub.logs import MAX_ENTRIES
from onthefly.hub.maps import DEFAULT_POINTS as DEFAULT_MAPPED
from onthefly.hub.maps import MAX_POINTS as MAX_MAPPED
from onthefly.hub.maps import METHODS
from onthefly.protocol import (
    PHASES,
    RUN_PATTERN,
    Admitted,
    Answer,
    CommandRequest,
    Comparison,
    Evaluations,
    ExportRequest,
    HealthResults,
    Histogram,
    History,
    HubStatus,
    ImportRequest,
    Journal,
    Logs,
    Losses,
    OriginRequest,
    Pass,
    PassRequest,
    PinRequest,
    Runs,
    SampleMap,
    Selected,
    SelectionRequest,
    Session,
    Sessions,
    Staged,
    StageRequest,
    Storage,
    TagRequest,
    Tags,
)  # fmt: skip

MAX_POINTS = 20_000
MAX_NUMBER = 999_999_999
"""Of a command."""

MAX_LOSSES = 1000
DEFAULT_POINTS, DEFAULT_BINS, DEFAULT_ENTRIES = 2000, 48, 500
MAX_ROW = 1 << 53


class Parameter(NamedTuple):
    """What stands in the path or after the question mark."""

    name: str
    schema: dict[str, Any]
    text: str
    where: str = "query"


class Route(NamedTuple):
    """A route; ``name`` is the method of :class:`~onthefly.hub.api.Api` that answers it."""

    method: str
    path: str
    name: str
    text: str
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    """A type of the protocol, in JSON."""
    answer: Any = None
    """A type of the protocol, or the words that :mod:`onthefly.hub.openapi` knows: ``empty``, ``page``, ``file``,
    ``report``,    ``bundle``, ``socket``, ``done``, ``document``, ``series``, or the name of a table."""
    faults: tuple[int, ...] = ()
    """Beside those that every route has."""


def _whole(low: int, high: int, default: int | None = None) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else {**schema, "default": default}


def _word(known: Any, default: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "enum": list(known)}
    return schema if default is None else {**schema, "default": default}


_ID = Parameter("id", {"type": "string", "minLength": 1}, "Id of a session, a unique prefix of one, or `last`.", "path")
_RUN = Parameter("run", {"type": "string", "pattern": f"^{RUN_PATTERN.pattern}$"}, "Name of a run.")
_PHASE = Parameter("phase", _word(PHASES, "train"), "Of training, validation, a test or a scan.")
_RANK = Parameter("rank", _whole(0, (1 << 15) - 1), "Only this process.")
_FORMAT = Parameter("format", _word(tables.TYPES, "json"), "Feather (`arrow`) needs pyarrow where the hub runs.")
_LIMIT = Parameter("limit", _whole(0, tables.MAX_NUMBER), "At most so many rows.")
_EPOCH = Parameter("epoch", {"type": "string", "pattern": r"^([0-9]{1,12}|[0-9]{0,12}:[0-9]{0,12})$"},
                   "One epoch, or `A:B`.")  # fmt: skip
_FILTERS = (_RUN, _RANK, _EPOCH, _LIMIT, _FORMAT)
_AFTER = "A cursor that the last answer gave: only what came since."

_SESSION = "/api/v1/sessions/{id}"

ROUTES = (
    Route("GET", "/healthz", "health", "The hub lives; with a nonce, the proof that it is that of hub.json.",
          (Parameter("nonce", {"type": "string", "pattern": "^([0-9a-f]{2}){0,64}$"}, "In hex."),), answer="empty"),
    Route("GET", "/", "shell", "The dashboard's page; it carries no data.",
          (Parameter("pass", {"type": "string"}, "For a frame in a notebook."),), answer="page", faults=(503,)),
    Route("GET", "/assets/{name}", "asset", "A file of the dashboard.",
          (Parameter("name", {"type": "string", "minLength": 1}, "Its name.", "path"),), answer="file", faults=(404,)),
    Route("GET", "/api/v1/ws", "socket", "The WebSocket: subprotocols `onthefly.v1` and `onthefly.token.<token>`.",
          answer="socket"),
    Route("GET", "/api/v1/openapi.json", "openapi", "This document.", answer="document"),
    Route("POST", "/api/v1/passes", "passes", "A pass for a frame of a notebook.", body=PassRequest, answer=Pass),
    Route("POST", "/api/v1/token", ENTRY_ROUTE, "The token for a pass, once: from the page itself, without the token.",
          body=Pass, answer=Admitted, faults=(409,)),
    Route("GET", "/api/v1/sessions", "sessions", "All sessions, newest start first.", answer=Sessions),
    Route("GET", _SESSION, "session", "One session.", (_ID,), answer=Session),
    Route("DELETE", _SESSION, "remove", "Delete a session that has ended, with its records.", (_ID,), answer="done",
          faults=(409,)),
    Route("GET", f"{_SESSION}/runs", "runs", "The runs of a session.", (_ID,), answer=Runs, faults=(409,)),
    Route("GET", f"{_SESSION}/metrics", "metrics",
          "With `points`: one metric as a series for a chart, in at most so many buckets. Without: the table.",
          (_ID, Parameter("name", {"type": "string"}, "Of the metric; of a series `loss` where none is named."),
           Parameter("points", _whole(1, MAX_POINTS), "Of the series."),
           Parameter("after", _whole(0, MAX_ROW), f"Of the series. {_AFTER}"), *_FILTERS),
          answer="series", faults=(409,)),
    Route("GET", f"{_SESSION}/backwards", "backwards", "The table of backward calls.", (_ID, _PHASE, *_FILTERS),
          answer="backwards", faults=(409,)),
    Route("GET", f"{_SESSION}/samples", "samples", "The table of per-sample records.",
          (_ID, _PHASE, Parameter("order", _word(["worst"]), "Highest losses first."),
           Parameter("evaluation", {"type": "string"}, "Of this test or scan, as `test_1`."), *_FILTERS),
          answer="samples", faults=(409,)),
    Route("GET", f"{_SESSION}/dynamics", "dynamics", "How each sample of a run was learned, worst first.",
          (_ID, _RUN, _PHASE, Parameter("order", _word(ORDERS, "loss_mean"), "By what."), _LIMIT, _FORMAT),
          answer="dynamics", faults=(409,)),
    Route("GET", f"{_SESSION}/histogram", "histogram", "The per-sample losses of one epoch.",
          (_ID, _RUN, _PHASE, Parameter("epoch", _whole(0, (1 << 31) - 1), "The newest if none is named."),
           Parameter("bins", _whole(1, 500, DEFAULT_BINS), "How many.")), answer=Histogram, faults=(409,)),
    Route("GET", f"{_SESSION}/selection", "selection", "The samples that a selection means, the highest loss first.",
          (_ID, Parameter("select", {"type": "string", "maxLength": 1000}, "Terms, as `loss=2: !tag=label:fine`."),
           _RUN, _PHASE, Parameter("evaluation", {"type": "string", "maxLength": 100}, "Which test or scan."),
           Parameter("epoch", _whole(0, (1 << 31) - 1), "Losses of that epoch; else each sample's newest."),
           _LIMIT, _FORMAT), answer="selection", faults=(409,)),
    Route("POST", f"{_SESSION}/selection", "select", "The same for long selections: rows in JSON, or a file.", (_ID,),
          body=SelectionRequest, answer=Selected, faults=(409,)),
    Route("GET", f"{_SESSION}/suspects", "suspects",
          "Suspected label errors, the most suspected first, with the evidence; cleanlab reads the columns.",
          (_ID, _RUN, _LIMIT, _FORMAT), answer="suspects", faults=(409,)),
    Route("GET", f"{_SESSION}/history", "history", "All presentations of one sample.",
          (_ID, _RUN, _PHASE, Parameter("sample", _whole(0, MAX_ROW), "Its index in the data set."),
           Parameter("key", {"type": "string"}, "Or the key that it carries.")), answer=History, faults=(409,)),
    Route("GET", f"{_SESSION}/tags", "tags", "Tags of samples, in the order in which they were put on.",
          (_ID, Parameter("tag", {"type": "string"}, "Only this one."), _LIMIT), answer=Tags, faults=(409,)),
    Route("POST", f"{_SESSION}/tags", "tag", "Put a tag on samples, in the place of another one of its group.", (_ID,),
          body=TagRequest, answer=Tags, faults=(409,)),
    Route("DELETE", f"{_SESSION}/tags", "untag", "Take a tag off samples.", (_ID,), body=TagRequest, answer=Tags,
          faults=(409,)),
    Route("GET", f"{_SESSION}/map", "map", "Embeddings in two dimensions, and clusters, the highest mean loss first.",
          (_ID, _RUN, Parameter("evaluation", {"type": "string", "maxLength": 100}, "Which scan; else the newest."),
           Parameter("method", _word(METHODS, "pca"), "UMAP needs the extra `explorer` where the hub runs."),
           Parameter("clusters", _whole(1, 64, 8), "How many (k-means)."),
           Parameter("points", _whole(1, MAX_MAPPED, DEFAULT_MAPPED), "At most so many: else every n-th.")),
          answer=SampleMap, faults=(409,)),
    Route("GET", f"{_SESSION}/logs", "logs", "A page of what the script wrote.",
          (_ID, Parameter("after", _whole(0, MAX_ROW), _AFTER),
           Parameter("before", _whole(0, MAX_ROW), "Only rows before that."),
           Parameter("limit", _whole(1, MAX_ENTRIES, DEFAULT_ENTRIES), "At most so many."),
           Parameter("search", {"type": "string"}, "Only entries with this text (letter case ignored).")),
          answer=Logs, faults=(409,)),
    Route("GET", f"{_SESSION}/losses", "losses",
          "What backward calls propagated, bit for bit, up to the first change that somebody made.",
          (_ID, _RUN, Parameter("first", _whole(0, MAX_ROW, 0), "Number of the first of them."),
           Parameter("limit", _whole(1, MAX_LOSSES, MAX_LOSSES), "At most so many.")), answer=Losses, faults=(409,)),
    Route("GET", f"{_SESSION}/journal", "journal", "What was changed, in the order in which it was done.", (_ID, _RANK),
          answer=Journal, faults=(409,)),
    Route("GET", f"{_SESSION}/health", "checks", "What checks of the run's health have found, in the order in which "
          "they did; of ranks that were compared, one result for all.", (_ID,), answer=HealthResults, faults=(409,)),
    Route("GET", f"{_SESSION}/report", "report", "A run as one HTML file, which opens without server and network.",
          (_ID,), answer="report", faults=(409,)),
    Route("GET", f"{_SESSION}/evaluations", "evaluations", "Tests and scans, and what came of each.", (_ID,),
          answer=Evaluations, faults=(409,)),
    Route("GET", f"{_SESSION}/comparison", "comparison",
          "Runs side by side on the same samples: the newest test of each on one loader, with rows.",
          (_ID, Parameter("runs", {"type": "string"}, "`baseline,fork1`: the others are compared with the first."),
           Parameter("loader", {"type": "string"}, "Else that of the newest test they all have."),
           Parameter("select", {"type": "string"}, "The slice: terms, or the name of a fork.")),
          answer=Comparison, faults=(409,)),
    Route("POST", f"{_SESSION}/export", "export", "The session as one file, a bundle (`.otf`).", (_ID,),
          body=ExportRequest, answer="bundle", faults=(409,)),
    Route("POST", f"{_SESSION}/stage", "stage",
          "Everything of a bundle but checkpoints, in a folder, for a process of this machine that puts it together.",
          (_ID,), body=StageRequest, answer=Staged, faults=(409,)),
    Route("POST", "/api/v1/import", UPLOAD_ROUTE,
          "A bundle becomes a session, in state `imported`: the file itself as application/zip, or as JSON the id of "
          "one that was put into the data folder.",
          (Parameter("trust", _word(["no", "yes"], "no"), "Take a bundle with pickled parts, too."),),
          body=ImportRequest, answer=Session, faults=(404, 409)),
    Route("POST", f"{_SESSION}/pin", "pin", "Keep a session whatever the budget, or no longer.", (_ID,),
          body=PinRequest, answer=Session, faults=(409,)),
    Route("GET", "/api/v1/storage", "storage", "What all sessions take on the disk.", answer=Storage),
    Route("GET", "/api/v1/hub", "hub", "The hub itself.", answer=HubStatus),
    Route("POST", "/api/v1/origins", "origins", "Answer behind a proxy, too.", body=OriginRequest, answer="done"),
    Route("POST", f"{_SESSION}/commands", "command",
          "Hand a command to the script, and wait a little for its answer. The same id gets the same answer.",
          (_ID,), body=CommandRequest, answer=Answer),
    Route("GET", f"{_SESSION}/commands/{{n}}", "answer", "What became of a command.",
          (_ID, Parameter("n", _whole(0, MAX_NUMBER), "Its number.", "path")), answer=Answer),
)  # fmt: skip
