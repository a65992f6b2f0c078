"""Find the reading order of a page from where its pieces of text stand."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

GUTTER = 1.0  # the least width of the space between columns, in heights of a line
LEAST_LINES = 2  # of a column
LEAST_FILL = 0.5  # lines of running text fill this part of their column's width, on average
LEAST_CHARACTERS = 18  # of a line of running text, on average
SLANTED = 3  # the turn of a run that stands at no right angle, as what is stamped on a page
LEAST_TURNED = 3  # lines of a page that lies on its side; fewer are a stamp
DEEPEST = 24  # cuts within cuts
WIDE_GAP = 1.8  # in heights of a line: a wider gap in a line is one between cells


@dataclass(frozen=True)
class Run:
    """Hold a piece of a line in one font; coordinates in points from the lower left corner."""

    left: float
    bottom: float
    right: float
    top: float
    text: str
    size: float  # of the font
    is_fixed: bool = False  # all letters of the font have the same width
    turn: int = 0  # 1 where it is read from bottom to top, -1 from top to bottom, 2 upside down

    @property
    def height(self) -> float:
        """Return the height of its letters."""
        return max(self.top - self.bottom, 1.0)


@dataclass(frozen=True)
class Page:
    """Hold the runs of a page."""

    width: float
    height: float
    runs: tuple[Run, ...]
    is_picture: bool  # it shows a picture and no text


def readable(width: float, height: float, runs: Iterable[Run]) -> Page:
    """Return a page with the runs that stand as most of its letters do, turned so that they lie.

    Those that do not are stamps at the margin and the like. A page that lies on its side, as wide
    tables do, is read as its reader turns it.

    Args:
        width: of the page, in points.
        height: of the page, in points.
        runs: all of its runs.
    """
    found = list(runs)
    letters = {turn: [len(run.text) for run in found if run.turn == turn] for turn in (0, 1, -1, 2)}
    turn = max(letters, key=lambda one: sum(letters[one]))
    turn = turn if len(letters[turn]) >= LEAST_TURNED else 0
    kept = [run for run in found if run.turn == turn]
    if not turn:
        return Page(width, height, tuple(kept), False)
    sides = (
        (r.bottom, width - r.right, r.top, width - r.left)
        if turn == 1
        else (height - r.top, r.left, height - r.bottom, r.right)
        if turn == -1
        else (width - r.right, height - r.top, width - r.left, height - r.bottom)
        for r in kept
    )
    turned = [
        replace(run, left=left, bottom=bottom, right=right, top=top, turn=0)
        for run, (left, bottom, right, top) in zip(kept, sides, strict=True)
    ]
    return Page(*((width, height) if turn == 2 else (height, width)), tuple(turned), False)


@dataclass(frozen=True)
class Line:
    """Hold the runs that stand side by side in one column, from left to right."""

    runs: tuple[Run, ...]

    @property
    def left(self) -> float:
        """Return where it begins."""
        return self.runs[0].left

    @property
    def right(self) -> float:
        """Return where it ends."""
        return max(run.right for run in self.runs)

    @property
    def bottom(self) -> float:
        """Return its lower edge."""
        return min(run.bottom for run in self.runs)

    @property
    def top(self) -> float:
        """Return its upper edge."""
        return max(run.top for run in self.runs)

    @property
    def size(self) -> float:
        """Return the size of its widest run's font."""
        return max(self.runs, key=lambda run: len(run.text)).size

    @property
    def is_fixed(self) -> bool:
        """Return whether all of it is in fonts whose letters have the same width."""
        return all(run.is_fixed for run in self.runs)

    @property
    def text(self) -> str:
        """Return its words, with raised digits marked."""
        parts: list[str] = []
        before: Run | None = None
        for run in self.runs:
            words = run.text
            if before is not None:
                raised = _is_raised(run, before)
                gap = run.left - before.right
                if raised and parts[-1][-1:].isalnum() and gap < before.height / 2:
                    after_number = parts[-1].rstrip()[-1:].isdigit()
                    words = f"^{words.strip()}" if after_number else f"[{words.strip()}]"
                elif gap > 0.15 * run.height and not parts[-1].endswith(" "):
                    parts.append(" ")
            parts.append(words)
            before = run
        return " ".join("".join(parts).split(" ")).strip()


def _is_raised(run: Run, before: Run) -> bool:
    return (
        run.size < 0.85 * before.size
        and run.bottom > before.bottom + 0.2 * before.height
        and run.text.strip().isdigit()
    )


def lines_of(runs: Sequence[Run]) -> list[Line]:
    """Return the lines that runs of one column stand in, from top to bottom."""
    lines: list[list[Run]] = []
    for run in sorted(runs, key=lambda r: -(r.top + r.bottom)):
        if lines and _beside(lines[-1], run):
            lines[-1].append(run)
        else:
            lines.append([run])
    return [Line(tuple(sorted(line, key=lambda r: r.left))) for line in lines]


def _beside(line: Sequence[Run], run: Run) -> bool:
    """Return whether a run stands at the height of a line, raised letters included."""
    first = max(line, key=lambda r: r.height)
    overlap = min(first.top, run.top) - max(first.bottom, run.bottom)
    return overlap > 0.5 * min(first.height, run.height)


def columns(runs: Sequence[Run], depth: int = 0) -> Iterator[list[Line]]:
    """Yield the lines of every column of a page, column by column in reading order.

    The page is cut in two where nothing stands, again and again (recursive X-Y cuts): between
    columns where both hold running text, or else across.
    """
    if not runs:
        return
    height = median(run.height for run in runs)
    if depth < DEEPEST:
        left_right = _column_cut(runs, height)
        if left_right:
            for part in left_right:
                yield from columns(part, depth + 1)
            return
        above_below = _across_cut(runs, height)
        if above_below:
            for part in above_below:
                yield from columns(part, depth + 1)
            return
    yield lines_of(runs)


def _column_cut(runs: Sequence[Run], height: float) -> tuple[list[Run], list[Run]] | None:
    """Return the runs left and right of the widest gap between two columns of running text."""
    best: tuple[float, float] | None = None
    reach = float("-inf")
    for run in sorted(runs, key=lambda r: r.left):
        gap = run.left - reach
        if reach > float("-inf") and gap >= GUTTER * height and (best is None or gap > best[0]):
            best = (gap, (reach + run.left) / 2)
        reach = max(reach, run.right)
    if best is None:
        return None
    sides = (
        [run for run in runs if run.right <= best[1]],
        [run for run in runs if run.left >= best[1]],
    )
    return sides if all(_is_running_text(side) for side in sides) else None


def _is_running_text(runs: Sequence[Run]) -> bool:
    lines = lines_of(runs)
    if len(lines) < LEAST_LINES:
        return False
    width = max(line.right for line in lines) - min(line.left for line in lines)
    fill = sum(line.right - line.left for line in lines) / (len(lines) * max(width, 1.0))
    characters = sum(len(line.text) for line in lines) / len(lines)
    return fill >= LEAST_FILL and characters >= LEAST_CHARACTERS


def _across_cut(runs: Sequence[Run], height: float) -> tuple[list[Run], list[Run]] | None:
    """Return the runs above and below the gap at which the page is best cut across.

    Only a cut that sets columns free is of use: one of the parts must be cut into columns next.
    """
    ordered = sorted(runs, key=lambda r: -r.top)
    gaps: list[tuple[float, int]] = []
    reach = ordered[0].bottom
    for number, run in enumerate(ordered):
        if number and reach - run.top > 0.1 * height:
            gaps.append((reach - run.top, number))
        reach = min(reach, run.bottom)
    for _, number in sorted(gaps, reverse=True)[:12]:
        parts = ordered[:number], ordered[number:]
        if any(_column_cut(part, height) for part in parts):
            return parts
    return None


def cells_of(line: Line) -> list[Line]:
    """Return the parts of a line between gaps that are wider than any between words."""
    cells: list[list[Run]] = [[line.runs[0]]]
    for before, run in itertools.pairwise(line.runs):
        if run.left - before.right > WIDE_GAP * max(before.height, run.height):
            cells.append([])
        cells[-1].append(run)
    return [Line(tuple(cell)) for cell in cells]
