"""What the dashboard's types are generated from (``make types``)."""

from __future__ import annotations

from onthefly.protocol.bundles import ExportRequest, PinRequest, Storage
from onthefly.protocol.client import (
    Admitted,
    ClientMessage,
    ColumnsHeader,
    CommandRequest,
    ErrorAnswer,
    HubEvent,
    HubStatus,
    Logs,
    Losses,
    OriginRequest,
    Pass,
    Runs,
    Series,
    Sessions,
)
from onthefly.protocol.commands import COMMANDS
from onthefly.protocol.control import Journal
from onthefly.protocol.explore import EXPLORE_TYPES
from onthefly.protocol.health import HealthResults
from onthefly.protocol.insight import Evaluations
from onthefly.protocol.runs import Comparison
from onthefly.protocol.words import Answer

CLIENT_TYPES = (
    Admitted, Answer, CommandRequest, Comparison, ErrorAnswer, Evaluations, ExportRequest, HealthResults, HubStatus,
    Journal, Logs, Losses, OriginRequest, Pass, PinRequest, Runs, Series, Sessions, Storage, ClientMessage, HubEvent,
    ColumnsHeader,
    *COMMANDS.values(), *EXPLORE_TYPES,
)  # fmt: skip
