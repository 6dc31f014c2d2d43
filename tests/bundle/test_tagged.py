"""Tagged JSON gives back exactly what it was given, says where it cannot, and reads nothing that it did not write."""

from __future__ import annotations

import json
import math
import os
import random
import struct
import subprocess
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onthefly.bundle.refusals import BundleError, Damaged, TooLarge, Unrepresentable
from onthefly.bundle.tagged import MAX_DEPTH, dumps, loads

CHANCE = random.Random(int(os.environ["ONTHEFLY_SEED"]))


def alike(a: Any, b: Any) -> bool:
    """Equal in type, order, sign of zero and bits of NaN, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, complex):
        return alike(a.real, b.real) and alike(a.imag, b.imag)
    if isinstance(a, np.ndarray):
        same = a.dtype == b.dtype and a.shape == b.shape and a.flags.f_contiguous == b.flags.f_contiguous
        return same and a.tobytes() == b.tobytes()
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        pairs: Any = zip(a.items(), b.items())
        factory = getattr(a, "default_factory", None) is getattr(b, "default_factory", None)
        return len(a) == len(b) and factory and all(alike(k, m) and alike(v, w) for (k, v), (m, w) in pairs)
    if isinstance(a, (list, tuple, deque)):
        ends = getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
        return len(a) == len(b) and ends and all(alike(x, y) for x, y in zip(a, b))
    return a == b


VALUES: list[Any] = [
    None, True, "", "$tuple", "\ud800 \x00 \u2028", 0, -1, 2**53, -(2**53) - 1, 2**63, -(10**5000),
    0.0, -0.0, 5e-324, math.inf, -math.inf, math.nan, struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\xff")[0],
    complex(-0.0, math.nan), b"", b"\x00\xff", bytearray(b"x"), [], (), (1,), [(), [()]], set(), {1, (2, "3")},
    frozenset({None}), {}, {"a": {"b": [1]}}, {"$tensor": "no tag"}, {1: "one", "1": "a string", (1, 2): None},
    {False: 0}, OrderedDict([("b", 1), ("a", (2,))]), Counter("abca"), Counter({"x": -1}), deque([1, 2], 5),
    deque("ab"), defaultdict(list, {"a": [1]}), defaultdict(None, {1: 2}), defaultdict(int),
    np.arange(6, dtype=">i2").reshape(2, 3), np.asfortranarray(np.ones((2, 3), np.float32)), np.array(3.0),
    np.zeros((0, 4), np.uint8), np.array(["é", "bb"]), np.array([True]), np.array([1 + 2j], np.complex64),
    np.array(["2020-01-01"], "datetime64[s]"), np.float64(-0.0), np.float32(math.nan), np.int64(-5), np.bool_(True),
    np.str_("x"), np.datetime64("2020-01-01"), np.uint64(2**64 - 1), np.float16(1.5),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=[f"{type(value).__name__}-{i}" for i, value in enumerate(VALUES)])
def test_values_come_back_exactly(value: Any) -> None:
    assert alike(loads(dumps(value)), value)
    assert alike(loads(dumps({"k": [value]}))["k"][0], value)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
)  # fmt: skip
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text()) | st.binary()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner) | st.lists(inner).map(deque)
        | st.dictionaries(KEYS, inner).map(OrderedDict) | st.frozensets(KEYS)
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_tree_comes_back_exactly(tree: Any) -> None:
    assert alike(loads(dumps(tree)), tree)


class Foo:
    """Something of a script's."""


class Names(bytes):
    """A subclass is not its base."""


LOOP: list[Any] = []
LOOP.append(LOOP)


def nested(depth: int) -> Any:
    """A list in a list in a list ..."""
    return [nested(depth - 1)] if depth else 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"optimizer": {"state": [0, 0, 0, {"foo": Foo()}]}}, r"optimizer\.state\[3\]\.foo: a tests\.bundle"),
        ({"a": {(1, 2): object()}}, r"a\[\(1, 2\)\]: an object"),
        ({"a": Names()}, "a: a .*Names"),
        ([lambda: 0], r"\[0\]: a function"),
        ([defaultdict(lambda: 0)], "defaultdict of"),
        ({"x": np.array([object()])}, r"x: a numpy\.ndarray"),
        ({"x": np.zeros(1, [("a", "i4")])}, r"x: a numpy\.ndarray"),
        (LOOP, "contains itself"),
        (nested(MAX_DEPTH + 1), "nested deeper than 64"),
        ({Foo(): 1}, "a key of it"),
    ],
)
def test_what_has_no_form_is_named_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(Unrepresentable, match=said):
        dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nul", '{"a": 1, "a": 2}', "NaN", "[1e999]", '{"$what": 1}', '{"$tuple": [1], "x": 2}',
        '{"$int": "12"}', '{"$tuple": 1}', '{"$dict": [[1, 2], [1, 3]]}', '{"$dict": [[[], 2]]}', '{"$dict": [[1]]}',
        '{"$set": [1, 1]}', '{"$int": 12}', '{"$float": "1.5"}', '{"$float": "3ff0000000000000"}',
        '{"$bytes": "\\u00e9"}',
        '{"$bytes": "a"}', '{"$complex": [1, 2]}', '{"$deque": [1, [1, 2]]}', '{"$defaultdict": ["exec", []]}',
        '{"$counter": [1]}', '{"$numpy": ["<f4", "AAA="]}', '{"$numpy": ["|O", "AAAAAAAAAAA="]}', '{"$tensor": "w"}',
        '{"$ndarray": ["<f4", [2], "C", "AAAAAA=="]}', '{"$ndarray": ["<f4", [-1, -1], "C", "AAAAAA=="]}',
        '{"$ndarray": ["<f4", [1], "K", "AAAAAA=="]}', '{"$ndarray": ["V4", [1], "C", "AAAAAA=="]}',
        "[" * 66 + "]" * 66, "[" * 100_000 + "]" * 100_000, '{"$tuple":[' * 70 + "]}" * 70, "[1" + "0" * 5000 + "e",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Damaged):
        loads(text.encode())


@pytest.mark.parametrize(
    "text", [b"[" + b"1," * 3_000_000 + b"1]", b'"' + b"x" * (65 << 20) + b'"', b"[[]" * 3_000_000]
)
def test_bombs_are_refused_before_they_are_parsed(text: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(TooLarge):
        loads(text)
    assert time.monotonic() - started < 1


def test_the_deepest_is_read_again() -> None:
    deepest = nested(MAX_DEPTH)
    assert loads(dumps(deepest)) == deepest


def test_too_much_is_refused_when_it_is_written() -> None:
    with pytest.raises(TooLarge):
        dumps([0] * 2_100_000)


def test_a_hook_adds_tags() -> None:
    def write(value: Any, path: str) -> Any:
        return {"$foo": path} if isinstance(value, Foo) else None

    def read(tag: str, payload: Any) -> Any:
        return {"$foo": lambda: ("a foo", payload)}[tag]()

    assert loads(dumps({"a": [Foo()]}, write), read) == {"a": [("a foo", "a[0]")]}
    with pytest.raises(Damaged):
        loads(b'{"$bar": 1}', read)


def test_flipped_documents_never_crash() -> None:
    good = dumps({"values": VALUES})
    for place in range(CHANCE.randrange(5), len(good), 5):
        broken = bytearray(good)
        broken[place] ^= 1 << CHANCE.randrange(8)
        try:
            loads(broken)
        except BundleError:
            continue


def test_numpy_is_imported_only_when_it_is_there() -> None:
    code = (
        "import sys; from onthefly.bundle.tagged import dumps, loads; "
        f"loads(dumps({json.dumps([1, {'a': 2}])})); print('numpy' in sys.modules, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert ended.stdout.split() == ["False", "False"]
