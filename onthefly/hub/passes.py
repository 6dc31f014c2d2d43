"""Passes: how a frame in a notebook gets the token, although whatever a notebook shows is saved and shared.

Who holds the token asks for a pass and puts that into the frame's address. It opens the page once, within a minute:
then it is worth nothing, wherever the notebook goes. While it is good, and only then, the page may stand in a frame;
a page that strangers could frame would be clicked by people who believe that they click something else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from typing import NamedTuple, Optional

PASS_SECONDS = 60.0
MAX_PASSES = 16
"""That wait to be used; one more, and the oldest is worth nothing."""

_STYLE = (
    ":root { color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif; color: #5f6775; } "
    "body { display: grid; place-items: center; min-height: 100vh; margin: 0; } main { padding: 24px; } "
    "code { font: 13px ui-monospace, monospace; } @media (prefers-color-scheme: dark) { :root { color: #98a1af; } }"
)
SPENT_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    f"<title>OnTheFly</title><style>{_STYLE}</style><main>The dashboard stood here when the cell ran. "
    "To show it again, run <code>%onthefly</code> in a cell.</main></html>"
).encode()
"""For a pass that is worth nothing: a text, without any means to act."""

SPENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'"
)


class _Issued(NamedTuple):
    text: bytes
    pid: int
    until: float
    """On the monotonic clock."""


class Passes:
    """Those that are good now."""

    def __init__(self) -> None:
        self._issued: list[_Issued] = []

    def issue(self, pid: int) -> str:
        """A fresh one; the page that it opens shows the sessions of that process."""
        text = secrets.token_urlsafe(32)
        self._issued = [*self._good(), _Issued(text.encode(), pid, time.monotonic() + PASS_SECONDS)][-MAX_PASSES:]
        return text

    def good(self, text: str) -> bool:
        """Whether that is one; it stays one."""
        return self._find(text) is not None

    def use(self, text: str) -> Optional[int]:
        """The process that it was issued for, and that it is worth nothing from now on; None if it is not good."""
        found = self._find(text)
        if found is None:
            return None
        self._issued.remove(found)
        return found.pid

    def _find(self, text: str) -> Optional[_Issued]:
        given, found = text.encode("utf-8", "surrogateescape"), None
        for one in self._good():  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(one.text, given):
                found = one
        return found

    def _good(self) -> list[_Issued]:
        now = time.monotonic()
        return [one for one in self._issued if one.until > now]
