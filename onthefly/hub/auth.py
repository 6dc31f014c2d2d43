"""Who may ask: exact Host, own Origin, token. Closed by default: a route without a rule wants the token.

aiohttp checks neither Host nor Origin: a page of any site may reach 127.0.0.1, and a name of any site may point there.
Both are compared as they were sent, byte for byte, with the few spellings of our own address.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from typing import TYPE_CHECKING, Optional

import msgspec
from aiohttp import web

from onthefly.errors import ExitCode, OnTheFlyError, UsageError
from onthefly.protocol import ErrorAnswer, Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aiohttp.typedefs import Middleware

    from onthefly.hub.connections import Connections

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger("onthefly.hub")

OPEN_ROUTES = frozenset({"health", "shell", "asset"})
"""Names of the routes that carry no data and need no token (a browser must load the page before it can log in)."""

ENTRY_ROUTE = "enter"
"""Where the page in a notebook's frame gives its pass for the token: a request of our own page's, without token."""

UPLOAD_ROUTE, BUNDLE_TYPE = "take_in", "application/zip"
"""Where a body may be as long as a bundle is: it is not read before its handler does, piece by piece."""

SUBPROTOCOL = "onthefly.v1"
TOKEN_SUBPROTOCOL = "onthefly.token."

FRAMED_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; worker-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
"""Of the page in a notebook's frame. Notebooks are at any address, with schemes (``vscode-webview:``, ``file:``) that
``frame-ancestors *`` leaves out."""

CONTENT_SECURITY_POLICY = f"{FRAMED_POLICY}; frame-ancestors 'none'"

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

BODY_SECONDS = 10.0

ORIGIN = re.compile(r"https?://[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")
"""An origin as browsers write it."""

MAX_ADMITTED = 16

_STATUS = {ExitCode.USAGE: 400, ExitCode.NO_SESSION: 404, ExitCode.REFUSED: 409}


class Guardian:
    """Decides on each request before any handler sees it."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._hosts: frozenset[str] = frozenset()
        self._admitted: dict[str, str] = {}

    def serve_on(self, port: int, names: Iterable[str] = ()) -> None:
        """The port is known now, and with it what we are called; ``names`` beside those of the loopback interface."""
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]", *names))

    def admit(self, origin: str) -> None:
        """Answer to that origin's host as well: a proxy in front of us (an editor's), named by who holds the token.

        The oldest is forgotten when there are too many. The token is wanted there as everywhere.
        """
        if not ORIGIN.fullmatch(origin):
            raise UsageError(f"{origin[:80]!r} is no origin", "such as https://editor.example")
        self._admitted.pop(origin, "")
        self._admitted[origin] = origin.partition("://")[2]
        if len(self._admitted) > MAX_ADMITTED:
            del self._admitted[next(iter(self._admitted))]

    def refusal(self, request: web.Request) -> Optional[tuple[int, Fault]]:
        """Why this request is not served; None if it may go on."""
        hosts = [[host] for host in (*self._hosts, *self._admitted.values())]
        if request.headers.getall("Host", []) not in hosts or request.raw_path[:1] != "/":
            return 421, Fault(code="wrong_host", message="this hub answers to its own address only")
        origins = request.headers.getall("Origin", [])
        if origins and origins not in [[f"http://{host}"] for host in self._hosts] + [[at] for at in self._admitted]:
            return 403, Fault(code="foreign_origin", message="requests from other pages are not served")
        if origins and origins[0].partition("://")[2] != request.headers["Host"]:
            return 403, Fault(code="foreign_origin", message="requests from other pages are not served")
        if request.match_info.route.name in OPEN_ROUTES and request.method in ("GET", "HEAD"):
            return None
        if request.match_info.route.name == ENTRY_ROUTE:
            if not origins:  # browsers always say it here: what has none is none, and may ask with the token
                return 403, Fault(code="foreign_origin", message="only the page itself enters with a pass")
        elif not self._has_token(request):
            return 401, Fault(code="no_token", message="this needs the hub's token", remedy="run: onthefly dashboard")
        plain = request.method in ("GET", "HEAD") or request.content_type == "application/json"
        if not plain and not _upload(request):
            return 415, Fault(code="content_type", message="changes are asked for with Content-Type: application/json")
        return None

    def _has_token(self, request: web.Request) -> bool:
        if request.match_info.route.name == "socket":
            header = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
            offered = [part.strip() for part in header.split(",")]
            given = [part[len(TOKEN_SUBPROTOCOL) :] for part in offered if part.startswith(TOKEN_SUBPROTOCOL)]
            if SUBPROTOCOL not in offered or len(given) != 1:
                return False
            return self._equal(given[0])
        values = request.headers.getall("Authorization", [])
        if len(values) != 1 or not values[0].startswith("Bearer "):
            return False
        return self._equal(values[0][len("Bearer ") :])

    def _equal(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)


def middleware(guardian: Guardian, connections: Connections) -> Middleware:
    """The guardian, the bounds on time and size of a body, and our errors as answers."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = guardian.refusal(request)
        if refused is not None:
            status, fault = refused
            log.warning("refused (%d %s): %s %.80r from origin %.80r host %.80r", status, fault.code, request.method,
                        request.path, request.headers.get("Origin"), request.headers.get("Host"))  # fmt: skip
            return error_response(status, fault)
        try:
            with connections.at_work(request.protocol):
                if request.can_read_body and not _upload(request):
                    await asyncio.wait_for(request.read(), BODY_SECONDS)  # kept: a handler that reads it again has it
                return await handler(request)
        except asyncio.TimeoutError:
            return error_response(408, Fault(code="too_slow", message="the body did not come in time"))
        except OnTheFlyError as error:
            fault = Fault(code=error.code, message=error.message, remedy=error.remedy)
            return error_response(_STATUS.get(error.exit_code, 500), fault)
        except ConnectionError:
            raise  # the peer is gone: there is nobody to tell
        except OSError as error:
            log.error("%s %.80r failed: %s", request.method, request.path, error)
            return error_response(500, Fault(code="disk", message=str(error)))
        except web.HTTPException as error:
            return error_response(error.status, Fault(code=f"http_{error.status}", message=error.reason))

    return guard


def _upload(request: web.Request) -> bool:
    return request.match_info.route.name == UPLOAD_ROUTE and request.content_type == BUNDLE_TYPE


def error_response(status: int, fault: Fault) -> web.Response:
    """The JSON body of every error."""
    return web.Response(
        status=status, body=msgspec.json.encode(ErrorAnswer(error=fault)), content_type="application/json"
    )


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On every answer, also those of aiohttp itself; only the policy of a page in a frame is its own."""
    own = response.headers.get("Content-Security-Policy")
    response.headers.update(HEADERS)
    if own is not None:
        response.headers["Content-Security-Policy"] = own
    response.headers.popall("Server", None)
