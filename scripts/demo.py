"""What ``make demo`` runs: the example under OnTheFly, with the dashboard; ends by itself within two minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = "250"
"""About a minute on two cores."""
LIMIT_SECONDS = 115


def main() -> int:
    """Open the dashboard, then train; the example's exit code."""
    subprocess.run(
        [sys.executable, "-m", "onthefly", "dashboard"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )  # opens a browser where there is one
    address = subprocess.run(
        [sys.executable, "-m", "onthefly", "dashboard", "--url"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    print(f"\nopen this address to watch, pause and resume (it holds your token):\n\n    {address}\n", flush=True)
    script = subprocess.Popen([sys.executable, "-m", "onthefly", "examples/digits.py", "--epochs", EPOCHS], cwd=ROOT)
    try:
        code = script.wait(LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        # A slow machine: end it as the dashboard's stop button would. A paused script is let go as well.
        subprocess.run([sys.executable, "-m", "onthefly", "ctl", "last", "stop"], cwd=ROOT, check=False)
        code = script.wait(20)
    except KeyboardInterrupt:
        code = script.wait(20)
    print(f"\ntraining has ended; its records stay, and the dashboard for 15 minutes: {address.split('#')[0]}")
    return code


if __name__ == "__main__":
    sys.exit(main())
