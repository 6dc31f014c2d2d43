"""What is looked at before each step of an optimizer: where its gradients are there."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from onthefly.errors import leave_frame_out, uncounted

if TYPE_CHECKING:
    from collections.abc import Callable


def before_step(looks: list[Callable[[Any], None]]) -> Callable[[Any, Any, Any], Any]:
    """What is called before each step: ``looks``, once its gradients are there.

    They are, unless the step is given a closure that makes them; then that is wrapped.
    """

    def prepare(optimizer: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        closure = kwargs.get("closure") if "closure" in kwargs else next(iter(args[1:]), None)
        if not callable(closure):
            for look in looks:
                look(optimizer)
            return None

        @functools.wraps(closure, updated=())
        @uncounted
        def looked_at(*given: Any, **named: Any) -> Any:
            try:
                loss = closure(*given, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            for look in looks:
                look(optimizer)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": looked_at}
        return (args[0], looked_at, *args[2:]), kwargs

    return prepare
