"""Stopped while it trains in a thread: a main thread that joins goes on, one that waits for a result is interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home

SCRIPT = """
import queue, sys, threading
import torch
from torch import nn

results = queue.Queue()

def train():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    try:
        for step in range(100000):
            optimizer.zero_grad()
            model(torch.ones(4, 2)).sum().backward()
            optimizer.step()
    finally:
        print("finally", flush=True)
    results.put("trained")

thread = threading.Thread(target=train, daemon=True)
thread.start()
try:
    thread.join() if sys.argv[1] == "joins" else print(results.get())
except KeyboardInterrupt:
    print("interrupted")
print("saved")
"""


@pytest.mark.parametrize("main", ["joins", "waits"])
def test_a_script_that_trains_in_a_thread_ends_when_it_is_stopped(home: Home, main: str) -> None:
    (home.folder / "threaded.py").write_text(SCRIPT)
    ran = home.watched("threaded.py", main, ONTHEFLY_STEPS="20", timeout=60)
    assert ran.code == 0, ran.err
    assert ran.out.decode().split() == ["finally", *(["interrupted"] if main == "waits" else []), "saved"]
    assert b"Traceback" not in ran.err
    assert (b"interrupted, too" in ran.err) == (main == "waits")
