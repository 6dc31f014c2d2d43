"""What a command must be to be handed on, whichever door it came through, and the way of one to its session."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Optional, get_type_hints

import msgspec

from onthefly.errors import OnTheFlyError, Refused, UsageError
from onthefly.protocol import COMMANDS, arguments

if TYPE_CHECKING:
    from onthefly.hub.forks import Forks
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession
    from onthefly.protocol import Answer, CommandRequest

MAX_ID, MAX_NAME, MAX_BY = 100, 100, 200


def check(request: CommandRequest) -> None:
    """Raise :class:`UsageError` where it has no id of its own, or says what cannot reach the script."""
    if not 0 < len(request.id) <= MAX_ID:
        raise UsageError("a command needs an id of its own", "for instance a uuid")
    if len(request.name) > MAX_NAME or len(request.by) > MAX_BY:
        raise UsageError(f"a command's name has at most {MAX_NAME} characters, and who sends it {MAX_BY}")
    try:
        msgspec.msgpack.encode(request)
    except (OverflowError, UnicodeEncodeError, RecursionError) as error:  # JSON knows bigger numbers than MessagePack
        raise UsageError(f"the arguments cannot be handed on: {error}") from error


def refusal(name: str, args: dict[str, Any]) -> Optional[Refused]:
    """Why there is no such command, or why it does not take that; None where there is nothing against it."""
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        return Refused(f"unknown command {name[:40]!r}", f"{hint}known: {', '.join(COMMANDS)}")
    try:
        arguments(name, args)
        if name == "trial":
            arguments(args["name"], args.get("args", {}))
    except ValueError as error:
        inner = args["name"] if name == "trial" and args.get("name") in ("set", "clip", "freeze", "unfreeze") else ""
        return Refused(f"{name}: {str(error)[:300]}", "; ".join(takes(each) for each in (name, inner) if each))
    if name == "subset" and len(args.get("weights", [])) not in (0, 1, len(args.get("samples", []))):
        return Refused("subset: there are other numbers of weights and samples", "one weight for all, or one for each")
    return None


def takes(name: str) -> str:
    """What a command takes, in words: ``set takes name: str, value: float | list[float], [group]: int``."""
    fields, hints = msgspec.structs.fields(COMMANDS[name]), get_type_hints(COMMANDS[name])
    if not fields:
        return f"{name} takes nothing"
    parts = [f"{field.name if field.required else f'[{field.name}]'}: {_kind(hints[field.name])}" for field in fields]
    return f"{name} takes {', '.join(parts)}"


def _kind(hint: Any) -> str:
    """What a value must be: the words where there are only some, else the type without its bounds."""
    parts = getattr(hint, "__args__", ())
    if not parts:
        return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
    if isinstance(parts[0], str):
        return "|".join(map(str, parts))
    origin = getattr(getattr(hint, "__origin__", None), "__name__", "")
    if origin in ("list", "dict"):
        return f"{origin} of {_kind(parts[-1])}"
    return " or ".join(_kind(part) for part in parts if part is not type(None))


async def submit(
    keeper: Keeper, live: LiveSession, request: CommandRequest, forks: Optional[Forks] = None
) -> Answer:  # fmt: skip
    """Hand a command on, and wait a little for its answer; the same id gets the same answer, also from an older hub.

    What that one answered is in the store, which is opened for it. ``forks`` looks up what a selection means, once.
    """
    if live.store is None and not live.foreign:
        try:
            await keeper.store(live)
        except OnTheFlyError:  # a disk that is away: then what is known here has to do
            return await live.commands.command(request)
    refused = None
    if forks is not None and not live.commands.knows(request.id) and live.commands.refusal(request) is None:
        try:
            if request.name == "fork":
                await keeper.settled(live)
            request = await forks.resolved(live, request)
        except OnTheFlyError as error:
            refused = error
    return await live.commands.command(request, refused)
