"""What clients ask about single samples, and what they are told: selections, tags, maps, histories."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional, Union  # msgspec evaluates these, on Python 3.9 too

import msgspec

from onthefly.protocol.words import RUN_PATTERN, Phase

MAX_TAGGED = 100_000
"""Samples in one request."""

TAG_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_.-]{1,64})?"

TagName = Annotated[str, msgspec.Meta(pattern=f"^{TAG_PATTERN}$(?!\\n)")]
"""``hard``; or ``label:wrong``: a sample has one tag of each group (what stands before the colon)."""

VERDICTS = ("label:wrong", "label:fine", "label:unsure")
"""What a review of a label may say."""


class Lost(msgspec.Struct, kw_only=True):
    """Backward calls whose samples were not captured, by reason."""

    reason: str
    backwards: int


class Histogram(msgspec.Struct, kw_only=True):
    """``GET .../histogram?run&epoch&phase&bins``: the per-sample losses of one epoch (default: the newest)."""

    session: str
    run: str
    phase: Phase
    epoch: int
    count: int
    """Samples counted, non-finite ones included."""
    nonfinite: int
    low: float
    high: float
    edges: list[float]
    """One more than ``counts``."""
    counts: list[int]
    median: Optional[float]
    quantiles: dict[str, float] = {}
    """Losses by share below them: ``0.01 0.05 0.25 0.5 0.75 0.95 0.99``."""
    certificates: dict[str, int]
    """Samples by certificate."""
    identities: dict[str, int]
    """Samples by identity."""
    lost: list[Lost]
    """Backward calls of this epoch without samples."""
    phases: list[Phase] = []
    """Of which this run has records: ``valid`` is the script's own validation."""


class TagRequest(msgspec.Struct, kw_only=True):
    """``POST`` (put on) or ``DELETE`` (take off) ``/api/v1/sessions/{id}/tags``."""

    tag: TagName
    samples: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]], msgspec.Meta(max_length=MAX_TAGGED)] = []
    """By index in the data set."""
    keys: Annotated[list[Annotated[str, msgspec.Meta(max_length=1000)]], msgspec.Meta(max_length=MAX_TAGGED)] = []
    """By a key that they carry."""
    loader: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """Of whose data set; empty: of the one that is trained on."""
    by: Annotated[str, msgspec.Meta(max_length=100)] = ""


class Tag(msgspec.Struct, kw_only=True):
    """One sample's."""

    loader: str
    sample: Optional[int]
    key: Optional[str]
    tag: str
    by: str
    time: float


class Tags(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions/{id}/tags``, in the order in which they were put on; and what a change has done."""

    session: str
    tags: list[Tag]
    counts: dict[str, int]
    """Samples by tag."""
    changed: int = 0
    """By the request: samples that have it now and had not, or the other way round."""


class SelectionRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/sessions/{id}/selection``."""

    select: Annotated[str, msgspec.Meta(max_length=60_000)] = ""
    """Terms side by side, which must all hold: ``loss=2: class=3,5 !tag=label:fine worst=100``; empty: all samples."""
    run: Annotated[str, msgspec.Meta(pattern=f"^(?:{RUN_PATTERN.pattern})?$(?!\\n)")] = ""
    """Empty: the newest."""
    phase: Phase = "train"
    evaluation: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """Of a test or a scan: which one; empty: the newest."""
    epoch: Union[Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)], None] = None
    """Losses of that epoch; without it, each sample's newest."""
    clusters: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    """How many the map is divided into, where a cluster is selected."""
    limit: Union[Annotated[int, msgspec.Meta(ge=0, le=1 << 40)], None] = None
    """At most so many rows; as JSON rows at most 1000 where it is not given."""
    what: Literal["rows", "indices"] = "rows"
    format: Literal["", "json", "csv", "parquet", "arrow"] = ""
    """Of a file; empty: rows in the answer. ``indices`` as JSON is a plain list."""


class Selected(msgspec.Struct, kw_only=True):
    """``GET .../selection?select&run&phase&evaluation&epoch&limit``: the samples meant, the highest loss first."""

    session: str
    run: str
    phase: Phase
    evaluation: str
    epoch: Optional[int]
    """Of which losses; None: of a test or a scan."""
    select: str
    count: int
    """All that are meant; ``rows`` may be fewer."""
    says: str
    """Where nothing is meant: why."""
    rows: list[dict[str, Any]]
    file: str = ""
    """Base64, where a format was asked for."""


class History(msgspec.Struct, kw_only=True):
    """``GET .../history?sample|key&loader&run&phase``: the presentations of one sample, oldest first."""

    session: str
    run: str
    sample: Optional[int]
    key: Optional[str]
    epoch: list[int]
    step: list[int]
    loss: list[Union[float, str]]
    """Numbers, or ``nan inf -inf``."""
    confidence: list[Optional[float]]


class Cluster(msgspec.Struct, kw_only=True):
    """Samples whose embeddings lie near each other."""

    number: int
    """From 0, the highest mean loss first."""
    count: int
    loss: Optional[float]
    """Mean of the losses that are finite."""


class SampleMap(msgspec.Struct, kw_only=True):
    """``GET .../map?evaluation&method&clusters&points``: embeddings in two dimensions; columns of one length."""

    session: str
    run: str
    evaluation: str
    method: str
    loader: str
    total: int
    """Embeddings stored; where that is more than are shown, every n-th is."""
    explained: Optional[float]
    """By PCA's two axes: share of the variance; None: of another method."""
    evaluations: list[str]
    """That have embeddings, the newest last."""
    sample: list[Optional[int]]
    key: list[Optional[str]]
    x: list[float]
    y: list[float]
    loss: list[Optional[float]]
    target: list[Optional[float]]
    predicted: list[Optional[float]]
    cluster: list[int]
    clusters: list[Cluster]


EXPLORE_TYPES = (Histogram, TagRequest, Tags, SelectionRequest, Selected, History, SampleMap)
