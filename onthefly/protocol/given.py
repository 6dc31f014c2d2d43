"""What arguments of commands are made of: bounds and patterns, and the kind that all are of."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from onthefly.protocol.words import RUN_PATTERN

MAX_SAMPLES = 4000
"""Of a subset in one command: a client's message has at most 64 KiB. A longer list takes several (``add``)."""

Text = Annotated[str, msgspec.Meta(max_length=500)]
Name = Annotated[str, msgspec.Meta(pattern=f"^(?:{RUN_PATTERN.pattern})?$(?!\\n)")]
"""The last part is for Python, whose ``$`` is also before a newline at the end."""
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Index = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=100)]
Place = Annotated[int, msgspec.Meta(ge=-1, le=1 << 20)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
AlarmAction = Literal["off", "log", "pause", "rewind"]
SignalName = Literal["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU"]
"""At which a checkpoint can be made."""


class CommandArguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a command takes; each kind is a row of :data:`COMMANDS`."""
