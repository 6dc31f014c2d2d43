"""Plays a script in this process, as its main module, under a real session with commands at chosen pause points.

What a run is compared by: after each pause point the hash of parameters, gradients, optimizer and random states; what
is printed; what is recorded.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import runpy
import sys
import warnings
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from onthefly import sessions
from onthefly.actions import checkpoints
from onthefly.state.frames import script_frames
from tests.actions.desk import Commander
from tests.loops import digest, surroundings
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

Commands = dict[int, list[tuple[str, dict[str, Any]]]]
"""By the pause point at which they are done, counted from 0 and never back."""


class Run:
    """One run of a script."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        """After each pause point, what was done there included."""
        self.out = ""
        self.commander: Any = None
        """None in a run without us."""
        self._points = 0

    def losses(self) -> dict[str, list[tuple[int, int, float, list[int]]]]:
        """Of each run: step, backward call, loss and sample indices, each call once."""
        found: dict[str, list[tuple[int, int, float, list[int]]]] = {}
        for row in self.commander.kept.every():
            if row.phase == "train":
                found.setdefault(row.run, []).append((row.step, row.backward, row.loss, row.samples))
        for calls in found.values():
            calls.sort(key=lambda call: call[1])
            assert len({call[1] for call in calls}) == len(calls), "a call is recorded twice under one run"
        return found


@contextlib.contextmanager
def _stage(path: Path, arguments: tuple[str, ...], **environment: str) -> Generator[io.StringIO, None, None]:
    """The surroundings of a script: one thread, seeds, its arguments, its folder."""
    argv, threads, folder, out = sys.argv, torch.get_num_threads(), os.getcwd(), io.StringIO()
    sys.argv = [str(path), *arguments]
    torch.set_num_threads(1)
    os.environ.update(environment)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    try:
        with contextlib.redirect_stdout(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield out
    finally:
        for name in environment:
            del os.environ[name]
        sys.argv = argv
        torch.set_num_threads(threads)
        os.chdir(folder)
        gc.collect()


def _hash(optimizer: Any) -> str:
    around = surroundings()
    return digest([
        optimizer.state_dict(),
        [[p.detach() for p in group["params"]] + [p.grad for p in group["params"]] for group in optimizer.param_groups],
        {name: around[name] for name in ("random", "numpy's random", "torch's random", "gradients")},
    ])  # fmt: skip


def _main(path: Path) -> None:
    with contextlib.suppress(SystemExit):
        runpy.run_path(str(path), run_name="__main__")


def plain(path: Path, *arguments: str) -> Run:
    """Without us, but for the hash after each step."""
    run = Run()
    hook: Any = register_optimizer_step_post_hook(lambda optimizer, a, k: run.hashes.append(_hash(optimizer)))
    try:
        with _stage(path, arguments, ONTHEFLY_DISABLE="1") as out:  # a Trainer opens a session itself
            _main(path)
    finally:
        hook.remove()
    run.out = out.getvalue()
    return run


def play(
    path: Path, *arguments: str, folder: Path, at: Commands | None = None,
    during: Callable[[Commander], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    **environment: str,
) -> Run:  # fmt: skip
    """Under us. ``during(commander)`` is a context around the script; ``folder`` gets the session's data."""
    run, commands = Run(), at or {}

    def before_ours(optimizer: Any, args: Any, kwargs: Any) -> None:
        if run.commander.kept.session._gate.away:  # a fork's
            return
        for name, given in commands.get(run._points, ()):
            run.commander.send(name, **given)
        run._points += 1

    def after_ours(optimizer: Any, args: Any, kwargs: Any) -> None:
        if run.commander.kept.session._gate.away:
            return
        run.hashes.append(_hash(optimizer))

    frames: Any = lambda start: script_frames(start, lambda file: file == str(path))  # noqa: E731
    environment = {"ONTHEFLY_DATA_DIR": str(folder), "ONTHEFLY_TARGET": str(os.getpid()), **environment}
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(_stage(path, arguments, ONTHEFLY_TARGET=str(os.getpid())))
        first: Any = register_optimizer_step_post_hook(before_ours)
        stack.callback(first.remove)
        kept = stack.enter_context(watched(**environment))
        last: Any = register_optimizer_step_post_hook(after_ours)
        stack.callback(last.remove)
        stack.enter_context(mock.patch.object(checkpoints, "script_frames", frames))
        stack.enter_context(mock.patch.object(sessions, "_session", kept.session))
        run.commander = Commander(kept)
        stack.enter_context(during(run.commander))
        _main(path)
    run.out = out.getvalue()
    return run
