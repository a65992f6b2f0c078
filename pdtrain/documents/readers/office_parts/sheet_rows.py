"""Write the rows of a sheet as tables, with titles and headers told apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Unreadable

MOST_CELLS = 50_000_000  # of a table, with those that are empty
Merged = Sequence[tuple[tuple[int, int], tuple[int, int]]]


def add_rows(builder: BlockBuilder, rows: Iterable[Sequence[Any]], merged: Merged = ()) -> None:
    """Add rows of cells as tables; the first row of each names its columns.

    Args:
        merged: the first and the last (row, column) of each group of cells that are one.
    """
    held: list[tuple[list[str], int]] = []
    for cells, widest in _with_merged(rows, merged):
        if any(cells):
            held.append((cells, widest))
            continue
        _add_table(builder, held)
        held = []
    _add_table(builder, held)


def _with_merged(rows: Iterable[Sequence[Any]], merged: Merged) -> Iterator[tuple[list[str], int]]:
    """Yield the texts of each row, and how many of its columns one of them stands in at most.

    The text of cells that are one stands in each of them, but that of a row with nothing else, as a
    title above a table is.
    """
    begins: dict[int, list[tuple[int, int, int]]] = {}  # last row, first and last column
    for (top, left), (bottom, right) in merged:
        begins.setdefault(top, []).append((bottom, left, right))
    open_ranges: list[tuple[int, int, int, str]] = []
    for number, row in enumerate(rows):
        cells = [cell_text(value) for value in row]
        open_ranges = [one for one in open_ranges if one[0] >= number]
        filled = sum(map(bool, cells)) + len(open_ranges)
        for bottom, left, right in begins.get(number, ()):
            if left < len(cells) and cells[left]:
                open_ranges.append((bottom, left, min(right, len(cells) - 1), cells[left]))
        for _, left, right, text in open_ranges:
            cells[left : right + 1] = [text, *[text if filled > 1 else ""] * (right - left)]
        yield cells, max((right + 1 - left for _, left, right, _ in open_ranges), default=1)


def _add_table(builder: BlockBuilder, held: Sequence[tuple[list[str], int]]) -> None:
    """Add the rows without the columns that are empty in all of them.

    Args:
        held: the cells of each row, and how many columns one of them stands in at most.
    """
    rows = [cells for cells, _ in held]
    width = max(map(len, rows), default=0)
    if width * len(rows) > MOST_CELLS:
        raise Unreadable(
            "too large", f"a table of {len(rows)} rows and {width} columns, most of them empty"
        )
    filled = [n for n in range(width) if any("".join(row[n : n + 1]) for row in rows)]
    kept = [[row[n] if n < len(row) else "" for n in filled] for row in rows]
    if len(filled) == 1:
        for row in kept:
            builder.prose(row[0])
        return
    first = 0
    while first + 2 < len(kept) and _is_title(kept[first], kept[first + 1], held[first][1]):
        builder.prose(kept[first][0])
        first += 1
    # where names of groups of columns stand above those of the columns, both are the header
    header = 2 if held and held[first][1] > 1 else 1
    builder.table(kept[first:], header)


def _is_title(row: Sequence[str], following: Sequence[str], widest: int) -> bool:
    """Return whether a row is the title above one that names columns."""
    names = [text for text in following if text]
    is_alone = bool(row[0]) and not any(row[1:]) and len(names) > 1
    return is_alone and (widest > 1 or not any(text[:1].isdigit() for text in names))


def cell_text(value: Any) -> str:
    """Return a value as a sheet shows it."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.15g}"  # as many digits as a sheet shows: 0.1 + 0.2 is 0.3 there
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("T00:00:00", "").replace("T", " ")
    return str(value)
