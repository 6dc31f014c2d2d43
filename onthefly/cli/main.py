"""The table of commands, and how a command line is told from a script to run."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

from onthefly.errors import ExitCode, OnTheFlyError


class Entry(NamedTuple):
    """A command: the module in :mod:`onthefly.cli` with its ``main(argv) -> int``, and what it does."""

    module: str
    summary: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("run", "run a command under OnTheFly: onthefly run [OPTIONS] -- python train.py"),
    "ps": Entry("ps", "list sessions"),
    "ctl": Entry("ctl", "pause, resume, step or stop a session, change what it does, keep its state"),
    "runs": Entry("runs", "the runs of a session as a tree: forks, merges, what each was made of"),
    "reset": Entry("reset", "go back to the beginning of a session, as a new run"),
    "evaluations": Entry("evaluations", "the tests and scans of a session"),
    "samples": Entry("table", "per-sample losses of a session, as a table"),
    "metrics": Entry("table", "metrics of a session, as a table"),
    "dynamics": Entry("table", "how each sample was learned, worst first, as a table"),
    "suspects": Entry("table", "suspected label errors, the most suspected first, with the evidence"),
    "select": Entry("select", "samples by loss, class, region, cluster or tag: rows, indices, files"),
    "tags": Entry("select", "tags of samples: list them, put one on, take one off"),
    "logs": Entry("logs", "what the script of a session wrote"),
    "journal": Entry("journal", "what was changed in a session, one change a line: for --replay"),
    "report": Entry("report", "a run as one HTML file: curves, samples, health, changes, environment"),
    "export": Entry(
        "export", "a session as one file, a bundle (.otf); or one of its checkpoints as .safetensors or .pt"
    ),
    "import": Entry("taking", "open a bundle as a session, to look at it here"),
    "pin": Entry("storage", "keep sessions whatever the budget on disk"),
    "unpin": Entry("storage", "let the budget on disk take them again"),
    "rm": Entry("storage", "remove sessions that have ended, with all that was recorded"),
    "prune": Entry("storage", "remove old sessions: all but the newest --keep N, or --older-than 30d"),
    "dashboard": Entry("dashboard", "open the dashboard in a browser"),
    "doctor": Entry("doctor", "look at this environment, and at what would be captured of a script"),
    "hub": Entry("hub", "run the hub in the foreground (it starts by itself when it is needed)"),
}

USAGE = """usage: python -m onthefly [OPTIONS] SCRIPT|-m MODULE|-c CODE [ARGS]
       onthefly COMMAND [OPTIONS]

Runs a training script as Python would, and shows what happens in it. Options: --project NAME, --name NAME,
--open (the dashboard in a browser), --hold (a finished script stays, paused, until told), --quiet,
--test-after (test the model when training has ended),
--resume SESSION[@RUN[:STEP]] (go on from a checkpoint; without a SCRIPT, the session's own), --version,
--save-on SIGNALS (checkpoint first), --autosave [TIME] (checkpoint every 5m, and at SIGTERM and SIGUSR1),
--replay JOURNAL, --stop-on WATCHDOG.

commands:
"""


def usage() -> str:
    """The help text."""
    width = max(map(len, COMMANDS))
    return USAGE + "".join(f"  {name:{width}}  {entry.summary}\n" for name, entry in COMMANDS.items())


def main(argv: list[str]) -> int:
    """Run one command line; the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return ExitCode.DONE if argv else ExitCode.USAGE
    if argv[0] == "--version":
        from onthefly.version import __version__

        sys.stdout.write(f"onthefly {__version__}\n")
        return ExitCode.DONE
    name = argv[0] if argv[0] in COMMANDS else "run"
    try:
        module = importlib.import_module(f"onthefly.cli.{COMMANDS[name].module}")
        return module.main(argv)
    except OnTheFlyError as error:
        remedy = f"\n  {error.remedy}" if error.remedy else ""
        sys.stderr.write(f"onthefly: {error.message}{remedy}\n")
        return error.exit_code
    except BrokenPipeError:
        return ExitCode.FAILED
