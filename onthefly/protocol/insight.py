"""What a paused script is asked, and what comes of it: tests, scans, embeddings."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["test", "scan"]


class ProgressInfo(msgspec.Struct, kw_only=True):
    """How far something has come that takes a while."""

    what: str
    """``test_1``, or what is waited for."""
    done: int
    of: int
    """0 where it is not known."""


class EvaluationInfo(msgspec.Struct, kw_only=True):
    """One test or scan."""

    kind: Kind
    label: str
    """``test_1``, ``scan_1``: what its rows in the table ``samples`` carry as ``evaluation``."""
    run: str
    step: int
    epoch: int
    loader: str
    mode: Literal["eval", "train"]
    checkpoint: str = ""
    """Whose weights; empty: those of the step."""
    by: str
    began: float
    seconds: float
    count: int
    """Samples that it was made of."""
    partial: bool = False
    reason: str = ""
    """Why it is partial, or nothing at all."""
    how: str
    """``recipe, reproduced 3 of 3``; ``registered``."""
    verified: bool = True
    """What was done is known to be what the script does."""
    result: dict[str, Any] = {}
    """``loss``, ``accuracy``, ``error``, ``per_class``, ``confusion``, ``residuals``, ``perplexity``; what does not
    apply is not there."""
    embeddings: int = 0
    """Numbers a sample that are kept of a module; 0: none."""


class Evaluations(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions/{id}/evaluations``: in the order in which they were made."""

    session: str
    evaluations: list[EvaluationInfo]


class Evaluated(msgspec.Struct, kw_only=True):
    """A test or a scan is over, or more is known of it: replaces what was said of that label before."""

    evaluation: EvaluationInfo


class Examined(msgspec.Struct, kw_only=True):
    """Samples of a test or a scan, in the order of the split. All bytes are little-endian arrays of the dtype given."""

    run: str
    evaluation: str
    kind: Kind
    step: int
    epoch: int
    backward: int
    """Calls before it."""
    loader: str
    time: float
    first: int
    """Place of the first of them in the evaluation."""
    sample: bytes
    """int64 [m]: index in the root data set, -1 where there is none."""
    loss: bytes
    """float32 [m]"""
    valid: bytes
    """int32 [m]: elements averaged into the value."""
    certificate: bytes
    """uint8 [m]: place in ``CERTIFICATES``."""
    identity: bytes
    """uint8 [m]: place in ``IDENTITIES``."""
    target: bytes = b""
    """float64 [m] or empty: a class or a number; NaN where there is none."""
    predicted: bytes = b""
    """float64 [m] or empty"""
    confidence: bytes = b""
    """float32 [m] or empty, as in :class:`~onthefly.protocol.Records`; so is the next."""
    margin: bytes = b""
    keys: list[str] = []
    """Of each row, or empty."""
    dimensions: int = 0
    vectors: bytes = b""
    """float32 [m, dimensions]: a module's output, projected."""
