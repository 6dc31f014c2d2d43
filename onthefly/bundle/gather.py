"""The members of a session's bundle: what the hub has written down of it (:mod:`onthefly.hub.staging`), checkpoints.

Checkpoints are copied from where they lie, and checked against their own manifests on the way. A script that runs may
drop one at any moment: all files of a checkpoint are opened before the first is copied, and what is open stays.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from onthefly.bundle import archive, files, folder, names
from onthefly.bundle.archive import Member
from onthefly.bundle.refusals import BundleError, NoSuchBundle
from onthefly.bundle.source import FOLDER, NEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ALL, NONE = "all", "none"
_FIRST = ("session.json", "runs.json", "environment.json", "journal.jsonl", "logs.jsonl", "evaluations.jsonl",
          "health.jsonl", "tags.jsonl")  # fmt: skip


def pack(
    target: Path, stage: Path, session: Path, *, checkpoints: Sequence[str] = (ALL,), runs: Sequence[str] = ()
) -> tuple[archive.Written, list[str]]:
    """Write the bundle ``target``; what was left out, with the reason.

    Args:
        target: the file; it is replaced as a whole.
        stage: the folder with what the hub has written down.
        session: the session's own folder.
        checkpoints: ``all``, ``newest``, ``none``, or names.
        runs: only checkpoints of these; empty: of all.

    Raises :class:`~onthefly.bundle.refusals.BundleError`.
    """
    left_out: list[str] = []
    about = {"kind": "session", "session": session.name, "left_out": left_out}

    def members() -> Iterator[Member]:
        yield from _staged(stage)
        for owner, name in _chosen(session, checkpoints, runs, left_out):
            yield from _checkpoint(session / owner / FOLDER, f"{owner}/" if owner else "", name, left_out)

    return archive.write(target, members(), about), left_out


def _staged(stage: Path) -> Iterator[Member]:
    there = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
    for name in sorted(there, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)):
        yield Member(name, files.open_file(stage / name))


def _chosen(
    session: Path, wanted: Sequence[str], runs: Sequence[str], left_out: list[str]
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """Whose, and which."""
    if list(wanted) == [NONE]:
        return
    owners = ["", *sorted(path.name for path in session.iterdir() if (path / FOLDER).is_dir() and not path.is_symlink()
                          and names.fits(f"{path.name}/{FOLDER}/x/x"))]  # fmt: skip
    found: set[str] = set()
    for owner in owners:
        times: dict[str, float] = {}
        for name in folder.names(session / owner / FOLDER):
            try:
                about = folder.manifest(session / owner / FOLDER / name)
            except NoSuchBundle:
                continue  # dropped meanwhile
            except BundleError as error:
                left_out.append(error.message)
                continue
            if not runs or about.get("run") in runs:
                times[name] = float(about.get("time", 0.0))
        names_of = sorted(times, key=lambda name: times[name])
        if list(wanted) == [NEWEST]:
            names_of = names_of[-1:]
        elif list(wanted) != [ALL]:
            names_of = [name for name in names_of if name in wanted]
        found |= set(names_of)
        yield from ((owner, name) for name in names_of)
    if not set(wanted) <= {ALL, NEWEST, *found}:
        missing = sorted(set(wanted) - found)
        raise NoSuchBundle(f"there is no checkpoint {missing[0]!r} on the disk",
                           f"there are: {', '.join(folder.names(session / FOLDER)) or 'none'}")  # fmt: skip


def _checkpoint(parent: Path, owner: str, name: str, left_out: list[str]) -> Iterator[Member]:
    path, prefix = parent / name, f"{owner}{FOLDER}/{name}/"
    with contextlib.ExitStack() as opened:
        try:
            about: dict[str, Any] = folder.manifest(path)
            head = Member(f"{prefix}{folder.MANIFEST}", opened.enter_context(files.open_file(path / folder.MANIFEST)))
            found = [
                Member(f"{prefix}{member['name']}", opened.enter_context(files.open_file(path / member["name"])),
                       member["sha256"])
                for member in about["members"]
            ]  # fmt: skip
        except NoSuchBundle:
            left_out.append(f"{prefix[:-1]} was dropped meanwhile")
            return
        except BundleError as error:
            left_out.append(error.message)
            return
        yield from (head, *found)
