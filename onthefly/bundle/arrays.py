"""NumPy's arrays and scalars as tags, without importing NumPy unless one is there to be written or read."""

from __future__ import annotations

import base64
import math
import re
import sys
from typing import Any

TAGS = ("$ndarray", "$numpy")

_KINDS = "biufcmMSU"
"""The kinds of elements that are plain bytes; neither objects nor records."""

_DTYPE = re.compile(rf"[<>|=][{_KINDS}][0-9]{{1,9}}(\[[0-9]{{0,9}}[A-Za-z]{{1,2}}\])?")


def kind(value: Any) -> str:
    """``array`` or ``scalar`` of NumPy, where that has a plain form; empty for subclasses and what holds objects."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return ""
    if type(value) is numpy.ndarray:
        return "array" if value.dtype.kind in _KINDS else ""
    scalar = issubclass(type(value), numpy.generic) and type(value).__module__ == "numpy"
    return "scalar" if scalar and value.dtype.kind in _KINDS else ""


def is_dtype(value: Any) -> bool:
    """Whether it is a type of NumPy's elements, and not of records or objects."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.dtype) and value.kind in _KINDS


def holds_objects(value: Any) -> bool:
    """Whether it is an array of NumPy whose elements are objects."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and value.dtype.kind == "O"


def base_of(value: Any) -> Any:
    """The array of which that one is a view; its owner of another kind; None where it has memory of its own."""
    numpy: Any = sys.modules.get("numpy")
    base = value.base
    while isinstance(base, numpy.ndarray) and base.base is not None:
        base = base.base
    return base


def view_of(base: Any, shape: list[int], dtype: str, offset: int, strides: list[int]) -> Any:
    """A view of an array's memory; ``offset`` and ``strides`` in bytes."""
    numpy: Any = sys.modules["numpy"]
    return numpy.ndarray(shape, numpy.dtype(dtype), buffer=base, offset=offset, strides=strides)


def of_objects(shape: list[int]) -> Any:
    """An array for objects, which holds none yet."""
    return sys.modules["numpy"].empty(shape, dtype=object)


def offset_of(value: Any, base: Any) -> int:
    """Where in the memory of its base a view begins, in bytes."""
    return value.__array_interface__["data"][0] - base.__array_interface__["data"][0]


def encode(value: Any) -> dict[str, Any] | None:
    """The tag of an array or a scalar of NumPy; ``None`` for everything else."""
    found = kind(value)
    if not found:
        return None
    if found == "scalar":
        return {"$numpy": [value.dtype.str, _text(value.tobytes())]}
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return {"$ndarray": [value.dtype.str, list(value.shape), order, _text(value.tobytes(order))]}


def decode(tag: str, payload: Any) -> Any:
    """What :func:`encode` was given; arrays can be written to. Raises ``ValueError`` or ``TypeError``."""
    try:
        import numpy
    except ModuleNotFoundError as error:
        raise ValueError("NumPy is not installed here") from error
    if tag == "$numpy":
        (name, text), shape, order = payload, (), "C"
    else:
        name, shape, order, text = payload
    if not _DTYPE.fullmatch(name):  # NumPy would parse anything, as Python in part
        raise ValueError(f"no dtype {name}")
    dtype: Any = numpy.dtype(name)
    data = base64.b64decode(text.encode("ascii"), validate=True)
    count = math.prod(shape)
    if order not in ("C", "F") or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"no array of {name}")
    if count * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for {count} elements of {name}")
    if dtype.kind == "U" and data and numpy.frombuffer(data, dtype.str[0] + "u4").max() > sys.maxunicode:
        raise ValueError("no text")  # NumPy itself looks only when it is read, and then raises SystemError
    if tag == "$numpy":
        return numpy.frombuffer(data, dtype)[0] if dtype.itemsize else dtype.type()
    return numpy.frombuffer(bytearray(data), dtype).reshape(shape, order=order)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
