"""HTML made of elements: every text is escaped where it is put in, so that none can be taken for markup."""

from __future__ import annotations

import html
import re
from typing import Any, Union

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What no file should carry: control characters, and those that turn the direction of what follows."""

VOID = frozenset({"meta", "br", "hr", "path", "line", "rect", "circle"})


class Markup(str):
    """Text that is HTML already; made by :func:`element` and :func:`text` alone."""

    __slots__ = ()


Child = Union[Markup, str, int, float, None, "list[Any]"]


def text(value: object) -> Markup:
    """A text as it is read."""
    return Markup(html.escape(_CONTROL.sub("\ufffd", str(value)), quote=True))


def element(tag: str, /, *children: Child, **attributes: object) -> Markup:
    """``<tag ...>children</tag>``; ``class_`` is the class, ``_`` in names is ``-``; None leaves something out."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    given = "".join(f' {key}="{text(value)}"' for key, value in named.items())
    if tag in VOID:
        return Markup(f"<{tag}{given}>" if tag in ("meta", "br", "hr") else f"<{tag}{given}/>")
    return Markup(f"<{tag}{given}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Markup:
    """One after the other."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, list):
            parts.append(joined(*child))
        elif child is not None:
            parts.append(child if isinstance(child, Markup) else text(child))
    return Markup("".join(parts))
