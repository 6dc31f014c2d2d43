"""The script's log: byte for byte where it went, and in the records; a script that is held at its end."""

from __future__ import annotations

import signal
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.capture.log import MAX_GATHERED, MAX_WRITE, Log
from onthefly.link.client import Client
from onthefly.settings import Settings
from tests.conftest import wait_for
from tests.lean import LEAN

if TYPE_CHECKING:
    from tests.conftest import Home

PRINTS = """
import logging, sys, torch
print("first", "second", sep=";", flush=True)
sys.stdout.write("\\u2603 no newline")
sys.stdout.writelines(["a\\n", "b\\n"])
sys.stdout.buffer.write(b"bytes\\n")
logging.warning("careful")
for k in range(3):
    sys.stderr.write(f"\\r{k} of 3")
sys.stderr.write("\\n")
sys.stdout.reconfigure(errors="surrogateescape")
print("bad \\udcff byte")
print(type(sys.stdout).__name__, sys.stdout.isatty(), sys.stdout.encoding, sys.stdout is sys.__stdout__)
raise ValueError("at the end")
"""


def log_of(home: Home) -> list[dict[str, Any]]:
    """The entries of the newest session."""
    return home.get("sessions/last/logs?limit=2000")["entries"]


def text_of(entries: list[dict[str, Any]], stream: str) -> str:
    """All that one stream was written."""
    return "".join(entry["text"] for entry in entries if entry["stream"] == stream)


def test_the_terminal_gets_every_byte_and_the_records_every_text(home: Home) -> None:
    (home.folder / "s.py").write_text(PRINTS)
    plain, ours = home.python("s.py"), home.watched("s.py")
    assert ours.code == plain.code == 1
    assert ours.out == plain.out
    assert ours.err_without_ours() == plain.err
    home.wait_state("crashed")
    entries = log_of(home)
    out = text_of(entries, "stdout")
    for line in ("first;second\n", "\u2603 no newlinea\nb\n", "bad \\udcff byte\n"):
        assert line in out
    err = text_of(entries, "stderr")
    assert "WARNING:root:careful\n" in err
    assert "\r0 of 3\r1 of 3\r2 of 3\n" in err
    assert "ValueError: at the end" in err


def test_search_cursor_and_command(home: Home) -> None:
    (home.folder / "s.py").write_text(
        "import torch, sys\nfor k in range(500):\n    print('line', k)\n"
        "print('Needle')\nprint('oops', file=sys.stderr)\n"
    )
    home.watched("s.py")
    home.wait_state("ended")
    page = home.get("sessions/last/logs?limit=1")
    assert page["earlier"]
    before = home.get(f"sessions/last/logs?before={page['entries'][0]['row']}")
    assert text_of([*before["entries"], *page["entries"]], "stdout").count("line ") == 500
    assert home.get(f"sessions/last/logs?after={page['cursor']}")["entries"] == []
    found = home.get("sessions/last/logs?search=nEEdle")
    assert "Needle" in found["entries"][0]["text"]
    shown = home.run(sys.executable, "-m", "onthefly", "logs", "last", "--follow")
    assert shown.out == b"".join(b"line %d\n" % k for k in range(500)) + b"Needle\n"
    assert b"oops\n" in shown.err
    assert home.run(sys.executable, "-m", "onthefly", "logs", "last", "--search", "needle").out == b"Needle\n"


def test_a_flood_is_cut_with_a_mark_and_costs_bounded_memory() -> None:
    asked: list[int] = []
    log = Log(lambda: asked.append(1))
    log.written("stdout", "x" * (MAX_WRITE + 5))
    for _ in range(2 * MAX_GATHERED // 1000):
        log.written("stdout", "y" * 999 + "\n")
    assert asked == [1]
    text = "".join(entry.text for entry in log.take())
    assert "5 more characters are not recorded" in text
    assert "were printed too fast to be recorded" in text
    assert len(text) < MAX_GATHERED + 2 * MAX_WRITE


def test_the_beginning_of_a_line_waits_for_its_end() -> None:
    log = Log(lambda: None)
    log.written("stdout", "half ")
    assert log.take() == []
    log.written("stdout", "a line\n")
    assert [entry.text for entry in log.take()] == ["half a line\n"]
    log.written("stderr", "a prompt: ")
    assert [entry.text for entry in log.take(last=True)] == ["a prompt: "]


def test_many_threads_write_and_nothing_is_lost() -> None:
    log = Log(lambda: None)
    threads = [
        threading.Thread(target=lambda n=n: [log.written("stdout", f"{n}-{k}\n") for k in range(2000)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    found: list[str] = []
    while any(thread.is_alive() for thread in threads):
        found += "".join(entry.text for entry in log.take()).splitlines()
    found += "".join(entry.text for entry in log.take(last=True)).splitlines()
    assert sorted(found) == sorted(f"{n}-{k}" for n in range(4) for k in range(2000))


HELD = f"""
{LEAN}
import sys
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
torch.nn.functional.cross_entropy(model(torch.ones(4, 3)), torch.tensor([0, 1, 1, 0])).backward()
optimizer.step()
print("finished", flush=True)
sys.exit(3)
"""


@pytest.mark.parametrize("how", ["resume", "stop", "interrupt"])
def test_a_finished_script_is_held_until_it_is_told(home: Home, how: str) -> None:
    (home.folder / "s.py").write_text(HELD)
    process = home.start(sys.executable, "-m", "onthefly", "--hold", "s.py")
    held = home.wait_state("paused")
    assert "has finished" in held["reason"]
    assert process.poll() is None
    if how == "interrupt":
        process.send_signal(signal.SIGINT)
    else:
        with Client(Settings(home.environment)) as client:
            answer = client.command("last", {"id": str(uuid.uuid4()), "name": how, "by": "test"})
            assert answer["status"] == "applied"
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert out == b"finished\n"
    assert b"is held (--hold)" in err
    ended = wait_for("its end", lambda: (now := home.session()) and now["state"] in ("ended", "stopped") and now)
    assert ended["state"] == ("stopped" if how == "stop" else "ended")
