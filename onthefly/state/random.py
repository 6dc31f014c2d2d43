"""The global random states of a process, and the states of generators that somebody holds."""

from __future__ import annotations

import random
import sys
from typing import Any, Callable, NamedTuple, Optional

import torch


class RandomStates:
    """All global random states at one moment. They are read and set, never drawn from.

    NumPy's only if NumPy has been imported, an accelerator's only if it is in use: asking starts neither.
    """

    __slots__ = ("_cuda", "_mps", "_numpy", "_python", "_torch")

    def __init__(self, python: Any, numpy: Any, cpu: Any, cuda: Any, mps: Any) -> None:
        self._python = python
        self._numpy = numpy
        self._torch = cpu
        self._cuda = cuda
        self._mps = mps

    @classmethod
    def take(cls, like: Optional[RandomStates] = None) -> RandomStates:
        """The states now; parts that are as in ``like`` are shared with it (Python's has 625 numbers)."""
        python, numpy, cpu = random.getstate(), _numpy_state(), torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        mps = torch.mps.get_rng_state() if _mps_in_use() else None
        taken = cls(python, numpy, cpu, cuda, mps)
        if like is not None:
            for name in cls.__slots__:
                if _same(getattr(taken, name), getattr(like, name)):
                    setattr(taken, name, getattr(like, name))
            if all(getattr(taken, name) is getattr(like, name) for name in cls.__slots__):
                return like
        return taken

    @classmethod
    def of_torch(cls) -> RandomStates:
        """Torch's own in the host's memory, alone: what its samplers draw from. A tenth of the time."""
        return cls(None, None, torch.default_generator.get_state(), None, None)

    def put_back(self) -> None:
        """Set all of them to what they were."""
        if self._python is not None:
            random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        if self._mps is not None:
            torch.mps.set_rng_state(self._mps)

    def tree(self) -> dict[str, Any]:
        """As plain data and tensors, by the name of the generator; those that are not in use are left out."""
        found = {
            "python": self._python,
            "numpy": self._numpy,
            "torch": self._torch,
            "cuda": self._cuda,
            "mps": self._mps,
        }
        return {name: state for name, state in found.items() if state is not None}

    def same(self, other: RandomStates) -> bool:
        """Whether both are of one moment, as far as drawing goes."""
        return all(_same(getattr(self, name), getattr(other, name)) for name in self.__slots__)


def _numpy_state() -> Any:
    numpy = sys.modules.get("numpy")
    # Half imported, by another thread, it has no random part yet.
    return numpy.random.get_state() if numpy is not None and hasattr(numpy, "random") else None


def _mps_in_use() -> bool:
    return torch.backends.mps.is_available() and torch.mps.driver_allocated_memory() > 0


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple) and len(one) > 8:  # pyright: ignore[reportUnknownArgumentType]
        return bool(one == other)  # the 625 numbers of Python's: compared one by one here, they cost a millisecond
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(part, other[key]) for key, part in one.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if hasattr(one, "tobytes"):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return bool(one == other)


class Generator(NamedTuple):
    """How the state of one kind of generator object is read and set."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]


_TORCH = Generator(lambda one: one.get_state(), lambda one, state: one.set_state(state))
_PYTHON = Generator(lambda one: one.getstate(), lambda one, state: one.setstate(state))
_NUMPY = Generator(lambda one: one.bit_generator.state, lambda one, state: setattr(one.bit_generator, "state", state))
_NUMPY_OLD = Generator(lambda one: one.get_state(legacy=False), lambda one, state: one.set_state(state))


def generator_of(value: Any) -> Optional[Generator]:
    """How the state of that object is read and set, if it is a random generator; else None."""
    if isinstance(value, torch.Generator):
        return _TORCH
    if isinstance(value, random.Random):
        return None if isinstance(value, random.SystemRandom) else _PYTHON
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "random"):
        if isinstance(value, numpy.random.Generator):
            return _NUMPY
        if isinstance(value, numpy.random.RandomState):
            return _NUMPY_OLD
    return None


def generators_in(owner: Any, depth: int = 4) -> list[Any]:
    """The random generators that an object holds in its attributes, or that what it holds does.

    For data sets and samplers, which are not followed further: a data set may be a million paths.
    """
    found: list[Any] = []
    _search(owner, depth, found, set())
    return found


def _search(value: Any, depth: int, found: list[Any], seen: set[int]) -> None:
    if id(value) in seen or isinstance(value, (torch.Tensor, type)):
        return
    seen.add(id(value))
    if generator_of(value) is not None:
        found.append(value)
    elif depth:
        parts: Any = getattr(value, "__dict__", None)
        parts = parts.values() if type(parts) is dict else ()
        if type(value) in (list, tuple) and len(value) <= 64:
            parts = value
        elif type(value) is dict and len(value) <= 64:
            parts = value.values()
        for part in list(parts):
            _search(part, depth - 1, found, seen)


def same_states(one: Any, other: Any) -> bool:
    """Whether two states of a generator are equal."""
    return _same(one, other)
