"""Runs loops, and prints the hash of each."""

from __future__ import annotations

import sys

from tests.loops import LOOPS, run

for chosen in sys.argv[1:] or LOOPS:
    print(chosen, run(chosen), flush=True)
