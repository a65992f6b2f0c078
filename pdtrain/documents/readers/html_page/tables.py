"""Read the tables of HTML pages, and tell them from tables that only place things on the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pdtrain.documents.grid import Cell, Grid
from pdtrain.documents.readers.html_page.inline import InlineText
from pdtrain.documents.readers.html_page.listings import own_rows
from pdtrain.documents.readers.html_page.parts import HEADINGS, is_boilerplate, is_hidden

if TYPE_CHECKING:
    from lxml.etree import _Element

LONGEST_NESTED = 300  # characters of a table that stands in a cell of a table of facts
NO_CELL_HOLDS = frozenset(["table", "pre", "section", "article", *HEADINGS])


def layout_tables(root: _Element) -> set[_Element]:
    """Return the tables whose cells hold what no cell of a table of facts holds."""
    from lxml import etree

    found: set[_Element] = set()
    nesting: set[_Element] = set()  # those with a small table in a cell, or a heading in a row
    open_tables: list[_Element] = []
    columns: list[int] = []  # the most cells that a row of each open table has
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if event == "start":
            if open_tables and element.tag in NO_CELL_HOLDS:
                is_small = element.tag in ("table", "pre") and _is_small(element)
                may_hold = is_small or _has_row(element)
                (nesting if may_hold else found).add(open_tables[-1])
            if element.tag == "table":
                open_tables.append(element)
                columns.append(0)
                if element.get("role") in ("presentation", "none"):
                    found.add(element)
            elif open_tables and element.tag == "tr":
                columns[-1] = max(columns[-1], sum(cell.tag in ("td", "th") for cell in element))
        elif element.tag == "table" and open_tables:
            open_tables.pop()
            if columns.pop() < 2 or (
                element in nesting and element not in found and not _holds_facts(element)
            ):
                found.add(element)
    return found


def _has_row(element: _Element) -> bool:
    """Return whether an element is a heading that has a row of a table for itself."""
    cell = element.getparent()
    row = None if cell is None else cell.getparent()
    return element.tag in HEADINGS and row is not None and row.tag == "tr" and len(row) == 1


def _is_small(table: _Element) -> bool:
    """Return whether a table, or a listing of a line, may be what a cell of facts says."""
    length = 0
    if table.tag == "pre" and (
        "\n" in "".join(table.itertext()).strip() or next(table.iter("br"), None) is not None
    ):
        return False
    for inner in table.iter():
        length += len((inner.text or "").strip())
        if length > LONGEST_NESTED or (inner is not table and inner.tag in NO_CELL_HOLDS):
            return False
    return True


def _holds_facts(table: _Element) -> bool:
    """Return whether a table with tables or headings in it has named columns, or short cells."""
    rows = list(own_rows(table))
    if any(cell.tag == "th" for row in rows[:1] if len(row) > 1 for cell in row):
        return True
    cells = [cell for row in rows for cell in row]
    return len(rows) > 1 and all(len("".join(cell.itertext())) <= LONGEST_NESTED for cell in cells)


def _is_left_out(element: _Element) -> bool:
    return is_hidden(element) or is_boilerplate(element, by_class=True)


class Part(NamedTuple):
    """Hold the rows of a table under one of the headings that stand between its rows."""

    heading: _Element | None
    rows: list[list[str]]  # the texts of the cells
    header: int  # the first so many rows name the columns


def read_table(table: _Element) -> tuple[str, list[Part]]:
    """Return the caption of a table, and its rows in the parts that headings divide it into.

    A cell that spans several rows stands in each of them, so that every row can be read alone.
    """
    caption = ""
    for part in table:
        if part.tag == "caption" and not is_hidden(part):
            caption = cell_text(part)
    parts = [Part(None, [], 0)]
    grid = Grid()
    for row in own_rows(table):
        if any(map(_is_left_out, _within(row, table))):
            continue
        cells = [cell for cell in row if cell.tag in ("td", "th") and not _is_left_out(cell)]
        if heading := _heading_of(row):
            parts.append(Part(heading[0], [], 0))
            grid = Grid()
            continue
        heading_of, rows, header = parts[-1]
        rows.append(grid.row(map(_cell, cells)))
        parent = row.getparent()
        in_head = parent is not None and parent.tag == "thead"
        names = bool(cells) and all(cell.tag == "th" for cell in cells)
        if (in_head or names) and header == len(rows) - 1:
            parts[-1] = Part(heading_of, rows, header + 1)
    return caption, parts


def _heading_of(row: _Element) -> list[_Element]:
    """Return the heading that a row has nothing beside, in a list; none where there is none."""
    return [one for cell in row for one in cell if _has_row(one)][:1]


def _within(row: _Element, table: _Element) -> Iterator[_Element]:
    """Yield a row and the part of the table that it stands in."""
    yield row
    parent = row.getparent()
    if parent is not None and parent is not table:
        yield parent


def _cell(cell: _Element) -> Cell:
    return Cell(cell_text(cell), _span(cell, "rowspan"), _span(cell, "colspan"))


def _span(cell: _Element, name: str) -> int:
    given = (cell.get(name) or "").strip()
    return int(given) if given.isdecimal() and len(given) < 6 else 1


def cell_text(cell: _Element) -> str:
    """Return the text of a cell in one line; that of a table in it row by row."""
    text = _CellText()
    text.add_all(cell)
    return text.take_line()


class _CellText(InlineText):
    """Collect the text of a cell, in which a table may stand."""

    def add_whole(self, element: _Element) -> bool:
        """Add an element that is read as a whole, and return whether it was one."""
        if element.tag != "table":
            return super().add_whole(element)
        rows = [row for part in read_table(element)[1] for row in part.rows]
        self.text(" " + "; ".join(", ".join(filter(None, row)) for row in rows if any(row)) + " ")
        return True
