"""Bundles and storage, as clients ask for them over HTTP."""

from __future__ import annotations

import msgspec


class ExportRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/sessions/{id}/export``: the session as one file, a bundle (``.otf``)."""

    runs: list[str] = []
    """Only these; empty: all."""
    checkpoints: list[str] = msgspec.field(default_factory=lambda: ["all"])
    """``all``, ``newest``, ``none``, or names."""
    samples: bool = True
    """With the records of samples."""
    logs: bool = True
    """With what the script wrote."""
    script: bool = True
    """With the files of the script."""


class StageRequest(ExportRequest, kw_only=True):
    """``POST .../stage``: the same for a process of this machine that puts the bundle together itself."""

    pid: int
    """Its own: what it leaves is swept when it is gone."""


class Staged(msgspec.Struct, kw_only=True):
    """Everything of a bundle but the checkpoints, in files."""

    session: str
    stage: str
    """Their folder; to be removed when they are copied."""
    folder: str
    """Of the session, with its checkpoints."""


class ImportRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/import`` as JSON: show a session that a process of this machine has put into the data folder."""

    session: str


class PinRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/sessions/{id}/pin``: keep the session whatever the budget, or no longer."""

    pinned: bool = True


class SessionStorage(msgspec.Struct, kw_only=True):
    """What a session takes on the disk."""

    id: str
    bytes: int
    checkpoints: int
    """Of these bytes."""
    pinned: bool
    kept: str
    """Why the budget never takes it (``pinned``, ``imported``, ``running``, ``newest``); empty: it may."""


class Storage(msgspec.Struct, kw_only=True):
    """``GET /api/v1/storage``: what all sessions take, newest start first."""

    sessions: list[SessionStorage]
    bytes: int
    budget: int
    """Bytes; 0: none."""
    free: int
    place: str
    """The folder."""
