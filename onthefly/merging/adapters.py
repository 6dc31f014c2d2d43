"""Adapter fusion: the parents' adapters (LoRA and the like) are averaged, and the model below them stays as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from onthefly.errors import Refused
from onthefly.merging.parents import mean, weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from onthefly.merging.parents import Parents, State

NAMES = re.compile(r"(^|[._])(lora|adapter|adapters|ia3|prefix|prompt)(?=[._]|\d|$)", re.IGNORECASE)
"""How the libraries in use call the parameters of adapters (``lora_A``, ``adapter_down``, ``ia3_l``)."""


def fuse(parents: Parents, share: Sequence[float] | None = None) -> State:
    """Refused where there is no adapter, and where anything else differs: then it is no merge of adapters."""
    if not any(NAMES.search(name) for name in parents.states[0]):
        raise Refused("no parameter of these models has the name of an adapter", "average them, or take another way")
    other = [name for name in parents.differing if not NAMES.search(name)]
    if other:
        raise Refused(f"{other[0]} differs and is no part of an adapter: the models below them are not the same")
    found = weights(share, len(parents.states))

    def combine(name: str, stacked: Tensor) -> Tensor:
        return mean(stacked, found)

    return parents.combined(combine)
