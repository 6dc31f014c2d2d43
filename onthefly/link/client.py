"""Asking the hub over HTTP, from the CLI and from notebooks: proves it first; quick, with the standard library."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from onthefly.errors import HubUnavailable, NoSuchSession, OnTheFlyError, Refused, UsageError
from onthefly.link.discovery import find_hub
from onthefly.link.proof import PROOF_HEADER, nonce, prove, same

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onthefly.protocol import HubFile
    from onthefly.settings import Settings

TIMEOUT = 30.0
_ERRORS: dict[int, type[OnTheFlyError]] = {400: UsageError, 404: NoSuchSession, 409: Refused}


class Client:
    """A proven connection to this user's hub."""

    def __init__(self, settings: Settings, *, start: bool = False) -> None:
        """Find the hub (and start one if asked); :class:`HubUnavailable` if none answers or it is not ours."""
        self.hub: HubFile = find_hub(settings, start=start)
        self._connection = http.client.HTTPConnection(self.hub.host, self.hub.port, timeout=TIMEOUT)
        self._prove()

    def __enter__(self) -> Client:
        """The connection lasts as long as the block."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Close it."""
        self._connection.close()

    def _prove(self) -> None:
        """The token goes to nobody who cannot show that he has it: the port may be a squatter's by now."""
        ours = nonce()
        answer, _ = self._exchange("GET", f"/healthz?nonce={ours.hex()}", None, {})
        try:
            proof = bytes.fromhex(answer.headers.get(PROOF_HEADER, ""))
        except ValueError:
            proof = b""
        if not same(proof, prove(self.hub.token, b"healthz", ours)):
            self._connection.close()
            raise HubUnavailable(f"what answers on port {self.hub.port} is not the hub",
                                 "stop it, or remove hub.json from the runtime folder")  # fmt: skip

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """The body of ``GET /api/v1/<path>``; the hub's refusals as our errors."""
        return self._request("GET", path + ("?" + urlencode(query) if query else ""), None)

    def json(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The same, decoded."""
        return json.loads(self.get(path, query))

    def command(self, session: str, body: Mapping[str, Any]) -> Any:
        """Send a command; its answer."""
        return json.loads(self._request("POST", f"sessions/{quote(session, safe='')}/commands", json.dumps(body)))

    def post(
        self, path: str, body: Mapping[str, Any], *, seconds: float = TIMEOUT, method: str = "POST"
    ) -> Any:  # fmt: skip
        """The answer to ``POST /api/v1/<path>``, decoded; ``seconds``: how long it may take."""
        self._wait(seconds)
        try:
            return json.loads(self._request(method, path, json.dumps(body)))
        finally:
            self._wait(TIMEOUT)

    def delete(self, path: str) -> None:
        """``DELETE /api/v1/<path>``."""
        self._request("DELETE", path, None)

    def _wait(self, seconds: float) -> None:
        self._connection.timeout = seconds
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)

    def frame(self, pid: int) -> str:
        """An address that opens the page once, in a frame, for what the process ``pid`` trains."""
        given = json.loads(self._request("POST", "passes", json.dumps({"pid": pid})))
        host = f"[{self.hub.host}]" if ":" in self.hub.host else self.hub.host
        return f"http://{host}:{self.hub.port}/?pass={given['text']}"

    def _request(self, method: str, path: str, body: str | None) -> bytes:
        headers = {"Authorization": f"Bearer {self.hub.token}", "Content-Type": "application/json"}
        answer, content = self._exchange(method, f"/api/v1/{path}", body, headers)
        if answer.status < 400:
            return content
        try:
            fault = json.loads(content)["error"]
        except (ValueError, KeyError, TypeError):
            fault = {"message": f"the hub answered {answer.status}", "remedy": ""}
        raise _ERRORS.get(answer.status, OnTheFlyError)(fault["message"], fault["remedy"])

    def _exchange(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._connection.request(method, path, body, dict(headers))
            answer = self._connection.getresponse()
            return answer, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise HubUnavailable(f"the hub does not answer on port {self.hub.port}: {error}",
                                 "start one with: onthefly dashboard") from error  # fmt: skip
