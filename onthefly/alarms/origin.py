"""Which operation made the first number that is not finite, in the forward pass, the backward pass or the step.

For one step of the script, which the caller has rewound to, each ATen operation is watched under a dispatch mode on the
script's own thread, from one pause point to the next. The operation sought gives NaN while no input has NaN, or an
infinite number while no input is infinite: a mask of ``-inf`` and what is computed from it is none, a row of nothing
but ``-inf`` in a softmax is.

Watching reads: each operation runs on the same arguments as without. Two things are different all the same. Every
operation makes the host wait, and a composite operation of torch may take another path under any mode (of 43 that were
compared, the gradient of ``prod``), so that last bits may differ: rewind again before the script goes on. What runs
inside compiled code is no operation of the dispatcher: where the first one was made there, it is met as the input of a
later operation.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from onthefly.alarms.nonfinite import plain
from onthefly.alarms.place import NOWHERE, Place, place_of
from onthefly.errors import Refused, leave_frame_out

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from onthefly.errors import Guard

    Phase = Literal["forward", "backward", "step"]

MAX_EVENTS = 8
"""Operations that are remembered; the first one is the answer."""

_UNSET = ("aten::empty", "aten::new_empty", "aten::resize", "aten::set_")
"""Give memory as it is: what lies in it means nothing."""
_OVERWRITE = ("copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_",
              "cauchy_", "geometric_")  # fmt: skip
"""In place, without reading what was there."""

_AUXILIARY = ("aten::_ctc_loss", "aten::_cudnn_ctc_loss", "aten::_use_cudnn_ctc_loss", "aten::_scaled_dot_product_")
"""Give logarithms of sums of nothing, ``-inf``, beside their result, which comes first."""

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]
_graph_task: Any = _c._current_graph_task_id
_node: Any = getattr(_c, "_current_autograd_node", lambda: None)
_sequence: Any = getattr(torch.autograd, "_get_sequence_nr", lambda: 0)


@dataclass(frozen=True)
class Event:
    """An operation that made, or met, a number that is not finite."""

    operation: str
    """``aten::log``"""
    kind: str
    """``nan`` or ``inf``."""
    phase: Phase
    made: bool
    """False: it was among its inputs already, and no operation that was seen had made it."""
    module: str
    """Qualified name within the module that the script called; empty for that one, and outside of any."""
    module_type: str
    """Its class; empty outside of any module."""
    model: str
    """The class of the module that the script called."""
    node: str
    """In the backward pass, the autograd node: ``SqrtBackward0``."""
    line: str
    """The nearest line of the script; in the backward pass that of the forward operation, where it was seen."""
    compiled: bool
    aside: bool
    """An infinite number in what is neither trained nor computed from that, such as the logarithm of a mask or a buffer
    of an optimizer: it may be meant."""
    of_inf: bool
    """An infinite number was among its inputs."""
    shape: tuple[int, ...]
    dtype: str

    @property
    def text(self) -> str:
        """In one sentence."""
        of = f" of {self.model}" if self.module else ""
        where = f" in {self.module or 'the model'} ({self.module_type}){of}" if self.module_type else ""
        how = {"forward": "", "backward": f" in backward ({self.node})", "step": " in the optimizer's step"}[self.phase]
        what = f"{self.operation}{how}{where}{', at ' + self.line if self.line else ''}"
        inside = " inside a compiled part" if self.compiled else ""
        if self.made:
            return f"{what}{inside} gave the first {self.kind}, shape {list(self.shape)}, {self.dtype}"
        source = inside or " in the data, in a parameter, in a compiled part, or in an operation that is not seen"
        return f"{what} met the first {self.kind} among its inputs: it was made{source}"


class _Bad(NamedTuple):
    """What there is among some tensors."""

    nan: bool
    inf: bool
    compiled: bool = False
    """Some of it came straight out of compiled code."""


class Origin:
    """Watches one step. Not to be used twice."""

    def __init__(self, guard: Guard) -> None:
        """``guard`` stands around our own lines, within each operation of the script."""
        self.events: list[Event] = []
        """In order: operations that made them, and the first that met them straight out of compiled code."""
        self.met: Event | None = None
        """The first operation with NaN among its inputs and its outputs that no operation before it had made."""
        self._mode = _Mode(guard.around(self._note), guard.around(self._look))
        self._places: dict[int, Place] = {}
        """Of forward operations, by the number of their autograd node."""
        self._after_compiled: set[int] = set()
        """Numbers of nodes whose gradients compiled code gives."""
        self._thread = 0

    @property
    def found(self) -> Event | None:
        """The answer; None where all numbers were finite."""
        first = self.events[0] if self.events else None
        central = next((event for event in self.events if not event.aside), None)
        if central is not None:
            return first if central.of_inf else central  # it may have come of what was made aside
        return self.met or first

    def enter(self) -> None:
        """At a pause point: watch this thread's operations from now on.

        Refused where the script has a dispatch mode on: its end would take out ours in its place.
        """
        if _python_dispatch._get_current_dispatch_mode() is not None:
            raise Refused("operations cannot be watched: the script has a dispatch mode on", "pause outside of it")
        self._thread = get_ident()
        self._mode.watching = True
        self._mode.__enter__()

    def exit(self) -> bool:
        """At the next pause point, on the same thread, after an exception of the script too: watch no more.

        False where the script has put a mode of its own on top, which must come off first: ours looks at nothing any
        more, and is taken out when this is called again. True also where nothing is there to take out.
        """
        self._mode.watching = False
        self._places.clear()
        self._after_compiled.clear()
        if not self._thread:
            return True
        if get_ident() != self._thread or _python_dispatch._get_current_dispatch_mode() is not self._mode:
            return False
        self._mode.__exit__(None, None, None)
        self._thread = 0
        return True

    def _note(self, func: Any, args: Any, kwargs: Any) -> None:
        """Before an operation: whose it is, and of one that writes into its inputs, what is in them."""
        mode = self._mode
        mode.inputs = None
        if mode.blind():
            return
        if _graph_task() == -1:
            number = _sequence() - 1  # the node that the operation belongs to has just been made
            if number not in self._places:
                self._places[number] = place_of(sys._getframe())
            for tensor in _tensors((args, kwargs)):
                if _of_compiled(tensor):
                    self._after_compiled.update(_followers(tensor))
        if func._schema.is_mutable:
            mode.inputs = _inputs(func, args, kwargs)

    def _look(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        """After it: what it gave."""
        if self._mode.blind() or len(self.events) >= MAX_EVENTS or _passes_on(func):
            return
        if isinstance(output, tuple) and func._schema.name.startswith(_AUXILIARY):
            output = output[:1]
        bad, which = _bad_tensor((output, _written(func, args, kwargs)))
        if which is None:
            return
        inputs = self._mode.inputs or _inputs(func, args, kwargs)
        trained = any(tensor.requires_grad for tensor in _tensors((args, kwargs)))
        event = functools.partial(self._event, func, which, inputs=inputs, trained=trained)
        made = (bad.nan and not inputs.nan) or (bad.inf and not (inputs.inf or inputs.nan))
        if inputs.compiled and not self.events:
            self.events.append(event("nan" if inputs.nan else "inf", made=False, compiled=True))
        elif made:
            self.events.append(event("nan" if bad.nan and not inputs.nan else "inf", made=True))
        elif bad.nan and not self.events and self.met is None:
            node: Any = _node() if _graph_task() != -1 else None
            compiled = node is not None and node._sequence_nr() in self._after_compiled
            self.met = event("nan", made=False, compiled=compiled)

    def _event(
        self, func: Any, which: Tensor, kind: str, *, inputs: _Bad, trained: bool, made: bool, compiled: bool = False
    ) -> Event:
        place, node, phase = place_of(sys._getframe()), "", "forward"
        compiled = compiled or place.compiled
        if _graph_task() != -1:
            current: Any = _node()
            phase, node = "backward", current.name() if current is not None else ""
            compiled = compiled or "CompiledFunction" in node
            place = self._places.get(current._sequence_nr(), NOWHERE) if current is not None else NOWHERE
        elif place.optimizer is not None:
            phase, trained = "step", _belongs(which, place.optimizer)
        return Event(
            operation=func._schema.name,
            kind=kind,
            phase=phase,
            made=made,
            module=place.name,
            module_type=type(place.inner).__name__ if place.inner is not None else "",
            model=type(place.outer).__name__ if place.outer is not None else "",
            node=node.rpartition("::")[2],
            line=place.line,
            compiled=compiled,
            aside=made and kind == "inf" and phase != "backward" and not trained,
            of_inf=inputs.inf,
            shape=tuple(which.shape),
            dtype=str(which.dtype).replace("torch.", ""),
        )


class _Mode(TorchDispatchMode):
    """Calls us before and after each operation, and runs it as it is."""

    supports_higher_order_operators = True

    def __init__(self, before: Any, after: Any) -> None:
        super().__init__()
        self.watching = False
        self.inputs: _Bad | None = None
        self._before, self._after, self._pid = before, after, os.getpid()

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled code stays compiled (a torch that does not ask this runs it operation by operation instead)."""
        return True

    def blind(self) -> bool:
        """Whether nothing can be read now: a CUDA graph is captured, which forbids waiting."""
        return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # A forked worker of a loader inherits the mode of the thread it was forked from.
        watched = self.watching and hasattr(func, "_schema") and os.getpid() == self._pid
        if watched:
            self._before(func, args, kwargs)
        try:
            output = func(*args, **kwargs)
        except BaseException as error:
            leave_frame_out(error)
            raise
        if watched:
            self._after(func, args, kwargs, output)
        return output


def _passes_on(func: Any) -> bool:
    """Whether it makes no numbers: a view, or memory as it is."""
    return getattr(func, "is_view", False) or func._schema.name.startswith(_UNSET)


def _inputs(func: Any, args: Any, kwargs: Any) -> _Bad:
    """What there is among the inputs that an operation reads."""
    schema = func._schema
    written = {one.name for one in schema.arguments if one.kwarg_only and one.alias_info and one.alias_info.is_write}
    if schema.name.rpartition("::")[2] in _OVERWRITE:
        args = args[1:]
    nan = inf = compiled = False
    for leaf in _leaves((args, {name: value for name, value in kwargs.items() if name not in written})):
        if isinstance(leaf, Tensor):
            bad = _bad_of(leaf)
            nan, inf = nan or bad.nan, inf or bad.inf
            compiled = compiled or ((bad.nan or bad.inf) and _of_compiled(leaf))
        elif isinstance(leaf, float):
            nan, inf = nan or math.isnan(leaf), inf or math.isinf(leaf)
    return _Bad(nan, inf, compiled)


def _written(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """Inputs that it has written into: some return nothing, those of optimizers among them."""
    if not func._schema.is_mutable:
        return []
    written: list[Any] = []
    for place, one in enumerate(func._schema.arguments):
        if one.alias_info and one.alias_info.is_write:
            written.append(args[place] if place < len(args) else kwargs.get(one.name))
    return written


def _belongs(tensor: Tensor, optimizer: Any) -> bool:
    """Whether it is a parameter or in the state of this optimizer, and no buffer for a moment."""
    kept = [optimizer.state, [group["params"] for group in optimizer.param_groups]]
    own = tensor.untyped_storage()._cdata
    return any(one.layout is torch.strided and one.untyped_storage()._cdata == own for one in _tensors(kept))


def _of_compiled(tensor: Tensor) -> bool:
    """Whether compiled code has given this tensor."""
    return tensor.requires_grad and type(tensor.grad_fn).__name__ == "CompiledFunctionBackward"


def _followers(tensor: Tensor) -> Iterator[int]:
    """The numbers of the nodes that get their gradients from the backward pass of compiled code."""
    assert tensor.grad_fn is not None
    for node, _ in tensor.grad_fn.next_functions:
        if node is not None and "AccumulateGrad" not in node.name():  # those have no number of their own
            yield node._sequence_nr()


def _bad_tensor(output: Any) -> tuple[_Bad, Tensor | None]:
    """The first tensor of an output that is not finite."""
    for leaf in _leaves(output):
        if isinstance(leaf, Tensor):
            bad = _bad_of(leaf)
            if bad.nan or bad.inf:
                return bad, leaf
    return _Bad(False, False), None


def _bad_of(tensor: Tensor) -> _Bad:
    """What there is in a tensor. Where the sum is finite, so are all; asking each costs ten times as much."""
    with torch.no_grad():
        numbers = plain(tensor)
        if numbers is None or not numbers.numel():
            return _Bad(False, False)
        if numbers.dtype.itemsize == 1:
            numbers = numbers.float()
        if math.isfinite(numbers.sum().item()):
            return _Bad(False, False)
        return _Bad(bool(numbers.isnan().any()), bool(numbers.isinf().any()))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in _leaves(tree) if isinstance(leaf, Tensor)]


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (list, tuple)):
        for part in tree:
            yield from _leaves(part)
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from _leaves(part)
    else:
        yield tree
