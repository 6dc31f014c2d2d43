"""The HTTP routes: what each answers."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from onthefly.errors import Refused, UsageError
from onthefly.hub import branches, commands, evaluations, health, journal, logs, openapi, queries, resumes, tables
from onthefly.hub.auth import BUNDLE_TYPE, FRAMED_POLICY
from onthefly.hub.dynamics import ORDERS
from onthefly.hub.explore_api import ExploreApi
from onthefly.hub.forks import Forks
from onthefly.hub.passes import SPENT_PAGE, SPENT_POLICY, Passes
from onthefly.hub.report import material, page
from onthefly.hub.requests import body as _body
from onthefly.hub.requests import form as _form
from onthefly.hub.requests import json_answer as _json
from onthefly.hub.requests import run_of as _run
from onthefly.hub.requests import whole as _whole
from onthefly.hub.requests import word as _word
from onthefly.hub.routes import (
    DEFAULT_BINS,
    DEFAULT_ENTRIES,
    DEFAULT_POINTS,
    MAX_LOSSES,
    MAX_POINTS,
    MAX_ROW,
    ROUTES,
)  # fmt: skip
from onthefly.link.proof import PROOF_HEADER, prove
from onthefly.protocol import (
    PHASES,
    Admitted,
    CommandRequest,
    ExportRequest,
    ImportRequest,
    OriginRequest,
    Pass,
    PassRequest,
    PinRequest,
    Series,
    Sessions,
    Staged,
    StageRequest,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from onthefly.hub.bundles import Bundles
    from onthefly.hub.explore import Explorer
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry
    from onthefly.hub.storekeeping import Storekeeper
    from onthefly.protocol import HubStatus

STATIC = Path(__file__).parent / "static"
ASSET_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
NOT_BUILT = b"<!doctype html><title>OnTheFly</title><p>The dashboard is not built. In a checkout: make dashboard."


class Api:
    """The handlers; they look things up and never change a session themselves."""

    def __init__(
        self, token: str, registry: Registry, keeper: Keeper, status: Callable[[], Awaitable[HubStatus]],
        admit: Callable[[str], None], bundles: Bundles, storage: Storekeeper, explorer: Explorer,
    ) -> None:  # fmt: skip
        """``status()`` describes the hub; ``admit(origin)`` has it answer to that origin as well."""
        self._bundles = bundles
        self._storage = storage
        self._token = token
        self._passes = Passes()
        self._admit = admit
        self._status = status
        self._registry = registry
        self._keeper = keeper
        self._followers = explorer.followers
        self._explore = ExploreApi(registry, keeper, explorer)
        self._forks = Forks(explorer)
        self._document = b""
        """Made when it is first asked for."""
        # Read once, by name: a request's path is looked up, never opened.
        self._assets = {path.name: path for path in (STATIC / "assets").glob("*") if path.suffix in ASSET_TYPES}

    def add_to(self, app: web.Application, socket: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        """Register every route, by name; the names without data are listed in :mod:`onthefly.hub.auth`."""
        for route in ROUTES:
            handler = socket if route.name == "socket" else getattr(self, route.name, None)
            handler = handler or getattr(self._explore, route.name)
            app.router.add_route(route.method, route.path, handler, name=route.name)

    async def health(self, request: web.Request) -> web.Response:
        """Nothing but that it lives, and the proof that it is the hub of ``hub.json``."""
        given = request.query.get("nonce", "")
        headers: dict[str, str] = {}
        if given:
            try:
                headers[PROOF_HEADER] = prove(self._token, b"healthz", bytes.fromhex(given[:128])).hex()
            except ValueError as error:
                raise UsageError("the nonce is not hexadecimal") from error
        return web.Response(headers=headers)

    async def shell(self, request: web.Request) -> web.Response:
        """The page; it carries no data. In a frame only for who has a pass: for others, a text in its place."""
        framed, page = "pass" in request.query, STATIC / "index.html"
        if framed and not self._passes.good(request.query["pass"]):
            return _page(SPENT_PAGE, policy=SPENT_POLICY)
        if not page.is_file():
            return _page(NOT_BUILT, status=503)
        return _page(page.read_bytes(), policy=FRAMED_POLICY if framed else "")

    async def asset(self, request: web.Request) -> web.Response:
        """A file of the built dashboard."""
        path = self._assets.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.Response(body=path.read_bytes(), content_type=ASSET_TYPES[path.suffix], charset="utf-8")

    async def openapi(self, request: web.Request) -> web.Response:
        """What all of this is."""
        if not self._document:
            self._document = msgspec.json.encode(openapi.document())
        return web.Response(body=self._document, content_type="application/json")

    async def passes(self, request: web.Request) -> web.Response:
        """A pass for a frame of a notebook."""
        wanted = await _body(request, PassRequest)
        return _json(Pass(text=self._passes.issue(wanted.pid)))

    async def enter(self, request: web.Request) -> web.Response:
        """The token for a pass, once."""
        pid = self._passes.use((await _body(request, Pass)).text)
        if pid is None:
            raise Refused("this pass was used, or is too old", "run %onthefly in the notebook")
        return _json(Admitted(token=self._token, pid=pid))

    async def sessions(self, request: web.Request) -> web.Response:
        """All sessions, newest start first."""
        return _json(Sessions(sessions=self._registry.newest_first()))

    async def session(self, request: web.Request) -> web.Response:
        """One session."""
        return _json(self._find(request).info)

    async def remove(self, request: web.Request) -> web.Response:
        """Delete a session that has ended."""
        self._registry.remove(self._find(request))
        return _json({})

    async def runs(self, request: web.Request) -> web.Response:
        """The runs of a session."""
        live = self._find(request)
        found = await self._keeper.read(live, queries.runs)
        parents = branches.parents(live.info)
        for run in found.runs:
            run.parents = parents.get(run.name, [])
        return _json(found)

    async def metrics(self, request: web.Request) -> web.Response:
        """With ``points``: one metric as a series for a chart; without: the table."""
        if "points" not in request.query:
            return await self._table(request, "metrics")
        live = self._find(request)
        points = _whole(request, "points", 1, MAX_POINTS, DEFAULT_POINTS)
        after = _whole(request, "after", 0, 1 << 53, 0)
        run, name = _run(request, live), request.query.get("name", "loss")
        columns, bucketed = await self._keeper.read(
            live, lambda cursor: queries.series(cursor, run, name, after, points, line=live.line(run))
        )
        value = [tables.json_number(number) for number in columns["value"].tolist()]
        store = await self._keeper.store(live)
        return _json(Series(
            session=live.info.id, run=run, name=name, bucketed=bucketed,
            cursor=str(store.backward_rows if name == "loss" else store.metric_rows),
            step=columns["step"].tolist(), epoch=columns["epoch"].tolist(), time=columns["time"].tolist(), value=value,
            low=[tables.json_number(number) for number in columns["low"].tolist()] if bucketed else value,
            high=[tables.json_number(number) for number in columns["high"].tolist()] if bucketed else value,
        ))  # fmt: skip

    async def backwards(self, request: web.Request) -> web.Response:
        """The table of backward calls."""
        return await self._table(request, "backwards")

    async def samples(self, request: web.Request) -> web.Response:
        """The table of per-sample records."""
        return await self._table(request, "samples")

    async def dynamics(self, request: web.Request) -> web.Response:
        """The training dynamics of each sample of a run, worst first."""
        live, form, known = self._find(request), _form(request), ("run", "phase", "order", "limit", "format")
        unknown = sorted(set(request.query) - set(known))
        if unknown:
            raise UsageError(f"unknown filter {unknown[0][:20]!r}", f"known for dynamics: {', '.join(known)}")
        order = _word(request, "order", "loss_mean", ORDERS)
        limit = _whole(request, "limit", 0, 1 << 40, 0) if "limit" in request.query else None
        body = await self._followers.render(
            live, _run(request, live), _word(request, "phase", "train", PHASES), order=order, limit=limit, form=form
        )
        return web.Response(body=body, headers={"Content-Type": tables.TYPES[form]})

    async def _table(self, request: web.Request, table: str) -> web.Response:
        form = _form(request)
        chosen = tables.selection(table, request.query)
        body = await self._keeper.read(self._find(request), lambda cursor: tables.render(cursor, chosen, form))
        return web.Response(body=body, headers={"Content-Type": tables.TYPES[form]})

    async def histogram(self, request: web.Request) -> web.Response:
        """The per-sample losses of one epoch."""
        live = self._find(request)
        run, phase = _run(request, live), _word(request, "phase", "train", PHASES)
        epoch = _whole(request, "epoch", 0, (1 << 31) - 1, 0) if "epoch" in request.query else None
        bins = _whole(request, "bins", 1, 500, DEFAULT_BINS)
        return _json(await self._keeper.read(
            live, lambda cursor: queries.histogram(cursor, live.info.id, run, phase, epoch, bins)
        ))  # fmt: skip

    async def logs(self, request: web.Request) -> web.Response:
        """A page of what the script wrote."""
        live = self._find(request)
        after, before = (
            _whole(request, name, 0, 1 << 53, 0) if name in request.query else None for name in ("after", "before")
        )
        limit, search = _whole(request, "limit", 1, logs.MAX_ENTRIES, DEFAULT_ENTRIES), request.query.get("search", "")
        return _json(await self._keeper.read(live, lambda cursor: logs.page(
            cursor, live.info.id, after=after, before=before, limit=limit, search=search
        )))  # fmt: skip

    async def journal(self, request: web.Request) -> web.Response:
        """What was changed, in the order in which it was done."""
        live = self._find(request)
        rank = _whole(request, "rank", 0, (1 << 15) - 1, 0) if "rank" in request.query else None
        return _json(await self._keeper.read(live, lambda cursor: journal.read(cursor, live.info.id, rank)))

    async def checks(self, request: web.Request) -> web.Response:
        """What checks of the run's health have found."""
        live = self._find(request)
        return _json(await self._keeper.read(live, lambda cursor: health.read(cursor, live.info.id)))

    async def report(self, request: web.Request) -> web.Response:
        """The run as one HTML file. It is handed out as a file: as a page of the hub it would be another's text."""
        live = self._find(request)
        folder = (await self._keeper.store(live)).folder
        found = await self._keeper.read(live, lambda cursor: material.gather(cursor, live.info, folder))
        if found.histogram is not None:
            rows = await self._followers.render(live, live.info.run, "train", order="loss_mean", limit=15, form="json")
            found = found._replace(worst=json.loads(rows))
        body = await asyncio.get_running_loop().run_in_executor(None, page.page, found, time.time())
        response = _page(body)
        response.headers["Content-Disposition"] = f'attachment; filename="onthefly-{live.info.id}.html"'
        return response

    async def evaluations(self, request: web.Request) -> web.Response:
        """Tests and scans."""
        live = self._find(request)
        return _json(await self._keeper.read(live, lambda cursor: evaluations.read(cursor, live.info.id)))

    async def losses(self, request: web.Request) -> web.Response:
        """What a process that goes on from there must give again."""
        live = self._find(request)
        run, first = _run(request, live), _whole(request, "first", 0, MAX_ROW, 0)
        limit = _whole(request, "limit", 1, MAX_LOSSES, MAX_LOSSES)
        return _json(await self._keeper.read(
            live, lambda cursor: resumes.losses(cursor, live.info.id, run, first, limit)
        ))  # fmt: skip

    async def stage(self, request: web.Request) -> web.Response:
        """Everything of a bundle but the checkpoints, in a folder of the session, for a process of this machine."""
        live, wanted = self._find(request), await _body(request, StageRequest)
        if not 0 < wanted.pid < 1 << 31:
            raise UsageError(f"{wanted.pid} is no number of a process")
        path = await self._bundles.stage(live, wanted, wanted.pid)
        return _json(Staged(session=live.info.id, stage=str(path), folder=str(path.parent)))

    async def export(self, request: web.Request) -> web.StreamResponse:
        """The bundle."""
        path = await self._bundles.export(self._find(request), await _body(request, ExportRequest))
        response = web.FileResponse(path, headers={
            "Content-Type": BUNDLE_TYPE, "Content-Disposition": f'attachment; filename="{path.name}"',
        })  # fmt: skip
        try:
            await response.prepare(request)  # it sends the whole of it
        finally:
            await asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, path.parent, True)
        return response

    async def take_in(self, request: web.Request) -> web.Response:
        """A bundle becomes a session."""
        if request.content_type == BUNDLE_TYPE:
            trust = _word(request, "trust", "no", ("no", "yes")) == "yes"
            live = await self._bundles.receive(request.content.iter_any(), trust=trust)
        else:
            live = self._bundles.adopt((await _body(request, ImportRequest)).session)
        return _json(live.info)

    async def pin(self, request: web.Request) -> web.Response:
        """Keep a session whatever the budget, or no longer."""
        live = self._find(request)
        live.pin((await _body(request, PinRequest)).pinned)
        return _json(live.info)

    async def storage(self, request: web.Request) -> web.Response:
        """What all sessions take on the disk."""
        return _json(await self._storage.measured())

    async def hub(self, request: web.Request) -> web.Response:
        """The hub itself."""
        return _json(await self._status())

    async def origins(self, request: web.Request) -> web.Response:
        """Answer behind a proxy, too."""
        wanted = await _body(request, OriginRequest)
        self._admit(wanted.origin)
        return _json({})

    async def command(self, request: web.Request) -> web.Response:
        """Hand a command to the script, and wait a little for its answer."""
        wanted = await _body(request, CommandRequest)
        commands.check(wanted)
        return _json(await commands.submit(self._keeper, self._find(request), wanted, self._forks))

    async def answer(self, request: web.Request) -> web.Response:
        """What became of a command."""
        number = request.match_info["n"]
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise UsageError(f"{number[:20]!r} is no number of a command")
        return _json(self._find(request).commands.answer(int(number)))

    def _find(self, request: web.Request) -> LiveSession:
        return self._registry.find(request.match_info["id"])


def _page(body: bytes, *, status: int = 200, policy: str = "") -> web.Response:
    headers = {"Content-Security-Policy": policy} if policy else None
    return web.Response(status=status, body=body, headers=headers, content_type="text/html", charset="utf-8")
