"""What is left out of a bundle, since it is made to be given away: secrets on the command line, names of machines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"
_SECRET = re.compile(r"token|secret|passw|credential|api[_-]?key|access[_-]?key|auth", re.IGNORECASE)


def arguments(argv: Iterable[str]) -> list[str]:
    """The words of a command line, without the values of options whose name speaks of a secret (``--api-key X``)."""
    found: list[str] = []
    follows = False
    for word in argv:
        name, joined, _ = word.partition("=")
        if follows and not word.startswith("-"):
            found.append(HIDDEN)
            follows = False
            continue
        secret = _SECRET.search(name) is not None and (word.startswith("-") or bool(joined))
        follows = secret and not joined
        found.append(f"{name}={HIDDEN}" if secret and joined else word)
    return found
