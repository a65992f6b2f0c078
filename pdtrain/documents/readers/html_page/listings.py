"""Find listings: text whose line ends and blanks count, beside what stands in a `pre`."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pdtrain.documents.readers.html_page.inline import preformatted
from pdtrain.documents.readers.html_page.parts import BLOCKS, is_line_number

if TYPE_CHECKING:
    from lxml.etree import _Element

PREFORMATTED = frozenset("pre listing xmp plaintext".split())
CODE = frozenset("code samp kbd tt".split())
KEEPS_LINES = re.compile(
    r"white-space(?:-collapse)?\s*:\s*(?:pre(?:serve)?(?:-wrap|-line|-breaks)?|break-spaces)\b",
    re.IGNORECASE,
)
WRAPS = re.compile(r"white-space\s*:\s*(?:pre-wrap|pre-line|break-spaces)", re.IGNORECASE)
# classes that generators of documentation give to a listing of which each line is an element
NAMES = frozenset(
    (
        "highlight codehilite sourcecode programlisting literallayout screen verbatim fragment "
        "listing code-block codeblock code prettyprint syntaxhighlighter hljs src console"
    ).split()
)
# classes of the cells that hold the lines of a listing, beside those that hold their numbers
CELL_NAMES = frozenset("code blob-code hljs-ln-code rouge-code lntd line-code crayon-code".split())
# elements that a listing is made of; others make it a part of the page that holds anything
LIGHT = frozenset(
    (
        "a abbr b bdi bdo big br code data div em font i ins kbd label li mark ol s samp small "
        "span strong sub sup tt u var wbr"
    ).split()
)
MOST_VISITS = 3_000_000  # of elements below those that may be listings, on a page
HIGHEST = 10  # elements around a line of code that stands alone


class Listings:
    """Tell which elements of a page are listings, in time that the page's length bounds."""

    def __init__(self) -> None:
        self._left = MOST_VISITS

    def lines(self, element: _Element) -> str | None:
        """Return the lines of an element that is a listing; None where it is none."""
        if element.tag in PREFORMATTED:
            return preformatted(element)
        if element.tag == "table":
            return "\n".join(_numbered(element)) or None
        if element.tag == "textarea":
            text = element.text or ""
            is_shown = "readonly" in element.attrib or "\n" in text.strip()
            return text if is_shown else None
        if not self._may_be(element) or not self._is_light(element):
            return None
        lines = textwrap.dedent(preformatted(element).replace("\xa0", " "))
        return lines if "\n" in lines.strip("\n") else None

    def _may_be(self, element: _Element) -> bool:
        if element.tag in CODE and _stands_alone(element):
            return True
        attributes = element.attrib
        if not attributes:
            return False
        names = attributes.get("class", "").lower().split()
        style = attributes.get("style", "")
        return not NAMES.isdisjoint(names) or bool(style and KEEPS_LINES.search(style))

    def _is_light(self, element: _Element) -> bool:
        for inner in element.iterdescendants():
            self._left -= 1
            if inner.tag not in LIGHT or self._left < 0:
                return False
        return True


def wraps(element: _Element) -> bool:
    """Return whether long lines of an element go on below, as those of a letter and not of code."""
    is_code = element.tag in CODE or element.tag in PREFORMATTED
    return not is_code and bool(WRAPS.search(element.get("style", "")))


def _stands_alone(element: _Element) -> bool:
    """Return whether nothing stands before or after an element in its paragraph."""
    for _ in range(HIGHEST):
        before, after, parent = element.getprevious(), element.getnext(), element.getparent()
        if parent is None:
            return False
        text = parent.text if before is None else before.tail
        if (text or "").strip() or (element.tail or "").strip():
            return False
        if any(beside is not None and beside.tag not in BLOCKS for beside in (before, after)):
            return False
        if parent.tag in BLOCKS:
            return True
        element = parent
    return False


# --- Listings in tables ---------------------------------------------------------------------------


def own_rows(table: _Element) -> Iterator[_Element]:
    """Yield the rows of a table, and none of the tables in its cells."""
    for part in table:
        if part.tag == "tr":
            yield part
        elif part.tag in ("thead", "tbody", "tfoot"):
            yield from (row for row in part if row.tag == "tr")


def _numbered(table: _Element) -> list[str]:
    """Return the lines of a table of numbers and lines of code; none where it is another one."""
    lines: list[str] = []
    numbers: list[int | None] = []
    sure = False
    for row in own_rows(table):
        cells = [cell for cell in row if cell.tag in ("td", "th")]
        # what holds a table is looked into when that table is: tables may stand in tables for ever
        if len(cells) != 2 or any(next(c.iter("table"), None) is not None for c in cells):
            return []
        if not (found := _numbers(cells[0])):
            return []
        code = preformatted(cells[1]).strip("\n")
        names = set(cells[1].get("class", "").lower().split())
        is_code = bool(names & CELL_NAMES) or next(cells[1].iter("pre"), None) is not None
        # a column of numbers may also number a list of commands: only code is indented
        is_code = is_code or (next(cells[1].iter("code"), None) is not None and code[:1].isspace())
        sure = sure or is_code
        numbers += found
        lines += code.split("\n")
    known = [number for number in numbers if number is not None]
    in_turn = all(b == a + 1 for a, b in itertools.pairwise(known))
    return lines if sure and len(numbers) > 1 and in_turn else []


def _numbers(cell: _Element) -> list[int | None]:
    """Return the numbers of lines that a cell holds; None for one that the page draws itself."""
    words = "".join(cell.itertext()).split()
    if not words:
        return [None] if is_line_number(cell) else []
    return [int(word) for word in words] if all(w.isdecimal() and len(w) < 8 for w in words) else []
