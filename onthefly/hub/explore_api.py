"""The handlers of routes about single samples; :class:`~onthefly.hub.api.Api` has all others."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from onthefly.errors import UsageError
from onthefly.hub import tables, tags
from onthefly.hub.comparison import Comparer
from onthefly.hub.maps import DEFAULT_POINTS, MAX_POINTS, METHODS
from onthefly.hub.requests import body, form, json_answer, run_of, whole, word
from onthefly.protocol import PHASES, SelectionRequest, TagRequest

if TYPE_CHECKING:
    from onthefly.hub.explore import Explorer
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry

MAX_NUMBER = 1 << 53


class ExploreApi:
    """What each route answers."""

    def __init__(self, registry: Registry, keeper: Keeper, explorer: Explorer) -> None:
        self._registry = registry
        self._keeper = keeper
        self._explorer = explorer
        self._comparer = Comparer(keeper, explorer)

    async def selection(self, request: web.Request) -> web.Response:
        """A short selection, as a table."""
        live, kind = self._find(request), form(request)
        given = {name: value for name, value in request.query.items() if name != "format"}
        numbers = {name: whole(request, name, 0, top, 0) for name, top in
                   (("epoch", (1 << 31) - 1), ("limit", 1 << 40), ("clusters", 64)) if name in given}  # fmt: skip
        try:
            wanted = msgspec.convert({**given, **numbers, "format": kind}, SelectionRequest)
        except msgspec.ValidationError as error:
            raise UsageError(f"the selection is not understood: {error}") from error
        if set(given) - set(SelectionRequest.__struct_fields__):
            raise UsageError("unknown filter", f"known: {', '.join(SelectionRequest.__struct_fields__)}")
        found = await self._explorer.select(live, wanted)
        return web.Response(body=base64.b64decode(found.file), headers={"Content-Type": tables.TYPES[kind]})

    async def select(self, request: web.Request) -> web.Response:
        """A selection, with what is to be made of it."""
        live, wanted = self._find(request), await body(request, SelectionRequest)
        return json_answer(await self._explorer.select(live, wanted))

    async def suspects(self, request: web.Request) -> web.Response:
        """Suspected label errors."""
        live, kind = self._find(request), form(request)
        limit = whole(request, "limit", 0, 1 << 40, 0) if "limit" in request.query else None
        found = await self._explorer.suspects(live, run_of(request, live), limit, kind)
        return web.Response(body=found, headers={"Content-Type": tables.TYPES[kind]})

    async def history(self, request: web.Request) -> web.Response:
        """One sample."""
        live, key = self._find(request), request.query.get("key")
        if ("sample" in request.query) == (key is not None):
            raise UsageError("name one sample", "sample=INDEX or key=KEY")
        sample = None if key is not None else whole(request, "sample", 0, MAX_NUMBER, 0)
        phase = word(request, "phase", "train", PHASES)
        return json_answer(await self._explorer.history(live, run_of(request, live), phase, sample, key))

    async def tags(self, request: web.Request) -> web.Response:
        """All tags of a session, or one."""
        live = self._find(request)
        limit = whole(request, "limit", 0, 1 << 40, 0) if "limit" in request.query else None
        name = request.query.get("tag", "")
        return json_answer(await self._keeper.read(live, lambda cursor: tags.read(cursor, live.info.id, limit, name)))

    async def tag(self, request: web.Request) -> web.Response:
        """Put one on."""
        live, wanted = self._find(request), await body(request, TagRequest)
        return json_answer(await self._keeper.edit(live, lambda connection: tags.put(connection, live.info.id, wanted)))

    async def untag(self, request: web.Request) -> web.Response:
        """Take one off."""
        live, wanted = self._find(request), await body(request, TagRequest)
        return json_answer(
            await self._keeper.edit(live, lambda connection: tags.take_off(connection, live.info.id, wanted))
        )

    async def map(self, request: web.Request) -> web.Response:
        """The embeddings in two dimensions."""
        live = self._find(request)
        return json_answer(await self._explorer.maps.make(
            live, run_of(request, live), request.query.get("evaluation", ""), word(request, "method", "pca", METHODS),
            whole(request, "clusters", 1, 64, 8), whole(request, "points", 1, MAX_POINTS, DEFAULT_POINTS),
        ))  # fmt: skip

    async def comparison(self, request: web.Request) -> web.Response:
        """Runs side by side."""
        live, runs = self._find(request), request.query.get("runs", "").split(",")
        loader, select = (request.query.get(name, "") for name in ("loader", "select"))
        return json_answer(await self._comparer.compare(live, runs, loader, select))

    def _find(self, request: web.Request) -> LiveSession:
        return self._registry.find(request.match_info["id"])
