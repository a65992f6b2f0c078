"""Read the rows of a table in which a quote may be missing, or stand where none should."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

# what follows the first quote of a cell that only begins with a quotation: `He" said "no`
BEGINS_QUOTED = re.compile(r'[^"\s][^"]*(?<!\s)"\s')
LINE_END = re.compile(r"\r\n|[\r\n]?")
MOST_TRIES = 4  # times the text's length: what may be read in vain, to find where a quote ends


class Rows:
    """Yield the rows of a table with quotes around the cells that need them.

    A row whose quotes do not fit is read once more: a quote that is never closed ends with its
    line, and one inside a cell belongs to it. No other row is lost to it.
    """

    def __init__(self, text: str, delimiter: str, escape: str | None) -> None:
        self.num_stray = 0  # rows so far with a quote that is missing, or that is one too many
        self._text = text
        self._stream = io.StringIO(text, newline="")
        self._delimiter, self._escape = delimiter, escape
        self._reader = self._strict()
        self._cells = _Cells(delimiter, escape)
        self._left = MOST_TRIES * len(text)

    def __iter__(self) -> Iterator[list[str]]:
        """Return itself."""
        return self

    def __next__(self) -> list[str]:
        """Return the cells of the next row."""
        start = self._stream.tell()
        if self._left > 0:
            try:
                return next(self._reader)
            except csv.Error:
                self._left -= self._stream.tell() - start
        if start >= len(self._text):
            raise StopIteration
        row, end, is_stray = self._cells.row(self._text, start, self._left > 0)
        self.num_stray += is_stray
        self._left -= end - start if is_stray else 0
        self._stream.seek(end)
        self._reader = self._strict()
        return row

    def _strict(self) -> Iterator[list[str]]:
        return csv.reader(
            self._stream,
            delimiter=self._delimiter,
            escapechar=self._escape,
            skipinitialspace=True,
            strict=True,
        )


class _Cells:
    """Find the cells of a row whose quotes may be wrong."""

    def __init__(self, delimiter: str, escape: str | None) -> None:
        parting = re.escape(delimiter)
        ends = rf"[ \t]*+(?=[{parting}\r\n]|\Z)" if delimiter != "\t" else r" *+(?=[\t\r\n]|\Z)"
        escaped = r"\\.|" if escape else ""
        inner = r"\\" if escape else ""
        self._delimiter = delimiter
        self._escape = escape
        self._whole = re.compile(rf'"((?:{escaped}""|[^"{inner}])*+)"{ends}', re.DOTALL)
        self._begins = re.compile(rf'"[^"\r\n]*"[^"{parting}\r\n]+(?=[{parting}\r\n]|\Z)')
        self._in_line = re.compile(rf'"([^\r\n]*?)"{ends}')
        self._rest = re.compile(r"[^\r\n]*")
        self._plain = re.compile(rf"[^{parting}\r\n]*")

    def row(self, text: str, start: int, may_wrap: bool) -> tuple[list[str], int, bool]:
        """Return the cells of the row at a place, where it ends, and if a quote in it is wrong.

        Args:
            text: that of the table.
            start: where the row begins.
            may_wrap: a cell may go on in the next line.
        """
        cells: list[str] = []
        is_stray = False
        place = start
        while True:
            while text.startswith(" ", place):
                place += 1
            found = self._whole.match(text, place) if may_wrap else None
            if found is None and text.startswith('"', place):
                found = (
                    self._begins.match(text, place)
                    or self._in_line.match(text, place)
                    or self._rest.match(text, place)
                )
                is_stray = True
            found = found or self._plain.match(text, place)
            assert found is not None
            cells.append(self._unquoted(found))
            place = found.end()
            if not text.startswith(self._delimiter, place):
                break
            place += 1
        end = LINE_END.match(text, place)
        return cells, end.end() if end else place, is_stray

    def _unquoted(self, found: re.Match[str]) -> str:
        is_quoted = found.re.groups and not BEGINS_QUOTED.match(found[1])
        cell = found[1].replace('""', '"') if is_quoted else found[0]
        return re.sub(r"\\(.)", r"\1", cell, flags=re.DOTALL) if self._escape else cell
