"""What control costs: how long a pause takes, what a checkpoint holds the script, what armed but idle watchdogs add.

In one process, through the real gate: steps with and without in turn, medians and minima, as ratios to the step.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from onthefly.protocol import Answered, Command
from tests.watching import Kept, watched

STEPS, PAUSES, CHECKPOINTS = 200, 200, 20


class Script:
    """A plain loop over a network of 1.1 million numbers with Adam; a step takes some milliseconds."""

    def __init__(self, kept: Kept) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.kept = kept
        self.model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 800), nn.ReLU(), nn.Linear(800, 10))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.x, self.y = torch.randn(128, 256), torch.randint(0, 10, (128,))
        self.ends: list[float] = []
        self.count = 0

    def step(self) -> float:
        """One step; how long it took, in seconds."""
        start = time.perf_counter()
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()
        end = time.perf_counter()
        self.ends.append(end)
        return end - start

    def send(self, name: str, **args: Any) -> None:
        """A command, as from the link's thread."""
        self.count += 1
        self.kept.session._control.take(
            Command(n=self.count, id=f"bench{self.count}", name=name, args=args, by="bench")
        )

    def answered(self) -> int:
        """How many commands are answered."""
        return sum(isinstance(message, Answered) for message in self.kept.messages)


def pause_latency(script: Script) -> tuple[float, float, float]:
    """Median step, median and longest time from a pause's arrival until the script stands, in seconds."""
    step = statistics.median(script.step() for _ in range(STEPS))
    waits: list[float] = []
    gate, over = script.kept.session._gate, threading.Event()

    def press() -> None:
        for number in range(PAUSES):
            time.sleep(step * (1 + (number * 0.37) % 1))  # at all moments of a step
            start = time.perf_counter()
            script.send("pause")
            while not gate.paused:
                time.sleep(0.0002)
            waits.append(time.perf_counter() - start)
            script.send("resume")
            while gate.paused:
                time.sleep(0.0002)
        over.set()

    presser = threading.Thread(target=press)
    presser.start()
    while not over.is_set():
        script.step()
    presser.join()
    return step, statistics.median(waits), max(waits)


def checkpoint_stall(script: Script) -> tuple[float, float]:
    """Median step without and with a checkpoint in it, in seconds."""
    plain, stalled = [], []
    for number in range(CHECKPOINTS):
        plain += [script.step() for _ in range(5)]
        script.kept.session._control.checkpoints.flush(10)
        script.send("checkpoint")
        stalled.append(script.step())
        script.kept.session._control.checkpoints.flush(10)
        script.send("drop", checkpoint=f"baseline-{script.kept.session.step}")
        if number == 0:
            plain, stalled = [], []  # the first makes folders and imports
    return statistics.median(plain), statistics.median(stalled)


def idle(script: Script, on: list[tuple[str, dict[str, Any]]], off: list[tuple[str, dict[str, Any]]]) -> list[float]:
    """Medians of steps with ``off`` and with ``on`` in force, blocks of them in turn."""
    found: list[list[float]] = [[], []]
    for turn in range(20):
        for name, args in (off, on)[turn % 2]:
            script.send(name, **args)
        script.step()
        found[turn % 2] += [script.step() for _ in range(STEPS // 10)]
    return [statistics.median(times) for times in found]


def run() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder, watched(ONTHEFLY_DATA_DIR=folder, ONTHEFLY_STRICT="0") as kept:
        script = Script(kept)
        with contextlib.suppress(KeyboardInterrupt):
            step, middle, longest = pause_latency(script)
            print(
                f"pause: a step takes {step * 1e3:.2f} ms; it stands after {middle / step:.2f} steps "
                f"(median of {PAUSES}), {longest / step:.2f} at most: "
                f"{max(0.0, longest - step) * 1e3:.2f} ms over one step"
            )
            plain, stalled = checkpoint_stall(script)
            size = 3 * sum(parameter.numel() for parameter in script.model.parameters()) * 4 / 1e6
            print(f"checkpoint of {size:.0f} MB: the step with it takes {stalled / plain:.1f} steps "
                  f"(+{(stalled - plain) * 1e3:.1f} ms)")  # fmt: skip
            for what, name, args, undo in (
                ("free watchdogs off and on", "watch", {"alarm": "loss-spike", "action": "log"}, {"action": "off"}),
                ("nonfinite-grad", "watch", {"alarm": "nonfinite-grad", "action": "pause"}, {"action": "off"}),
                ("nonfinite-param", "watch", {"alarm": "nonfinite-param", "action": "pause"}, {"action": "off"}),
                ("grad-explosion", "watch", {"alarm": "grad-explosion", "action": "log"}, {"action": "off"}),
                ("a pause with a condition", "pause", {"when": "loss < -1"}, None),
            ):  # fmt: skip
                off = [("cancel", {})] if undo is None else [(name, {**args, **undo})]
                without, with_it = idle(script, [(name, args)], off)
                print(f"idle: {what}: ratio {with_it / without:.3f} (+{(with_it - without) * 1e6:.0f} us)")


if __name__ == "__main__":
    run()
