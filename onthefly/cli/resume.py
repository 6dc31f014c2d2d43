"""``onthefly run --resume REF``: which session, which of its checkpoints, and what the process that goes on is told.

REF is a session (``last``, an id, a unique prefix) or a bundle (``FILE.otf``), then ``@RUN``, ``@RUN:STEP``, ``@:STEP``
or nothing. Nothing is guessed: a step that has no checkpoint, or one that cannot be gone on from, is refused with what
there is instead.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Optional
from urllib.parse import quote

from onthefly.bundle import folder
from onthefly.bundle.refusals import BundleError
from onthefly.core import expected, start
from onthefly.core.undo import put_all_right
from onthefly.errors import NoSuchSession, Refused, UsageError, report
from onthefly.launch import run
from onthefly.link.client import Client
from onthefly.link.discovery import alive
from onthefly.protocol import FINAL_STATES, LIVE_STATES, RUN_PATTERN
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETTLE_SECONDS = 6.0
"""How long the hub may take to see that a script has been killed, and one that is ended at once to be gone."""

POLL_SECONDS = 0.05
MAX_NAMED = 20
"""Steps that an error lists."""

SEVERAL = re.compile(r"torchrun|accelerate|deepspeed|mpirun|mpiexec|srun|torch\.distributed\.(run|launch)")


class Reference(NamedTuple):
    """What ``--resume`` names."""

    place: str
    """A session, or the path of a bundle."""
    run: str = ""
    step: Optional[int] = None

    @classmethod
    def of(cls, text: str) -> Reference:
        """Read it; :class:`UsageError` if it is none."""
        place, at, rest = text.rpartition("@")
        if not at or os.path.exists(text):
            return cls(text)
        name, colon, step = rest.partition(":")
        good = place and (RUN_PATTERN.fullmatch(name) or (colon and not name))
        if not good or (colon and not re.fullmatch(r"[0-9]{1,15}", step)):
            raise UsageError(f"{text!r} names no moment of a session", "SESSION, SESSION@RUN, SESSION@RUN:STEP")
        return cls(place, name, int(step) if colon else None)


class Kept(NamedTuple):
    """A checkpoint on the disk."""

    path: Path
    manifest: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.manifest['run']}:{self.manifest['step']}"

    @property
    def fault(self) -> str:
        """Why a script cannot go on from it; empty if it can."""
        said = self.manifest.get("resume")
        return "it was made by a version that could not resume" if not isinstance(said, str) else said


def resume(text: str, command: Sequence[str], overrides: Mapping[str, str]) -> int:
    """Go on from there with ``command``; without one, with the command line that the session had."""
    reference, settings = Reference.of(text), Settings()
    with Client(settings, start=True) as client:
        session = look_up(client, reference.place)
        checked_over(session)
        identifier = session["id"]
        of_session = settings.data_dir / "sessions" / identifier
        kept = choose(checkpoints(of_session / "checkpoints"), reference, identifier)
        manifest = kept.manifest
        origin = expected.Origin(identifier, manifest["run"], manifest["step"], manifest["backward"], kept.path.name)
        taken = runs(client, session)
        given = going_on(client, of_session, origin, expected.first_free(expected.RESUME, taken), taken)
    overrides = {**overrides, "ONTHEFLY_RESUME": str(kept.path.absolute())}
    return take_up(session, of_session, given, command, overrides)


def look_up(client: Client, place: str) -> dict[str, Any]:
    """A session as the hub tells it, once what has just been killed is known to be gone; of a bundle, as imported."""
    if place.endswith(".otf") or os.sep in place or os.path.isfile(place):
        place = imported(place)
    path = f"sessions/{quote(place, safe='')}"
    session: dict[str, Any] = client.json(path)
    limit = time.monotonic() + SETTLE_SECONDS
    while (session["state"] in LIVE_STATES) != _has_processes(session) or _leaves(session):
        if time.monotonic() > limit:
            break
        time.sleep(POLL_SECONDS)
        session = client.json(path)
    return session


def lives(session: Mapping[str, Any]) -> bool:
    """Whether its script runs."""
    return session["state"] in LIVE_STATES or _has_processes(session)


def checked_over(session: Mapping[str, Any]) -> None:
    """Refuse a session that a process is part of still, or that several ranks were."""
    if lives(session):
        by = next((f" (pid {rank['pid']})" for rank in session["ranks"] if _is_alive(rank)), "")
        raise Refused(f"session {session['id']} is {session['state']}: its script runs{by}",
                      f"stop it first: onthefly ctl {session['id']} stop")  # fmt: skip
    if session["world_size"] > 1:
        _several()


def imported(path: str) -> str:
    """The id of the session in a bundle, once that is imported."""
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {path}", "give a session (onthefly ps lists them), or a bundle's path")
    from onthefly.hub.importing import in_child

    settings = Settings()
    identifier = in_child(Path(path), settings.data_dir / "sessions", trust=False)
    with Client(settings, start=True) as client:
        client.post("import", {"session": identifier})
    return identifier


def checkpoints(parent: Path) -> list[Kept]:
    """What is on the disk, oldest first; what is damaged is told, and left out."""
    found: list[Kept] = []
    for name in folder.names(parent):
        try:
            manifest = folder.manifest(parent / name)
        except BundleError as error:
            sys.stderr.write(f"onthefly: {error.message}: left out\n")
            continue
        whole = all(type(manifest.get(key)) is int for key in ("step", "epoch", "backward"))
        whole = whole and isinstance(manifest.get("time"), (int, float))
        if manifest.get("kind") == "checkpoint" and whole and RUN_PATTERN.fullmatch(str(manifest.get("run"))):
            found.append(Kept(parent / name, manifest))
    return sorted(found, key=lambda kept: (kept.manifest["time"], kept.manifest["backward"]))


def choose(found: Sequence[Kept], asked: Reference, session: str) -> Kept:
    """The newest of the session, of the run, or at the step, that can be resumed; or an error says what there is."""
    if not found:
        raise Refused(f"session {session} has no checkpoint on the disk",
                      f"train with --autosave, or take one with: onthefly ctl {session} checkpoint")  # fmt: skip
    of_run = [kept for kept in found if asked.run in ("", kept.manifest["run"])]
    if not of_run:
        there = ", ".join(sorted({kept.manifest["run"] for kept in found}))
        raise NoSuchSession(f"session {session} has no checkpoint of run {asked.run}", f"there are some of: {there}")
    fitting = [kept for kept in of_run if asked.step in (None, kept.manifest["step"])]
    if not fitting:
        run = f" of run {asked.run}" if asked.run else ""
        raise NoSuchSession(
            f"session {session} has no checkpoint{run} at step {asked.step}", f"there is {_named(of_run)}"
        )
    newest = next((kept for kept in reversed(fitting) if not kept.fault), fitting[-1])
    if newest is not fitting[-1]:
        sys.stderr.write(f"onthefly: {fitting[-1].path.name} cannot be resumed ({fitting[-1].fault})\n")
    if newest.fault:
        others = [kept for kept in found if not kept.fault]
        remedy = f"these can be: --resume {session}@RUN:STEP with {_named(others)}" if others else ""
        raise Refused(f"checkpoint {newest.path.name} ({newest}) cannot be resumed: {newest.fault}", remedy)
    return newest


def runs(client: Client, session: Mapping[str, Any]) -> list[str]:
    """The names of runs that are taken in a session, those of resumes that came to nothing included."""
    recorded = client.json(f"sessions/{session['id']}/runs")["runs"]
    branches = [name for branch in session["branches"] for name in (branch["run"], branch["parent"])]
    return sorted({session["run"], *branches, *(run["name"] for run in recorded)})


def going_on(
    client: Client, of_session: Path, origin: expected.Origin, run_name: str, taken: Sequence[str]
) -> expected.Expected:
    """Write down as what the process goes on, and the losses that it must give again."""
    asked = {"run": origin.run, "first": origin.backward, "limit": expected.MAX_EXPECTED}
    losses = client.json(f"sessions/{origin.session}/losses", asked)
    rows = zip(losses["backward"], losses["step"], map(float.fromhex, losses["loss"]))
    number = 1 + max(expected.numbers(of_session), default=0)
    given = expected.Expected(number, run_name, list(taken), origin, list(rows))
    try:
        expected.write(of_session, given)
    except FileExistsError as error:
        raise Refused(f"session {origin.session} is being resumed by another process") from error
    return given


def take_up(
    session: Mapping[str, Any], of_session: Path, given: expected.Expected, command: Sequence[str],
    overrides: Mapping[str, str],
) -> int:  # fmt: skip
    """Become the process that goes on, in the world as it was before a resume that was killed on its way."""
    for problem in put_all_right(of_session / expected.FOLDER):
        report(problem)
    environment = {"ONTHEFLY_NAME": session["name"], "ONTHEFLY_PROJECT": session["project"], **overrides}
    environment["ONTHEFLY_SESSION"] = session["id"]
    environment["ONTHEFLY_RESUME_EXPECTED"] = str((of_session / expected.FOLDER / f"{given.number}.json").absolute())
    begun = _begun(of_session)
    if not command:
        command = _recorded(begun, session["id"])
        _enter(begun.get("cwd"))
    if any(SEVERAL.fullmatch(os.path.basename(word)) for word in command[:4]):
        _several()
    if isinstance(begun.get("hash_seed"), str) and begun["hash_seed"]:  # the order of sets depends on it
        environment["PYTHONHASHSEED"] = begun["hash_seed"]
        environment["ONTHEFLY_HASH_SEED"] = "" if Settings().hash_seed else "1"
    return run(command, environment, {rank["pid"] for rank in session["ranks"]})


def _begun(of_session: Path) -> dict[str, Any]:
    """How the session's first process began; empty where that is not recorded."""
    try:
        return start.read(str(of_session / start.NAME))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Refused(f"{of_session / start.NAME} cannot be read: {error}") from error


def _recorded(begun: Mapping[str, Any], session: str) -> list[str]:
    command: list[str] = begun.get("command", [])
    if not command:
        raise UsageError(f"the command line of session {session} is not recorded",
                         f"give it: onthefly run --resume {session} -- python train.py")  # fmt: skip
    return command


def _enter(cwd: Any) -> None:
    try:
        os.chdir(cwd or ".")
    except OSError as error:
        raise Refused(f"the session ran in {cwd}: {error.strerror}", "give its command line, from where it is to run"
                      ) from error  # fmt: skip


def _named(found: Sequence[Kept]) -> str:
    names = [str(kept) for kept in found[-MAX_NAMED:]]
    more = f"{len(found) - MAX_NAMED} older ones, " if len(found) > MAX_NAMED else ""
    return more + ", ".join(names)


def _has_processes(session: Mapping[str, Any]) -> bool:
    return any(map(_is_alive, session["ranks"]))


def _leaves(session: Mapping[str, Any]) -> bool:
    """Whether a process that has said its last words a moment ago is still there."""
    recent = session["ended"] is not None and time.time() - session["ended"] < SETTLE_SECONDS
    return recent and any(
        rank["node"] == platform.node() and rank["pid"] != os.getpid() and alive(rank["pid"])
        for rank in session["ranks"]
    )


def _is_alive(rank: Mapping[str, Any]) -> bool:
    """Whether that process runs. One that has said its last words does not count: its number may be another's by now.

    Of another host's, the hub's word is all there is.
    """
    if rank["state"] in FINAL_STATES or rank["pid"] == os.getpid():
        return False
    return alive(rank["pid"]) if rank["node"] == platform.node() else rank["state"] in LIVE_STATES


def _several() -> NoReturn:
    raise Refused("several ranks cannot be resumed in this version", "one process can: python train.py")
