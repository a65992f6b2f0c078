"""Draw numbers as inline SVG.

Colours are CSS classes of the page's stylesheet, so that dark mode reaches the drawings too. Every
function that draws returns `Markup`, which a template prints as it stands: texts are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup, escape

Point = tuple[float, float]

# of one line chart, in SVG units; about as many pixels on a phone
WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 24
MOST_POINTS = 600  # a longer curve is thinned: more than one point a pixel shows nothing

# of one strip of sentences, in SVG units
CELL = 9
CELLS_PER_LINE = 36


@dataclass(frozen=True)
class Curve:
    """Hold one line of a chart.

    `css` names its CSS classes. `marks` draws its points as well, for a few measurements that lie
    far apart.
    """

    points: Sequence[Point]
    css: str
    marks: bool = False


def finite(points: Iterable[Point]) -> list[Point]:
    """Return the points whose coordinates are both finite."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Return a centred moving mean over about a twelfth of the curve.

    A running mean would lag behind the curve; a centred one does not.
    """
    half = len(points) // 24
    sums = [0.0, *accumulate(y for _, y in points)]
    smoothed = []
    for index, (x, _) in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)  # as far to the left as to the right
        start, end = index - reach, index + reach + 1
        smoothed.append((x, (sums[end] - sums[start]) / (end - start)))
    return smoothed


def thin(points: Sequence[Point]) -> list[Point]:
    """Return every n-th point, and the last one, so that about MOST_POINTS are left."""
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[::stride], *(points[-1:] if (len(points) - 1) % stride else [])]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return about that many round numbers from `low` to `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Write a number briefly, for an axis or a label: 0.25, 12, 15k, 2e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.4g}"


def line_chart(
    curves: Sequence[Curve],
    label: str,
    y_range: tuple[float, float] | None = None,
    reference: tuple[float, str] | None = None,
) -> Markup:
    """Draw curves over optimizer steps.

    Args:
        label: what a screen reader says of the chart.
        y_range: the smallest range to show; values beyond it widen it.
        reference: the height and the name of a dashed horizontal line.
    """
    kept = [Curve(thin(points), c.css, c.marks) for c in curves if (points := finite(c.points))]
    if not kept:
        return Markup('<p class="none">Nothing was logged.</p>')
    xs = [x for curve in kept for x, _ in curve.points]
    ys = [y for curve in kept for _, y in curve.points]
    ys += [*(y_range or ()), *([reference[0]] if reference else [])]
    low, high = min(ys), max(ys)
    pad = (high - low) * 0.05 if y_range is None else 0.0
    axes = _Axes(min(0.0, *xs), max(xs), low - pad, high + pad)
    parts = [axes.draw(), *(axes.draw_curve(curve) for curve in kept)]
    if reference:
        parts.append(axes.draw_reference(*reference))
    last = number(kept[-1].points[-1][1])
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}; last value {last}">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Axes:
    """Map the values of one chart to its SVG units."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / ((self.y_high - self.y_low) or 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def draw(self) -> str:
        parts = []
        for value in ticks(self.y_low, self.y_high):
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="end">{number(value)}</text>')
        for value in ticks(self.x_low, self.x_high):
            x = self.x(value)
            anchor = "end" if x > WIDTH - RIGHT - 12 else "mid"
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - 7}" class="{anchor}">{number(value)}</text>'
            )
        return "".join(parts)

    def draw_curve(self, curve: Curve) -> str:
        css = escape(curve.css)
        places = [(self.x(x), self.y(y)) for x, y in curve.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts = [f'<path class="line {css}" d="{path}"/>']
        if curve.marks or len(places) == 1:
            parts += [
                f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
                f"<title>step {step:g}: {number(value)}</title></circle>"
                for (x, y), (step, value) in zip(places, curve.points, strict=True)
            ]
        return "".join(parts)

    def draw_reference(self, value: float, name: str) -> str:
        y = self.y(value)
        text_y = y + 14 if y < TOP + 14 else y - 5
        return (
            f'<path class="line ref" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT + 6}" y="{text_y:.1f}">{escape(name)}</text>'
        )


def interval_bar(value: float, low: float, high: float, domain: Point, css: str) -> Markup:
    """Draw a bar from the domain's zero to `value`, and over it the interval `low` to `high`."""
    start, end = domain

    def x(position: float) -> float:
        share = (position - start) / ((end - start) or 1.0)
        return 1 + 118 * min(max(share, 0.0), 1.0)

    zero = x(0.0)
    left, width = min(zero, x(value)), abs(x(value) - zero)
    return Markup(
        '<svg class="bar" viewBox="0 0 120 14" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="grid" d="M1 7H119"/>'
        f'<rect class="fill {escape(css)}" x="{left:.1f}" y="3" width="{max(width, 0.8):.1f}" '
        'height="8"/>'
        f'<path class="whisker" d="M{x(low):.1f} 7H{x(high):.1f}M{x(low):.1f} 4V10'
        f'M{x(high):.1f} 4V10"/></svg>'
    )


def dots(values: Sequence[tuple[float, str, str]]) -> Markup:
    """Draw shares from 0 to 1 as dots on one line, joined by a rule.

    They are no SVG, whose dots would shrink and grow with the length of the line.

    Args:
        values: the share, CSS classes and name of each dot.
    """
    shares = [100 * value for value, _, _ in values]
    low, high = min(shares), max(shares)
    marks = "".join(
        f'<i class="{escape(css)}" style="left:{100 * value:.1f}%" '
        f'title="{escape(name)}: {value:.0%}"></i>'
        for value, css, name in values
    )
    span = f'<i class="span" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
    return Markup(f'<div class="dots">{span}{marks}</div>')


def strip(counts: Sequence[int], most: int) -> Markup:
    """Draw one cell for each sentence, the darker the more questions ask about it.

    A sentence without any question is an outline.

    Args:
        counts: the number of questions about each sentence.
        most: the number of questions that is drawn darkest.
    """
    num_lines = math.ceil(len(counts) / CELLS_PER_LINE)
    parts = []
    for index, count in enumerate(counts):
        x, y = index % CELLS_PER_LINE * CELL, index // CELLS_PER_LINE * CELL
        title = f"<title>sentence {index + 1}: {count} questions</title>"
        if count:
            opacity = 0.25 + 0.75 * min(count / (most or 1), 1.0)
            look = f'class="fill adapter" opacity="{opacity:.2f}"'
        else:
            look = 'class="empty"'
        parts.append(
            f'<rect {look} x="{x + 0.5}" y="{y + 0.5}" width="{CELL - 1}" height="{CELL - 1}" '
            f'rx="1.5">{title}</rect>'
        )
    width, height = min(len(counts), CELLS_PER_LINE) * CELL, num_lines * CELL
    return Markup(
        f'<svg class="strip" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" aria-hidden="true">{"".join(parts)}</svg>'
    )
