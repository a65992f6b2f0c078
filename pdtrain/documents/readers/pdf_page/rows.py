"""Tell the lines of a page that are rows of a table, and put together those that a cell fills."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, islice, pairwise, takewhile

from pdtrain.documents.readers.pdf_page.lines import Line, cells_of

SAME_PLACE = 4  # points: cells below one another begin or end as near to the same place
NEARER = 0.8  # of the distance between rows: lines of one cell stand so much nearer
MOST_WRAPPED = 5  # lines of a cell between two lines with several cells
ROWS_BEFORE = 8  # of a table, that tell its columns


def table_rows(lines: Sequence[Line]) -> set[int]:
    """Return the numbers of lines that are rows: their neighbours' cells begin where theirs do."""
    cells = [cells_of(line) for line in lines]
    rows: set[int] = set()
    for number in range(1, len(lines)):
        above = number - 1
        while above > max(number - MOST_WRAPPED, 0) and len(cells[above]) == 1:
            above -= 1
        first, second = cells[above], cells[number]
        if min(len(first), len(second)) < 2:
            continue
        if sum(_aligned(cell, first) for cell in second) >= 2 and all(
            _is_wrapped(cells[between][0], [*first, *second])
            for between in range(above + 1, number)
        ):
            rows |= set(range(above, number + 1))
    for number in (*range(1, len(lines)), *range(len(lines) - 2, -1, -1)):
        if number not in rows and _goes_on(number, cells, rows):
            rows.add(number)
    return rows


def _goes_on(number: int, cells: Sequence[list[Line]], rows: set[int]) -> bool:
    """Return whether a line is a row of the table beside it, with empty cells.

    A single cell may be a row between two others, but for one in the first column.
    """
    for step in (-1, 1):
        if number + step not in rows:
            continue
        near = takewhile(rows.__contains__, count(number + step, step))
        columns = [cell for row in islice(near, ROWS_BEFORE) for cell in cells[row]]
        if not all(_aligned(cell, columns) for cell in cells[number]):
            continue
        if len(cells[number]) > 1:
            return True
        (cell,) = cells[number]
        following = cells[number - step] if 0 <= number - step < len(cells) else []
        is_inside = len(following) > 1 and all(_aligned(one, columns) for one in following)
        if is_inside and cell.left > min(one.left for one in columns) + SAME_PLACE:
            return True
    return False


def _is_wrapped(cell: Line, columns: Sequence[Line]) -> bool:
    """Return whether a line by itself is a part of a cell beside the first column."""
    return _aligned(cell, columns) and cell.left > min(c.left for c in columns) + SAME_PLACE


def _aligned(cell: Line, others: Sequence[Line]) -> bool:
    """Return whether a cell begins or ends where another one does."""
    return any(
        abs(cell.left - one.left) < SAME_PLACE or abs(cell.right - one.right) < SAME_PLACE
        for one in others
    )


def whole_rows(rows: Sequence[list[str]], heights: Sequence[float]) -> list[list[str]]:
    """Return the rows of a table in which the lines of a cell that fills several are one.

    Such lines stand nearer to one another than the rows of the table do.

    Args:
        rows: the texts of the cells of each line, with an empty one where it has nothing.
        heights: where the lines stand on the page.
    """
    steps = [first - second for first, second in pairwise(heights)]
    down = [step for step in steps if step > 0]  # a table may go on at the top of a column
    if not down or min(down) > NEARER * max(down):
        return [list(row) for row in rows]
    border = (min(down) + max(down)) / 2
    found = [list(rows[0])]
    for row, step in zip(rows[1:], steps, strict=True):
        if 0 < step < border and not (found[-1][0] and row[0]):
            found[-1] = [" ".join(filter(None, both)) for both in zip(found[-1], row, strict=True)]
        else:
            found.append(list(row))
    return found
