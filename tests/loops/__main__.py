"""Runs loops, and prints the hash of each."""

from __future__ import annotations

import sys

import torch

from tests.loops import LOOPS, run

torch.set_num_threads(1)
for chosen in sys.argv[1:] or LOOPS:
    print(chosen, run(chosen), flush=True)
