"""Runs one script of a framework's and prints the hash of what it trained: ``python -m tests.frameworks FILE CASE``."""

from __future__ import annotations

import importlib
import sys

from tests.frameworks.harness import Witness, seeded
from tests.loops.state import digest

framework, case = sys.argv[1:]
play = importlib.import_module(f"tests.frameworks.test_{framework}").CASES[case].play
with seeded():
    print("digest", digest(play(Witness())), flush=True)
