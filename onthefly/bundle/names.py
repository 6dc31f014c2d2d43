"""Which names a bundle may hold, and what kind of thing stands under each: a closed grammar.

Letters, digits and ``_ - .`` between slashes, nothing else: no way up, no root, no drive, no stream of NTFS. Names that
a file system of another machine takes for one (letter case), or for a device, are refused as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from onthefly.bundle.refusals import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterable

    Kind = Literal["json", "lines", "table", "checkpoint", "script", "pickle"]

MANIFEST = "manifest.json"
TABLES = ("samples", "backwards", "metrics")
MAX_NAME = 512

PART = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}"
OWNER = r"(?:(?:rank|process)[0-9]{1,10}/)?"
"""Whose checkpoints: rank 0's stand at the top."""

_GRAMMAR: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"(?:session|runs|environment)\.json"), "json"),
    (re.compile(r"(?:journal|logs|evaluations|health|tags)\.jsonl"), "lines"),
    (re.compile(rf"tables/(?:{'|'.join(TABLES)})\.parquet"), "table"),
    (re.compile(rf"{OWNER}checkpoints/[A-Za-z0-9_-]{{1,64}}/{PART}"), "checkpoint"),
    (re.compile(rf"script/(?:{PART}/){{0,8}}{PART}"), "script"),
    (re.compile(rf"trusted/{PART}\.pkl"), "pickle"),
)
_PICKLED = re.compile(r".*\.(?:pkl|pickle|pt|pth|ckpt|joblib|dill)", re.IGNORECASE)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(?:\..*)?", re.IGNORECASE)
CHECKPOINT = re.compile(rf"({OWNER})checkpoints/([A-Za-z0-9_-]{{1,64}})/({PART})")
"""Whose, its name, and the member within its folder."""


def kind_of(name: str) -> Kind:
    """What stands under that name; :class:`~onthefly.bundle.refusals.Damaged` where nothing may."""
    found: Kind | None = next((kind for pattern, kind in _GRAMMAR if pattern.fullmatch(name)), None)
    parts = name.split("/")
    if found is None or len(name) > MAX_NAME or any(_DEVICE.fullmatch(part) or part.endswith(".") for part in parts):
        raise Damaged(f"{name[:100]!r} is no name that a bundle may hold", "nothing was taken from it")
    return "pickle" if found == "checkpoint" and _PICKLED.fullmatch(name) else found


def fits(name: str) -> bool:
    """Whether a bundle may hold that name."""
    try:
        kind_of(name)
    except Damaged:
        return False
    return True


def check_together(names: Iterable[str]) -> None:
    """All names can stand beside each other, on every file system; else :class:`~onthefly.bundle.refusals.Damaged`."""
    files: set[str] = set()
    folders: dict[str, str] = {}
    for name in names:
        if name.lower() in files:
            raise Damaged(f"{name!r} stands there twice, or differs from another name by letter case only")
        files.add(name.lower())
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folders.setdefault(folder.lower(), folder) != folder:
                raise Damaged(f"the folders {folder!r} and {folders[folder.lower()]!r} differ by letter case only")
    clash = files & folders.keys()
    if clash:
        raise Damaged(f"{min(clash)!r} is a file and a folder")
