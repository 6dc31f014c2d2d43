"""A bundle becomes a session: verified, put together beside its place, then renamed.

In a process of its own, which has a limit on its memory: what DuckDB makes of a hostile table is not the hub's risk.
No torch, and nothing is unpickled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_type_hints

import msgspec

from onthefly.bundle import checks, discretion, files, names, source
from onthefly.bundle.archive import Bundle
from onthefly.bundle.refusals import Damaged, NotWritten, Untrusted
from onthefly.errors import ExitCode, OnTheFlyError
from onthefly.hub import branches, loading, told
from onthefly.hub.columns import BadColumns
from onthefly.hub.controls import bounded
from onthefly.hub.folder import SessionFile
from onthefly.protocol import (
    RUN_PATTERN,
    SESSION_ALPHABET,
    SESSION_PATTERN,
    CheckpointInfo,
    Runs,
    Session,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.hub.loading import Counts

SPARE = 64 << 20
"""Bytes that stay free on the disk."""

MEMORY = 4 << 30
"""Address space of the process that imports."""

SECONDS = 3600.0
MAX_TEXT, MAX_WORDS, MAX_NUMBER = 500, 200, 1 << 53
_NEEDED = ("session.json", "runs.json", "environment.json", "journal.jsonl")
_WHY = get_args(get_type_hints(CheckpointInfo)["why"])


def import_bundle(file: Path, sessions: Path, *, trust: bool = False) -> str:
    """Make a session of the bundle ``file`` in the folder ``sessions``; its id: the bundle's own if that is free.

    Raises :class:`~onthefly.errors.OnTheFlyError`; then nothing is there that was not there before.
    """
    sessions.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.sweep(sessions, start=False)
    with Bundle(file, max(0, shutil.disk_usage(sessions).free - SPARE)) as bundle:
        own = _own_id(bundle)
        if bundle.pickled and not trust:
            raise Untrusted(f"{file.name} holds pickled objects ({', '.join(bundle.pickled[:5])}): to load them is to "
                          "run what its maker put there",
                          "if you trust who made it: onthefly import --trust")  # fmt: skip
        identifier = own
        while True:
            if os.path.lexists(sessions / identifier):
                identifier = "".join(secrets.choice(SESSION_ALPHABET) for _ in range(len(own)))
                continue
            place, chosen = sessions / identifier, identifier
            try:
                files.make_folder(place, lambda temporary, chosen=chosen: _fill(temporary, bundle, chosen))
            except NotWritten:
                if not os.path.lexists(place):
                    raise
                continue  # another import was faster
            return identifier


def in_child(file: Path, sessions: Path, *, trust: bool = False) -> str:
    """The same in a process of its own. To be called in a thread: it waits."""
    command = [sys.executable, "-m", "onthefly.hub.importing", str(file.absolute()), str(sessions)]
    command += ["--trust"] if trust else []
    sessions.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # There: `-m` looks for modules in the folder that it is in, and that one is ours.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False,
                              cwd=sessions)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Damaged(f"{file.name} was not read within {SECONDS:.0f} s", "") from error
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise Damaged(f"{file.name} could not be read: the process that did has died ({_last(done.stderr)})",
                      "nothing was taken from it") from error  # fmt: skip
    if "session" in answer:
        return str(answer["session"])
    fault = OnTheFlyError(answer["message"], answer["remedy"])
    fault.exit_code, fault.code = ExitCode(answer["exit"]), answer["code"]
    raise fault


def _last(text: bytes) -> str:
    return (text.decode("utf-8", "replace").strip().splitlines() or ["without a word"])[-1][:200]


def _own_id(bundle: Bundle) -> str:
    own = bundle.manifest.get("session")
    if bundle.manifest.get("kind") != "session" or type(own) is not str or not SESSION_PATTERN.fullmatch(own):
        raise Damaged(f"{bundle.path.name} is not the bundle of a session")
    lacking = [name for name in _NEEDED if name not in bundle.members]
    if lacking:
        raise Damaged(f"{bundle.path.name} lacks {lacking[0]}")
    return own


def _fill(folder_: Path, bundle: Bundle, identifier: str) -> None:
    """Everything of the session, in a folder that has another name yet."""
    session = _session(bundle.read("session.json", checks.MAX_DOCUMENT))
    _decoded(bundle.read("runs.json", checks.MAX_DOCUMENT), Runs, "runs.json")
    if type(checks.document(bundle.read("environment.json", checks.MAX_DOCUMENT), "environment.json")) is not dict:
        raise Damaged("environment.json is no table")
    for member in bundle.members:
        if member not in ("session.json", "runs.json"):
            path = folder_ / member
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            bundle.extract(member, path)
    checkpoints = _checkpoints(folder_, bundle)
    counts = loading.load(folder_, identifier)
    shutil.rmtree(folder_ / "tables", ignore_errors=True)
    for name in ("journal.jsonl", "logs.jsonl", *(f"{kind}.jsonl" for kind in told.KINDS)):
        (folder_ / name).unlink(missing_ok=True)
    _finish(session, bundle, identifier, counts, checkpoints)
    content = SessionFile(node=platform.node(), hub_pid=0, session=session)
    files.write_file(folder_ / "session.json", [msgspec.json.encode(content)])


def _checkpoints(folder_: Path, bundle: Bundle) -> list[CheckpointInfo]:
    """Those that are there, each verified against its own manifest."""
    placed: dict[str, dict[str, tuple[int, str]]] = {}
    for member in bundle.members.values():
        found = names.CHECKPOINT.fullmatch(member.name)
        if found:
            place = member.name.rpartition("/")[0]
            placed.setdefault(place, {})[found[3]] = (member.bytes, member.sha256)
    rows: list[CheckpointInfo] = []
    for place, copied in placed.items():
        about = source.check_against(folder_ / place, copied)
        if place.startswith(source.FOLDER):
            rows.append(_row(place.rpartition("/")[2], about, sum(size for size, _ in copied.values())))
    return sorted(rows, key=lambda row: row.time)


def _row(name: str, about: dict[str, Any], size: int) -> CheckpointInfo:
    why: Any = about.get("reason")
    run, when = about.get("run"), about.get("time")
    step, epoch = about.get("step"), about.get("epoch")
    good = type(run) is str and RUN_PATTERN.fullmatch(run) and type(when) in (int, float) and math.isfinite(when or 0.0)
    if not good or not all(type(number) is int and 0 <= number < MAX_NUMBER for number in (step, epoch)):
        raise Damaged(f"the checkpoint {name} is none of a training")
    return CheckpointInfo(
        name=name, run=str(run), step=int(step or 0), epoch=int(epoch or 0), time=float(when or 0.0),
        why=why if why in _WHY else "asked", memory=0, disk=size, state="durable",
        reason="the script of an imported session does not run here",
        resume=str(about.get("resume", "it was made by a version that could not resume"))[:MAX_TEXT],
    )  # fmt: skip


def _session(data: bytes) -> Session:
    """The session as it was written, with texts and lists of moderate length."""
    checks.document(data, "session.json")
    found: Session = _decoded(data, Session, "session.json")
    found = _decoded(msgspec.json.encode(_cut(msgspec.to_builtins(found))), Session, "session.json")
    numbers = (found.step, found.epoch, found.world_size)
    times = (found.started, found.since, found.ended or 0.0)
    if not all(0 <= number < MAX_NUMBER for number in numbers) or not all(0 <= one < 1e11 for one in times):
        raise Damaged("session.json holds numbers that no hub has written")
    if not RUN_PATTERN.fullmatch(found.run):
        raise Damaged("session.json names a run that is none")
    try:
        found.branches = [branches.checked(branch) for branch in found.branches]
        found.controls = bounded(found.controls)
    except BadColumns as error:
        raise Damaged(f"session.json: {error}") from error
    return found


def _decoded(data: bytes, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{what} is not what was written: {error}") from error


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, list):
        return [_cut(item) for item in value[:MAX_WORDS]]
    if isinstance(value, dict):
        return {name[:MAX_TEXT]: _cut(item) for name, item in list(value.items())[:MAX_WORDS]}
    return value


def _finish(
    session: Session, bundle: Bundle, identifier: str, counts: Counts, checkpoints: list[CheckpointInfo]
) -> None:
    was = f", where it was {session.id}" if session.id != identifier else ""
    ended = f"; it was {session.state}" if session.state != "ended" else ""
    session.id, session.state, session.since, session.by = identifier, "imported", time.time(), ""
    sent = bundle.path.name.startswith(files.PREFIX)  # over HTTP: it never had a name here
    session.reason = f"imported{'' if sent else f' from {bundle.path.name[:100]}'}{was}{ended}"
    session.argv = discretion.arguments(session.argv)
    session.ended = session.ended or session.since
    session.samples, session.backwards, session.metrics = counts.samples, counts.backwards, counts.metrics
    session.logs, session.journal, session.health = counts.logs, counts.journal, counts.health
    session.unsaved_since, session.unsaved_reason, session.pinned = None, "", False
    session.controls.pauses, session.controls.checkpoints = [], checkpoints[-200:]
    for rank in session.ranks:
        rank.connected, rank.state = False, "ended"


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; or it is lower already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main(argv: Sequence[str]) -> int:
    """The process of :func:`in_child`: answers in JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("sessions", type=Path)
    parser.add_argument("--trust", action="store_true")
    options = parser.parse_args(argv)
    _limit_memory()
    try:
        answer: dict[str, Any] = {"session": import_bundle(options.file, options.sessions, trust=options.trust)}
    except OnTheFlyError as error:
        answer = {"message": error.message, "remedy": error.remedy, "exit": int(error.exit_code), "code": error.code}
    except MemoryError:
        answer = {"message": f"{options.file.name} asks for more memory than an import may take", "remedy": "",
                  "exit": int(ExitCode.REFUSED), "code": "too_large"}  # fmt: skip
    sys.stdout.write(json.dumps(answer))
    return ExitCode.DONE


def _run() -> NoReturn:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    _run()
