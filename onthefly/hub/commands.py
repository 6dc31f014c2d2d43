"""What a command must be to be handed on, whichever door it came through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from onthefly.errors import UsageError

if TYPE_CHECKING:
    from onthefly.protocol import CommandRequest

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
