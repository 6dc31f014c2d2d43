"""Keeps ``torch.compile`` out of our own frames.

A script that compiles its whole step leaves dynamo looking at every Python frame that runs inside it, and our hooks
would be compiled, guarded and recompiled with it. The call that marks a code object is private to torch and differs
between releases: where it is absent, such a script compiles a few frames more, which does not change what it computes.
"""

from __future__ import annotations

from typing import Any

import torch


def skip(function: Any, *, callees: bool) -> None:
    """Have dynamo run this function's frames as they are; with ``callees`` also everything that they call."""
    frames: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
    strategy, action = getattr(frames, "_FrameExecStrategy", None), getattr(frames, "_FrameAction", None)
    if strategy is None or action is None:
        return
    code = getattr(function, "__func__", function).__code__
    frames.set_code_exec_strategy(code, strategy(action.SKIP, action.SKIP if callees else action.DEFAULT))
    if callees:  # and where it would inline them into a caller's frame, as `torch.compiler.disable` asks it
        getattr(function, "__func__", function)._torchdynamo_disable = True
