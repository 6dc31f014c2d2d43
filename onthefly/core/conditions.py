"""Conditions on metrics, as a person types them: ``loss < 0.3 and mean('valid/accuracy', 3) > 0.9``.

The text is parsed with :mod:`ast` and translated, node by node, into closures; what the tables below do not name is
refused, with the place and a way out. Nothing is evaluated as Python: there are no attributes, no subscripts, no calls
but those of the table, and all arithmetic is done in floats, so that no power can become large. Parsing and asking draw
no random numbers and take no lock.

Three values: a metric that has no value yet is *unknown*, and so is what is computed from it. ``unknown and False`` is
false, ``unknown or True`` is true, ``not unknown`` stays unknown (Kleene's logic). A condition holds only where it is
true. A comparison with NaN is false, but for ``!=``, as everywhere in floats.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from onthefly.core import arithmetic
from onthefly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


class Source(NamedTuple):
    """Where values come from while a condition is asked."""

    get: Callable[[str], float | None]
    window: Callable[[str, int], Sequence[float]]


if TYPE_CHECKING:
    Number = Callable[[Source], Optional[float]]
    Question = Callable[[Source], Optional[bool]]

MAX_LENGTH, MAX_DEPTH, MAX_NAME, MAX_WINDOW = 500, 30, 200, 512
"""Characters of a condition and how deep it nests; characters of a metric's name; values of a window."""

COMPARED: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
COMPUTED: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: arithmetic.divided,
    ast.FloorDiv: arithmetic.floored, ast.Mod: arithmetic.remainder, ast.Pow: arithmetic.power,
}  # fmt: skip
FUNCTIONS: dict[str, tuple[Callable[..., float], int, int]] = {
    "abs": (math.fabs, 1, 1), "min": (arithmetic.least, 2, 16), "max": (arithmetic.greatest, 2, 16),
}  # fmt: skip
"""Of numbers, with the least and the greatest number of arguments."""
TESTS: dict[str, Callable[[float], bool]] = {"isnan": math.isnan, "isinf": math.isinf, "isfinite": math.isfinite}
WINDOWS: dict[str, tuple[Callable[[Sequence[float]], float], int]] = {
    "mean": (arithmetic.mean, 1), "median": (arithmetic.median, 1), "std": (arithmetic.std, 2),
    "lowest": (arithmetic.lowest, 1), "highest": (arithmetic.highest, 1), "change": (arithmetic.change, 2),
}  # fmt: skip
"""Of the newest n values of a metric, with the least n."""
COUNTED = ("step", "epoch")
"""Names that are always known and are no metrics."""
KNOWN = (*FUNCTIONS, *TESTS, *WINDOWS)

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"(?<![\w.])(?:\d|\.\d)(?:[eE][+-](?=\d)|[\w.])*")
_DECIMAL = re.compile(r"(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?")
_CLASSES: dict[type[ast.AST], str] = {
    ast.Attribute: "an attribute", ast.Subscript: "a subscript", ast.Lambda: "a function of its own",
    ast.IfExp: "if ... else", ast.JoinedStr: "a string with values in it", ast.NamedExpr: "an assignment",
    ast.Starred: "a star", ast.ListComp: "a comprehension", ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension", ast.GeneratorExp: "a comprehension", ast.List: "a list", ast.Tuple: "a tuple",
    ast.Set: "a set", ast.Dict: "a dictionary", ast.Await: "await", ast.Yield: "yield", ast.YieldFrom: "yield",
}  # fmt: skip


class ConditionError(UsageError):
    """A condition that cannot be understood: what is wrong, at which of its characters, and what would be right."""

    code = "condition"

    def __init__(self, problem: str, text: str, column: int, remedy: str) -> None:
        """``column`` counts characters of ``text`` from 0."""
        self.column = column
        self.caret = f"{text}\n{' ' * column}^"
        """The condition, and below it a mark under the character."""
        super().__init__(f"the condition is not understood at character {column + 1}: {problem}", remedy)


class Condition:
    """An expression over metrics that holds or does not."""

    def __init__(self, text: str, names: tuple[str, ...], ask: Question) -> None:
        """From :meth:`parse`."""
        self.text = text
        """Normalized: parsed again, it gives the same condition and the same text."""
        self.names = names
        """The metrics that it reads, in order of their first place."""
        self._ask = ask

    @classmethod
    def parse(cls, text: object) -> Condition:
        """Understand a condition, or raise :class:`ConditionError`; takes less than a millisecond."""
        if not isinstance(text, str):
            raise UsageError(f"a condition is a text, not {type(text).__name__}", "for example: loss < 0.3")
        stripped = text.strip(" ")
        _look_over(stripped)
        parser = _Parser(stripped)
        ask = parser.question(parser.tree, 1)
        if not parser.names:
            raise parser.error(parser.tree, "it reads no metric, so it would hold always or never", "compare a metric")
        normalized = ast.unparse(parser.tree)
        if len(normalized) > MAX_LENGTH:
            raise ConditionError(f"it is longer than {MAX_LENGTH} characters", stripped, 0, "shorten it")
        return cls(normalized, tuple(parser.names), ask)

    def holds(
        self,
        values: Callable[[str], float | None],
        window: Callable[[str, int], Sequence[float]] = lambda name, n: (),
    ) -> bool:
        """Whether it is true now; never raises for any values.

        Args:
            values: the newest value of a metric; None where it has none.
            window: up to n newest values of a metric, oldest first. With fewer than n the condition's part that asks
                for them is unknown: a mean of a hundred does not hold after the first.
        """
        return self._ask(Source(values, window)) is True

    def hint(self, known: Collection[str]) -> str:
        """What to say about names that no metric has (yet): with the nearest that one has; empty if all are known."""
        hints: list[str] = []
        for name in self.names:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hints.append(f"no value of {name!r} yet" + (f"; did you mean {near[0]!r}?" if near else ""))
        return "; ".join(hints)

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


def _look_over(text: str) -> None:
    """Refuse what the parser of Python would warn about, read in another way than it is meant, or choke on."""
    if not text:
        raise ConditionError("it is empty", text, 0, "for example: loss < 0.3")
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"it is longer than {MAX_LENGTH} characters", text[:MAX_LENGTH], MAX_LENGTH, "shorten it")
    bare = _QUOTED.sub(lambda found: "'" + "_" * (len(found[0]) - 2) + "'", text)
    for place, (character, outside) in enumerate(zip(text, bare)):
        if not character.isprintable() or character == "\\":
            problem = f"the character {character.encode('unicode_escape').decode()!r}"
            raise ConditionError(problem, text[:place], place, "write it on one line, without backslashes")
        if not outside.isascii() or (outside in "#;$?!`" and bare[place : place + 2] != "!="):
            raise ConditionError(f"the character {character!r}", text, place, "put a metric's name in quotes")
    for found in _NUMBER.finditer(bare):
        if not _DECIMAL.fullmatch(found[0]):
            remedy = "write it like 0.001 or 1e-3, and a space after it"
            raise ConditionError(f"{found[0][:20]!r} is not a number", text, found.start(), remedy)


class _Parser:
    """Translates one tree; collects the names."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        try:
            self.tree = ast.parse(text, mode="eval").body
        except SyntaxError as error:
            place = min(max((error.offset or 1) - 1, 0), len(text))
            raise ConditionError("it does not parse", text, place, "for example: loss < 0.3 and step > 100") from None
        except (ValueError, RecursionError, MemoryError):
            raise ConditionError("it nests too deeply", text, 0, f"at most {MAX_DEPTH} levels") from None

    def error(self, node: ast.expr, problem: str, remedy: str) -> ConditionError:
        """Something is wrong at that node."""
        place = len(self.text.encode()[: node.col_offset].decode(errors="ignore"))  # ast counts bytes
        return ConditionError(problem, self.text, place, remedy)

    def question(self, node: ast.expr, depth: int) -> Question:
        """A part that is true, false or unknown."""
        self._check(node, depth)
        if isinstance(node, ast.BoolOp):
            parts = [self.question(part, depth + 1) for part in node.values]
            return _all(parts) if isinstance(node.op, ast.And) else _any(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return _not(self.question(node.operand, depth + 1))
        if isinstance(node, ast.Compare):
            for compare in node.ops:
                if type(compare) not in COMPARED:
                    word = "is" if isinstance(compare, (ast.Is, ast.IsNot)) else "in"
                    raise self.error(node, f"{word!r} does not compare numbers", "use < <= > >= == !=")
            sides = [self.number(side, depth + 1) for side in (node.left, *node.comparators)]
            return _compared([COMPARED[type(compare)] for compare in node.ops], sides)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TESTS:
            (argument,) = self._arguments(node, node.func.id, 1, 1)
            return _applied(TESTS[node.func.id], [self.number(argument, depth + 1)])
        self.number(node, depth)  # a better reason, if it is not even a number
        raise self.error(node, "a number, where something true or false is needed", "compare it, as in loss < 0.3")

    def number(self, node: ast.expr, depth: int) -> Number:
        """A part that is a number or unknown."""
        self._check(node, depth)
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Name):
            return _metric(self._metric(node))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            change = operator.neg if isinstance(node.op, ast.USub) else operator.pos
            return _applied(change, [self.number(node.operand, depth + 1)])
        if isinstance(node, ast.BinOp):
            if type(node.op) not in COMPUTED:
                raise self.error(node, "an operator on bits", "use 'and', 'or' and 'not'; known: + - * / // % **")
            return _applied(COMPUTED[type(node.op)], [self.number(side, depth + 1) for side in (node.left, node.right)])
        if isinstance(node, ast.Call):
            return self._call(node, depth)
        if isinstance(node, (ast.BoolOp, ast.Compare, ast.UnaryOp)):
            raise self.error(node, "something true or false, where a number is needed", "use and, or, not around it")
        raise self.error(node, f"{_CLASSES.get(type(node), 'this')} has no meaning here", _known())

    def _check(self, node: ast.expr, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.error(node, "it nests too deeply", f"at most {MAX_DEPTH} levels")

    def _constant(self, node: ast.Constant) -> Number:
        value = node.value
        if isinstance(value, str):
            return _metric(self._metric(node))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(node, f"{str(value)[:20]} is no number", "compare a metric with a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            raise self.error(node, "a number that is too large", "at most 1.79e308; isinf(loss) asks for infinity")
        return lambda source: number

    def _call(self, node: ast.Call, depth: int) -> Number:
        if not isinstance(node.func, ast.Name):
            raise self.error(node, "only functions by name can be called", _known())
        name = node.func.id
        if name in TESTS:
            raise self.error(node, f"{name}() is true or false, where a number is needed", "use it by itself")
        if name in WINDOWS:
            return self._window(node, name)
        if name not in FUNCTIONS:
            raise self.error(node, f"unknown function {name[:40]!r}", _known(name))
        function, fewest, most = FUNCTIONS[name]
        arguments = self._arguments(node, name, fewest, most)
        return _applied(function, [self.number(argument, depth + 1) for argument in arguments])

    def _window(self, node: ast.Call, name: str) -> Number:
        function, fewest = WINDOWS[name]
        usage = f"as in {name}(loss, 100)"
        metric, length = self._arguments(node, name, 2, 2)
        count = length.value if isinstance(length, ast.Constant) else None
        if type(count) is not int or not fewest <= count <= MAX_WINDOW:
            problem = f"{name}() takes the newest {fewest} to {MAX_WINDOW} values, as a whole number"
            raise self.error(length, problem, usage)
        of = self._metric(metric)
        if of in COUNTED:
            raise self.error(metric, f"{of!r} counts, and has no window", f"compare it itself, as in {of} > 3")
        return _windowed(function, of, count)

    def _arguments(self, node: ast.Call, name: str, fewest: int, most: int) -> list[ast.expr]:
        if node.keywords or not fewest <= len(node.args) <= most:
            count = str(fewest) if fewest == most else f"{fewest} to {most}"
            example = f"{name}(loss, 100)" if name in WINDOWS else f"{name}({', '.join(['loss', 'lr'][:fewest])})"
            problem = f"{name}() takes {count} argument{'s' if most > 1 else ''}"
            raise self.error(node, problem, f"as in {example}")
        return node.args

    def _metric(self, node: ast.expr) -> str:
        """The name of a metric: a plain word, or anything in quotes."""
        if isinstance(node, ast.Name):
            name = node.id
            if name in KNOWN:
                raise self.error(node, f"{name!r} is a function", f"as in {name}(loss, 100); a metric: in quotes")
            if name in ("inf", "nan"):
                raise self.error(node, f"{name!r} is no metric", f"is{name}(loss) asks for it")
            if name.startswith("_"):
                raise self.error(node, f"{name[:40]!r} is no metric", "put a metric's name in quotes")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        else:
            raise self.error(
                node, "the name of a metric belongs here", "as in mean(loss, 100) or mean('valid/loss', 3)"
            )
        if not 0 < len(name) <= MAX_NAME or {"'", '"'} <= set(name):
            raise self.error(node, "no metric has such a name", f"1 to {MAX_NAME} characters, one kind of quotes")
        if name not in self.names:
            self.names.append(name)
        return name


def _known(name: str = "") -> str:
    near = difflib.get_close_matches(name[:40], KNOWN, 1)
    return f"did you mean {near[0]!r}?" if near else f"known functions: {', '.join(KNOWN)}"


def _metric(name: str) -> Number:
    return lambda source: source.get(name)


def _windowed(function: Callable[[Sequence[float]], float], name: str, count: int) -> Number:
    def ask(source: Source) -> float | None:
        values = source.window(name, count)
        return function(values) if len(values) >= count else None

    return ask


def _applied(function: Callable[..., Any], arguments: Sequence[Number]) -> Callable[[Source], Any]:
    def ask(source: Source) -> Any:
        values = [argument(source) for argument in arguments]
        return None if None in values else function(*values)

    return ask


def _compared(compare: Sequence[Callable[[float, float], bool]], sides: Sequence[Number]) -> Question:
    """A chain, as in ``0 < loss < 1``: all of its neighbours, each side asked once."""

    def ask(source: Source) -> bool | None:
        values = [side(source) for side in sides]
        truth: bool | None = True
        for function, left, right in zip(compare, values, values[1:]):
            if left is None or right is None:
                truth = None
            elif not function(left, right):
                return False
        return truth

    return ask


def _all(parts: Sequence[Question]) -> Question:
    def ask(source: Source) -> bool | None:
        truths = [part(source) for part in parts]
        return False if False in truths else None if None in truths else True

    return ask


def _any(parts: Sequence[Question]) -> Question:
    def ask(source: Source) -> bool | None:
        truths = [part(source) for part in parts]
        return True if True in truths else None if None in truths else False

    return ask


def _not(part: Question) -> Question:
    def ask(source: Source) -> bool | None:
        truth = part(source)
        return None if truth is None else not truth

    return ask
