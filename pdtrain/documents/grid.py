"""Put the cells of a table in their columns, whatever they span or leave empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

WIDEST = 200  # columns that a cell may span, whatever it says
TALLEST = 200  # rows that it may span
LONGEST = 200  # characters of a cell that is repeated in every row it spans


class Cell(NamedTuple):
    """Hold a cell as a file has it: no cell stands where another one reaches."""

    text: str
    tall: int = 1  # rows that it spans
    wide: int = 1  # columns that it spans


class Grid:
    """Fill rows one after the other, so that every row can be read alone.

    A cell that spans several rows stands in each of them; one that spans several columns stands in
    the first, and the others are empty.
    """

    def __init__(self) -> None:
        self._spans: dict[int, tuple[int, str]] = {}  # by column: for so many more rows, this text

    def row(self, cells: Iterable[Cell]) -> list[str]:
        """Return the texts of a row, a column each."""
        row: list[str] = []
        for cell in cells:
            self._carry_on(row)
            tall, wide = _within(cell.tall, TALLEST), _within(cell.wide, WIDEST)
            if len(row) > WIDEST:  # a few tags would become millions of empty cells
                tall = wide = 1
            if tall > 1:
                for column in range(len(row), len(row) + wide):
                    text = cell.text if column == len(row) else ""
                    self._spans[column] = (tall - 1, text if len(text) <= LONGEST else "")
            row.append(cell.text)
            row += [""] * (wide - 1)
        self._carry_on(row)
        return row

    def _carry_on(self, row: list[str]) -> None:
        while len(row) in self._spans:
            column = len(row)
            left, text = self._spans.pop(column)
            row.append(text)
            if left > 1:
                self._spans[column] = (left - 1, text)


def _within(span: int, most: int) -> int:
    return min(max(span, 1), most)


class Placed(NamedTuple):
    """Hold the text of a cell and where on the page it stands, in any unit."""

    left: float
    right: float
    text: str


def in_columns(rows: Sequence[Sequence[Placed]]) -> list[list[str]]:
    """Return rows of texts, with an empty one wherever a row has nothing in a column.

    Args:
        rows: the cells of each row from left to right.
    """
    reaches: list[list[float]] = []  # left and right of each column
    for row in sorted(rows, key=len, reverse=True):  # the fullest rows tell the columns
        for cell in row:
            if not any(_shared(cell, reach) > 0 for reach in reaches):
                reaches.append([cell.left, cell.right])
        reaches.sort()
    return [list(_in_columns(row, reaches)) for row in rows]


def _in_columns(row: Sequence[Placed], reaches: Sequence[list[float]]) -> Iterator[str]:
    texts: list[list[str]] = [[] for _ in reaches]
    first = 0  # a cell stands right of the one before
    for cell in row:
        shared = [_shared(cell, reach) for reach in reaches[first:]]
        place = first + shared.index(max(shared)) if shared else len(reaches) - 1
        texts[place].append(cell.text)
        first = min(place + 1, len(reaches) - 1)
    return (" ".join(found) for found in texts)


def _shared(cell: Placed, reach: Sequence[float]) -> float:
    """Return how much of a column's width a cell stands over; less than 0 is a distance."""
    return min(cell.right, reach[1]) - max(cell.left, reach[0])
