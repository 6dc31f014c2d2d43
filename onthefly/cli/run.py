"""``python -m onthefly [OPTIONS] SCRIPT`` and ``onthefly run [OPTIONS] -- COMMAND``: start something under us.

Parsed by hand: everything from the script on is the script's, untouched, and argparse alone costs 10 ms here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from onthefly.errors import UsageError
from onthefly.launch import interpreter_command, run

WITH_VALUE = {"--project": "ONTHEFLY_PROJECT", "--name": "ONTHEFLY_NAME", "--replay": "ONTHEFLY_REPLAY",
              "--stop-on": "ONTHEFLY_STOP_ON"}  # fmt: skip
FLAGS = {"--quiet": "ONTHEFLY_QUIET", "--hold": "ONTHEFLY_HOLD", "--test-after": "ONTHEFLY_TEST_AFTER"}
LATER = frozenset({"--budget", "--trust"})

RESUME, SAVE_ON = "--resume", "--save-on"
AUTOSAVE_SECONDS = 300
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


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
    opens, place = False, 0
    while place < len(argv) and argv[place].startswith("--") and argv[place] != "--":
        option, joined, value = argv[place].partition("=")
        if option == "--autosave":
            # Its number may be left out: the word after it is taken where it can be nothing but one.
            if not joined and _DURATION.fullmatch(argv[place + 1] if place + 1 < len(argv) else ""):
                place += 1
                value = argv[place]
            overrides["ONTHEFLY_AUTOSAVE"] = _seconds(value or str(AUTOSAVE_SECONDS))
        elif option in WITH_VALUE or option in (RESUME, SAVE_ON):
            if not joined:
                place += 1
                value = argv[place] if place < len(argv) else ""
            if not value and (option not in WITH_VALUE or place >= len(argv)):
                raise UsageError(f"{option} needs a value")
            if option == SAVE_ON:
                overrides["ONTHEFLY_SAVE_ON"] = _signals(value, overrides.get("ONTHEFLY_SAVE_ON", ""))
            else:
                overrides[WITH_VALUE.get(option, option)] = value
        elif option in FLAGS:
            overrides[FLAGS[option]] = "1"
        elif option == "--open":
            opens = True
        elif option in LATER:
            raise UsageError(f"{option} is not in this version")
        else:
            known = ", ".join([*WITH_VALUE, *FLAGS, "--resume", "--open", "--save-on", "--autosave"])
            raise UsageError(f"unknown option {option}", f"known here: {known}; options of the script come after it")
        place += 1
    return Options(overrides, overrides.pop(RESUME, ""), opens, argv[place:])


def _seconds(text: str) -> str:
    """``30``, ``30s``, ``5m``, ``1h`` in seconds."""
    found = _DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise UsageError(f"--autosave: {text!r} is no time", "for instance: --autosave 30s, 5m, 120")
    return f"{float(found[1]) * _UNITS[found[2]]:g}"


def _signals(text: str, before: str) -> str:
    """Names of signals, by comma, behind those given before."""
    from onthefly.core.signal_names import parse

    names = parse(text)
    if not names:
        raise UsageError("--save-on needs signals", "for instance: --save-on SIGTERM,SIGUSR1")
    return ",".join(parse(f"{before},{','.join(names)}"))
