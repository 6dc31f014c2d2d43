"""One script, interrupted and resumed: ``python -m tests.resume.quick SCRIPT [--at N] [--again N] [--way WAY]``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.resume.cases import CASES
from tests.resume.harness import WRONG, prove, prove_on, total
from tests.resume.running import LAUNCHED, Bench, Cut


def main() -> int:
    """Prints what became of it, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", choices=sorted(CASES), metavar="SCRIPT", help=", ".join(CASES))
    parser.add_argument("--at", type=int, default=0, help="pause point of the checkpoint (drawn)")
    parser.add_argument("--again", type=int, default=0, help="a second one, in the resumed process")
    parser.add_argument("--way", choices=("hold", "kill", "stop", "on"), default="hold", help="how it is interrupted")
    parser.add_argument("--later", type=int, default=2, help="pause points between checkpoint and kill or stop")
    parser.add_argument("--keep", action="store_true", help="leave the folder, with all that was written and said")
    parser.add_argument("--direct", action="store_true", help="without the launcher: no receipt, fewer processes")
    options = parser.parse_args()
    launched = LAUNCHED and not options.direct
    case = CASES[options.script]
    folder = Path(tempfile.mkdtemp(prefix="resume-"))
    began = time.monotonic()
    try:
        whole = None
        if case.seeded and options.way != "on":
            with Bench(folder, case) as bench:
                whole = bench.plain()
            if whole.code:
                sys.stderr.write(whole.err)
        end = total(case, whole) if whole else 30
        at = options.at or random.randint(1, end - 2)
        if options.way == "on" or not case.seeded:
            (result,) = prove_on(case, [at], folder, None, launched)
        else:
            later = options.later if options.way != "hold" else 0
            cuts = [Cut(at, options.way, later)] + ([Cut(options.again, "hold")] if options.again else [])
            result = prove(case, cuts, folder, whole, None, launched)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{case.name} at {at}{f', {options.again}' if options.again else ''} of {end}: {result.verdict}")
    for line in filter(None, [*result.detail.split("; "), f"said: {result.said}" if result.said else ""]):
        print(f"  {line}")
    print(f"  {time.monotonic() - began:.1f} s" + (f", kept in {folder}" if options.keep else ""))
    return int(result.verdict == WRONG)


if __name__ == "__main__":
    sys.exit(main())
