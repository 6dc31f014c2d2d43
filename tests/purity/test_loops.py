"""Purity: a loop that is watched ends with the same bits as one that is not, in its state and in its surroundings."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch

from onthefly.capture.recorder import Recorder
from onthefly.instruments import backward, copies, data, functions, scaler
from onthefly.protocol import Command
from tests import loops
from tests.conftest import REPOSITORY
from tests.reporting import note
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from onthefly.core.gate import Gate
    from tests.conftest import Home

pytestmark = pytest.mark.dear

TARGETS = [
    (torch.autograd, "backward"),
    (backward._autograd, "_push_saved_tensors_default_hooks"),
    (backward._autograd.SavedTensor, "register_hooks"),
    (data.DataLoader, "__iter__"),
    (data._BaseDataLoaderIter, "_next_index"),
    (data._MultiProcessingDataLoaderIter, "_try_put_index"),
    (data._SingleProcessDataLoaderIter, "_next_data"),
    (data._MultiProcessingDataLoaderIter, "_next_data"),
    *functions.LOSSES,
    *[(owner, name) for owner in (torch, torch.Tensor) for name in functions.REDUCTIONS],
    *[(torch.Tensor, name) for name in copies.METHODS],
    *copies.FUNCTIONS,
    (torch.nn.functional, "one_hot"),
    (scaler.GRAD_SCALER, "scale"),
    (scaler.GRAD_SCALER, "step"),
]

IMPURE = {
    "deletes_its_batch": "the newest batch is held until the next one comes",
}
"""Loops that watching changes, and how: a loop that is repaired is taken out here."""

FULL = os.environ.get("ONTHEFLY_FULL") == "1"
"""A few loops in each pair of fresh processes, and not all of them in one."""

PURE = [name for name in loops.LOOPS if name not in (*IMPURE, "profiled")]
"""Torch's profiler writes the time of day to standard error: no two runs are equal."""

FRESH = [PURE[first : first + 8] for first in range(0, len(PURE), 8)] if FULL else [PURE]

WITHOUT_STEPS = ("by_hand", "gradients_by_hand", "step_inside_backward")
"""No optimizer of theirs steps, or only inside of backward: there is no place to pause."""


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    """Every slot and hook is as it was."""
    before = [vars(owner).get(name) for owner, name in TARGETS]
    yield
    assert [vars(owner).get(name) for owner, name in TARGETS] == before
    module: Any = sys.modules["torch.optim.optimizer"]  # torch.optim hides it behind a name of its own
    assert not module._global_optimizer_pre_hooks
    assert not module._global_optimizer_post_hooks


@pytest.fixture(scope="module")
def equal() -> Iterator[set[str]]:
    """The loops that came out equal, for figure F3."""
    found: set[str] = set()
    yield found
    note("F3", scripts=len(loops.LOOPS), equal=len(found))


@contextlib.contextmanager
def storm(gate: Gate) -> Generator[None, None, None]:
    """Pauses and resumes from another thread, one pair after the other, as fast as they are done."""
    over = threading.Event()

    def submit() -> None:
        for number in itertools.count():
            for name in ("pause", "resume"):
                gate.submit(Command(n=number, id=f"{name} {number}", name=name, args={}, by="storm"))
            while gate.waiting or gate.paused:
                if over.wait(0.001):
                    return

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _marked(name: str) -> Any:
    fault = IMPURE.get(name)
    return (
        pytest.param(name, marks=pytest.mark.xfail(raises=AssertionError, reason=fault, strict=True)) if fault else name
    )


@pytest.mark.parametrize("name", [_marked(name) for name in loops.LOOPS])
def test_watching_changes_nothing(name: str, equal: set[str]) -> None:
    """Nor does pausing, again and again."""
    plain = loops.run(name)
    with watched() as kept:
        observed = loops.run(name)
    assert observed == plain
    assert kept.rows() or not loops.LOOPS[name].outcomes
    with watched() as kept, storm(kept.session._gate):
        observed = loops.run(name)
    assert observed == plain
    assert "paused" in kept.states() or name in WITHOUT_STEPS
    equal.add(name)


def test_a_draw_from_the_scripts_generator_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = loops.run("plain")
    stepped = Recorder.stepped

    def draws(self: Recorder, optimizer: Any) -> None:
        torch.rand(1)
        stepped(self, optimizer)

    monkeypatch.setattr(Recorder, "stepped", draws)
    with watched():
        assert loops.run("plain") != plain


def around() -> dict[str, str]:
    """A hash for each part of the surroundings."""
    return {name: loops.digest(value) for name, value in loops.surroundings().items()}


def test_the_surroundings_are_left_alone() -> None:
    before = around()
    with watched():
        assert around() == before
        loops.run("plain")
        during = around()
    random_state = {"random", "numpy's random", "torch's random"}
    assert {name for name, value in during.items() if before[name] != value} <= random_state
    assert around() == during


def _nothing(*given: Any) -> None: ...


def swap(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """How to change something, and how to put it back."""
    before = get()
    return (lambda: put(value)), (lambda: put(before))


def attribute(owner: Any, name: str, value: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return swap(lambda: getattr(owner, name), lambda kept: setattr(owner, name, kept), value)


DISTURBANCES: dict[str, Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "torch's random": lambda: swap(
        torch.get_rng_state, torch.set_rng_state, torch.Generator().manual_seed(99).get_state()),
    "threads": lambda: swap(torch.get_num_threads, torch.set_num_threads, torch.get_num_threads() + 1),
    "gradients": lambda: swap(torch.is_grad_enabled, torch.set_grad_enabled, False),
    "autocast": lambda: swap(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, False),
    "default": lambda: swap(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "deterministic": lambda: swap(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True),
    "cudnn": lambda: attribute(torch.backends.cudnn, "benchmark", True),
    "matmul": lambda: swap(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "high"),
    "warnings": lambda: swap(lambda: warnings.filters[:], lambda kept: warnings.filters.__init__(kept), []),  # type: ignore[attr-defined, misc]
    "sys.path": lambda: attribute(sys, "path", [*sys.path, "/made/up"]),
    "tracing": lambda: swap(sys.getprofile, sys.setprofile, _nothing),
    "excepthooks": lambda: attribute(threading, "excepthook", _nothing),
    "signals": lambda: swap(
        lambda: signal.getsignal(signal.SIGUSR1), lambda handler: signal.signal(signal.SIGUSR1, handler), _nothing),
    "environment": lambda: swap(
        lambda: None, lambda value: os.environ.update(MADE_UP=value) if value else os.environ.pop("MADE_UP"), "1"),
    "gc": lambda: swap(gc.get_threshold, lambda kept: gc.set_threshold(*kept), (500, 5, 5)),
    "logging": lambda: attribute(logging.root.manager, "disable", logging.DEBUG),
    "process": lambda: swap(lambda: 0o022, os.umask, 0o077),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_change_around_the_script_would_be_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disturb, undo = DISTURBANCES[name]()
    monkeypatch.setattr(Recorder, "stepped", lambda recorder, optimizer: disturb())
    umask = os.umask(0o022)
    try:
        before = around()
        with watched():
            torch.optim.SGD([torch.ones(2, requires_grad=True)], 0.1).step()
            changed = [part for part, value in around().items() if before[part] != value]
    finally:
        undo()
        os.umask(umask)
    assert changed == [name]


@pytest.mark.parametrize("names", FRESH, ids=lambda names: names[0] if FULL else "all")
def test_fresh_processes_agree(home: Home, names: list[str]) -> None:
    environment = {"PYTHONPATH": str(REPOSITORY)}
    plain = home.python("-m", "tests.loops", *names, **environment)
    ours = home.watched("-m", "tests.loops", *names, **environment)
    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert plain.code == 0, plain.err.decode()
    assert ours.err_without_ours() == plain.err
    assert plain.out.count(b"\n") == len(names)


def test_modules_of_the_hub_stay_out(home: Home) -> None:
    (home.folder / "s.py").write_text(
        "import sys, torch\n"
        "names = 'aiohttp', 'duckdb', 'psutil', 'pynvml', 'pandas', 'pyarrow', 'wrapt', 'asyncio', 'ssl'\n"
        "print([name for name in names if name in sys.modules])"
    )
    ours, plain = home.watched("s.py"), home.python("s.py")  # torch brings some of them itself
    assert ours.out == plain.out
    assert b"aiohttp" not in ours.out
