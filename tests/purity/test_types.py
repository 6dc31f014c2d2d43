"""What C knows of torch's classes stays as it is: a special method of ours would change more than the method.

A class that was given a ``__getitem__`` of Python's is a sequence to C, for good: ``torch.tensor`` then asks each of a
list of numbers for its length, and raises.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.watching import watched

if TYPE_CHECKING:
    from tests.conftest import Home

TABLES = {12: 36, 13: 10, 14: 3}
"""Words of CPython's type object that point to tables of functions (numbers, sequences, mappings), and their sizes."""

FUNCTIONS = (6, 7, 8, 9, 11, 15, 16, 17, 18, 19)
"""Those that are functions themselves, up to the one that sets attributes."""


def functions_of(kind: type) -> list[int | None]:
    words = (ctypes.c_void_p * 21).from_address(id(kind))
    found = [words[place] for place in FUNCTIONS]
    for place, size in TABLES.items():
        address = words[place]
        found += (ctypes.c_void_p * size).from_address(address) if address else []
    return found


class Marked(Tensor):
    pass


def test_classes_have_the_functions_that_they_had() -> None:
    kinds = [Tensor, nn.Parameter, Marked, DataLoader, nn.Module, torch.optim.SGD]
    before = [functions_of(kind) for kind in kinds]
    with watched():
        assert [functions_of(kind) for kind in kinds] == before
        made = type("Made", (Tensor,), {})
        for _ in DataLoader(TensorDataset(torch.ones(4)), 2):
            pass
        assert [functions_of(kind) for kind in kinds] == before
    assert [functions_of(kind) for kind in kinds] == before
    assert functions_of(made) == functions_of(type("Made", (Tensor,), {}))


def test_such_a_change_would_be_seen() -> None:
    kind = type("Kind", (Tensor,), {})
    before = functions_of(kind)
    kind.__getitem__ = lambda tensor, key: 0  # type: ignore[method-assign]
    del kind.__getitem__
    assert functions_of(kind) != before


@pytest.mark.parametrize("loaded", ["", "for _ in DataLoader(torch.ones(4), 2): pass"])
def test_numbers_in_a_list(home: Home, loaded: str) -> None:
    script = home.folder / "train.py"
    script.write_text(
        "import torch\nfrom torch.utils.data import DataLoader\n"
        f"{loaded}\nlosses = [torch.tensor(1.0), torch.tensor(2.0)]\n"
        "print(torch.tensor(losses).mean(), torch.as_tensor(losses), torch.tensor([torch.tensor([1, 2]).sum(), 3]))\n"
    )
    ended = home.watched(str(script))
    assert (ended.code, ended.out) == (0, b"tensor(1.5000) tensor([1., 2.]) tensor([3, 3])\n"), ended.err
