"""Finds what lives in this process, when a command asks for it: nothing of ours keeps a list on the hot path."""

from __future__ import annotations

import gc
from typing import Any, TypeVar

from torch import nn
from torch.optim import lr_scheduler

Kind = TypeVar("Kind")


def living(kind: type[Kind]) -> list[Kind]:
    """All objects of that kind that the collector knows: 50 ms in a process of half a million objects.

    By their type: ``isinstance`` would ask each for its ``__class__``, which runs code of lazy and deprecated objects.
    """
    return [found for found in gc.get_objects() if issubclass(type(found), kind)]


def roots() -> list[nn.Module]:
    """Modules that are part of no other."""
    modules = living(nn.Module)
    inner = {id(child) for module in modules for child in module.children()}
    return [module for module in modules if id(module) not in inner]


def schedulers_of(optimizer: Any) -> list[Any]:
    """Learning rate schedulers that work on that optimizer, those inside of others before them.

    Torch's own kinds; a subclass, as ``transformers`` makes, is one of these.
    """
    found = living(lr_scheduler.LRScheduler)
    return [scheduler for scheduler in found if getattr(scheduler, "optimizer", None) is optimizer]
