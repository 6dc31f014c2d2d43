"""``onthefly doctor``: what works here and what does not, and with ``--script`` what would be captured of a script."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from onthefly.cli import trial
from onthefly.cli.dashboard import has_browser
from onthefly.errors import ExitCode, NoSuchSession, OnTheFlyError
from onthefly.link.client import Client
from onthefly.link.discovery import living_hub, runtime_folder
from onthefly.protocol import PROTOCOL
from onthefly.settings import Settings
from onthefly.version import __version__, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = {
    "torch": (2, 2),
    "msgspec": (0, 18),
    "aiohttp": (3, 10),
    "duckdb": (1, 1),
    "numpy": (1, 22),
    "psutil": (5, 9),
}
"""What has to be there, and how new."""

LOW_SPACE = 1 << 30


class Finding(NamedTuple):
    """One thing that was looked at."""

    topic: str
    text: str
    remedy: str = ""
    """What to do about it; empty: it is as it should be."""


def main(argv: list[str]) -> int:
    """Print what was found; 0 if nothing is wrong, else 1."""
    parser = argparse.ArgumentParser(prog="onthefly doctor", description="Look at this environment.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--steps", type=int, default=20, help="with --script: optimizer steps to run (default 20)")
    parser.add_argument("--timeout", type=float, default=120.0, help="with --script: seconds to wait (default 120)")
    parser.add_argument("--script", nargs=argparse.REMAINDER, metavar="SCRIPT",
                        help="run a few steps of this script and tell what is captured")  # fmt: skip
    options = parser.parse_args(argv[1:])
    settings = Settings()
    if options.script is not None:
        return trial.run(options.script, options.steps, options.timeout, as_json=options.json)
    findings = [finding for check in CHECKS for finding in check(settings)]
    wrong = [finding for finding in findings if finding.remedy]
    if options.json:
        print(json.dumps({"findings": [finding._asdict() for finding in findings], "wrong": len(wrong)}, indent=2))
    else:
        _show(findings, wrong)
    return ExitCode.FAILED if wrong else ExitCode.DONE


def _show(findings: list[Finding], wrong: list[Finding]) -> None:
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        print(f"{'!' if finding.remedy else ' '} {finding.topic:{width}}  {finding.text}")
        if finding.remedy:
            print(f"  {'':{width}}  -> {finding.remedy}")
    print(f"\n{len(wrong)} to mend" if wrong else "\nall is as it should be; try: onthefly doctor --script train.py")


def _versions(settings: Settings) -> Iterator[Finding]:
    yield Finding("onthefly", f"{__version__}, protocol {PROTOCOL}")
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    for package, oldest in PACKAGES.items():
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Finding(package, "is not installed", f"pip install {package}, in this environment")
            continue
        needed = ".".join(map(str, oldest))
        yield Finding(package, version, "" if release(version) >= oldest else f"{needed} or newer is needed")


def _environment(settings: Settings) -> Iterator[Finding]:
    if settings.disabled:
        yield Finding("switched off", "ONTHEFLY_DISABLE is set: scripts run plainly", "unset it to watch")
    if sys.flags.isolated or sys.flags.ignore_environment or sys.flags.no_site:
        yield Finding("python options", "-I, -E or -S keep the start-up hook out", "run scripts without them")


def _folders(settings: Settings) -> Iterator[Finding]:
    try:
        yield Finding("runtime folder", f"{runtime_folder(settings)} (yours alone)")
    except OnTheFlyError as error:
        yield Finding("runtime folder", error.message, error.remedy or "set ONTHEFLY_RUNTIME_DIR")
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("data folder", f"{folder} cannot be written: {error.strerror}", "set ONTHEFLY_DATA_DIR")
        return
    sessions = sum(1 for _ in (folder / "sessions").glob("*/session.json"))
    low = "free some space: `onthefly ps` lists what is kept" if free < LOW_SPACE else ""
    yield Finding("data folder", f"{folder}: {sessions} sessions, {free / 1e9:.1f} GB free", low)


def _hub(settings: Settings) -> Iterator[Finding]:
    hub = living_hub(settings)
    if hub is None:
        yield Finding("hub", "none runs; it starts with the next script")
        yield _port(settings.port)
        return
    try:
        with Client(settings) as client:
            status = client.json("hub")
    except NoSuchSession:  # a route that an earlier version does not have
        yield Finding("hub", f"{hub.version} runs (pid {hub.pid}), of an earlier version than {__version__}",
                      f"it ends by itself when nobody uses it; or end process {hub.pid}")  # fmt: skip
        return
    except OnTheFlyError as error:
        yield Finding("hub", f"{error.message} (pid {hub.pid})", error.remedy or f"end process {hub.pid}")
        return
    text = f"{status['version']} answers on port {status['port']} (pid {status['pid']}, {status['rss']:.0f} MB)"
    other = "" if status["version"] == __version__ else f"; this environment has {__version__}"
    yield Finding("hub", text + other)
    if status["port"] != settings.port:
        yield _port(settings.port)


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding("port", f"{port} is taken by another program ({error.strerror}); the next free one is used")
    return Finding("port", f"{port} is free")


def _browser(settings: Settings) -> Iterator[Finding]:
    if has_browser():
        yield Finding("browser", "onthefly dashboard opens one")
    else:
        yield Finding("browser", "none here: `onthefly dashboard` tells how to reach the page from another machine")


def _gpu(settings: Settings) -> Iterator[Finding]:
    nvidia = os.path.exists("/dev/nvidiactl") or bool(shutil.which("nvidia-smi"))
    yield Finding("gpu", "NVIDIA's driver is here: use and memory are recorded" if nvidia else "none of NVIDIA's")


CHECKS: list[Callable[[Settings], Iterator[Finding]]] = [
    _versions, _environment, _folders, _hub, _browser, _gpu,
]  # fmt: skip
