"""One real step of the script, seen operation by operation as it runs: what the batch's loss is made of.

Every call of torch comes by a ``TorchFunctionMode``, and each outermost module as a single call (its inside is not
looked at: it runs without the mode). What is noted is the call, its arguments with the place of origin of each, grad
mode, autocast, and the random states before it. The script's own call runs as it is; nothing else is done.
"""

from __future__ import annotations

import functools
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data.dataloader import _BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage]

from onthefly.errors import leave_frame_out
from onthefly.insight.operations import HARMLESS, SIZES, Autocast, Escape, Operation, Step, is_small, name_of, writes
from onthefly.insight.values import Leaf, Made, Written, copied, template, tensors, walk
from onthefly.patching.slots import Slot
from onthefly.state.random import RandomStates

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard

MAX_OPERATIONS = 5000
MAX_BATCHES = 4
"""The newest batches, in any of which the loss may be: frameworks fetch one ahead."""

_amp: Any = torch.amp if hasattr(torch.amp, "GradScaler") else torch.cuda.amp
_BACKWARD: Any = (Tensor.backward, torch.autograd.backward)


class Tracer:
    """Traces steps of one thread, from :meth:`begin` to :meth:`end`."""

    def __init__(self, guard: Guard, stepped: Callable[[Step], None]) -> None:
        """``stepped(step)``: a loss that depends on a batch is about to be back-propagated."""
        self._guard = guard
        self._stepped = guard.around(stepped)
        self._mode = _Mode(guard.around(self._called), guard.around(self._backward))
        self._slots: list[Slot] = []
        self._thread = 0
        self._inside = False
        self._forget()
        self._batches: list[tuple[Any, Any]] = []
        """As the script has it, and as it came."""
        self.blind = ""
        """Why nothing is seen; empty: it is."""

    def begin(self) -> None:
        """At a pause point, on the thread that trains."""
        self._thread = get_ident()
        self._slots = [
            Slot(nn.Module, "__call__", self._wrap_module),
            Slot(_BaseDataLoaderIter, "__next__", self._wrap_next),
            Slot(_amp.GradScaler, "scale", self._wrap_scale),
        ]
        self._mode.watching = True
        self._mode.__enter__()

    def end(self) -> bool:
        """At a later pause point; False where a mode of the script's is on top of ours: to be called again then."""
        self._mode.watching = False
        for slot in reversed(self._slots):
            slot.restore()
        self._slots = []
        self._forget()
        self._batches.clear()
        if not self._thread:
            return True
        if get_ident() != self._thread or _top() is not self._mode:
            return False
        self._mode.__exit__(None, None, None)
        self._thread = 0
        return True

    def passed(self) -> None:
        """A pause point is passed, and the tracing goes on: what belongs to the step before is over."""
        self._forget()

    def _forget(self) -> None:
        self._operations: list[Operation] = []
        self._sources: dict[int, Any] = {}
        self._alive: list[Any] = []
        self._escapes: list[Escape] = []
        self._tainted: set[int] = set()
        self._scaled: dict[int, Tensor] = {}
        self._random: RandomStates | None = None

    # -- what is seen

    def _wrap_next(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        came = self._guard.around(self._came)

        @functools.wraps(original)
        def __next__(iterator: Any) -> Any:
            try:
                data = original(iterator)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled and get_ident() == self._thread:
                came(data)
            return data

        return __next__

    def _came(self, data: Any) -> None:
        with self._aside():
            self._batches = [*self._batches[1 - MAX_BATCHES :], (data, copied(data))]

    def _wrap_scale(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def scale(scaler: Any, outputs: Any) -> Any:
            try:
                result = original(scaler, outputs)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled and isinstance(outputs, Tensor):
                self._alive.append(result)
                self._scaled[id(result)] = outputs
            return result

        return scale

    def _wrap_module(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        before, after = self._guard.around(self._before_module), self._guard.around(self._called)

        @functools.wraps(original)
        def __call__(module: Any, *args: Any, **named: Any) -> Any:
            if not slot.enabled or self._inside or get_ident() != self._thread or not self._mode.watching:
                try:
                    return original(module, *args, **named)
                except BaseException as error:
                    leave_frame_out(error)
                    raise
            noted: list[Any] = []
            before(module, noted)
            self._inside = True
            try:
                with self._aside():
                    result = original(module, *args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            finally:
                self._inside = False
            if noted:
                after(module, args, named, result, *noted)
            return result

        return __call__

    def _aside(self) -> Any:
        """Without our mode, where it is on top; else it looks away."""
        return _Aside(self._mode)

    def _before_module(self, module: nn.Module, noted: list[Any]) -> None:
        with self._aside():
            buffers = [
                (inner, name, buffer.detach().clone())
                for inner in module.modules()
                for name, buffer in inner._buffers.items()
                if buffer is not None
            ]
            modes = [(inner, inner.training) for inner in module.modules()]
            self._random = RandomStates.take(self._random)
        noted += [self._random, torch.is_grad_enabled(), Autocast.now(), buffers, modes]

    # -- what is noted

    def _source(self, value: Any) -> Any:
        return self._sources.get(id(value))

    def _called(
        self, function: Any, args: Any, named: Any, result: Any, random: Any, grad: bool, autocast: Any,
        buffers: Any = (), modes: Any = (),
    ) -> None:  # fmt: skip
        with self._aside():
            self._look_for_batches()
            given, more = template(tuple(args), self._source), template(dict(named or {}), self._source)
            name = "" if isinstance(function, nn.Module) else name_of(function)
            known = [source for one in tensors((tuple(args), dict(named or {}))) if (source := self._source(one))]
            tainted = any(self._is_tainted(source) for source in known)
            number = len(self._operations)
            made = [(path, one) for path, one in walk(result) if isinstance(one, Tensor)]
            if not made and not writes(name):
                if tainted and name not in HARMLESS:
                    self._escapes.append(Escape(number, name, size=name in SIZES))
                return
            if number >= MAX_OPERATIONS:
                self._mode.watching = False
                return
            module = function if isinstance(function, nn.Module) else None
            trains = module is not None and next(module.parameters(), None) is not None
            self._operations.append(
                Operation(function, given, more, grad, autocast, random, module, list(buffers), list(modes), trains)
            )
            if tainted or (module is not None and self._is_of_batch((args, named))):
                self._tainted.add(number)
            self._alive.append((args, result))
            inputs = {id(one): one for one in tensors((tuple(args), dict(named or {})))}
            for path, one in walk(result):
                if id(one) not in inputs and (isinstance(one, Tensor) or path == () or not is_small(one)):
                    self._sources[id(one)] = Made(number, path)
            if writes(name) and args and isinstance(args[0], Tensor):
                self._wrote(args[0], number)

    def _wrote(self, tensor: Tensor, number: int) -> None:
        """An operation has written into that tensor, and so into what it is a view of."""
        for one in (tensor, tensor._base):
            if one is not None:
                self._sources[id(one)] = Written(self._sources.get(id(one)) or template(one, lambda _: None), number)
                self._alive.append(one)

    def _is_tainted(self, source: Any) -> bool:
        if isinstance(source, Leaf):
            return True
        if isinstance(source, Written):
            return source.operation in self._tainted or self._is_tainted(source.value)
        return isinstance(source, Made) and source.operation in self._tainted

    def _is_of_batch(self, given: Any) -> bool:
        return any(isinstance(self._source(one), Leaf) for _, one in walk(given))

    def _look_for_batches(self) -> None:
        """Batches that have come since: their parts are leaves, unless something has been made of them already."""
        for place, (data, _) in enumerate(self._batches):
            if id(data) not in self._sources:
                for path, one in walk(data):
                    if isinstance(one, Tensor) or not is_small(one):
                        self._sources[id(one)] = Leaf((("batch", place), *path))

    def _backward(self, root: Any) -> None:
        """A backward call is about to run."""
        if isinstance(root, (tuple, list)) and len(root) == 1:  # pyright: ignore[reportUnknownArgumentType]
            root = root[0]
        root = self._scaled.get(id(root), root)
        source = self._source(root)
        if not isinstance(root, Tensor) or source is None or not self._is_tainted(source):
            return
        with self._aside():
            found = _placed(self._operations, source)
            if found is None:
                return
            place, operations, source = found
            _, came = self._batches[place]
            step = Step(operations, source, root.detach().clone(), came, list(self._escapes))
            self._inside = True
            try:
                self._stepped(step)
            finally:
                self._inside = False


class _Mode(TorchFunctionMode):
    """Runs each call as it is, and tells of it."""

    def __init__(self, called: Callable[..., None], backward: Callable[..., None]) -> None:
        super().__init__()
        self.watching = False
        self._called, self._tell_backward = called, backward
        self._random: Any = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if not self.watching:
            return func(*args, **named)
        if func in _BACKWARD:
            self._tell_backward(args[0] if args else named.get("tensors"))
            return func(*args, **named)
        self._random = RandomStates.take(self._random)
        before = self._random, torch.is_grad_enabled(), Autocast.now()
        try:
            result = func(*args, **named)
        except BaseException as error:
            leave_frame_out(error)
            raise
        self._called(func, args, named, result, *before)
        return result


class _Aside:
    """Takes a mode off for a while, if it is on top."""

    def __init__(self, mode: _Mode) -> None:
        self._mode = mode
        self._off = False

    def __enter__(self) -> None:
        self._off = _top() is self._mode
        if self._off:
            torch.overrides._pop_mode()  # pyright: ignore[reportPrivateUsage]

    def __exit__(self, *raised: object) -> None:
        if self._off:
            torch.overrides._push_mode(self._mode)  # pyright: ignore[reportPrivateUsage]


def _top() -> Any:
    overrides: Any = torch.overrides
    return overrides._get_current_function_mode()


def _placed(operations: list[Operation], loss: Any) -> tuple[int, list[Operation], Any] | None:
    """Which of the newest batches it is of, with the marks of that one alone; None where it is of several."""
    from onthefly.insight.slicing import batches_of, needed, of_batch

    used = batches_of(operations, needed(operations, loss), loss)
    if len(used) != 1:
        return None
    place = next(iter(used))
    return place, [of_batch(one, place) for one in operations], of_batch(loss, place)
