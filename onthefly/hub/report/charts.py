"""Curves and bars as inline SVG: axes with round numbers, a band where points were put together, marks of changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from onthefly.hub.report.markup import Markup, element, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 10, 26
COLOURS = 6
"""Classes ``s0`` to ``s5``; further series begin anew."""

STEEP = 1e3
"""Ratio of the largest to the smallest value from which a curve of positive values is drawn on a logarithmic axis."""


class Curve(NamedTuple):
    """One series: columns of one length, without values that are not finite."""

    name: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


class Axis(NamedTuple):
    """From data to places."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where it is."""
        if self.log:
            value = math.log10(max(value, self.low))
            low, high = math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round numbers on it."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, math.ceil((last - first + 1) / most))
            return [10.0**power for power in range(first, last + 1, every)] or [self.low, self.high]
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first
        return [(first + place) * step for place in range(count + 1)]


def number(value: float) -> str:
    """As people write it: ``0.00123``, ``12.3``, ``1.2e-7``, ``60,000``."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        mantissa, _, power = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(power)}" if power else f"{value:,.0f}"
    return f"{value:,.0f}" if size >= 1000 or value == int(value) else f"{value:.4g}"


def lines(title: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]] = ()) -> Markup:
    """A chart over steps; ``marks``: steps at which something was changed, and what."""
    longest = max(len(curve.x) for curve in curves)
    curves = [curve for curve in curves if len(curve.x) > 1 or longest == 1]  # a step that was only replayed is no line
    newest = max(curves, key=lambda curve: curve.x[-1])
    lows = sorted(value for curve in curves for value in curve.low)
    highs = sorted(value for curve in curves for value in curve.high)
    low, high = lows[0], highs[-1]
    steep = low > 0 and high / low > STEEP
    margin = 0.0 if steep else 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    x = Axis(min(curve.x[0] for curve in curves), max(curve.x[-1] for curve in curves), LEFT, WIDTH - RIGHT)
    y = Axis(low if steep or low == 0 else low - margin, high + margin, HEIGHT - BOTTOM, TOP, steep)
    parts = [_grid(x, y)]
    for step, what in marks:
        if x.low <= step <= x.high:
            at = _at(x.place(step))
            parts.append(element("g", element("title", f"step {number(step)}: {what}"),
                                 element("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="mark")))  # fmt: skip
    for place, curve in enumerate(curves):
        parts.append(_curve(curve, x, y, f"s{place % COLOURS}"))
    described = f"{title}, from step {number(x.low)} to {number(x.high)}; last value " + ", ".join(
        f"{number(curve.y[-1])} ({curve.name})" for curve in curves)  # fmt: skip
    legend = [element("span", element("i", class_=f"key s{place % COLOURS}"), curve.name, class_="series")
              for place, curve in enumerate(curves)] if len(curves) > 1 else None  # fmt: skip
    return element(
        "figure",
        element("figcaption", element("b", title), element("span", number(newest.y[-1]), class_="value")),
        _svg(parts, described), element("div", legend, class_="legend") if legend else None,
    )  # fmt: skip


def bars(title: str, edges: Sequence[float], counts: Sequence[int]) -> Markup:
    """A histogram; counts that differ by more than a hundred are drawn on a logarithmic axis."""
    most, least = max(counts), min(count for count in counts if count)
    steep = most > 100 * least
    x = Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y = Axis(0.7 if steep else 0.0, float(most), HEIGHT - BOTTOM, TOP, steep)
    parts = [_grid(x, y)]
    for low, high, count in zip(edges, edges[1:], counts):
        if count:
            left, right, top = x.place(low), x.place(high), min(y.place(float(count)), HEIGHT - BOTTOM - 1)
            parts.append(element(
                "g", element("title", f"{number(low)} to {number(high)}: {count:,}"),
                element("rect", x=_at(left + 0.5), y=_at(top), width=_at(max(right - left - 1, 0.5)),
                        height=_at(HEIGHT - BOTTOM - top), class_="bar"),
            ))  # fmt: skip
    return element("figure", element("figcaption", element("b", title)), _svg(parts, title))


def _svg(parts: list[Markup], described: str) -> Markup:
    return element("svg", parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=described)


def _grid(x: Axis, y: Axis) -> Markup:
    parts: list[Markup] = []
    for value in y.ticks(5):
        at = _at(y.place(value))
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(element("text", number(value), x=LEFT - 6, y=_at(y.place(value) + 4), class_="tick end"))
    parts += [element("text", number(value), x=_at(x.place(value)), y=HEIGHT - 8, class_="tick middle")
              for value in x.ticks(6)]  # fmt: skip
    parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"))
    return joined(parts)


def _curve(curve: Curve, x: Axis, y: Axis, colour: str) -> Markup:
    across = [_at(x.place(value)) for value in curve.x]
    band = None
    if curve.low != curve.high:
        upper = [f"{at},{_at(y.place(value))}" for at, value in zip(across, curve.high)]
        lower = [f"{at},{_at(y.place(value))}" for at, value in zip(across, curve.low)]
        band = element("path", d=f"M{' '.join(upper)} L{' '.join(reversed(lower))}Z", class_=f"band {colour}")
    if len(across) == 1:
        return element("circle", cx=across[0], cy=_at(y.place(curve.y[0])), r=3, class_=f"dot {colour}")
    points = " ".join(f"{at},{_at(y.place(value))}" for at, value in zip(across, curve.y))
    return joined(band, element("path", d=f"M{points}", class_=f"curve {colour}"))


def _at(place: float) -> str:
    return f"{place:.1f}".rstrip("0").rstrip(".")
