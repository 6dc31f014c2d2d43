"""Forks on a selection: which samples its words mean is looked up before the command is handed to the script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from onthefly.errors import Refused
from onthefly.hub.choice import parse
from onthefly.hub.chosen import Chosen, Scope
from onthefly.hub.explore import nothing
from onthefly.protocol import MAX_FRAME
from onthefly.protocol.runs import MAX_CHOSEN

if TYPE_CHECKING:
    import duckdb

    from onthefly.hub.explore import Explorer
    from onthefly.hub.registry import LiveSession
    from onthefly.protocol import CommandRequest

ROOM = 256 * 1024
"""Of a frame, for all but the samples."""


class Forks:
    """Puts the samples into a fork that has the words for them."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer

    async def resolved(self, live: LiveSession, request: CommandRequest) -> CommandRequest:
        """The same with ``samples`` beside ``select``; a command without a selection as it is.

        By the newest training losses of the run that it begins from, or, where it has none yet (a merge), of the one
        that it goes on from. Raises :class:`~onthefly.errors.OnTheFlyError`
        where the words mean nothing that a script could be given.
        """
        if request.name != "fork" or not request.args.get("select"):
            return request
        if request.args.get("samples"):
            raise Refused("a selection and a list of samples are both given", "one of them")
        text, loader, begins = (request.args.get(name, "") for name in ("select", "loader", "checkpoint"))
        terms = parse(text)
        if not terms:
            raise Refused("the selection has no term", "leave it out: then it trains on all samples")
        kept = {one.name: one.run for one in live.info.controls.checkpoints}
        scope = Scope(await self._recorded(live, kept.get(begins, live.info.run)), "train")

        def samples(cursor: duckdb.DuckDBPyConnection, chosen: Chosen) -> list[int]:
            if loader and loader not in chosen.trained:
                raise Refused(f"a selection means samples that are trained on, and {loader!r} is no loader of "
                              f"these ({', '.join(chosen.trained) or 'there is none yet'})",
                              "leave the loader out, or give the samples by index")  # fmt: skip
            if not chosen.count:
                raise Refused(nothing(cursor, scope, text), "a wider selection")
            if chosen.count > MAX_CHOSEN:
                raise Refused(f"{chosen.count:,} samples are meant, at most {MAX_CHOSEN:,} can be",
                              "a narrower selection; without one it trains on all samples")  # fmt: skip
            return chosen.indices()

        found = await self._explorer.look(live, scope, terms, samples)
        if len(msgspec.msgpack.encode(found)) > MAX_FRAME - ROOM:
            raise Refused("these samples are too many for one message", "a narrower selection")
        return msgspec.structs.replace(request, args={**request.args, "samples": found})

    async def _recorded(self, live: LiveSession, run: str) -> str:
        """That run, or the nearest before it that has records of its training."""
        line = [run, *(parent for parent, _ in live.line(run))]

        def nearest(cursor: duckdb.DuckDBPyConnection) -> str:
            query = "SELECT 1 FROM samples WHERE run = ? AND phase = 'train' LIMIT 1"
            return next((one for one in line if cursor.execute(query, [one]).fetchone()), run)

        return await self._explorer.read(live, nearest)
