"""The label of the test that runs, in ``ONTHEFLY_TEST_LABEL``: ``test_1``, ``test_2``, ... through a process.

Whoever runs the script's own test for the user takes the next one, so that ``on_test_end`` can name its files by it.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from onthefly.settings import put

if TYPE_CHECKING:
    from collections.abc import Generator

_numbers = itertools.count(1)
_running: list[str] = []


def running() -> bool:
    """Whether a test runs now."""
    return bool(_running)


def take() -> str:
    """The next label, for a test that runs later."""
    return f"test_{next(_numbers)}"


@contextlib.contextmanager
def next_test(label: str = "") -> Generator[str, None, None]:
    """The environment says which test runs, until the block ends; then it is as it was. ``label``: as :func:`take`."""
    label = label or take()
    put_back = put("ONTHEFLY_TEST_LABEL", label)
    _running.append(label)
    try:
        yield label
    finally:
        _running.remove(label)
        put_back()
