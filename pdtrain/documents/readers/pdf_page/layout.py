"""Find the reading order of a page from where its pieces of text stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from pdtrain.documents.readers.pdf_page.lines import Line, Run, lines_of

GUTTER = 1.0  # the least width of the space between columns, in heights of a line
LEAST_LINES = 2  # of a column
LEAST_FILL = 0.5  # lines of running text fill this part of their column's width, on average
LEAST_CHARACTERS = 18  # of a line of running text, on average
LEAST_TURNED = 3  # lines of a page that lies on its side; fewer are a stamp
DEEPEST = 24  # cuts within cuts


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
