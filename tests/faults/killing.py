"""Rows 20 and F1, run as a script: trainers forked from this warm process, killed at random moments.

``python -m tests.faults.killing COUNT SEED trainer|both`` prints a line of JSON: how many were killed, how many
backward calls the hub had acknowledged to them, how many of these are missing, and how many stores are not as they
should be. With ``both`` the hub is killed at the same moment and started anew. ``lying`` as a fourth argument has the
hub acknowledge before it commits: the loss must then be seen.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from typing import Any, NoReturn

import torch
from torch.nn import functional as F

from onthefly.capture import recorder
from onthefly.link.client import Client
from onthefly.link.discovery import find_hub, living_hub
from onthefly.link.outbox import Outbox
from onthefly.protocol import Records
from onthefly.sessions import new_session_id, open_session
from onthefly.settings import Settings
from tests.conftest import running, wait_for

MESSAGE = struct.Struct("<cqq")

LYING_HUB = """
from onthefly.hub.keeper import Keeper
take = Keeper.take
def lies(self, session, frame, *, urgent):
    frame.acknowledge(frame.source.seq)
    take(self, session, frame, urgent=urgent)
Keeper.take = lies
from onthefly.hub import keeper
keeper.BATCH_SECONDS = 0.5
from onthefly.hub.server import run
from onthefly.settings import Settings
run(Settings())
"""


MODEL = torch.nn.Linear(3, 2)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), 0.1)
X, Y = torch.ones(4, 3), torch.tensor([0, 1, 1, 0])


def step() -> None:
    """One step of training."""
    F.cross_entropy(MODEL(X), Y).backward()
    OPTIMIZER.step()


def train(session: str, pipe: int) -> NoReturn:
    """A script's life, until it is killed; tells through the pipe what was sent and what was acknowledged."""
    add, acknowledged = Outbox.add, Outbox.acknowledged

    def adds(self: Outbox, message: Any) -> None:
        add(self, message)
        calls = len(message.backward) // 8 if isinstance(message, Records) else 0
        os.write(pipe, MESSAGE.pack(b"s", self._seq, calls))

    def acknowledges(self: Outbox, seq: int) -> None:
        os.write(pipe, MESSAGE.pack(b"a", seq, 0))
        acknowledged(self, seq)

    Outbox.add, Outbox.acknowledged = adds, acknowledges
    recorder.SEND_NS = 2_000_000  # many small blocks: more moments to be killed at
    open_session(Settings({**os.environ, "ONTHEFLY_SESSION": session, "ONTHEFLY_TARGET": str(os.getpid()),
                           "ONTHEFLY_QUIET": "1"}))  # fmt: skip
    while True:
        step()


def kill_one(settings: Settings, moment: float, *, both: bool, lying: bool) -> tuple[int, int, int]:
    """Acknowledged backward calls, those of them that are missing, and 1 if the store is not as it should be."""
    if lying:
        _start_liar(settings)
    hub = find_hub(settings, start=True)
    session = new_session_id()
    told, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        train(session, tells)
    os.close(tells)
    os.set_blocking(told, True)
    data = b""
    while b"a" not in [data[at : at + 1] for at in range(0, len(data), MESSAGE.size)]:
        data += os.read(told, 1 << 16)  # until something is acknowledged: it has something to lose
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    if both:
        os.kill(hub.pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while chunk := os.read(told, 1 << 16):
        data += chunk
    os.close(told)
    calls: dict[int, int] = {}
    newest = 0
    for kind, seq, count in MESSAGE.iter_unpack(data[: len(data) // MESSAGE.size * MESSAGE.size]):
        if kind == b"s":
            calls[seq] = count
        else:
            newest = max(newest, seq)
    acknowledged = sum(count for seq, count in calls.items() if seq <= newest)
    if both:
        wait_for("the hub's end", lambda: not running(hub.pid))
    return acknowledged, *_missing(settings, session, acknowledged)


def _start_liar(settings: Settings) -> None:
    honest = living_hub(settings)
    if honest is not None:
        os.kill(honest.pid, signal.SIGKILL)
        wait_for("the hub's end", lambda: not running(honest.pid))
    subprocess.Popen([sys.executable, "-c", LYING_HUB])
    wait_for("the other hub", lambda: living_hub(settings))


def _missing(settings: Settings, session: str, acknowledged: int) -> tuple[int, int]:
    with Client(settings, start=True) as client:
        if session not in {known["id"] for known in client.json("sessions")["sessions"]}:
            return acknowledged, 0
        wait_for("its end to be seen", lambda: client.json(f"sessions/{session}")["state"] == "crashed")
        rows = client.json(f"sessions/{session}/backwards")
        notices = client.json(f"sessions/{session}")["notices"]
    numbers = [row["backward"] for row in rows]
    wrong = numbers != list(range(len(numbers))) or any("damaged" in notice["text"] for notice in notices)
    return max(0, acknowledged - len(numbers)), int(wrong)


def main() -> None:
    """Kill, and print what was found."""
    count, seed, mode = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    step()  # the first one takes longer than a child's whole life
    settings, moments = Settings(), random.Random(seed)
    found = [
        kill_one(settings, moments.uniform(0, 0.6), both=mode == "both", lying="lying" in sys.argv)
        for _ in range(count)
    ]
    acknowledged, lost, wrong = map(sum, zip(*found))
    print(json.dumps({"kills": count, "acknowledged": acknowledged, "lost": lost, "wrong": wrong, "seed": seed}))


if __name__ == "__main__":
    main()
