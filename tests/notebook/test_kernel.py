"""``%load_ext onthefly`` in real kernels: what is recorded, how cells and sessions end, what is left behind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conftest import wait_for
from tests.notebook.kernel import FOREVER, TRAINS, Kernel, command, running_kernel

if TYPE_CHECKING:
    from tests.conftest import Home

TRACES = (
    "[name for name in ('onthefly',) if name in get_ipython().magics_manager.magics['line']], "
    "[name for name in ('showtraceback',) if name in vars(get_ipython())], "
    "[f for f in get_ipython().events.callbacks['post_run_cell'] if 'onthefly' in str(f)], "
    "[f for f in sys.meta_path if 'onthefly' in type(f).__module__], "
    "[f for f in (DataLoader.__iter__, torch.autograd.backward, __import__('IPython').core.interactiveshell.warn) "
    "if hasattr(f, '__wrapped__')]"
)
"""What of ours stands in a kernel."""

TRAINER = """
model = torch.nn.Linear(3, 2)
trainer = onthefly.Trainer(run_name="with a Trainer", max_epochs=2)
trainer.fit(
    model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), loss_fn=F.cross_entropy,
    train_loader=DataLoader(TensorDataset(torch.randn(64, 3), torch.randint(0, 2, (64,))), 8),
)
"""


def keeps_the_token(home: Home, kernel: Kernel) -> bool:
    """Whether the token is in no output and in no file but the hub's own."""
    token: str = home.hub()["token"]
    files = [path for path in home.folder.rglob("*") if path.is_file() and path.name != "hub.json"]
    outputs = str([(cell.outputs, cell.reply) for cell in kernel.cells])
    return token not in outputs and not any(token.encode() in path.read_bytes() for path in files)


def test_from_loading_to_shutdown(home: Home) -> None:
    with running_kernel(home) as kernel:
        shown = kernel.run("%load_ext onthefly")
        assert shown.ok
        assert [output["kind"] for output in shown.outputs] == ["display_data"]
        assert "a session opens with torch - dashboard: http://127.0.0.1:" in shown.text
        assert re.search(r'<iframe class="onthefly" src="http://127\.0\.0\.1:\d+/\?pass=[\w-]{43}" ', shown.html)
        assert "ssh -L" in shown.html
        assert kernel.value("'torch' in __import__('sys').modules") == "False"
        kernel.run(TRAINS)
        first = home.wait_state("starting")
        assert (first["name"], first["script"], first["run"]) == ("my notes.ipynb", "some/my notes.ipynb", "baseline")
        kernel.run("train(2)")
        wait_for("all of the cell", lambda: home.get("sessions/last")["backwards"] == 16, 5)
        kernel.run("train(1)")
        failed = kernel.run("train(1)\n1 / 0")
        assert failed.outputs[-1]["ename"] == "ZeroDivisionError"
        assert "onthefly" not in "".join(failed.outputs[-1]["traceback"])
        wait_for("the cells after it", lambda: home.get("sessions/last")["backwards"] == 32, 5)
        assert home.get("sessions/last")["step"] == 32
        assert home.get("sessions/last")["state"] == "running"

        cell = kernel.start(f"train({FOREVER})")
        command(home, "stop")
        cell.wait()
        assert not cell.ok, "queued cells do not run after a stop"
        assert cell.text == f"onthefly: session {first['id']} was stopped; the next training opens another\n"
        assert home.wait_state("stopped")["id"] == first["id"]
        assert kernel.value("'alive'") == "alive"
        assert len(home.get("sessions")["sessions"]) == 1, "no session before the next training"
        kernel.run("train(1)")
        second = home.wait_state("running")
        assert (second["id"] != first["id"], second["name"]) == (True, "my notes.ipynb")
        assert f"session {second['id']} - dashboard" in kernel.run("%onthefly").text
        assert "takes no arguments" in kernel.run("%onthefly pause").text

        assert kernel.run("%load_ext onthefly").text.startswith("The onthefly extension is already loaded")
        assert kernel.run("%reload_ext onthefly").ok
        wait_for("the end of the second", lambda: home.get(f"sessions/{second['id']}")["state"] == "ended")
        kernel.run("train(1)")
        assert home.get("sessions/last")["id"] not in (first["id"], second["id"])
        assert kernel.value(TRACES).count("[]") == 1, "the look finds what is there"
        assert kernel.run("%unload_ext onthefly").ok
        assert kernel.value(TRACES) == "[] [] [] [] []"
        kernel.run("train(1)")
        assert home.wait_state("ended")["backwards"] == 8
        assert kernel.run("%onthefly").text.startswith("UsageError: Line magic function `%onthefly` not found")
        assert "To exit: use" in kernel.run("sys.exit(3)").text, "IPython says again what it says"
        kernel.run("%load_ext onthefly")
        newest = home.get("sessions/last")["id"]
        kernel.run("train(1)")
        assert keeps_the_token(home, kernel)
        kernel.shutdown()
    last = home.wait_state("ended")
    assert (last["id"] == newest, last["backwards"]) == (True, 8)


def test_loaded_twice_and_interrupted_while_paused(home: Home) -> None:
    finders = "len([f for f in __import__('sys').meta_path if 'onthefly' in type(f).__module__])"
    with running_kernel(home) as kernel:
        kernel.run("%load_ext onthefly")
        assert kernel.value(finders) == "1"
        kernel.run("%unload_ext onthefly")
        assert kernel.value(finders) == "0"
        kernel.run(TRAINS)
        kernel.run("train(1)")
        assert kernel.value(TRACES) == "[] [] [] [] []"
        assert home.get("sessions")["sessions"] == []
        assert "onthefly: session " in kernel.run("%load_ext onthefly").text, "torch was there before"
        cell = kernel.start(f"train({FOREVER})")
        command(home, "pause")
        held = home.wait_state("paused")
        kernel.interrupt()
        cell.wait()
        assert cell.outputs[-1]["ename"] == "KeyboardInterrupt"
        info = home.wait_state("running")
        assert (info["reason"], info["id"]) == ("the pause was interrupted", held["id"])
        kernel.run("train(1)")
        kernel.kill()
        assert home.wait_state("crashed")["id"] == held["id"]


def test_a_block_in_a_cell_is_a_session_of_its_own(home: Home) -> None:
    block = "with onthefly.session(project='demo', name='{}'):\n    train({})\n"
    with running_kernel(home) as kernel:
        kernel.run(f"{TRAINS}\nimport onthefly")
        plain = kernel.run(block.format("plain", 1))
        assert plain.ok
        assert [output["kind"] for output in plain.outputs] in ([], ["stream"]), "it shows nothing"
        kernel.run("%load_ext onthefly")
        assert kernel.run(block.format("the empty one", 2)).ok
        kernel.run("train(1)")
        assert kernel.run(block.format("of its own", 3)).ok
        again = kernel.run("with onthefly.session():\n    onthefly.session()")
        assert again.outputs[-1]["ename"] == "UsageError"
        kernel.run("with onthefly.session(name='fails'):\n    train(1)\n    1 / 0")
        kernel.run("train(4)")
        wait_for("the last", lambda: home.get("sessions/last")["backwards"] == 32)
        for _ in range(2):  # a cell that is run again
            assert kernel.run(TRAINER).ok
        wait_for("the last", lambda: home.get("sessions/last")["backwards"] == 16)
        found = [
            (one["name"], one["project"], one["backwards"], one["state"]) for one in home.get("sessions")["sessions"]
        ]
    assert found[::-1] == [
        ("plain", "demo", 8, "ended"), ("the empty one", "demo", 16, "ended"), ("my notes.ipynb", "", 8, "ended"),
        ("of its own", "demo", 24, "ended"), ("my notes.ipynb", "", 0, "crashed"), ("fails", "", 8, "crashed"),
        ("with a Trainer", "", 48, "ended"), ("with a Trainer", "", 16, "running"),
    ]  # fmt: skip


def test_tasks_threads_and_scripts(home: Home) -> None:
    (home.folder / "script.py").write_text(f"{TRAINS}\ntrain({FOREVER})\n")
    with running_kernel(home) as kernel:
        kernel.run(TRAINS)
        kernel.run("%load_ext onthefly")
        kernel.run("async def work(epochs):\n    for _ in steps(epochs):\n        await asyncio.sleep(0)")
        kernel.run("await work(2)")
        wait_for("what the cell awaited", lambda: home.get("sessions/last")["backwards"] == 16, 5)
        cell = kernel.start(f"await work({FOREVER})")
        command(home, "stop")
        assert "was stopped" in cell.wait().text
        home.wait_state("stopped")
        # A task that no cell waits for: its end must not be the kernel's.
        kernel.run(f"task = asyncio.create_task(work({FOREVER}))\nawait asyncio.sleep(0.2)")
        command(home, "stop")
        assert kernel.value("(await asyncio.wait([task])) and task.cancelled()") == "True"
        home.wait_state("stopped")
        # A thread of the notebook's trains, then a cell: each in its turn.
        kernel.run("thread = threading.Thread(target=train, args=(3,))\nthread.start()")
        kernel.run("thread.join()")
        kernel.run("train(1)")
        info = wait_for("both", lambda: (now := home.get("sessions/last"))["backwards"] == 32 and now, 10)
        assert (info["step"], info["notices"]) == (32, [])
        cell = kernel.start("%run script.py")
        wait_for("the script", lambda: home.get("sessions/last")["backwards"] > 40)
        command(home, "stop")
        cell.wait()
        home.wait_state("stopped")
        assert kernel.value("'alive'") == "alive"


def test_where_there_is_no_dashboard(home: Home) -> None:
    home.folder.joinpath("file").write_text("")
    with running_kernel(home) as kernel:
        kernel.run(f"import os\n{TRAINS}")
        for variable, value, said in (
            ("ONTHEFLY_DISABLE", "1", "switched off"),
            ("ONTHEFLY_RUNTIME_DIR", str(home.folder / "file"), "no dashboard: the runtime folder"),
        ):
            kernel.run(f"before = os.environ.copy()\nos.environ[{variable!r}] = {value!r}")
            cell = kernel.run("%load_ext onthefly")
            assert cell.ok
            assert said in cell.text
            assert "iframe" not in cell.html
            assert kernel.run("train(1)").ok
            assert said in kernel.run("%onthefly").text
            assert kernel.run("%unload_ext onthefly").ok
            assert kernel.value(TRACES) == "[] [] [] [] []"
            kernel.run("os.environ.clear()\nos.environ.update(before)")
