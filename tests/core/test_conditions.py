"""Conditions against an evaluator of their own (NumPy's arithmetic, Kleene's logic as minimum and maximum)."""

from __future__ import annotations

import json
import math
import statistics
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onthefly.core import arithmetic
from onthefly.core.conditions import MAX_DEPTH, MAX_LENGTH, Condition, ConditionError
from onthefly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METRICS: tuple[str, ...] = ("loss", "lr", "valid/loss", "own metric ü")
SYMBOLS: dict[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "//": np.floor_divide, "%": np.remainder,
    "**": np.power, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
    "!=": np.not_equal, "min": np.minimum, "max": np.maximum, "abs": np.abs, "isnan": np.isnan, "isinf": np.isinf,
    "isfinite": np.isfinite, "lowest": np.min, "highest": np.max, "median": np.median,
    "change": lambda values: values[-1] - values[0],
}  # fmt: skip
WINDOWS = ("lowest", "highest", "median", "change")
UNKNOWN = 0.5

values = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, math.inf, -math.inf, math.nan, 1e308, 5e-324]),
    st.floats(-100, 100),
)
literals = st.one_of(st.integers(0, 20), st.floats(0, 1e3, allow_nan=False)).map(lambda number: ("number", number))
names = st.sampled_from(METRICS).map(lambda name: ("metric", name))
windows = st.tuples(st.sampled_from(WINDOWS), st.sampled_from(METRICS), st.integers(2, 6)).map(
    lambda drawn: ("window", *drawn)
)


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    binary = st.tuples(st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner, inner)
    pairs = st.tuples(st.sampled_from(["min", "max"]), inner, inner)
    return st.one_of(binary, pairs, st.tuples(st.sampled_from(["abs", "negative"]), inner))


numbers = st.recursive(st.one_of(literals, names, names, windows), grown, max_leaves=6)
comparisons = st.lists(st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers), min_size=1, max_size=3)
atoms = st.one_of(
    st.tuples(st.just("compared"), numbers, comparisons),
    st.tuples(st.sampled_from(["isnan", "isinf", "isfinite"]), numbers),
)
questions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=4,
)


def written(tree: Any) -> str:
    """The tree as a person would type it, with brackets around everything."""
    kind, *rest = tree
    if kind == "number":
        return repr(rest[0])
    if kind == "metric":
        return rest[0] if rest[0].isidentifier() and rest[0].isascii() else repr(rest[0])
    if kind == "window":
        return f"{rest[0]}({rest[1]!r}, {rest[2]})"
    if kind == "compared":
        return written(rest[0]) + "".join(f" {symbol} {written(side)}" for symbol, side in rest[1])
    if kind in ("and", "or"):
        return f" {kind} ".join(f"({written(part)})" for part in rest[0])
    if kind in ("not", "negative"):
        return f"({'not' if kind == 'not' else '-'} ({written(rest[0])}))"
    if kind.isalpha():
        return f"{kind}({', '.join(map(written, rest))})"
    return f"({written(rest[0])} {kind} {written(rest[1])})"


def number(tree: Any, now: dict[str, Any], past: dict[str, list[float]]) -> Any:
    """Its value; None for unknown."""
    kind, *rest = tree
    if kind == "number":
        return np.float64(rest[0])
    if kind == "metric":
        return None if now[rest[0]] is None else np.float64(now[rest[0]])
    if kind == "window":
        name, metric, count = rest
        kept = past[metric][-count:]
        return SYMBOLS[name](np.array(kept)) if len(kept) == count else None
    sides = [number(side, now, past) for side in rest]
    if None in [side if side is None else 0 for side in sides]:
        return None
    return -sides[0] if kind == "negative" else SYMBOLS[kind](*sides)


def degree(tree: Any, now: dict[str, Any], past: dict[str, list[float]]) -> float:
    """How true it is: 0, 1, or a half for unknown."""
    kind, *rest = tree
    if kind in ("and", "or"):
        return (min if kind == "and" else max)(degree(part, now, past) for part in rest[0])
    if kind == "not":
        return 1 - degree(rest[0], now, past)
    if kind == "compared":
        symbols = [symbol for symbol, _ in rest[1]]
        sides = [number(side, now, past) for side in (rest[0], *[side for _, side in rest[1]])]
        return min(
            UNKNOWN if left is None or right is None else float(SYMBOLS[symbol](left, right))
            for symbol, left, right in zip(symbols, sides, sides[1:])
        )
    side = number(rest[0], now, past)
    return UNKNOWN if side is None else float(SYMBOLS[kind](side))


def read_names(tree: Any) -> list[str]:
    """Metrics in order of their first place."""
    found: list[str] = []
    if isinstance(tree, (tuple, list)):
        if len(tree) == 2 and tree[0] == "metric":
            return [tree[1]]
        if len(tree) == 4 and tree[0] == "window":
            return [tree[2]]
        for part in tree:
            found += [name for name in read_names(part) if name not in found]
    return found


@settings(max_examples=200, deadline=None)
@given(questions, st.lists(values, min_size=4, max_size=4), st.lists(st.floats(width=32), max_size=8))
def test_holds_as_the_other_evaluator_says(tree: Any, newest: list[Any], series: list[float]) -> None:
    text = written(tree)
    now = dict(zip(METRICS, newest))
    past = {name: series[place:] for place, name in enumerate(METRICS)}
    if not read_names(tree):
        return  # refused, as below
    try:
        condition = Condition.parse(text)
    except ConditionError:
        assume(False)
        raise
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = degree(tree, now, past)
    window = lambda name, n: past[name][-n:]  # noqa: E731
    assert condition.holds(now.get, window) is (expected == 1)
    assert list(condition.names) == read_names(tree)
    again = Condition.parse(condition.text)
    assert again.text == condition.text
    assert again.holds(now.get, window) is (expected == 1)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_summaries(series: list[float]) -> None:
    assert arithmetic.mean(series) == pytest.approx(statistics.fmean(series), abs=1e-6)
    assert arithmetic.std(series) == pytest.approx(statistics.stdev(series), rel=1e-6, abs=1e-6)
    assert arithmetic.median(series) == statistics.median(series)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
def test_summaries_of_anything_never_raise(bad: float) -> None:
    for function in (arithmetic.mean, arithmetic.std, arithmetic.median, arithmetic.lowest, arithmetic.highest):
        for series in ([bad, 1.0, bad], [1.0, bad], [-bad, bad, bad]):
            result = function(series)
            assert not math.isnan(bad) or math.isnan(result)


def test_kleene() -> None:
    nothing: dict[str, float] = {}
    for text in ("loss > 1", "not loss > 1", "isnan(loss)", "loss > 1 or lr > 1", "not isnan(loss)", "loss == loss"):
        assert not Condition.parse(text).holds(nothing.get)
    assert Condition.parse("loss > 1 or lr > 1").holds({"lr": 2.0}.get)
    assert not Condition.parse("loss > 1 and lr > 1").holds({"lr": 2.0}.get)
    assert Condition.parse("not (loss > 1 and lr > 1)").holds({"lr": 0.0}.get)


def test_a_window_is_unknown_until_it_is_full() -> None:
    condition, series = Condition.parse("mean(loss, 3) < 1"), [0.0, 0.0]
    window: Callable[[str, int], Sequence[float]] = lambda name, n: series[-n:]  # noqa: E731
    assert not condition.holds({"loss": 0.0}.get, window)
    series.append(0.0)
    assert condition.holds({"loss": 0.0}.get, window)
    assert not condition.holds({"loss": 0.0}.get)


HOSTILE = [
    "", " ", "(", "loss <", "< loss", "loss < 1)", "loss =< 1", "loss = 1", "loss < 1; lr", "loss\n< 1", "loss <\t1",
    "__import__('os').system('true') > 1", "__builtins__ > 1", "_private > 1", "().__class__.__bases__[0] > 1",
    "loss.__class__ > 1", "loss[0] > 1", "loss[:] > 1", "(lambda: loss)() > 1", "lambda: loss > 1", "(yield) > 1",
    "[x for x in loss] > 1", "{loss: 1 for loss in lr} > 1", "(x for x in loss) > 1", "{loss} > 1", "[loss] > 1",
    "(loss, lr) > 1", "f'{loss}' > 1", "f'{loss' > 1", "b'loss' > 1", "(loss := 3) > 1", "await loss > 1",
    "loss if lr else step > 1", "*loss > 1", "print(*loss) > 1", "mean(*loss) > 1", "mean(name=loss, n=3) > 1",
    "mean(**loss) > 1", "loss is None", "loss in lr", "loss not in lr", "loss == None", "loss == True", "loss > ...",
    "loss > 1j", "loss > 0x10", "loss > 1or lr > 2", "1if loss else 2", "loss > 1 .real", "loss @ lr > 1", "~loss > 1",
    "loss >> 1 > 2", "loss | lr > 1", "loss > 1e999", "loss > " + "9" * 480, "-" * 490 + "loss > 1",
    "(" * 100 + "loss" + ")" * 100 + " > 1 and " + "not " * 60 + "lr > 1", "(" * 250, "[" * 400,
    "not " * 120 + "loss > 1",
    "loss" + "+1" * 200 + " > 1", "loss > 1" + " or loss > 1" * 100, "9**9**9**9**9 > 1", "2**10**8 > 1",
    "'" + "a" * 300 + "' > 1", "'' > 1", "loss > 1\x00", "\x00", "'lo\x00ss' > 1", "'lo\\x41ss' > 1", "'a\ud800' > 1",
    "\uff4c\uff4f\uff53\uff53 > 1", "löss > 1", "loss > \u0661", "loss\u00a0> 1", "loss\u202e > 1",
    "loss > 1 # comment", "!loss", "loss > $1",
    "loss ? 1", "loss", "1 < 2", "'loss'", "mean", "mean > 1", "mean() > 1", "mean(loss) > 1", "mean(loss, 0) > 1",
    "mean(loss, 513) > 1", "mean(loss, 1.5) > 1", "mean(loss, lr) > 1", "mean(loss, True) > 1", "std(loss, 1) > 1",
    "mean(loss + 1, 3) > 1", "mean(step, 3) > 1", "min(loss) > 1", "max() > 1", "abs(loss, 1) > 1", "isnan(loss) > 1",
    "isnan(loss, lr)", "abs(loss > 1) > 0", "(loss > 1) + 1 > 1", "loss and lr > 1", "not loss", "eval('1') > 1",
    "exec(loss) > 1", "nan > 1", "loss == inf", "mean(loss, 3)(4) > 1", "None > 1", "loss <> 1", "'''a'b\"c''' > 1",
    "exp(loss) > 1", "loss > '''x", "loss > 1 \\", "import os", "u'loss' > 1 ; 1", "t'{loss}' > 1",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_refused_at_once(text: str) -> None:
    took, errors = list[float](), list[ConditionError]()
    for _ in range(3):  # the collection of other tests' garbage may fall into one of them
        started = time.process_time()
        with pytest.raises(ConditionError) as refused:
            Condition.parse(text)
        took.append(time.process_time() - started)
        errors.append(refused.value)
    assert min(took) < 0.05
    error = errors[0]
    assert error.remedy
    assert error.message.startswith("the condition is not understood at character ")
    assert 0 <= error.column <= MAX_LENGTH
    line, mark = error.caret.split("\n")
    assert mark == " " * error.column + "^"
    assert line == "" or text.strip(" ").startswith(line)
    json.dumps(error.message).encode()  # what is sent


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("losr(),.<>=!+-*/%'\" 0123nadotemi_", max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        condition = Condition.parse(text)
    except UsageError:
        return
    assert Condition.parse(condition.text).text == condition.text
    assert condition.holds(lambda name: None) in (True, False)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("loss < 1 and mena(lr, 3) > 1", 13, "did you mean 'mean'?"),
        ("'valid/lüss' < 1 and los(3) > 1", 21, "did you mean 'lowest'?"),
        ("loss < 1 and lr", 13, "compare it"),
        ("loss < 1or lr > 2", 7, "a space after it"),
        ("loss < 0.3 or lr is 3", 14, "use < <="),
        ("mean < 3", 0, "mean(loss, 100)"),
        ("frobnicate(loss) > 1", 0, "known functions: abs"),
    ],
)
def test_refusals_point_at_the_place(text: str, column: int, words: str) -> None:
    with pytest.raises(ConditionError) as refused:
        Condition.parse(text)
    assert refused.value.column == column
    assert words in str(refused.value)


@pytest.mark.parametrize("what", [None, 3, b"loss < 1", ["loss < 1"], {}])
def test_what_is_no_text_is_refused(what: object) -> None:
    with pytest.raises(UsageError, match="a condition is a text"):
        Condition.parse(what)


def test_limits_are_inclusive() -> None:
    Condition.parse("not " * (MAX_DEPTH - 2) + "loss > 1")
    with pytest.raises(ConditionError, match="deep"):
        Condition.parse("not " * (MAX_DEPTH - 1) + "loss > 1")
    Condition.parse(f"loss > 1.{'0' * (MAX_LENGTH - 9)}")
    with pytest.raises(ConditionError, match="longer"):
        Condition.parse(f"loss > 1.{'0' * (MAX_LENGTH - 8)}")
    with pytest.raises(ConditionError, match="longer"):  # only when it is normalized
        Condition.parse(" or ".join(["loss>1"] * 46))


def test_text_and_names() -> None:
    condition = Condition.parse("  (\"valid/loss\"<.3)and(mean('own metric',100)>loss+1)  ")
    assert condition.text == "'valid/loss' < 0.3 and mean('own metric', 100) > loss + 1"
    assert condition.names == ("valid/loss", "own metric", "loss")
    assert "valid/loss" in repr(condition)


def test_hints_name_the_nearest_metric() -> None:
    condition = Condition.parse("los < 1 and 'valid/los' < 1 and zebra > 1 and lr > 0")
    hint = condition.hint(["loss", "valid/loss", "lr"])
    assert hint == (
        "no value of 'los' yet; did you mean 'loss'?; no value of 'valid/los' yet; did you mean 'valid/loss'?; "
        "no value of 'zebra' yet"
    )
    assert Condition.parse("lr > 0").hint(["lr"]) == ""
