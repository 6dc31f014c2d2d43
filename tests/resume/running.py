"""Runs a script plain, interrupted at an exact pause point, and resumed from a checkpoint: each in a fresh process.

A checkpoint, and what ends the process, are planned in a journal (``ONTHEFLY_REPLAY``): so they come at the same pause
point on every machine, with no command that could be late. A journal repeats only what alters training; a ``rewind``
says which entries hold, and the one written here names all of them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.launch import shim_folder
from onthefly.settings import Settings
from tests.conftest import REPOSITORY, running, wait_for

if TYPE_CHECKING:
    from tests.resume.cases import Case

SCRIPTS = Path(__file__).with_name("scripts")
SECONDS = 100.0
"""The longest that one process may take."""

LAUNCHED = hasattr(Settings({}), "resume_expected")
"""Whether this version has ``--resume``."""

OURS = re.compile(r"onthefly: [^\n]*\n")

PLAIN = {k: v for k, v in os.environ.items() if not k.startswith(("ONTHEFLY_", "PYTHON"))}
PLAIN.update(OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")


class Cut(NamedTuple):
    """Where a process makes its checkpoint, and how it ends."""

    point: int
    """The checkpoint is made at this pause point (steps of all optimizers; else backward calls)."""
    way: str = "hold"
    """``hold``: killed where the checkpoint is; ``kill``: killed later; ``stop``: ended by :class:`onthefly.Stop` at
    that step or later; ``on``: goes on to its own end."""
    later: int = 0
    """How many pause points later."""
    more: tuple[int, ...] = ()
    """Pause points of further checkpoints."""

    @property
    def points(self) -> list[int]:
        """Of all its checkpoints."""
        return [self.point, *self.more]


class Ran(NamedTuple):
    """What a process left: its exit code, what it printed, and all files of its folder."""

    code: int
    out: str
    err: str
    files: dict[str, bytes]

    @property
    def ours(self) -> list[str]:
        """The lines that OnTheFly said."""
        return OURS.findall(self.err)

    @property
    def theirs(self) -> str:
        """Standard error without these lines, which may come where the script has not ended its own."""
        return OURS.sub("", self.err)


class Bench:
    """Folders for the processes of one script, and the hub that they share; to be used in a ``with`` block."""

    def __init__(self, folder: Path, case: Case, home: Path | None = None, launched: bool = LAUNCHED) -> None:
        """``home``: runtime and data folders of a hub that others use too; else one of its own is ended with it.

        ``launched``: by ``python -m onthefly`` and its ``--resume``; else as these do it, in fewer processes and with
        no receipt.
        """
        self.folder = folder
        self.script = SCRIPTS / f"{case.name}.py"
        self.session = ""
        self._case, self._home, self._own, self._launched = case, home or folder, home is None, launched
        self._count = 0
        self._environment = {
            **PLAIN,
            "ONTHEFLY_RUNTIME_DIR": str(self._home / "runtime"),
            "ONTHEFLY_DATA_DIR": str(self._home / "data"),
            "ONTHEFLY_PORT": "47820",
            "ONTHEFLY_IDLE_SECONDS": "20",
            "ONTHEFLY_STRICT": "1",
        }
        folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(self, point: int) -> Path:
        """The folder of the checkpoint made there."""
        return self._home / "data" / "sessions" / self.session / "checkpoints" / f"at{point}"

    def usable(self, point: int) -> Path:
        """The checkpoint made there; or, where nobody can go on from it, the one that was made in its place later."""
        asked = self.checkpoint(point)
        if _refusal(asked):
            made = [path for path in asked.parent.iterdir() if (path / "manifest.json").exists()]
            later = [path for path in made if not path.name.startswith("at") and not _refusal(path)]
            return min(later, key=lambda path: path.stat().st_mtime, default=asked)
        return asked

    def plain(self) -> Ran:
        """Without OnTheFly, to its end."""
        out = self._work("plain")
        return self._ended(self._start([sys.executable, *self._words(out)], PLAIN), out)

    def watched(self, cut: Cut | None, resume: Path | None = None) -> Ran:
        """Under OnTheFly, from the start or resumed from a checkpoint, to its end or to the cut."""
        out = self._work("watch", keep=resume is not None)
        environment = dict(self._environment)
        if resume is None:
            self.session = ""
        if cut is not None:
            environment["ONTHEFLY_REPLAY"] = str(self._journal(cut))
        if cut is not None and cut.way == "stop":
            steps = -(-(cut.point + cut.later) // self._case.points)  # of the first optimizer
            environment["ONTHEFLY_STEPS"] = str(steps + (self._case.points > 1))
        command = self._launch(resume) if self._launched else self._as_launched(environment, resume)
        process = self._start([*command, *self._words(out)], environment)
        if cut is not None and cut.way in ("hold", "kill"):
            self._kill(process, cut)
        return self._ended(process, out)

    def _launch(self, resume: Path | None) -> list[str]:
        """The command line; a checkpoint is named by its place, as it stands in its manifest."""
        command = [sys.executable, "-m", "onthefly"]
        if resume is None:
            return command
        manifest = json.loads((resume / "manifest.json").read_bytes())
        return [*command, "--resume", f"{self.session}@{manifest['run']}:{manifest['step']}"]

    def _as_launched(self, environment: dict[str, str], resume: Path | None) -> list[str]:
        """What the launcher does: variables, its own process id among them, and ``exec``, which keeps that."""
        self.session = self.session or "".join(secrets.choice("23456789abcdefghjkmnpqrstuvwxyz") for _ in range(8))
        shim = str(shim_folder())
        environment.update(ONTHEFLY_SESSION=self.session, ONTHEFLY_SHIM=shim, PYTHONPATH=shim)
        if resume is not None:
            environment["ONTHEFLY_RESUME"] = str(resume)
        return ["/bin/sh", "-c", 'export ONTHEFLY_TARGET=$$; exec "$@"', "sh", sys.executable]

    def put(self, files: dict[str, bytes]) -> None:
        """Have the folder of the watched script hold these files."""
        out = self._work("watch")
        for name, content in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        if self._own:
            end_hub(self._home)

    def _work(self, name: str, keep: bool = False) -> Path:
        """The script's folder: of the same length of path in both ways, for scripts that print it."""
        out = self.folder / name / "out"
        if not keep:
            shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        return out

    def _words(self, out: Path) -> list[str]:
        return [str(self.script), str(out), *self._case.given]

    def _journal(self, cut: Cut) -> Path:
        entries = [("checkpoint", point, {"name": f"at{point}"}) for point in cut.points]
        if cut.way in ("hold", "kill"):
            entries.append(("pause", cut.point + cut.later, {}))
        lines: list[dict[str, Any]] = [self._entry(name, point, args) for name, point, args in entries]
        lines.append({**self._entry("rewind", 0, {}), "after": {"entries": list(range(len(lines)))}})
        path = self.folder / f"journal{self._count}.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
        return path

    def _entry(self, name: str, at: int, args: dict[str, Any]) -> dict[str, Any]:
        point = at if self._case.unit == "point" else 0
        return {"name": name, "args": args, "after": {}, "point": point, "backward": at, "step": at}

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self._count += 1
        with self._said("out").open("wb") as out, self._said("err").open("wb") as err:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=REPOSITORY, env=environment,
                start_new_session=True,
            )  # fmt: skip

    def _said(self, stream: str) -> Path:
        return self.folder / f"std{stream}{self._count}"

    def _kill(self, process: subprocess.Popen[bytes], cut: Cut) -> None:
        """``kill -9`` the script and its workers, when the last checkpoint is durable and the script is held."""

        def made() -> bool:
            self._learn_session()
            written = bool(self.session) and (self.checkpoint(max(cut.points)) / "manifest.json").exists()
            return written or process.poll() is not None

        wait_for(f"a checkpoint at {max(cut.points)}", made, SECONDS)
        if cut.later:
            wait_for("the pause", _Still(process, self._said("out")), SECONDS)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def _ended(self, process: subprocess.Popen[bytes], out: Path) -> Ran:
        try:
            code = process.wait(SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._learn_session()
        return Ran(code, self._text("out"), self._text("err"), read_files(out))

    def _learn_session(self) -> None:
        """The launcher draws the session's id, and the session says it."""
        found = None if self.session else re.search(r"^onthefly: session (\w{8})\b", self._text("err"), re.MULTILINE)
        if found:
            self.session = found[1]

    def _text(self, stream: str) -> str:
        return self._said(stream).read_text(encoding="utf-8", errors="surrogateescape")


def _refusal(checkpoint: Path) -> str:
    """Why nothing can be resumed from it; empty: it can, or is not there."""
    manifest = checkpoint / "manifest.json"
    return str(json.loads(manifest.read_bytes()).get("resume", "")) if manifest.exists() else ""


class _Still:
    """Whether a process has come to rest: it printed nothing and took no processor time between two looks."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self._process, self._out = process, out
        self._last: tuple[object, ...] = ()
        self._since = 0.0

    def __call__(self) -> bool:
        if self._process.poll() is not None:
            return True
        fields = Path(f"/proc/{self._process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        now = (fields[11], fields[12], self._out.stat().st_size)
        if now != self._last:
            self._last, self._since = now, time.monotonic()
        return time.monotonic() - self._since > 0.3


def end_hub(home: Path) -> None:
    """End the hub that uses these folders, if one runs."""
    try:
        pid = json.loads((home / "runtime" / "hub.json").read_bytes())["pid"]
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    wait_for("the hub's end", lambda: not running(pid))


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
