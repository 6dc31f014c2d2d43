"""``python -m onthefly [OPTIONS] SCRIPT`` and ``onthefly run [OPTIONS] -- COMMAND``: start something under us.

Parsed by hand: everything from the script on is the script's, untouched, and argparse alone costs 10 ms here.
"""

from __future__ import annotations

from typing import NamedTuple

from onthefly.errors import UsageError
from onthefly.launch import interpreter_command, run

WITH_VALUE = {"--project": "ONTHEFLY_PROJECT", "--name": "ONTHEFLY_NAME", "--replay": "ONTHEFLY_REPLAY",
              "--stop-on": "ONTHEFLY_STOP_ON"}  # fmt: skip
FLAGS = {"--quiet": "ONTHEFLY_QUIET", "--hold": "ONTHEFLY_HOLD"}
LATER = frozenset({"--budget", "--autosave", "--test-after", "--trust"})


class Options(NamedTuple):
    """Our own, at the front of a command line."""

    overrides: dict[str, str]
    """Variables that they set."""
    resume: str
    opens: bool
    """The dashboard, in a browser."""
    rest: list[str]
    """What comes after them."""


def main(argv: list[str]) -> int:
    """Become the script; returns only where that cannot be done."""
    named = bool(argv) and argv[0] == "run"
    options = _options(argv[1:] if named else argv)
    command = options.rest
    if named and command[:1] == ["--"]:
        command = command[1:]
    if not command and not options.resume:
        if named:
            raise UsageError("run needs a command", "for instance: onthefly run -- python train.py")
        raise UsageError("no script given", "for instance: python -m onthefly train.py")
    if command and not named:
        command = [*interpreter_command(), *command]
    if options.opens:
        from onthefly.cli.dashboard import open_dashboard

        open_dashboard()
    if options.resume:
        from onthefly.cli.resume import resume

        return resume(options.resume, command, options.overrides)
    return run(command, options.overrides)


def _options(argv: list[str]) -> Options:
    overrides: dict[str, str] = {}
    resume, opens, place = "", False, 0
    while place < len(argv) and argv[place].startswith("--") and argv[place] != "--":
        option, joined, value = argv[place].partition("=")
        if option in WITH_VALUE or option == "--resume":
            if not joined:
                place += 1
                value = argv[place] if place < len(argv) else ""
            if not value and (option == "--resume" or place >= len(argv)):
                raise UsageError(f"{option} needs a value")
            if option == "--resume":
                resume = value
            else:
                overrides[WITH_VALUE[option]] = value
        elif option in FLAGS:
            overrides[FLAGS[option]] = "1"
        elif option == "--open":
            opens = True
        elif option in LATER:
            raise UsageError(f"{option} is not in this version")
        else:
            known = ", ".join([*WITH_VALUE, *FLAGS, "--resume", "--open"])
            raise UsageError(f"unknown option {option}", f"known here: {known}; options of the script come after it")
        place += 1
    return Options(overrides, resume, opens, argv[place:])
