"""Tracebacks of the script's own errors show the script's frames and torch's, and none of ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader

import onthefly
from onthefly import errors
from onthefly.instruments import data, stdio
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.dear

OURS = Path(onthefly.__file__).parent


def _backward_twice() -> None:
    loss = torch.ones(3, requires_grad=True).exp().sum()
    loss.backward()
    loss.backward()


class _Poor(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return 1 // 0


def _dataset(workers: int) -> Callable[[], Any]:
    return lambda: list(DataLoader(_Poor(), 2, num_workers=workers))


def _sampler() -> None:
    list(DataLoader([1, 2], sampler=[5]))  # type: ignore[arg-type]


def _print() -> None:
    assert sys.__stdout__ is not None
    print(5, file=sys.__stdout__, end=5)  # type: ignore[call-overload]


def _write() -> None:
    assert sys.__stdout__ is not None
    sys.__stdout__.write(5)  # type: ignore[arg-type]


FAULTS: list[Callable[[], Any]] = [_backward_twice, _dataset(0), _dataset(1), _sampler, _print, _write]


def _shows(fault: Callable[[], Any]) -> bool:
    with watched(), pytest.raises((RuntimeError, ZeroDivisionError, IndexError, TypeError)) as raised:
        fault()
    return any(OURS in Path(entry.path).parents for entry in raised.traceback)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a bare raise puts the frame back")
@pytest.mark.parametrize("fault", FAULTS)
def test_no_frame_of_ours_is_shown(fault: Callable[[], Any]) -> None:
    assert not _shows(fault)


def test_it_would_be_without_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (errors, data, stdio):
        monkeypatch.setattr(module, "leave_frame_out", lambda error: None)  # type: ignore[misc]
    assert all(map(_shows, [_backward_twice, _dataset(0), _write]))
