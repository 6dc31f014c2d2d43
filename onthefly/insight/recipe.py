"""The step recipe: a traced step that can be done again, on the same batch (then it must give the same bits) or others.

It is refused where a value of the batch left the world of tensors on the way to the loss (``item``, ``bool``,
``tolist``): what the script's Python made of it is not seen. Where a size did, or a constant equals the number of rows,
it serves batches of that size alone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.errors import Refused, outcome
from onthefly.insight.keeping import as_before
from onthefly.insight.operations import Autocast, Operation, Step, is_writing
from onthefly.insight.slicing import needed
from onthefly.insight.values import Held, Items, Written, constants, fill, tensors

if TYPE_CHECKING:
    from collections.abc import Generator

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]

REMEDY = "give a function: onthefly.session().register(test=fn, step=fn)"


class Recipe:
    """One step, from a batch to its loss."""

    def __init__(self, step: Step) -> None:
        """Raises :class:`~onthefly.errors.Refused` where it cannot be one, and says why."""
        numbers = needed(step.operations, step.loss)
        self._operations = [(number, step.operations[number]) for number in numbers]
        self._loss = step.loss
        last = numbers[-1] if numbers else 0
        for escape in step.escapes:
            if escape.before <= last and not escape.size:
                raise Refused(f"a value of the batch left the tensors before the loss was there ({escape.what}): what "
                              "the script's Python made of it is not seen", REMEDY)  # fmt: skip
        for _, one in self._operations:
            if is_writing(one.function) and _is_held(one.args):
                raise Refused("the step writes into a tensor of the script's own before the loss is there", REMEDY)
        self.rows = rows_of(step.batch)
        """Of its batch; 0 where none can be told."""
        self.shapes = [tuple(one.shape) for one in tensors(step.batch)]
        self.sized = any(escape.size and escape.before <= last for escape in step.escapes)
        """It serves batches of those shapes alone."""
        given = [part for _, one in self._operations for part in (one.args, one.named)]
        self.sized = self.sized or (
            self.rows > 1 and any(_says(value, self.rows) for part in given for value in constants(part))
        )
        self.modules: list[nn.Module] = list(
            {id(one.module): one.module for _, one in self._operations if one.module is not None}.values()
        )
        """Those that the step calls, outermost."""
        for module in self.modules:
            name = type(module).__name__
            if name in ("FullyShardedDataParallel", "FSDPModule"):
                raise Refused(f"the model is sharded ({name}): a step of it takes all ranks")
        self.reproduced = self.tried = 0
        """Real steps that it gave again bit for bit, and those that it was compared with."""
        self.difference = ""
        """Of the first that it did not."""

    @property
    def text(self) -> str:
        """``reproduced 2 of 2``."""
        return f"reproduced {self.reproduced} of {self.tried}" + (f": {self.difference}" if self.difference else "")

    def serves(self, batch: Any) -> bool:
        """Whether a batch has a size that is right for it."""
        return not self.sized or [tuple(one.shape) for one in tensors(batch)] == self.shapes

    def light_loss(self, batch: Any) -> Tensor:
        """The same without a graph through what has parameters: the losses of samples are read behind that, mostly."""
        return self.loss(batch, light=True)

    def loss(self, batch: Any, *, light: bool = False) -> Tensor:
        """The loss of a batch, in the modes that the modules are in: to be called within ``as_before``."""
        results: dict[int, Any] = {}
        for number, one in self._operations:
            args, named = fill(one.args, batch, results), fill(one.named, batch, results)
            function: Any = getattr(one.module, "module", None) if _is_parallel(one.module) else one.function
            graphless = light and one.trains
            _c._set_grad_enabled(one.grad and not graphless)
            if one.autocast.enabled:
                with casting(one.autocast):
                    results[number] = function(*args, **named)
            else:
                results[number] = function(*args, **named)
            if graphless and one.grad:
                for made in tensors(results[number]):
                    if made.is_floating_point() and not made.requires_grad:
                        made.requires_grad_()
        return fill(self._loss, batch, results)

    def is_of(self, step: Step) -> bool:
        """Whether a step is one of its kind: a script may have several losses (a GAN), or add a term now and then."""
        theirs = [step.operations[number] for number in needed(step.operations, step.loss)]
        return [one.module or one.function for one in theirs] == [one.module or one.function for one in self.operations]

    def compare(self, step: Step) -> None:
        """Do a real step again, here where its parameters are as they were for it, and note whether the bits agree."""
        self.tried += 1
        loss, fault = outcome(self._again, step)
        if fault is not None:
            self.difference = self.difference or f"{type(fault).__name__}: {fault}"[:200]
        elif loss is None or not same_bits(loss.detach(), step.value):
            self.difference = self.difference or "the loss came out otherwise"
        else:
            self.reproduced += 1

    def _again(self, step: Step) -> Tensor | None:
        real = [step.operations[number] for number in needed(step.operations, step.loss)]
        if not real:
            return None
        if not self.serves(step.batch):
            self.tried -= 1
            self.reproduced -= 1  # it says nothing of it: neither for nor against
            return step.value
        with as_before(self.modules):
            given: set[tuple[int, str]] = set()
            for one in real:
                for module, name, buffer in one.buffers:
                    if (id(module), name) not in given:
                        given.add((id(module), name))
                        module._buffers[name] = buffer.clone()
                for module, training in one.modes:
                    module.training = training
            real[0].random.put_back()
            return self.loss(step.batch)

    @property
    def modes(self) -> list[tuple[nn.Module, bool]]:
        """Which modules trained in the step."""
        return [pair for _, one in self._operations for pair in one.modes]

    @property
    def operations(self) -> list[Operation]:
        """In their order."""
        return [one for _, one in self._operations]


@contextlib.contextmanager
def casting(autocast: Autocast) -> Generator[None, None, None]:
    """With autocast as it was; gone at the end, with what it has cached."""
    with contextlib.ExitStack() as stack:
        for kind, dtype in autocast.enabled.items():
            stack.enter_context(torch.autocast(kind, dtype, cache_enabled=autocast.cached))
        yield


def rows_of(batch: Any) -> int:
    """The first axis that its tensors share; 0 where there is none."""
    sizes = {one.shape[0] if one.dim() else 0 for one in tensors(batch)}
    return sizes.pop() if len(sizes) == 1 else 0


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether they are equal, NaN for NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(torch.equal(one, other) or (torch.equal(one.nan_to_num(nan=0.0), other.nan_to_num(nan=0.0))
                and torch.equal(one.isnan(), other.isnan())))  # fmt: skip


def _is_parallel(module: nn.Module | None) -> bool:
    return module is not None and type(module).__name__ == "DistributedDataParallel"


def _is_held(args: Any) -> bool:
    first = args.parts[0] if isinstance(args, Items) and args.parts else None
    while isinstance(first, Written):
        first = first.value
    return isinstance(first, Held)


def _says(value: Any, rows: int) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_says(one, rows) for one in value)  # pyright: ignore[reportUnknownVariableType]
    return type(value) is int and value == rows
