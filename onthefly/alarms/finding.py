"""What a watchdog says when it has found something."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    Severity = Literal["warning", "severe"]


@dataclass(frozen=True)
class Finding:
    """Something that a person should look at."""

    name: str
    """Of the watchdog, as in the table."""
    step: int
    """The step it is about; on an accelerator the script is some steps further when this is known."""
    text: str
    """What was seen, for people."""
    severity: Severity = "warning"
    """``severe``: training goes on with numbers that are lost."""
    numbers: dict[str, float] = field(default_factory=dict)
    """What it was judged by."""
