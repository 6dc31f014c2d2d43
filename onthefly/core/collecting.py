"""Importing modules of ours without a garbage collection in between, which looks at all of torch's objects (0.1 s)."""

import gc
from importlib import import_module

TYPE_CHECKING = False  # the import of typing loads 20 modules, which the script might shadow by files of its own
if TYPE_CHECKING:
    from typing import Any


def imported(name: str) -> "Any":
    """That module."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        if collects:
            gc.enable()
