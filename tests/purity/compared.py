"""Performs examples plain and watched, and says where what was to be seen of them differs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from onthefly.instruments import copies, evaluated, functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Home

    Items = Sequence[tuple[str, str]]
    Seen = dict[str, dict[str, str]]

PERFORM = Path(__file__).with_name("perform.py")

NAMES = {
    *copies.METHODS, *functions.REDUCTIONS, "index_select", "backward", "set_anomaly_enabled",
    *[name for _, name in (*functions.LOSSES, *copies.FUNCTIONS, *evaluated.SLOTS)],
}  # fmt: skip
"""Of functions that have a slot."""

_NAME = "(" + "|".join(sorted(NAMES)) + ")"
_CALLABLE = re.compile(
    rf"<(?:built-in (?:function|method)|function|method) '?(?:Tensor\.)?{_NAME}'?"
    r"(?: of (?:type object at 0x|'torch\._C\.\w+' objects)| at 0x|)>"
)


def told(text: str) -> str:
    """Without what differs since a slot holds a Python function: how it is written out, that it has a dictionary."""
    text = _CALLABLE.sub(r"<callable \1>", text)
    text = re.sub(r"<class '\w+'>\(\.__wrapped__: <class '\w+'> (<callable \w+>)[^)]*\)", r"\1", text)
    return re.sub(r"<class '(?:builtin_function_or_method|method_descriptor|function)'> (<callable \w+>)", r"\1", text)


class Difference(NamedTuple):
    """What was seen of one example in one place."""

    name: str
    place: str
    plain: str
    watched: str


def perform(home: Home, items: Items, order: str, *, watched: bool, tries: int = 20) -> Seen:
    """What was seen of each; ``ended`` of one that has ended its process, after which another goes on with the next."""
    shutil.copy(PERFORM, home.folder / "perform.py")
    seen: Seen = {}
    for _ in range(tries):
        todo, results = home.folder / "items.json", home.folder / "seen.jsonl"
        todo.write_text(json.dumps([item for item in items if item[0] not in seen]), encoding="utf-8")
        results.write_text("")
        run = home.watched if watched else home.python
        ended = run("perform.py", order, str(todo), str(results), timeout=1000.0, PYTHONHASHSEED="0")
        for line in results.read_text(encoding="utf-8").splitlines():
            name, found = json.loads(line)
            seen[name] = found
        rest = [name for name, _ in items if name not in seen]
        if not rest:
            return seen
        seen[rest[0]] = {"ended": str(ended.code)}
    raise AssertionError(f"{tries} examples have ended their process: {[n for n in seen if 'ended' in seen[n]]}")


def differences(plain: Seen, again: Seen, watched: Seen) -> list[Difference]:
    """Where the watched one differs from a plain one that does not differ from itself."""
    found: list[Difference] = []
    for name, seen in plain.items():
        if any("too slow" in one[name] for one in (plain, again, watched)):
            continue
        for place in {**seen, **watched[name]}:
            texts = [told(one[name].get(place, "")) for one in (plain, again, watched)]
            if texts[0] == texts[1] != texts[2]:
                found.append(Difference(name, place, texts[0], texts[2]))
    return found
