"""What handlers read of a request, refused where it is not understood; and an answer in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from onthefly.errors import UsageError
from onthefly.hub import tables
from onthefly.protocol import RUN_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onthefly.hub.registry import LiveSession

Asked = TypeVar("Asked")


async def body(request: web.Request, kind: type[Asked]) -> Asked:
    """The body, as that type."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the request is not understood: {error}") from error


def json_answer(answer: Any) -> web.Response:
    """A good answer."""
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def run_of(request: web.Request, live: LiveSession) -> str:
    """The run that is meant; the newest if none is named."""
    run = request.query.get("run", live.info.run)
    if not RUN_PATTERN.fullmatch(run):
        raise UsageError(f"{run[:40]!r} is no name of a run")
    return run


def word(request: web.Request, name: str, default: str, known: Iterable[str]) -> str:
    """One of the known words."""
    found = request.query.get(name, default)
    if found not in known:
        raise UsageError(f"unknown {name} {found[:20]!r}", f"one of {', '.join(known)}")
    return found


def form(request: web.Request) -> str:
    """The format of a table."""
    return word(request, "format", "json", tables.TYPES)


def whole(request: web.Request, name: str, low: int, high: int, default: int) -> int:
    """A whole number."""
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 16 or not low <= int(text) <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}, not {text[:20]!r}")
    return int(text)
