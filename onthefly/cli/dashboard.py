"""``onthefly dashboard``: find or start the hub, and open its page in a browser, logged in.

The token reaches the browser in the fragment of an address, which is never sent anywhere, by way of a page of our own
in the runtime folder (0600): on a command line every user of the machine could read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import webbrowser
from typing import TYPE_CHECKING

from onthefly.link.client import Client
from onthefly.link.discovery import runtime_folder
from onthefly.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from onthefly.protocol import HubFile

PAGE = """<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>OnTheFly</title>
<script>location.replace({address})</script>"""


def main(argv: list[str]) -> int:
    """Open the page; or print its address, with ``--url`` including the token."""
    parser = argparse.ArgumentParser(prog="onthefly dashboard", description="Open the dashboard in a browser.")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--url", action="store_true", help="print an address that logs in (it holds the token)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv[1:])
    settings = Settings()
    with Client(settings, start=True) as client:
        hub = client.hub
    address = f"http://{hub.host}:{hub.port}"
    opened = not (options.no_browser or options.url or options.json) and _open(settings, hub)
    if options.json:
        print(json.dumps({"url": address, "pid": hub.pid, "version": hub.version, "opened": opened}))
    elif options.url:
        print(_with_token(hub))
    else:
        print(f"dashboard: {address}")
        if not opened:
            print("log in with the address that `onthefly dashboard --url` prints")
            print(f"from another machine: ssh -L {hub.port}:127.0.0.1:{hub.port} {platform.node()}")
    return 0


def open_dashboard() -> None:
    """For ``--open``: start the hub if needed and open the page; without a browser, say where it is."""
    settings = Settings()
    with Client(settings, start=True) as client:
        hub = client.hub
    if not _open(settings, hub):
        sys.stderr.write(f"onthefly: no browser here; the dashboard is at http://{hub.host}:{hub.port}\n")


def _with_token(hub: HubFile) -> str:
    return f"http://{hub.host}:{hub.port}/#token={hub.token}"


def _open(settings: Settings, hub: HubFile) -> bool:
    if not has_browser():
        return False
    return webbrowser.open(_redirect(settings, hub).as_uri())


def _redirect(settings: Settings, hub: HubFile) -> Path:
    path = runtime_folder(settings) / "open.html"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(PAGE.format(address=json.dumps(_with_token(hub))))
    return path


def has_browser() -> bool:
    """A graphical one: a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(shown) and any(shutil.which(name) for name in ("xdg-open", "firefox", "chromium", "google-chrome"))
