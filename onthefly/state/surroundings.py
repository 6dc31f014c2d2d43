"""What a bundle tells of the process: packages, versions, devices, and the text of the script's own files.

Gathered by the link's thread, twice: when start-up is over, and at the end. It imports nothing into the process, starts
none, and asks torch nothing that would initialise a device. Packages are read from the names of their folders
(``torch-2.13.0.dist-info``: PEP 376), which takes a millisecond; ``importlib.metadata`` opens a file for each, 50 to
200 ms for an environment of this field. No variable of the environment is looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from onthefly.bundle import discretion, files, names
from onthefly.state.script import is_own, modules
from onthefly.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "surroundings.json"
MAX_FILE, MAX_TEXTS, MAX_FILES = 1 << 20, 8 << 20, 500
"""Bytes of one file of the script, of all, and their number; what is beyond is named and left out."""

_PACKAGE = re.compile(r"([A-Za-z0-9_.]+)-([^-]+)(?:-py[0-9.]+.*)?\.(?:dist-info|egg-info|egg)")
_FOREIGN = (OSError, RuntimeError, AssertionError)


class Surroundings:
    """Notes them in the session's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._main = _main()  # Python takes it away when the script has ended, before its exit handlers run
        self._read: dict[str, dict[str, Any]] = {}
        """Files by path, each as it was when it was read first."""
        self._texts: dict[str, str] = {}
        self._left_out: list[str] = []
        self._written = ""

    def note(self) -> None:
        """Write down what there is; nothing where nothing has changed, or the disk takes it not."""
        self._look()
        found = {
            **described(self._main),
            "files": list(self._read.values()),
            "left_out": self._left_out,
            "texts": self._texts,
        }
        text = json.dumps(found, indent=1)
        if text == self._written:
            return
        temporary = self._folder / files.temporary_name()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not flushed to the disk: the end of the script would wait for that.
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(text)
            temporary.replace(self._folder / FILE)
        except OSError:
            return  # whoever exports the session is told that this is not there
        self._written = text

    def _look(self) -> None:
        """Read files of the script that were imported since the last time."""
        for place, name in _own_files(self._main):
            if place in self._read:
                continue
            entry: dict[str, Any] = {"name": name, "member": ""}
            self._read[place] = entry
            try:
                data = Path(place).read_bytes()
                text = data.decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                self._left_out.append(f"{name}: {error}")
                continue
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            if len(data) > MAX_FILE or sum(map(len, self._texts.values())) + len(data) > MAX_TEXTS:
                self._left_out.append(f"{name}: {len(data)} bytes are too many")
            elif len(self._texts) >= MAX_FILES:
                self._left_out.append(f"{name}: there are {MAX_FILES} files already")
            else:
                entry["member"] = self._member(name)
                self._texts[entry["member"]] = text

    def _member(self, name: str) -> str:
        """Its name in a bundle, which knows letters, digits, ``_ - .`` only."""
        taken = {member.lower() for member in self._texts}
        member = f"script/{name}"
        if names.fits(member) and not any(f"{one}/".startswith(f"{member}/".lower()) for one in taken):
            return member
        return f"script/file{len(self._texts)}.py"


def described(main: str) -> dict[str, Any]:
    """What this process runs on and with; ``main`` is the path of its script."""
    argv: list[str] = list(getattr(sys, "argv", []))
    return {
        "gathered": int(time.time()), "onthefly": __version__,
        "python": {"version": platform.python_version(), "implementation": sys.implementation.name},
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}", "cpus": os.cpu_count(),
        "torch": {
            "version": str(torch.__version__), "cuda": torch.version.cuda, "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        },
        "devices": _devices(), "argv": discretion.arguments([os.path.basename(argv[0]), *argv[1:]] if argv else []),
        "script": _hashed(main), "packages": packages(),
    }  # fmt: skip


def _main() -> str:
    """The script's path; empty where it has none (``-c``, a notebook)."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) else ""


def _hashed(path: str) -> dict[str, str] | None:
    if not path:
        return None
    try:
        return {"name": os.path.basename(path), "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
    except OSError:
        return {"name": os.path.basename(path), "sha256": ""}


def _devices() -> list[str]:
    """Names of accelerators, if the script has initialised them: to ask would do that."""
    try:
        if torch.cuda.is_initialized():
            return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    except _FOREIGN:
        return []
    return []


def packages() -> dict[str, str]:
    """Installed distributions that this process can import, with their versions; the first of a name counts."""
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")
        except OSError:
            continue
        for entry in entries:
            match = _PACKAGE.fullmatch(entry)
            if match:
                found.setdefault(match[1].replace("_", "-").lower(), match[2])
    return dict(sorted(found.items()))


def _own_files(main: str) -> Iterator[tuple[str, str]]:
    """The script's own files that were imported, below its folder or the working one, each with its name there."""
    try:
        roots = [os.path.dirname(main)] if main else []
        roots.append(os.getcwd())
    except OSError:
        roots = []
    for file in (main, *(variables.get("__file__") for _, variables in modules())):
        if not isinstance(file, str) or not file.endswith(".py") or not is_own(file):
            continue
        path = os.path.abspath(file)
        root = next((root for root in roots if path.startswith(os.path.join(root, ""))), None)
        if root is not None:
            yield path, os.path.relpath(path, root).replace(os.sep, "/")
