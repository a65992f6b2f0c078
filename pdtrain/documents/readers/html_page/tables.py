"""Read the tables of HTML pages, and tell them from tables that only place things on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdtrain.documents.readers.html_page.inline import InlineText
from pdtrain.documents.readers.html_page.parts import is_boilerplate, is_hidden

if TYPE_CHECKING:
    from lxml.etree import _Element

WIDEST = 200  # columns that a cell may span, whatever it says
TALLEST = 200  # rows that it may span
LONGEST = 200  # characters of a cell that is repeated in every row it spans
NO_CELL_HOLDS = frozenset("table h1 h2 h3 h4 h5 h6 pre section article".split())


def layout_tables(root: _Element) -> set[_Element]:
    """Return the tables whose cells hold what no cell of a table of facts holds."""
    from lxml import etree

    found: set[_Element] = set()
    open_tables: list[_Element] = []
    columns: list[int] = []  # the most cells that a row of each open table has
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if event == "start":
            if open_tables and element.tag in NO_CELL_HOLDS:
                found.add(open_tables[-1])
            if element.tag == "table":
                open_tables.append(element)
                columns.append(0)
                if element.get("role") in ("presentation", "none"):
                    found.add(element)
            elif open_tables and element.tag == "tr":
                columns[-1] = max(columns[-1], sum(cell.tag in ("td", "th") for cell in element))
        elif element.tag == "table" and open_tables:
            open_tables.pop()
            if columns.pop() < 2:
                found.add(element)
    return found


def read_table(table: _Element) -> tuple[str, list[list[str]], int]:
    """Return the caption of a table, the texts of its cells by row, and the number of header rows.

    A cell that spans several rows stands in each of them, so that every row can be read alone.
    """
    caption, rows, header = "", [], 0
    spans: dict[int, tuple[int, str]] = {}  # by column: for so many more rows, this text
    for part in table.iter("caption", "tr"):
        if is_hidden(part) or is_boilerplate(part, by_class=True):
            continue
        if part.tag == "caption":
            caption = _cell_text(part)
            continue
        cells = [cell for cell in part if cell.tag in ("td", "th") and not is_hidden(cell)]
        cells = [cell for cell in cells if not is_boilerplate(cell, by_class=True)]
        rows.append(_row(cells, spans))
        parent = part.getparent()
        in_head = parent is not None and parent.tag == "thead"
        names = bool(cells) and all(cell.tag == "th" for cell in cells)
        if (in_head or names) and header == len(rows) - 1:
            header += 1
    return caption, rows, header


def _row(cells: list[_Element], spans: dict[int, tuple[int, str]]) -> list[str]:
    row: list[str] = []

    def carry_on() -> None:
        while len(row) in spans:
            column = len(row)
            left, text = spans.pop(column)
            row.append(text)
            if left > 1:
                spans[column] = (left - 1, text)

    for cell in cells:
        carry_on()
        text = _cell_text(cell)
        tall, wide = _span(cell, "rowspan", TALLEST), _span(cell, "colspan", WIDEST)
        if len(row) > WIDEST:  # a few tags would become millions of empty cells
            tall = wide = 1
        if tall > 1:
            for column in range(len(row), len(row) + wide):
                spans[column] = (tall - 1, text if len(text) <= LONGEST else "")
        row.append(text)
        row += [""] * (wide - 1)
    carry_on()
    return row


def _span(cell: _Element, name: str, most: int) -> int:
    given = (cell.get(name) or "").strip()
    return min(max(int(given), 1), most) if given.isdecimal() and len(given) < 6 else 1


def _cell_text(cell: _Element) -> str:
    text = InlineText()
    text.add_all(cell)
    return " ".join(text.take().split())
