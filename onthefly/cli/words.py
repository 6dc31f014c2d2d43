"""How commands are written on a command line: options made from what each takes, and arguments made from these."""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, get_args, get_origin, get_type_hints

from onthefly.core.signal_names import parse
from onthefly.errors import UsageError
from onthefly.protocol import COMMANDS, arguments
from onthefly.protocol.commands import MAX_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

HELP = {
    "pause.step": "after so many finished steps", "pause.epoch": "after the first step of that epoch",
    "pause.when": "as soon as this holds: 'loss < 0.1 and epoch >= 2'",
    "pause.release": "give the accelerator's memory back meanwhile",
    "step.steps": "how many (default 1)",
    "stop.now": "at once, wherever it is (SIGTERM)", "set.name": "lr, weight_decay, momentum, betas, ...",
    "set.value": "a number, or several: 0.9,0.999", "set.group": "only this parameter group, from 0",
    "set.optimizer": "only this optimizer, from 0", "clip.norm": "by their norm", "clip.value": "each by value",
    "freeze.pattern": "names of parameters: 'encoder.*'", "unfreeze.pattern": "names of parameters (default: all)",
    "subset.samples": "indices: 1,2,5-9; or @FILE", "subset.loader": "only this loader: loader0, ...",
    "subset.weights": "one for all, or one for each: 0.5,2; or @FILE", "subset.add": "to what was given before",
    "checkpoint.name": "what to call it", "keep.every": "every so many steps; 0: no more",
    "keep.seconds": "every so many seconds; 0: no more", "keep.on_pause": "when the script is paused",
    "keep.on_signal": "before what the script does at these: SIGTERM,USR1; or none",
    "keep.memory": "most bytes in memory: 500M, 1G", "keep.disk": "most bytes on disk: 10G",
    "drop.checkpoint": "its name", "rewind.checkpoint": "its name (default: the newest)",
    "health.checks": "which (default: all)", "health.seconds": "the longest that data sets are read for (default 20)",
    "trial.steps": "how many without, and how many with the change",
    "trial.name": "the change, as by itself: trial 100 set lr 0.01", "watch.alarm": "as `status` lists them",
    "watch.parameters": "NAME=VALUE, any number of times",
    "test.loader": "loader1, or the name of its variable", "scan.loader": "loader0, or the name of its variable",
    "test.checkpoint": "with the weights of this checkpoint", "scan.checkpoint": "with the weights of this checkpoint",
    "test.mode": "eval (default), or train: dropout and batch statistics as in a step",
    "scan.mode": "eval (default), or train: dropout and batch statistics as in a step",
    "scan.samples": "only these indices: 1,2,5-9; or @FILE", "scan.module": "keep its output as embeddings: encoder.fc",
    "test.using": "recipe, registered or framework (default: what there is of registered, framework, recipe)",
    "scan.using": "recipe, registered or framework (default: what there is of registered, recipe)",
    "fork.name": "what to call it (default: fork1, fork2, ...)", "fork.checkpoint": "begins at this one (or here)",
    "fork.select": "on these samples: 'worst=100', 'loss=2: !tag=label:wrong' (as `onthefly select` takes them)",
    "fork.samples": "on these indices: 1,5-9; or @FILE", "fork.loader": "from this loader's data set: loader0, ...",
    "fork.steps": "for so many steps", "fork.epochs": "so often through the samples (default 1)",
    "fork.minutes": "for so many minutes", "fork.settings": "a number of its optimizer, any number of times: lr=0.01",
    "fork.optimizer": "which optimizer steps, from 0", "fork.seed": "of the order of its samples",
    "fork.parallel": "in a process of its own (not in this version)",
    "switch.run": "as `status` lists them: baseline, fork1, ...",
    "compare.runs": "two or more; the others are compared with the first",
    "compare.loader": "loader1, or the name of its variable (default: one that is not trained on)",
    "merge.strategy": "uniform, weighted, greedy, fisher, regmean, ties, dare, slerp, adapters, distill",
    "merge.runs": "two or more", "merge.name": "what to call it (default: merge1, merge2, ...)",
    "merge.weights": "one for each run: 1,2", "merge.loader": "on which it is tested before it is taken",
    "merge.parameters": "of the strategy: density=0.2, any number of times", "merge.seed": "of what is drawn",
    "merge.optimizer": "its state: none (reset, default), that of the current run, or the mean of the parents'",
    "merge.force": "take it even where it is worse",
}  # fmt: skip
"""Of options; what is not here says it by its name."""

_PAIRS = {"parameters": "parameter", "settings": "set"}
"""Tables of numbers, and the options that give one of them each."""

_SEVERAL = {"checks": "*", "runs": "+"}
"""Lists that are given by place."""

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in our own words, with what is known here."""

    def error(self, message: str) -> NoReturn:
        """Raise, where argparse would print and exit."""
        unknown = re.match(r"argument command: invalid choice: '(.*?)'", message)
        if unknown:
            import difflib

            known = ["status", *COMMANDS]
            close = difflib.get_close_matches(unknown[1], known, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"unknown command {unknown[1]!r}", f"{hint}known: {', '.join(known)}")
        raise UsageError(f"{self.prog.partition(' ')[2]}: {message}", " ".join(self.format_usage().split()))


class Field(NamedTuple):
    """One thing that a command takes."""

    hint: Any
    """Its type, without bounds and None."""
    default: Any
    """:data:`_REQUIRED` where it must be given."""


_REQUIRED = object()


def add_to(parser: argparse.ArgumentParser, name: str) -> None:
    """Give a parser the options of that command: what it needs by place, what it may have by name."""
    fields = _fields(name)
    for field, (hint, default) in fields.items():
        given: dict[str, Any] = {"help": HELP.get(f"{name}.{field}", "")}
        if (name, field) == ("trial", "args"):
            parser.add_argument("args", nargs=argparse.REMAINDER, help="of the change")
            continue
        if hint is bool:  # off unless it is given; or, where nothing is said by it, left as it is
            given["action"] = "store_true" if default is False else argparse.BooleanOptionalAction
            given["default"] = default
        elif get_origin(hint) is Literal:
            given["choices"] = get_args(hint)
        elif field in _PAIRS:
            given.update(action="append", metavar="NAME=VALUE", dest=field)
        else:
            given["metavar"] = field.upper()
        if field in _SEVERAL:
            parser.add_argument(field, nargs=_SEVERAL[field], **given)
        elif default is _REQUIRED:
            parser.add_argument(field, **given)
        elif len(fields) == 1 and hint is not bool:
            parser.add_argument(field, nargs="?", **given)
        else:
            parser.add_argument(f"--{_PAIRS.get(field, field.replace('_', '-'))}", **given)
    if name == "compare":
        parser.add_argument("--select", default="", help="and on these samples by themselves: terms, or a fork's name")


def requests(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The arguments of the commands to send: one, or several where samples are more than one may have."""
    args = _arguments(name, options)
    samples: list[int] = args.get("samples", [])
    if len(samples) <= MAX_SAMPLES or name != "subset":
        return [_checked(name, args)]
    parts: list[dict[str, Any]] = []
    for first in range(0, len(samples), MAX_SAMPLES):
        part = {**args, "samples": samples[first : first + MAX_SAMPLES], "add": bool(first) or args.get("add", False)}
        if len(args.get("weights", [])) > 1:
            part["weights"] = args["weights"][first : first + MAX_SAMPLES]
        parts.append(_checked(name, part))
    return parts


def _arguments(name: str, options: argparse.Namespace) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for field, (hint, default) in _fields(name).items():
        text = getattr(options, field)
        if text is not None and text != [] and (not isinstance(text, bool) or text != default):
            args[field] = text if isinstance(text, bool) else _value(name, field, hint, text)
    if name == "trial":
        parser = Parser(prog=f"onthefly ctl SESSION trial {args['steps']} {args['name']}")
        add_to(parser, args["name"])
        args["args"] = _arguments(args["name"], parser.parse_args(options.args))
    return args


def _checked(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """The hub says the same; here it costs no connection."""
    try:
        arguments(name, args)
    except ValueError as error:
        raise UsageError(f"ctl {name}: {error}", f"onthefly ctl SESSION {name} --help tells what it takes") from error
    return args


def _fields(name: str) -> dict[str, Field]:
    kind: Any = COMMANDS[name]
    hints, names, defaults = get_type_hints(kind), kind.__struct_fields__, kind.__struct_defaults__
    given: list[Any] = [_REQUIRED] * (len(names) - len(defaults)) + list(defaults)
    absent = "NoDefaultType"  # msgspec's word for a field without default behind others that have one
    return {
        field: Field(_plain(hints[field]), _REQUIRED if type(default).__name__ == absent else default)
        for field, default in zip(names, given)
    }


def _plain(hint: Any) -> Any:
    parts = [part for part in get_args(hint) if part is not type(None)]
    return parts[0] if len(parts) == 1 and len(get_args(hint)) == 2 else hint


def _value(name: str, field: str, hint: Any, text: Any) -> Any:
    """What is meant by a text; :class:`UsageError` tells how it is written."""
    try:
        if field in _SEVERAL:
            return list(text)
        if field == "on_signal":
            return [] if text.lower() == "none" else parse(text)
        if field in ("memory", "disk"):
            return int(float(text.rstrip("KMGTkmgtB")) * _SIZES[text.rstrip("Bb")[-1:].upper().strip("0123456789.")])
        if field == "parameters":
            return {key: _finite(number) for key, _, number in (pair.partition("=") for pair in text)}
        if field == "settings":
            return {key: _numbers(number) for key, _, number in (pair.partition("=") for pair in text)}
        if field == "samples":
            return list(_indices(_listed(text)))
        if field == "weights":
            return [_finite(part) for part in _listed(text)]
        if (name, field) == ("set", "value"):
            return _numbers(text)
        return _finite(text) if hint is float else int(text) if hint is int else text
    except (ValueError, KeyError) as error:
        how = HELP.get(f"{name}.{field}", "")
        raise UsageError(f"ctl {name}: {text!r} is no {field}", f"{field}: {how}" if how else "") from error


def _numbers(text: str) -> float | list[float]:
    """One, or several between commas."""
    numbers = [_finite(part) for part in _listed(text)]
    if not numbers:
        raise ValueError(text)
    return numbers[0] if len(numbers) == 1 and "," not in text else numbers


def _finite(text: str) -> float:
    """JSON has no other numbers, and no command takes one."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _listed(text: str) -> list[str]:
    """Parts between commas or blanks; with ``@``, those in a file."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{text[1:]} cannot be read: {error.strerror or error}") from error
    return text.replace(",", " ").split()


def _indices(parts: list[str]) -> Iterator[int]:
    for part in parts:
        first, dash, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1) if dash else (int(first),)


def result(found: dict[str, Any]) -> Iterator[str]:
    """What came of a command, in lines."""
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"{name.replace('_', ' ')}: {text}"
