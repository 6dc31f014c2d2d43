"""Memory of an accelerator given back while the script is paused, and taken again with the same bits in it.

Storages, not tensors, are moved: each once, whatever views and shared parameters lie in it, as its bytes. All are
copied to the host first, and only then emptied (``resize_(0)``, as FSDP does): where the host has no room, nothing has
happened. The bytes are written back through a tensor of our own over the same storage, which has a version counter of
its own: those of the script's tensors stay as they are, and so autograd and our checkpoints see nothing.

An emptied tensor must not be read: on the host that ends the process. So everything that could is refused, or brings
the memory back first: another thread of the script, its handlers of signals, graphs of CUDA, which remember addresses.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import torch

from onthefly.errors import Refused
from onthefly.state import script
from onthefly.state.frames import FrameState, script_frames
from onthefly.state.kept import Keeper
from onthefly.state.tensors import is_plain, undisturbed
from onthefly.state.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import FrameType

ACCELERATORS = ("cuda", "mps", "xpu")


class _All(Keeper):
    """Remembers each value as it is, tensors with a graph as well: nothing is copied for a look."""

    def keep(self, value: Any) -> Any:
        return value


class Part:
    """One storage: its bytes are on the host."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        """Copy them; ``RuntimeError`` where the host has no room."""
        self.storage = storage
        self.nbytes = storage.nbytes()
        self.tensors: list[torch.Tensor] = []
        """Those of the script that lie in it."""
        self.host = _pinned(self.nbytes) if storage.device.type == "cuda" else _host(self.nbytes)
        self.host.copy_(self._bytes())

    def empty(self) -> None:
        """Give its memory back."""
        self.storage.resize_(0)

    def fill(self) -> None:
        """Take the memory again, with the same bytes; ``RuntimeError`` where there is none."""
        self.storage.resize_(self.nbytes)
        self._bytes().copy_(self.host)

    def stay(self) -> None:
        """Let the tensors lie in the host's memory from now on, as ``module.cpu()`` does."""
        for tensor in self.tensors:
            there: Any = torch.empty(0, dtype=tensor.dtype)
            there.set_(self.host.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
            tensor.data = there

    def _bytes(self) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8, device=self.storage.device).set_(self.storage)  # type: ignore[arg-type]


class Released:
    """What was given back at a pause; empty before and after."""

    def __init__(self, kinds: Collection[str] = ACCELERATORS) -> None:
        """``kinds``: types of devices whose memory is given back."""
        self.kinds = kinds
        self._parts: list[Part] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes that are on the host, and not where they belong."""
        return sum(part.nbytes for part in self._parts)

    def release(self, frames: list[FrameType], loading: Iterable[Any] = ()) -> int:
        """Give back what the script's tensors take; how many bytes. Raises ``Refused``, and then nothing has changed.

        ``frames``: the script's; ``loading``: parts of live iterators, which are not looked into.
        """
        if self._parts:
            return self.nbytes
        found: dict[int, tuple[torch.UntypedStorage, list[torch.Tensor]]] = {}
        for tensor in tensors(frames, loading):
            storage = tensor.untyped_storage()
            if tensor.device.type in self.kinds and storage.nbytes() and storage.resizable():
                found.setdefault(storage._cdata, (storage, []))[1].append(tensor)
        if not found:
            raise Refused("everything is in the host's memory already" if not any(map(_is_there, self.kinds)) else
                          "the script's tensors take no memory of an accelerator")  # fmt: skip
        _refuse_readers()
        with undisturbed():
            parts = self._copied(found.values())
            try:
                for part in parts:
                    part.empty()
            except RuntimeError as error:
                for part in parts:
                    part.fill()
                raise Refused(f"this device does not give memory back: {error}") from error
        self._parts = parts
        self._empty_caches()
        return self.nbytes

    def take_back(self) -> None:
        """Bring everything back. Raises ``Refused`` where the device has no room: what is left stays on the host."""
        with undisturbed():
            while self._parts:
                try:
                    self._parts[-1].fill()
                except RuntimeError as error:  # torch.OutOfMemoryError is one
                    raise Refused(
                        f"{self.nbytes:,} bytes that were given back cannot be had again: {str(error).splitlines()[0]}",
                        "free memory on the device, then resume",
                    ) from error
                self._parts.pop()

    def stay(self) -> None:
        """Where the pause is over and the device has no room: the tensors are on the host from now on."""
        with undisturbed():
            while self._parts:
                self._parts.pop().stay()

    @staticmethod
    def _copied(found: Iterable[tuple[torch.UntypedStorage, list[torch.Tensor]]]) -> list[Part]:
        parts: list[Part] = []
        for storage, lying in found:
            try:
                parts.append(Part(storage))
            except (RuntimeError, MemoryError) as error:
                raise Refused("the host's memory has no room for what is on the device") from error
            parts[-1].tensors = lying
        return parts

    def _empty_caches(self) -> None:
        for kind in self.kinds:
            module: Any = getattr(torch, kind, None)
            if _is_there(kind) and hasattr(module, "empty_cache"):
                module.empty_cache()


def tensors(frames: list[FrameType], loading: Iterable[Any] = ()) -> list[torch.Tensor]:
    """Every plain tensor that a checkpoint would look at: parameters, buffers, gradients, optimizer state, others."""
    keeper = _All()
    walk = Walk(keeper, loading)
    for frame in frames:
        state = FrameState(frame, keeper.keep)
        walk.go(state.roots)
        state.let_go()
    for name, variables in script.modules():
        walk.go((name, value) for name, value in list(variables.items()) if not name.startswith("__"))
        del name
    found = [tensor for tensor, _, _ in walk.tensors.values() if is_plain(tensor)]
    walk.finish()
    return found


def here() -> list[FrameType]:
    """The script's frames above the caller."""
    return script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]


def _refuse_readers() -> None:
    """Who may read a tensor while it is empty."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for number, frame in sys._current_frames().items():  # pyright: ignore[reportPrivateUsage]
        if number != threading.get_ident() and script_frames(frame):
            raise Refused(f"thread {names.get(number, number)} of the script runs on, and may read its tensors",
                          "pause without --release")  # fmt: skip
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        code = getattr(handler, "__code__", None)
        if code is not None and script.is_own(code.co_filename):
            name = signal.Signals(number).name
            raise Refused(f"the script's handler of {name} may read its tensors while they are not there",
                          f"keep --on-signal {name} has the memory brought back before it is called")  # fmt: skip
    graph: Any = getattr(torch.cuda, "CUDAGraph", None)
    if graph is not None and any(issubclass(type(one), graph) for one in gc.get_objects()):
        raise Refused("graphs of CUDA remember where their tensors lie", "pause without --release")


def _is_there(kind: str) -> bool:
    if kind == "mps":
        return torch.backends.mps.is_available()
    module: Any = getattr(torch, kind, None)
    return module is not None and module.is_available()


def _host(nbytes: int) -> torch.Tensor:
    return torch.empty(nbytes, dtype=torch.uint8, device="cpu")


def _pinned(nbytes: int) -> torch.Tensor:
    """Pinned if it can be had: the way back is faster."""
    try:
        return torch.empty(nbytes, dtype=torch.uint8, device="cpu", pin_memory=True)
    except RuntimeError:
        return _host(nbytes)
