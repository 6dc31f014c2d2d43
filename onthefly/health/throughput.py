"""Where the time of a step goes: the loader, forward, backward, the optimizer, us; and what would help.

How long steps and their waits for data take is recorded anyway; how a step divides is measured in one. On an
accelerator that one step waits for the device at each boundary, as no other does.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from onthefly.health.scene import Answer
from onthefly.health.steps import Look

if TYPE_CHECKING:
    from onthefly.health.scene import Scene

BOUND, WAITING = 0.5, 0.2
"""Share of the time that waits for data, from which training is bound by its loader, and from which that is told."""

OPTIMIZER_SHARE, OURS_SHARE = 0.3, 0.1
LEAST_STEP_MS = 1.0
"""A shorter step has no optimizer worth to be told of."""

LEAST_WAIT_MS = 0.5
"""A shorter one is what fetching a batch costs at least; other processes would not make it shorter."""

FEWEST, SETTLED = 5, 50
"""Recorded steps, without which only the one that is looked at counts; after which our own time is what it will be."""


class Throughput(Look):
    """Of one step, and of those before it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._began = self._backward_began = self._stepping = 0.0
        self._spent = {"backward": 0.0, "optimizer": 0.0}
        self._accelerator = torch.cuda.is_available() and torch.cuda.is_initialized()

    def begin(self) -> None:
        """The script goes on now."""
        self._began = self._now()

    def backward(self, roots: tuple[Any, ...]) -> None:
        """Forward is over."""
        self._backward_began = self._now()

    def backward_ended(self) -> None:
        """Backward is over."""
        self._spent["backward"] += self._now() - self._backward_began

    def before(self, optimizer: Any) -> None:
        """Its step begins."""
        self._stepping = self._now()

    def end(self) -> Answer:
        """The step is over."""
        ended = self._now()
        if self._stepping:
            self._spent["optimizer"] = ended - self._stepping
        took, steps = 1e3 * (ended - self._began), self.scene.steps
        backward, optimizer = 1e3 * self._spent["backward"], 1e3 * self._spent["optimizer"]
        enough = len(steps.took_ms) >= FEWEST
        step = statistics.median(steps.took_ms) if enough else took
        waiting = _share(steps.waiting_ms, steps.took_ms) if enough else 0.0
        ours = _share([us / 1e3 for us in steps.ours_us], steps.took_ms) if enough else 0.0
        rest = max(took * (1 - waiting) - backward - optimizer, 0.0)
        parts = backward + optimizer + rest or 1.0
        busy = max(1.0 - waiting - ours, 0.0)
        shares = {
            "loader": waiting, "forward": busy * rest / parts, "backward": busy * backward / parts,
            "optimizer": busy * optimizer / parts, "onthefly": ours,
        }  # fmt: skip
        numbers: dict[str, Any] = {"step_ms": step, "steps": len(steps.took_ms), "looked_at_ms": took}
        numbers.update({f"{name}_share": share for name, share in shares.items()})
        rows: list[dict[str, Any]] = [
            {"name": name, "share": share, "ms": share * step} for name, share in shares.items()
        ]
        if not enough:
            return Answer("unknown", f"{len(steps.took_ms)} steps are recorded: too few to tell what waits for what",
                          "look again later", numbers, rows)  # fmt: skip
        return self._judged(step, shares, numbers, rows)

    def _judged(self, step: float, shares: dict[str, float], numbers: dict[str, Any], rows: list[Any]) -> Answer:
        first = max(shares, key=lambda name: shares[name])
        says = f"a step takes {step:.3g} ms, most of it {first} ({shares[first]:.0%})"
        if shares["loader"] >= WAITING and shares["loader"] * step > LEAST_WAIT_MS:
            verdict: Any = "bad" if shares["loader"] >= BOUND else "warning"
            says = f"{shares['loader']:.0%} of the time training waits for data"
            return Answer(verdict, says, self._of_loader(), numbers, rows)
        if shares["onthefly"] > OURS_SHARE and step > LEAST_STEP_MS and numbers["steps"] >= SETTLED:
            return Answer("warning", f"{shares['onthefly']:.0%} of the time goes to OnTheFly", (
                "switch off watchdogs that read tensors at each step (watch NAME off)"), numbers, rows)  # fmt: skip
        if shares["optimizer"] > OPTIMIZER_SHARE and step > LEAST_STEP_MS:
            return Answer("warning", f"{shares['optimizer']:.0%} of the time goes to the optimizer", (
                "give it fused=True or foreach=True, or take larger batches, fewer steps"), numbers, rows)  # fmt: skip
        return Answer("good", says, "", numbers, rows)

    def _of_loader(self) -> str:
        """What would make it faster."""
        for _, loader in self.scene.loaders[:1]:
            workers = getattr(loader, "num_workers", getattr(loader, "_num_workers", 0))
            if not workers:
                return "fetch in other processes: DataLoader(num_workers=2 or more, persistent_workers=True)"
            text = f"more than {workers} workers, a larger prefetch_factor, or cheaper transformations"
            pinned = getattr(loader, "pin_memory", getattr(loader, "_pin_memory", True))
            return text + ("; pin_memory=True" if self._accelerator and not pinned else "")
        return "prepare the next batch while the last is trained on: a DataLoader with workers does"

    def _now(self) -> float:
        if self._accelerator:
            torch.cuda.synchronize()
        return time.perf_counter()


def _share(parts: list[float], wholes: list[float]) -> float:
    whole = sum(wholes)
    return min(sum(parts) / whole, 1.0) if whole > 0 else 0.0
