"""Small training loops of many kinds; run one, and get the hash of all state that it could change.

``python -m tests.loops NAME...`` prints a line for each: used plain and watched, to be compared.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from tests.loops import awkward, graphs, loading, models, optimizers
from tests.loops.loop import LOOPS, MADE
from tests.loops.state import digest, surroundings

__all__ = ["LOOPS", "awkward", "digest", "graphs", "loading", "models", "optimizers", "run", "surroundings"]


def run(name: str) -> str:
    """Seed everything, run one loop, hash what it made and what it left around.

    On one thread: where other programs run, two wait for each other for most of the time, with tensors so small.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    MADE.clear()
    try:
        return digest([LOOPS[name].play(), surroundings()])
    finally:
        torch.set_num_threads(threads)
