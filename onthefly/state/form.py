"""The plain description of everything live with state at one moment, and the way back into live objects.

Plain: dictionaries, lists, numbers and tensors in the host's memory, which tagged JSON and safetensors hold without
pickle. Functions and objects without a plain form are left out, and named.
"""

from __future__ import annotations

import platform
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from onthefly.bundle import tagged, tensors
from onthefly.bundle.refusals import Damaged
from onthefly.errors import Refused
from onthefly.state.applying import FOREIGN, Plan
from onthefly.state.copies import HostCopies, Taker
from onthefly.state.encoding import find_in, keep_in
from onthefly.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from onthefly.bundle.tensors import Buffer, Stored
    from onthefly.state.objects import Objects

TENSORS, STATE = "tensors.safetensors", "state.json"
"""The members of a checkpoint's folder."""


class Place(NamedTuple):
    """Where in its training a run was; counted as everywhere, from 0."""

    run: str
    step: int
    epoch: int
    backward: int
    position: int = -1
    """Batches that the loop has taken of the epoch; -1: not known."""


class Form:
    """What was live at one place. Made by :meth:`of` on the training thread, or read from the disk by :meth:`read`."""

    def __init__(self, sections: dict[str, Any], place: Place, *, nbytes: int = 0) -> None:
        self.sections = sections
        """``modules``, ``optimizers``, ...: as in :class:`~onthefly.state.objects.Objects`, name to state; ``random``;
        ``modes`` (what was frozen or in evaluation); ``classes``; ``trained``; ``trains``; ``left_out``; and what the
        caller added."""
        self.place = place
        self.nbytes = nbytes
        """Bytes of the tensors in it."""
        self.versions = {"onthefly": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
        self.wait: Callable[[], None] = _nothing
        """Until its tensors are filled; to be called before they are read."""

    @classmethod
    def of(
        cls,
        objects: Objects,
        place: Place,
        *,
        random: Any = None,
        more: Mapping[str, Any] | None = None,
        copy: Callable[[Tensor], Tensor] | None = None,
        image: Callable[[Taker], Any] | None = None,
    ) -> Form:
        """Copy the state of ``objects`` now; ``random`` and ``more`` are plain trees of the caller's, copied too.

        ``image(taker)`` gives the section ``script``, a plain tree whose tensors it has the taker copy.

        ``copy(tensor)`` makes a copy, row-major, in the host's memory; by default :class:`HostCopies`, which waits
        for no accelerator. Raises :class:`~onthefly.errors.Refused` if an object does not give its state.
        """
        host = HostCopies()
        taker = Taker(copy or host)
        sections: dict[str, Any] = {}
        for kind, things in objects.kinds().items():
            sections[kind] = {}
            for name, thing in things.items():
                state = _state(kind, name, thing, objects, taker)
                if state is not None:
                    sections[kind][name] = taker.take(state, name)
        sections["modes"] = {name: modes(module) for name, module in objects.modules.items()}
        sections["classes"] = {
            kind: {name: class_name(thing) for name, thing in things.items()}
            for kind, things in objects.kinds().items()
        }
        sections["wrapped"] = dict(objects.wrapped)
        sections["trained"], sections["trains"] = objects.trained(), objects.trains()
        sections["random"] = taker.take(random, "random")
        for name, tree in (more or {}).items():
            sections[name] = taker.take(tree, name)
        if image is not None:
            sections["script"] = image(taker)
        sections["left_out"] = taker.left_out
        host.finish()
        form = cls(sections, place, nbytes=taker.nbytes)
        form.wait = host.wait
        return form

    @property
    def random(self) -> Any:
        """The random states that :meth:`of` was given."""
        return self.sections["random"]

    @property
    def left_out(self) -> list[str]:
        """What was not kept, each with its place and what it is."""
        return self.sections["left_out"]

    def apply(self, objects: Objects) -> None:
        """Put the live objects into this state; random states are the caller's to set.

        Names, classes, shapes and dtypes of **all** of them are checked before the first is written. What was left
        out, a function of a scheduler for instance, stays as the script has it. Raises
        :class:`~onthefly.errors.Refused`; then everything is as it was.
        """
        self.wait()
        plan = Plan(self.sections, objects, same_torch=self.versions["torch"] == str(torch.__version__))
        plan.check()
        plan.carry_out()

    def members(self) -> dict[str, Iterable[Buffer]]:
        """The members of its folder, as pieces. Raises :class:`~onthefly.bundle.refusals.Unrepresentable`."""
        self.wait()
        stored: dict[str, Stored] = {}
        content = {"place": self.place._asdict(), "versions": self.versions, **self.sections}
        state = tagged.dumps(content, keep_in(stored))
        return {TENSORS: tensors.chunks(stored, {"format": "pt"}), STATE: [state]}

    @classmethod
    def read(cls, members: Mapping[str, bytearray]) -> Form:
        """The form of verified members. Raises :class:`~onthefly.bundle.refusals.Damaged`."""
        try:
            stored = tensors.read(members[TENSORS])
            content = tagged.loads(members[STATE], find_in(stored))
            place, versions = Place(**content.pop("place")), content.pop("versions")
        except (KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"this is no state of a training: {error}") from error
        form = cls(content, place, nbytes=sum(len(one.data) for one in stored.values()))
        form.versions = versions
        return form


def class_name(thing: Any) -> str:
    """The full name of the class of a thing, under which it is known again."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def modes(module: torch.nn.Module) -> dict[str, list[str]]:
    """Which of its modules evaluate, and which of its parameters are frozen."""
    return {
        "evaluating": [name for name, inner in module.named_modules() if not inner.training],
        "frozen": [name for name, parameter in module.named_parameters() if not parameter.requires_grad],
    }


def _state(kind: str, name: str, thing: Any, objects: Objects, taker: Taker) -> Any:
    if kind == "tensors":
        return thing
    try:
        if kind == "generators":
            return thing.get_state()
        state = thing.state_dict()
    except FOREIGN as error:
        if kind == "others":
            taker.leave(name, f"its state_dict() raised {type(error).__name__}: {error}")
            return None
        raise Refused(f"{name} does not give its state: {type(error).__name__}: {error}",
                      "what its state_dict() raises has to be mended in the script") from error  # fmt: skip
    if kind == "scalers":
        return {"state": state, "optimizers": _of_scaler(thing, objects)}
    functions: Any = getattr(thing, "lr_lambdas", ()) if kind == "schedulers" else ()
    for number, function in enumerate(functions):
        if isinstance(
            function, FunctionType
        ):  # an object's attributes are in the state; of a function, torch keeps None
            taker.left_out.append(f"{name}.lr_lambdas[{number}]: a function")
    return state


def _of_scaler(scaler: Any, objects: Objects) -> dict[str, Any]:
    """What it knows of each optimizer between ``step`` and ``update``: no part of its ``state_dict``."""
    names = {id(optimizer): name for name, optimizer in objects.optimizers.items()}
    known = getattr(scaler, "_per_optimizer_states", {})
    return {
        names[number]: {
            "stage": state["stage"].value,
            "found_inf": {str(device): found for device, found in state["found_inf_per_device"].items()},
        }
        for number, state in list(known.items())
        if number in names
    }


def _nothing() -> None:
    """Nothing to wait for."""
