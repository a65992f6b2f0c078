"""Draw scores with their intervals as one SVG: a line for each method, a panel for each metric."""

from __future__ import annotations

from html import escape

from pdtrain.records import Score
from pdtrain.reporting.svg import ticks

LINE, LEFT, WIDTH, GAP, TOP = 22, 290, 300, 40, 46
LETTER = 6.5  # the average width of a letter of 12 px, in pixels
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.small{font-size:10px;fill:#666}"
    ".grid{stroke:#ddd}.whisker{stroke:#2a6f97;stroke-width:2}.dot{fill:#2a6f97}"
    ".plain .whisker{stroke:#888}.plain .dot{fill:#888}"
)
Panel = tuple[str, dict[str, Score]]


def svg(panels: list[Panel], plain: set[str]) -> str:
    """Return the SVG, whose lines are the labels of the first panel.

    Args:
        panels: the title of each panel, and its scores by label.
        plain: labels of what has no adapter, which is drawn in grey.
    """
    labels = list(panels[0][1])
    margin = max(LEFT, 24 + round(LETTER * max(map(len, labels))))
    height = TOP + LINE * len(labels) + 30
    width = margin + len(panels) * (WIDTH + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    ]
    for number, label in enumerate(labels):
        parts.append(f'<text x="{margin - 12}" y="{_y(number) + 4}" text-anchor="end">')
        parts.append(f"{escape(label)}</text>")
    for number, (title, scores) in enumerate(panels):
        parts.append(_panel(margin + number * (WIDTH + GAP), title, scores, plain))
    return "".join([*parts, "</svg>\n"])


def _y(number: int) -> float:
    return TOP + LINE * (number + 0.5)


def _panel(left: float, title: str, scores: dict[str, Score], plain: set[str]) -> str:
    low = min(score.low for score in scores.values())
    high = max(score.high for score in scores.values())
    span = (high - low) or 1.0
    bottom = TOP + LINE * len(scores)

    def x(value: float) -> float:
        return left + WIDTH * (value - low) / span

    parts = [f'<text x="{left}" y="18">{escape(title)}</text>']
    for tick in ticks(low, high):
        parts.append(f'<path class="grid" d="M{x(tick):.1f} {TOP}V{bottom}"/>')
        parts.append(
            f'<text class="small" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">'
            f"{tick:g}</text>"
        )
    for number, (label, score) in enumerate(scores.items()):
        y = _y(number)
        parts.append(
            f'<g class="{"plain" if label in plain else "adapter"}">'
            f'<path class="whisker" d="M{x(score.low):.1f} {y}H{x(score.high):.1f}"/>'
            f'<circle class="dot" cx="{x(score.value):.1f}" cy="{y}" r="4"/></g>'
        )
    return "".join(parts)
