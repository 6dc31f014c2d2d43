"""``python -m onthefly``: the command line."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; the exit code."""
    from onthefly.cli.main import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        # -m puts the user's folder first on our path, where a logging.py of the user's would be taken for Python's.
        del sys.path[0]
    sys.exit(main())
