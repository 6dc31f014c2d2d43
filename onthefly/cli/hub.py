"""``onthefly hub``: run the hub in the foreground."""

from __future__ import annotations

import argparse
import ipaddress
import platform
import signal

from onthefly.errors import Refused, UsageError
from onthefly.link.discovery import living_hub
from onthefly.settings import Settings


def main(argv: list[str]) -> int:
    """Serve until SIGTERM, SIGINT or idle."""
    parser = argparse.ArgumentParser(prog="onthefly hub", description="Run the hub in the foreground.")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="where to listen (default: this machine alone)")  # fmt: skip
    parser.add_argument("--i-know", action="store_true",
                        help="serve other machines too: unencrypted, and only the token guards it")  # fmt: skip
    options = parser.parse_args(argv[1:])
    settings = Settings()
    host = _address(options.host)
    if not host.is_loopback and not options.i_know:
        raise Refused(
            f"other machines could connect to {host}, and nothing is encrypted",
            f"from there: ssh -L {settings.port}:127.0.0.1:{settings.port} {platform.node()}, "
            f"then http://127.0.0.1:{settings.port}; or add --i-know",
        )
    running = living_hub(settings)
    if running is not None and running.host != str(host):
        raise Refused(f"a hub runs already, on {running.host} port {running.port} (pid {running.pid})",
                      f"end it first: kill {running.pid}")  # fmt: skip
    from onthefly.hub.server import run

    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a link's thread starts us, which takes no signal
    return run(settings, str(host))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if text == "localhost" else text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no address", "give one of this machine's, such as 127.0.0.1") from error
