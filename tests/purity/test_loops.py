"""Purity: a loop that is watched ends with the same bits as one that is not, in its state and in its surroundings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from onthefly.capture.recorder import Recorder
from onthefly.instruments import backward, data, functions
from tests import loops
from tests.conftest import REPOSITORY
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Home

TARGETS = [
    (torch.autograd, "backward"),
    (backward._autograd, "_push_saved_tensors_default_hooks"),
    (backward._autograd.SavedTensor, "register_hooks"),
    (data.DataLoader, "__iter__"),
    (data._BaseDataLoaderIter, "_next_index"),
    (data._MultiProcessingDataLoaderIter, "_try_put_index"),
    (data._SingleProcessDataLoaderIter, "_next_data"),
    (data._MultiProcessingDataLoaderIter, "_next_data"),
    *functions.SLOTS,
]


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    """Every slot and hook is as it was."""
    before = [vars(owner)[name] for owner, name in TARGETS]
    yield
    assert [vars(owner)[name] for owner, name in TARGETS] == before
    module: Any = sys.modules["torch.optim.optimizer"]  # torch.optim hides it behind a name of its own
    assert not module._global_optimizer_pre_hooks
    assert not module._global_optimizer_post_hooks


@pytest.mark.parametrize("name", loops.LOOPS)
def test_watching_changes_nothing(name: str) -> None:
    plain = loops.run(name)
    with watched() as kept:
        observed = loops.run(name)
    assert observed == plain
    assert kept.rows()


def test_a_draw_from_the_scripts_generator_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = loops.run("plain")
    stepped = Recorder.stepped

    def draws(self: Recorder, optimizer: Any) -> None:
        torch.rand(1)
        stepped(self, optimizer)

    monkeypatch.setattr(Recorder, "stepped", draws)
    with watched():
        assert loops.run("plain") != plain


def test_fresh_processes_agree(home: Home) -> None:
    script = str(REPOSITORY / "tests" / "loops.py")
    environment = {"PYTHONPATH": str(REPOSITORY)}
    plain = home.python(script, **environment)
    ours = home.watched(script, **environment)
    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert ours.err_without_ours() == plain.err
    assert plain.out.count(b"\n") == len(loops.LOOPS)


def test_modules_of_the_hub_stay_out(home: Home) -> None:
    (home.folder / "s.py").write_text(
        "import sys, torch\n"
        "names = 'aiohttp', 'duckdb', 'psutil', 'pynvml', 'pandas', 'pyarrow', 'wrapt', 'asyncio', 'ssl'\n"
        "print([name for name in names if name in sys.modules])"
    )
    ours, plain = home.watched("s.py"), home.python("s.py")  # torch brings some of them itself
    assert ours.out == plain.out
    assert b"aiohttp" not in ours.out
