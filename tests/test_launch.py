"""A script under us is the script under Python: run both ways, everything that can be seen is compared."""

from __future__ import annotations

import os
import re
import signal
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Ended, Home

SEEN = """
import os, sys, json
print(json.dumps([sys.argv, sys.path, __name__, globals().get("__file__"), os.getcwd(), sys.flags.optimize,
    list(sys.warnoptions), sys.executable, getattr(sys, "orig_argv", None), __package__,
    getattr(__spec__, "name", None),
    sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "msgspec", "numpy", "aiohttp", "duckdb")),
    sorted(k for k in os.environ if not k.startswith(("ONTHEFLY_", "PYTHONPATH")))]))
sys.stderr.write("words on stderr\\n")
"""

ENDINGS = {
    "return": "",
    "exception": "raise ValueError('of the script')",
    "nested": "def f(): raise KeyError(1)\ntry: f()\nexcept KeyError as e: raise RuntimeError('b') from e",
    "exit-3": "sys.exit(3)",
    "exit-text": "sys.exit('gone')",
    "exit-none": "sys.exit()",
    "os-exit": "sys.stdout.flush(); os._exit(4)",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "sys.stdout.flush(); os.kill(os.getpid(), 9)",
    "terminated": "sys.stdout.flush(); os.kill(os.getpid(), 15)",
    "abort": "sys.stdout.flush(); os.abort()",
    "atexit": "import atexit; atexit.register(print, 'bye')",
    "atexit-raises": "import atexit; atexit.register(lambda: 1 / 0)",
    "thread": "import threading; t = threading.Thread(target=lambda: print('in a thread')); t.start(); t.join()",
    "thread-raises": "import threading; t = threading.Thread(target=lambda: 1 / 0, name='t'); t.start(); t.join()",
    "late-thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
    "exit-in-thread": "import threading; threading.Thread(target=sys.exit, args=(5,)).start()",
    "no-torch": "try: import no_such_module\nexcept ImportError as e: print(e)",
    "closed-stdout": "sys.stdout.close()",
    "warns": "import warnings; warnings.warn('careful')",
}


_ADDRESS = re.compile(rb"0x[0-9a-f]+")


def both(home: Home, *arguments: str, options: tuple[str, ...] = (), **environment: object) -> tuple[Ended, Ended]:
    """The same command line, plain and watched."""
    plain = home.run(sys.executable, *options, *arguments, **environment)  # type: ignore[arg-type]
    ours = home.run(sys.executable, *options, "-m", "onthefly", *arguments, **environment)  # type: ignore[arg-type]
    return plain, ours


def assert_same(plain: Ended, ours: Ended) -> None:
    """Exit code and both streams are equal, but for the one line that we may say."""
    assert ours.code == plain.code
    assert ours.out == plain.out
    assert _ADDRESS.sub(b"0x", ours.err_without_ours()) == _ADDRESS.sub(b"0x", plain.err)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_as_it_does(home: Home, ending: str) -> None:
    (home.folder / "s.py").write_text(SEEN + ENDINGS[ending])
    assert_same(*both(home, "s.py", "--flag", "x y", "-m"))


@pytest.mark.parametrize("options", [("-O",), ("-W", "error"), ("-X", "dev"), ("-u",), ("-B", "-OO"), ("-q",)], ids=str)
def test_interpreter_options_are_kept(home: Home, options: tuple[str, ...]) -> None:
    (home.folder / "s.py").write_text(SEEN)
    assert_same(*both(home, "s.py", options=options))


@pytest.mark.parametrize("ending", ["return", "exception", "exit-3"])
@pytest.mark.parametrize("way", ["module", "package", "folder", "zip", "code", "stdin", "absolute"])
def test_every_way_to_name_a_script(home: Home, way: str, ending: str) -> None:
    source = SEEN + ENDINGS[ending]
    package = home.folder / "pkg"
    package.mkdir()
    for name in ("__init__", "__main__", "mod"):
        (package / f"{name}.py").write_text("" if name == "__init__" else source)
    with zipfile.ZipFile(home.folder / "app.zip", "w") as archive:
        archive.writestr("__main__.py", source)
    arguments = {
        "module": ("-m", "pkg.mod", "a"),
        "package": ("-m", "pkg", "a"),
        "folder": ("pkg", "a"),
        "zip": ("app.zip", "a"),
        "code": ("-c", source, "a"),
        "stdin": ("-", "a"),
        "absolute": (str(package / "mod.py"), "a"),
    }[way]
    assert_same(*both(home, *arguments, stdin=source.encode() if way == "stdin" else b""))


@pytest.mark.parametrize("path", [None, "", "/somewhere", f"/a{os.pathsep}/b"])
def test_the_path_is_plain_pythons(home: Home, path: str | None) -> None:
    (home.folder / "s.py").write_text(SEEN)
    if path is not None:
        home.environment["PYTHONPATH"] = path
    assert_same(*both(home, "s.py"))


def test_safe_path_is_kept(home: Home) -> None:
    (home.folder / "s.py").write_text(SEEN)
    assert_same(*both(home, "s.py", PYTHONSAFEPATH="1"))


def test_a_missing_script_and_a_broken_one(home: Home) -> None:
    (home.folder / "broken.py").write_text("def f(:\n")
    assert_same(*both(home, "absent.py"))
    assert_same(*both(home, "broken.py"))
    assert_same(*both(home, "-m", "no.such.module"))


def test_the_users_own_sitecustomize_still_runs(home: Home) -> None:
    own = home.folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins; builtins.mine = 'kept'")
    (home.folder / "s.py").write_text("print(mine, __import__('sitecustomize').__file__)")
    plain, ours = both(home, "s.py", PYTHONPATH=str(own))
    assert_same(plain, ours)
    assert b"kept" in ours.out


CHILDREN = """
import multiprocessing, pickle, subprocess, sys, os
class Thing:
    pass
def child(q):
    q.put((sys.argv, __name__, pickle.dumps(Thing()), sorted(m for m in sys.modules if m == "torch")))
if __name__ == "__main__":
    try:
        os.wait()
    except ChildProcessError:
        print("no child of ours")
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        q = context.Queue()
        p = context.Process(target=child, args=(q,))
        p.start(); print(method, q.get()); p.join(); print(p.exitcode)
    print(subprocess.run([sys.executable, "-c", "import sys; print(sys.path, sys.argv)"], capture_output=True).stdout)
"""


def test_children_and_pickles(home: Home) -> None:
    (home.folder / "s.py").write_text(CHILDREN)
    assert_same(*both(home, "s.py"))


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_options_that_keep_us_out_are_told(home: Home, option: str) -> None:
    (home.folder / "s.py").write_text("print('runs')")
    ours = home.run(sys.executable, "-m", "onthefly", "run", "--", sys.executable, option, "s.py")
    assert ours.code == 0
    assert ours.out == b"runs\n"
    assert ours.err.count(b"\n") == 1
    assert b"unobserved" in ours.err


@pytest.mark.parametrize("options", [("-sE",), ("-X", "dev", "-BI"), ("-W", "error", "-S")], ids=str)
def test_options_that_keep_us_out_are_found_among_others(home: Home, options: tuple[str, ...]) -> None:
    (home.folder / "s.py").write_text("print('runs')")
    ours = home.run(sys.executable, "-m", "onthefly", "run", "--", sys.executable, *options, "s.py")
    assert (ours.code, ours.out, ours.err.count(b"unobserved")) == (0, b"runs\n", 1)


@pytest.mark.parametrize("word", ["-S", "-E", "-I"])
def test_an_option_of_the_script_keeps_nobody_out(home: Home, word: str) -> None:
    (home.folder / "s.py").write_text(SEEN)
    assert_same(*both(home, "s.py", word))


@pytest.mark.parametrize("start", [("-m", "onthefly"), ("-Bm", "onthefly"), ("-monthefly",), ("-Bmonthefly",)], ids=str)
@pytest.mark.parametrize("arguments", [("s.py", "-m", "a"), ("-m", "s", "a"), ("-c", "import s", "-m")], ids=str)
def test_however_we_are_named_we_run_once(home: Home, start: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    (home.folder / "s.py").write_text(SEEN)
    options = ("-B",) if "B" in start[0] else ()
    plain = home.run(sys.executable, *options, *arguments)
    assert_same(plain, home.run(sys.executable, *start, *arguments, timeout=20))


def test_the_console_script_runs_once(home: Home) -> None:
    console = home.folder / "onthefly-console"
    console.write_text("import sys\nfrom onthefly.__main__ import main\nsys.exit(main())\n")
    (home.folder / "s.py").write_text(SEEN)
    for arguments in (("s.py", "-m", "a"), ("-m", "s", "a")):
        assert_same(home.python(*arguments), home.run(sys.executable, str(console), *arguments, timeout=20))


ARM_FAILS = """
import sys, types
session = types.ModuleType("onthefly.session")
def arm(settings, target):
    raise {error}
session.arm = arm
sys.modules["onthefly.session"] = session
import torch
print("goes on", torch.__name__)
"""


@pytest.mark.parametrize("error", ["KeyError(1)", "ImportError('late')", "AssertionError()", "MemoryError()"])
def test_a_session_that_cannot_open_is_one_line(home: Home, error: str) -> None:
    (home.folder / "s.py").write_text(ARM_FAILS.format(error=error))
    ours = home.run(sys.executable, "-m", "onthefly", "s.py")
    assert (ours.code, ours.out) == (0, b"goes on torch\n")
    assert ours.err.count(b"\n") == 1
    assert b"unobserved" in ours.err


def test_disabled_is_plain(home: Home) -> None:
    (home.folder / "s.py").write_text(SEEN)
    assert_same(*both(home, "s.py", ONTHEFLY_DISABLE="1"))
    assert home.hub_file() is None


def test_another_interpreter_stands_aside(home: Home) -> None:
    import venv

    venv.create(home.folder / "other", with_pip=False, symlinks=True)
    other = str(home.folder / "other" / "bin" / "python")
    (home.folder / "s.py").write_text("import sys; print(sys.argv)")
    ours = home.watched("run", "--", other, "s.py", "a")
    assert ours.code == 0
    assert ours.out == b"['s.py', 'a']\n"
    assert ours.err.count(b"\n") == 1
    assert b"unobserved" in ours.err


TRAINS = """
import sys, torch
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
torch.nn.functional.cross_entropy(model(torch.ones(4, 3)), torch.tensor([0, 1, 1, 0])).backward()
optimizer.step()
print(torch.__spec__.loader.__class__.__name__, torch.__loader__.__class__.__name__, len(sys.meta_path))
print(torch.autograd.backward.__name__, torch.autograd.backward.__module__)
"""


@pytest.mark.parametrize("ending", ["return", "exception", "exit-3", "interrupt", "atexit"])
def test_a_script_that_trains(home: Home, ending: str) -> None:
    (home.folder / "s.py").write_text("import os\n" + TRAINS + ENDINGS[ending])
    plain, ours = both(home, "s.py")
    assert_same(plain, ours)
    assert ours.err.count(b"onthefly: session") == 1
    state = {"exception": "crashed", "interrupt": "stopped"}.get(ending, "ended")
    assert home.wait_state("ended", "crashed", "stopped")["state"] == state


def test_quiet_says_nothing(home: Home) -> None:
    (home.folder / "s.py").write_text(TRAINS)
    assert home.watched("--quiet", "s.py").err == b""


def test_signals_reach_the_script(home: Home) -> None:
    (home.folder / "s.py").write_text(
        "import signal, sys, time\nprint('ready', flush=True)\n"
        "signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))\nprint(signal.getsignal(signal.SIGINT), flush=True)\n"
        "time.sleep(60)"
    )
    for number, code in ((signal.SIGTERM, 7), (signal.SIGINT, -2), (signal.SIGKILL, -9)):
        process = home.start(sys.executable, "-m", "onthefly", "s.py")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert b"default_int_handler" in process.stdout.readline()
        process.send_signal(number)
        assert process.wait(10) == code


def test_runpy_would_differ(home: Home) -> None:
    """The road not taken: running the script inside our own process shows in its traceback."""
    (home.folder / "s.py").write_text("raise ValueError('of the script')")
    plain = home.python("s.py")
    inside = home.python("-c", "import runpy; runpy.run_path('s.py', run_name='__main__')")
    assert inside.err != plain.err
