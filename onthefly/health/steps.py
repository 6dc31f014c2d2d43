"""A check that needs a running step: what it is told of while the script takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onthefly.health.scene import Answer, Scene


class Look:
    """Looks at one step, and changes nothing in it; all methods run on the training thread."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def begin(self) -> None:
        """The script is about to go on."""

    def backward(self, roots: tuple[Any, ...]) -> None:
        """Before a backward call, with what is back-propagated."""

    def backward_ended(self) -> None:
        """After a backward call."""

    def before(self, optimizer: Any) -> None:
        """An optimizer is about to step; its gradients are there."""

    def end(self) -> Answer:
        """The step is over, and everything of this check's is to be out of the script."""
        raise NotImplementedError

    def abandon(self) -> None:
        """No step will come; the same."""
        self.end()
