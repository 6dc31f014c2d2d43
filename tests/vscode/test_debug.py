"""What the extension asks of the Python debugger, tried on debugpy itself: breakpoints hold, and the script is seen.

The launcher becomes the script's interpreter (exec): debugpy follows it there as it follows any child.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL
from tests.vscode import adapter

if TYPE_CHECKING:
    from tests.conftest import Home

pytest.importorskip("debugpy")

SCRIPT = """import sys
import torch

weight = torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.1)
for step in range(3):
    loss = ((weight - 1) ** 2).mean()
    loss.backward()
    optimizer.step()
    print(sys.argv[1:], step)
"""
LINE = 10


@FULL
def test_a_breakpoint_in_the_script_holds(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    script = home.folder / "it's a script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    for name in list(os.environ):
        if name.startswith(("ONTHEFLY_", "PYTHON")):
            monkeypatch.delenv(name)
    # As extension/host/src/runs.ts makes it, but for the terminal.
    configuration = {
        "type": "debugpy", "request": "launch", "name": "OnTheFly", "module": "onthefly", "args": [str(script), "a b"],
        "python": [sys.executable], "cwd": str(home.folder), "console": "internalConsole", "subProcess": True,
        "env": {name: value for name, value in home.environment.items() if name.startswith("ONTHEFLY_")},
    }  # fmt: skip
    process, first = adapter.start()
    pid = 0
    try:
        first.begin("launch", configuration, str(script), LINE)
        pid = first.until("process", lambda message: message.get("event") == "process")["body"]["systemProcessId"]
        child = first.until("the script's interpreter", lambda message: message.get("event") == "debugpyAttach")["body"]
        connection, second = adapter.attach(child["connect"])
        with connection:
            second.begin("attach", child, str(script), LINE)
            stopped = second.until("the breakpoint", lambda message: message.get("event") == "stopped")["body"]
            second.ask("stackTrace", threadId=stopped["threadId"])
            frames = second.until("the stack", lambda message: message.get("command") == "stackTrace")["body"]
            assert [(frame["name"], frame["line"]) for frame in frames["stackFrames"]] == [("<module>", LINE)]
            second.ask("setBreakpoints", source={"path": str(script)}, breakpoints=[])
            second.ask("continue", threadId=stopped["threadId"])
            assert home.wait_state("ended")["step"] == 3
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()
