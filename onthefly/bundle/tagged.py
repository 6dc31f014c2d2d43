"""JSON that keeps types: what JSON has no word for is an object with one ``$`` key, its tag.

Lists, strings, booleans, ``None``, finite floats (``-0.0`` too), integers up to 2**53 and dictionaries with plain
string keys are themselves. The rest is tagged: ``{"$tuple": [1, 2]}``, ``{"$float": "nan"}``, ``{"$dict": [[1, 2]]}``.
Types are taken exactly: a subclass is not its base. What torch knows goes through a hook (:data:`Encode`,
:data:`Decode`), since this room imports no torch.

Two places that hold one object hold two equal ones after reading.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any, Optional

from onthefly.bundle import arrays
from onthefly.bundle.refusals import Damaged, TooLarge, Unrepresentable

if TYPE_CHECKING:
    from collections.abc import Callable

    Encode = Callable[[Any, str], Optional["dict[str, Any]"]]
    """``encode(value, path)``: one tag with plain JSON, or ``None`` for what it does not know either."""
    Decode = Callable[[str, Any], Any]
    """``decode(tag, payload)``: the value; ``KeyError`` for an unknown tag, ``ValueError`` for a bad payload."""

MAX_DEPTH = 64
"""How deep values may be nested."""
MAX_BYTES = 64 << 20
"""How long a document may be."""
MAX_NODES = 2_000_000
"""How many values a document may hold, counted by its commas and brackets before anything is built from it."""

_PLAIN_INT = 1 << 53
_FACTORIES: dict[str, Any] = {type_.__name__: type_ for type_ in (list, dict, set, int, float, str, tuple, bool)}
_NAN = struct.pack(">d", math.nan)


def dumps(value: Any, hook: Encode | None = None) -> bytes:
    """The document. Raises :class:`Unrepresentable` with the place of what has no form, :class:`TooLarge`."""
    text = json.dumps(_encode(value, "", 0, hook), separators=(",", ":"), allow_nan=False).encode("ascii")
    _check_size(text)
    return text


def loads(data: bytes | bytearray | memoryview, hook: Decode | None = None) -> Any:
    """What :func:`dumps` was given. Raises :class:`Damaged` on everything else, :class:`TooLarge` before it is parsed.

    Refused: a key twice, a tag that nobody knows or with a wrong payload, nesting beyond :data:`MAX_DEPTH`.
    """
    data = bytes(data)
    _check_size(data)
    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not the JSON that was written: {error}") from error
    return _decode(parsed, 0, hook)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise TooLarge(f"{len(data) >> 20} MiB of plain values, where {MAX_BYTES >> 20} are allowed",
                       "keep large data in tensors")  # fmt: skip
    nodes = data.count(b",") + data.count(b"[") + data.count(b"{")
    if nodes > MAX_NODES:
        raise TooLarge(f"about {nodes} plain values, where {MAX_NODES} are allowed", "keep large data in tensors")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} stands there untagged")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


# Writing.


def _encode(value: Any, path: str, depth: int, hook: Encode | None) -> Any:
    if depth > MAX_DEPTH:
        raise Unrepresentable(path, f"nested deeper than {MAX_DEPTH} levels, or it contains itself")
    kind: Any = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_PLAIN_INT <= value <= _PLAIN_INT else {"$int": hex(value)}
    if kind is float:
        return _encode_float(value)
    if kind is list:
        return [_encode(item, f"{path}[{i}]", depth + 1, hook) for i, item in enumerate(value)]
    if kind is dict and all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _encode(item, _below(path, key), depth + 1, hook) for key, item in value.items()}
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value, path, depth, hook)
    tagged = arrays.encode(value)
    if tagged is None and hook is not None:
        tagged = hook(value, path)
    if tagged is None:
        raise Unrepresentable(path, describe(value))
    return tagged


def describe(value: Any) -> str:
    """What a value is, for a message: ``a Foo``, with its module where that is not the script's own."""
    kind: Any = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    article = "an" if kind.__name__[:1].lower() in "aeiou" and not module else "a"
    return f"{article} {module}{kind.__qualname__}"


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _encode_float(value: float) -> Any:
    if math.isfinite(value):
        return value
    if math.isinf(value):
        return {"$float": "inf" if value > 0 else "-inf"}
    bits = struct.pack(">d", value)
    return {"$float": "nan" if bits == _NAN else bits.hex()}


def _items(values: Any, path: str, depth: int, hook: Encode | None) -> list[Any]:
    return [_encode(item, f"{path}[{i}]", depth + 1, hook) for i, item in enumerate(values)]


def _pairs(value: Any, path: str, depth: int, hook: Encode | None) -> list[Any]:
    pairs: list[Any] = []
    for key, item in value.items():
        place = _below(path, key) if type(key) is str else f"{path}[{key!r}]"
        pairs.append([_encode(key, f"a key of {path or 'it'}", depth + 1, hook), _encode(item, place, depth + 1, hook)])
    return pairs


def _write_set(tag: str) -> Any:
    def write(value: Any, path: str, depth: int, hook: Encode | None) -> dict[str, Any]:
        items = [_encode(item, f"an element of {path or 'it'}", depth + 1, hook) for item in value]
        return {tag: sorted(items, key=json.dumps)}  # the order of a set differs from process to process

    return write


def _write_defaultdict(value: Any, path: str, depth: int, hook: Encode | None) -> dict[str, Any]:
    factory = value.default_factory
    name = None if factory is None else next((name for name, known in _FACTORIES.items() if known is factory), "")
    if name == "":
        raise Unrepresentable(path, f"a defaultdict of {factory!r}")
    return {"$defaultdict": [name, _pairs(value, path, depth, hook)]}


_WRITERS: dict[type, Callable[[Any, str, int, Encode | None], dict[str, Any]]] = {
    tuple: lambda value, *at: {"$tuple": _items(value, *at)},
    set: _write_set("$set"),
    frozenset: _write_set("$frozenset"),
    dict: lambda value, *at: {"$dict": _pairs(value, *at)},
    OrderedDict: lambda value, *at: {"$ordered": _pairs(value, *at)},
    Counter: lambda value, *at: {"$counter": _pairs(value, *at)},
    defaultdict: _write_defaultdict,
    deque: lambda value, *at: {"$deque": [value.maxlen, _items(value, *at)]},
    bytes: lambda value, *_: {"$bytes": base64.b64encode(value).decode("ascii")},
    bytearray: lambda value, *_: {"$bytearray": base64.b64encode(value).decode("ascii")},
    complex: lambda value, *_: {"$complex": [_encode_float(value.real), _encode_float(value.imag)]},
}


# Reading.


def _decode(value: Any, depth: int, hook: Decode | None) -> Any:
    if depth > MAX_DEPTH:
        raise Damaged(f"nested deeper than {MAX_DEPTH} levels")
    if type(value) is list:
        return [_decode(item, depth + 1, hook) for item in value]
    if type(value) is float and not math.isfinite(value):
        raise Damaged("a number is out of range")
    if type(value) is not dict:
        return value
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: _decode(item, depth + 1, hook) for key, item in value.items()}
    if len(value) != 1:
        raise Damaged(f"{tag} stands beside other keys")
    return _decode_tag(tag, value[tag], depth, hook)


def _decode_tag(tag: str, payload: Any, depth: int, hook: Decode | None) -> Any:
    reader = _READERS.get(tag)
    try:
        if reader is not None:
            return reader(payload, depth, hook)
        if tag in arrays.TAGS:
            return arrays.decode(tag, payload)
        if hook is not None:
            return hook(tag, payload)
    except KeyError as error:
        raise Damaged(f"the tag {tag} is unknown, or names what is not there: {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Damaged(f"the tag {tag} has no such value: {error}") from error
    raise Damaged(f"the tag {tag} is unknown")


def _read_items(payload: Any, depth: int, hook: Decode | None) -> list[Any]:
    if type(payload) is not list:
        raise ValueError("no list")
    return [_decode(item, depth + 1, hook) for item in payload]


def _read_pairs(payload: Any, depth: int, hook: Decode | None) -> list[tuple[Any, Any]]:
    if type(payload) is not list or any(type(pair) is not list or len(pair) != 2 for pair in payload):
        raise ValueError("no list of pairs")
    pairs = [(_decode(key, depth + 1, hook), _decode(item, depth + 1, hook)) for key, item in payload]
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands there twice")
    return pairs


def _reads_set(make: Any) -> Any:
    def read(payload: Any, depth: int, hook: Decode | None) -> Any:
        items = _read_items(payload, depth, hook)
        found = make(items)
        if len(found) != len(items):
            raise ValueError("an element stands there twice")
        return found

    return read


def _read_defaultdict(payload: Any, depth: int, hook: Decode | None) -> Any:
    name, pairs = payload
    return defaultdict(None if name is None else _FACTORIES[name], _read_pairs(pairs, depth, hook))


def _read_counter(payload: Any, depth: int, hook: Decode | None) -> Any:
    # From a dictionary: the constructor would count a list of pairs.
    return Counter(dict(_read_pairs(payload, depth, hook)))


def _read_deque(payload: Any, depth: int, hook: Decode | None) -> Any:
    length, items = payload
    found = deque(_read_items(items, depth, hook), length)
    if len(found) != len(items):
        raise ValueError("more elements than it may hold")
    return found


def _read_int(payload: Any, *_: Any) -> int:
    if not re.fullmatch(r"-?0x[0-9a-f]+", payload):
        raise ValueError("no hexadecimal number")
    return int(payload, 16)


def _read_float(payload: Any, *_: Any) -> float:
    if payload in ("nan", "inf", "-inf"):
        return float(payload)
    (value,) = struct.unpack(">d", bytes.fromhex(payload))
    if not math.isnan(value):
        raise ValueError("a plain number needs no tag")
    return value


def _read_bytes(payload: Any, *_: Any) -> bytes:
    return base64.b64decode(payload.encode("ascii"), validate=True)


def _read_complex(payload: Any, depth: int, hook: Decode | None) -> complex:
    real, imag = _read_items(payload, depth, hook)
    if type(real) is not float or type(imag) is not float:
        raise ValueError("no two numbers")
    return complex(real, imag)


_READERS: dict[str, Callable[[Any, int, Decode | None], Any]] = {
    "$tuple": lambda payload, *at: tuple(_read_items(payload, *at)),
    "$set": _reads_set(set),
    "$frozenset": _reads_set(frozenset),
    "$dict": lambda payload, *at: dict(_read_pairs(payload, *at)),
    "$ordered": lambda payload, *at: OrderedDict(_read_pairs(payload, *at)),
    "$counter": _read_counter,
    "$defaultdict": _read_defaultdict,
    "$deque": _read_deque,
    "$int": _read_int,
    "$float": _read_float,
    "$bytes": _read_bytes,
    "$bytearray": lambda payload, *_: bytearray(_read_bytes(payload)),
    "$complex": _read_complex,
}
