"""What a resumed script prints and writes before its step leaves nothing in the world, whatever becomes of it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from onthefly.core import undo
from onthefly.state.outputs import put_all_right

REPOSITORY = Path(__file__).resolve().parents[2]

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
ENVIRONMENT["PYTHONPATH"] = str(REPOSITORY)

HOLD = """
import os, sys
from pathlib import Path
from onthefly.core.early import Prefix, early_hold
held = early_hold({backup!r} + str(os.getpid()), [{resumes!r}])
"""

PREFIX = """
import json, shutil, time
print("held out"); print("held error", file=sys.stderr); os.write(1, b"held fd"); os.system("echo held child")
shutil.rmtree("out"); os.makedirs("out/sub"); json.dump({"at": time.time()}, open("out/config.json", "w"))
open("log.txt", "w").write("begun anew")
with open("appended.txt", "a") as file:
    file.write("more")
with open("patched.bin", "r+b") as file:
    file.seek(2); file.write(b"--")
os.truncate("short.txt", 1)
os.rename("folder", "renamed"); open("renamed/inside", "a").write("x"); os.makedirs("folder"); open("folder/new", "w")
open("fresh.tmp", "w").write("fresh"); os.replace("fresh.tmp", "replaced.txt")
os.rename("rotated.txt", "rotated.txt.1"); open("rotated.txt.1", "a").write("x"); open("rotated.txt", "w").write("y")
os.remove("link"); os.symlink("log.txt", "link"); open("through", "a").write("x")
os.link("linked.txt", "other"); open("other", "a").write("x")
os.chmod("mode.txt", 0o600); Path("touched.txt").touch(); os.rmdir("empty"); os.mkdir("made")
late = open("late.txt", "w"); late.write("written when the process ends")
"""

RELEASE = """
problems = held.end()
held.streams.let_go()
print("seen"); sys.stdout.flush()
assert not problems, problems
"""


class World:
    """A folder with files, in which scripts are resumed."""

    def __init__(self, folder: Path) -> None:
        self.resumes = folder / "resumes"
        self.here = folder / "here"
        for name in ("out/old", "folder", "empty"):
            (self.here / name).mkdir(parents=True)
        for name in ("out/old/a", "out/config.json", "log.txt", "appended.txt", "patched.bin", "short.txt", "folder/x",
                     "folder/inside", "replaced.txt", "rotated.txt", "linked.txt", "mode.txt", "touched.txt", "target",
                     "late.txt"):  # fmt: skip
            (self.here / name).write_text(f"{name} as it was\n" * 10)
        (self.here / "mode.txt").chmod(0o644)
        (self.here / "link").symlink_to("appended.txt")
        (self.here / "through").symlink_to("target")
        self.before = self.look()

    def look(self) -> dict[str, tuple[object, ...]]:
        """Every path: a file's content, identity, mode and time; a link's target."""
        found: dict[str, tuple[object, ...]] = {}
        for path in sorted(self.here.rglob("*")):
            name, now = str(path.relative_to(self.here)), path.lstat()
            if path.is_symlink():
                found[name] = (os.readlink(path),)
            elif path.is_dir():
                found[name] = (now.st_mode,)
            else:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[name] = (digest, now.st_ino, now.st_mode, now.st_mtime_ns, now.st_nlink)
        return found

    def run(self, text: str) -> Ended:
        """Run a script that holds first."""
        script = self.here.parent / "script.py"
        begin = HOLD.format(backup=str(self.resumes / "backup-"), resumes=str(self.resumes))
        script.write_text(begin + textwrap.dedent(text))
        done = subprocess.run([sys.executable, str(script)], cwd=self.here, capture_output=True, timeout=60,
                              check=False, env=ENVIRONMENT)  # fmt: skip
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A folder in which much can be spoilt."""
    return World(tmp_path)


def test_nothing_of_the_prefix_is_left(world: World) -> None:
    ended = world.run(PREFIX + RELEASE)
    assert ended == (0, "seen\n", "")
    assert world.look() == world.before
    assert list(world.resumes.iterdir()) == []


def test_the_prefix_does_all_that(world: World) -> None:
    world.run("held.writes.rest()" + PREFIX)
    after = world.look()
    spoilt = {name for name in world.before if after.get(name) != world.before[name]}
    assert spoilt >= {"out/config.json", "out/old/a", "log.txt", "appended.txt", "patched.bin", "short.txt", "folder/x",
                      "replaced.txt", "rotated.txt", "link", "linked.txt", "mode.txt", "touched.txt", "empty", "target",
                      "late.txt"}  # fmt: skip


def test_a_killed_prefix_is_put_right_by_the_next(world: World) -> None:
    ended = world.run(PREFIX + "os.kill(os.getpid(), 9)")
    assert ended.code == -signal.SIGKILL
    assert world.look() != world.before
    assert put_all_right(world.resumes) == []
    assert world.look() == world.before
    assert list(world.resumes.iterdir()) == []


def test_putting_right_can_be_killed_and_begun_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(PREFIX + "os.kill(os.getpid(), 9)")
    (backup,) = world.resumes.iterdir()
    deeds = (backup / "journal").read_bytes().count(b"\n")
    assert deeds > 20

    class KilledHere(Exception):
        pass

    one = undo._undo_one  # pyright: ignore[reportPrivateUsage]
    for after in (True, False):
        for stop in range(1, 4):
            count = 0

            def dies(*arguments: object, after: bool = after, stop: int = stop) -> str:
                nonlocal count
                count += 1
                if count == stop and not after:
                    raise KilledHere
                told = one(*arguments)  # pyright: ignore[reportArgumentType]
                if count == stop:
                    raise KilledHere  # the deed is undone, and the journal does not say so
                return told

            monkeypatch.setattr(undo, "_undo_one", dies)
            with pytest.raises(KilledHere):
                put_all_right(world.resumes)
    monkeypatch.setattr(undo, "_undo_one", one)
    assert put_all_right(world.resumes) == []
    assert world.look() == world.before


def test_a_prefix_that_lives_is_left_alone(world: World) -> None:
    ended = world.run(PREFIX + f"""
    import subprocess
    code = "from pathlib import Path; from onthefly.core.undo import put_right; print(put_right(sys.argv[1]))"
    code = "import sys; " + code
    now = sorted(os.listdir({str(world.resumes)!r} + "/backup-" + str(os.getpid())))
    said = subprocess.run([sys.executable, "-c", code, {str(world.resumes)!r} + "/backup-" + str(os.getpid())],
                          stdout=subprocess.PIPE, check=True).stdout
    assert now == sorted(os.listdir({str(world.resumes)!r} + "/backup-" + str(os.getpid())))
    """.replace("\n    ", "\n") + RELEASE)  # fmt: skip
    assert ended == (0, "seen\n", "")
    assert world.look() == world.before


@pytest.mark.parametrize(
    ("end", "code", "last"),
    [
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("sys.exit(3)", 3, "held error"),
        ("sys.exit('with a word')", 1, "with a word"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("held.fail('it did not fit')", 0, "it did not fit"),
    ],
)
def test_a_prefix_that_ends_says_what_it_said_last(world: World, end: str, code: int, last: str) -> None:
    ended = world.run(PREFIX + end)
    assert ended.code == code
    assert ended.out == ""
    assert "held error\n" in ended.err
    assert last in ended.err
    assert "bytes of standard output were held back" in ended.err
    assert world.look() == world.before


def test_the_last_of_much_is_shown(world: World) -> None:
    ended = world.run("for number in range(40000): print(number, file=sys.stderr)")
    assert "bytes of standard error left out" in ended.err
    assert "\n39999\n" in ended.err
    assert 64 * 1024 <= len(ended.err) <= 66 * 1024


def test_what_cannot_be_undone_ends_it_before_it_is_done(world: World) -> None:
    ended = world.run("import sqlite3\nsqlite3.connect('results.db')")
    assert ended.code == 5
    assert "it opens the database results.db" in ended.err
    assert world.look() == world.before


def test_a_file_that_is_too_large_to_copy(world: World) -> None:
    with open(world.here / "large", "wb") as file:
        file.truncate(5 << 30)
    ended = world.run("open('large', 'r+b')")
    assert ended.code == 5
    assert "large is larger than 4 GiB" in ended.err
    assert (world.here / "large").stat().st_size == 5 << 30
    assert world.run("open('large', 'wb').write(b'x')" + RELEASE).code == 0  # it is emptied: nothing has to be copied
    assert (world.here / "large").stat().st_size == 5 << 30


def test_buffering_and_terminal_are_what_they_were(world: World) -> None:
    reader, terminal = os.openpty()
    script = world.here.parent / "script.py"
    begin = HOLD.format(backup=str(world.resumes / "backup-"), resumes=str(world.resumes))
    script.write_text(begin + textwrap.dedent("""
        import ctypes
        libc = ctypes.CDLL(None)
        was = sys.stdout.isatty(), sys.stdout.line_buffering
        print("held"); libc.puts(b"held in C")
        held.end(); held.streams.let_go()
        assert (was, sys.stdout.isatty(), "isatty" in vars(sys.stdout)) == ((True, True), True, False)
        print("seen"); libc.puts(b"seen in C"); os._exit(0)
    """))  # fmt: skip
    code = subprocess.run([sys.executable, str(script)], cwd=world.here, stdout=terminal, env=ENVIRONMENT, timeout=60,
                          check=False).returncode  # fmt: skip
    os.close(terminal)
    seen = b""
    while b"in C\r\n" not in seen:
        seen += os.read(reader, 1000)  # OSError at its end
    os.close(reader)
    assert (code, seen) == (0, b"seen\r\nseen in C\r\n")


def test_no_module_is_loaded_that_could_hide_one_of_the_script() -> None:
    code = (
        "import sys; before = set(sys.modules); import onthefly.core.early; "
        "print([name for name in set(sys.modules) - before if not name.startswith('onthefly')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=ENVIRONMENT, timeout=60)
    assert done.stdout == b"['atexit']\n"  # of the interpreter itself


def test_what_torch_writes_by_itself_and_open_files_that_are_lost(world: World) -> None:
    ended = world.run("""
    from onthefly.errors import Guard
    from onthefly.state.outputs import Outputs
    import torch
    outputs = Outputs(Path("unused"), Guard("holding", strict=True))
    outputs.hold()
    torch.save({"a": torch.ones(3)}, "log.txt")
    torch.save({"a": torch.ones(3)}, Path("new.pt"))
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), "target")
    left = open("appended.txt", "a")
    outputs.say("on the real one")
    outputs.progress(3, 9); outputs.progress(4, 9)
    told = outputs.release()
    assert len(told) == 1 and "appended.txt is open" in told[0], told
    torch.save({"a": torch.ones(3)}, "after.pt")
    """.replace("\n    ", "\n"))  # fmt: skip
    lines = [line for line in ended.err.splitlines() if "jit" not in line]
    assert (ended.code, ended.out) == (0, "")
    assert lines == ["onthefly: on the real one", "onthefly: resuming: step 3 of 9"]
    after = world.look()
    assert after.pop("after.pt")
    assert after == world.before
