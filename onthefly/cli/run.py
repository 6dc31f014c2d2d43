"""``python -m onthefly [OPTIONS] SCRIPT`` and ``onthefly run [OPTIONS] -- COMMAND``: start something under us.

Parsed by hand: everything from the script on is the script's, untouched, and argparse alone costs 10 ms here.
"""

from __future__ import annotations

from onthefly.errors import UsageError
from onthefly.launch import interpreter_command, run

WITH_VALUE = {"--project": "ONTHEFLY_PROJECT", "--name": "ONTHEFLY_NAME", "--replay": "ONTHEFLY_REPLAY",
              "--stop-on": "ONTHEFLY_STOP_ON"}  # fmt: skip
FLAGS = {"--quiet": "ONTHEFLY_QUIET", "--hold": "ONTHEFLY_HOLD"}
LATER = frozenset({"--budget", "--autosave", "--test-after", "--resume", "--trust"})


def main(argv: list[str]) -> int:
    """Become the script; returns only where that cannot be done."""
    named = bool(argv) and argv[0] == "run"
    overrides, rest, opens = _options(argv[1:] if named else argv)
    if named:
        if rest[:1] == ["--"]:
            rest = rest[1:]
        if not rest:
            raise UsageError("run needs a command", "for instance: onthefly run -- python train.py")
        command = rest
    else:
        if not rest:
            raise UsageError("no script given", "for instance: python -m onthefly train.py")
        command = [*interpreter_command(), *rest]
    if opens:
        from onthefly.cli.dashboard import open_dashboard

        open_dashboard()
    return run(command, overrides)


def _options(argv: list[str]) -> tuple[dict[str, str], list[str], bool]:
    """Our own options at the front, and what remains."""
    overrides: dict[str, str] = {}
    opens = False
    place = 0
    while place < len(argv) and argv[place].startswith("--") and argv[place] != "--":
        option, joined, value = argv[place].partition("=")
        if option in WITH_VALUE:
            if not joined:
                place += 1
                if place >= len(argv):
                    raise UsageError(f"{option} needs a value")
                value = argv[place]
            overrides[WITH_VALUE[option]] = value
        elif option in FLAGS:
            overrides[FLAGS[option]] = "1"
        elif option == "--open":
            opens = True
        elif option in LATER:
            raise UsageError(f"{option} is not in this version")
        else:
            known = ", ".join([*WITH_VALUE, *FLAGS, "--open"])
            raise UsageError(f"unknown option {option}", f"known here: {known}; options of the script come after it")
        place += 1
    return overrides, argv[place:], opens
