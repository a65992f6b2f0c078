"""Join the lines of pages to paragraphs, tables and headings, without what repeats on pages."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, takewhile
from statistics import median

from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.grid import Placed, in_columns
from pdtrain.documents.plain import BULLET, HYPHEN, LONGEST_WORD, keeps_hyphen
from pdtrain.documents.readers.pdf_page.layout import Line, Page, Run, cells_of, columns, lines_of

MARGIN = 0.12  # of a page's height: running headers and page numbers stand above or below
PAGE_NUMBER = re.compile(
    r"[\W_]*(?:(?:page|seite|p\.|стр\.|页|第)\s*)?(?:\d{1,4}|[ivxlc]{1,7})"
    r"(?:\s*(?:of|von|de|di|из|/|\|)\s*\d{1,4})?[\W_]*(?:页)?",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[.!?…:。！？؟।][\"'”’»)\]]*$")
# from the first dot of a row alone: from each of them, a long row would take its square in time
LEADERS = re.compile(r"(?<!\.)(?<!\. )(?:\. ?){4,}\s*(?:\d{1,4}|[ivxlc]+)?$|^(?:\. ?){4,}")
SAME_PLACE = 4  # points: cells below one another begin or end as near to the same place
ROWS_BEFORE = 8  # of a table, that tell its columns


@dataclass
class _Flow:
    """Hold the paragraph that lines are added to."""

    builder: BlockBuilder
    body: float  # the usual size of the letters
    words: Counter[str]  # of the whole file: they tell how a word is spelled that a line end cuts
    text: str = ""
    last: Line | None = None
    rows: list[list[Placed]] = field(default_factory=list)
    code: list[Line] = field(default_factory=list)

    def end(self) -> None:
        """Write what is open: a paragraph, a table or lines of code."""
        self.end_table()
        self.end_code()
        self.builder.prose(self.text)
        self.text, self.last = "", None

    def end_table(self) -> None:
        """Write the table that is open."""
        if self.rows:
            self.builder.table(in_columns(self.rows))
            self.rows = []

    def end_code(self) -> None:
        """Write the lines of code that are open, indented as on the page."""
        if self.code:
            width = min(_letter_width(line) for line in self.code)
            left = min(line.left for line in self.code)
            self.builder.code(
                "\n".join(" " * round((x.left - left) / width) + x.text for x in self.code)
            )
            self.code = []

    def add(self, words: str) -> None:
        """Add a line's words to the paragraph, or the second half of a word that was cut."""
        cut = HYPHEN.search(self.text[-LONGEST_WORD:])
        following = re.match(r"\w+", words)
        if not self.text:
            self.text = words
        elif cut and following:
            first, second = cut[1], following[0]
            hyphen = "-" if keeps_hyphen(first, second, self.words, is_printed=True) else ""
            self.text = f"{self.text.removesuffix(cut[2])}{hyphen}{words}"
        else:
            self.text = f"{self.text}\n{words}"  # the builder knows what joins the two


def add_pages(builder: BlockBuilder, pages: Sequence[Page]) -> None:
    """Add the paragraphs, headings and tables of all pages."""
    kept = [_without_frame(page, repeated) for page, repeated in _with_repeated(pages)]
    every = [line for page in kept for line in lines_of(page)]
    sizes = Counter[float]()
    words = Counter[str]()
    for line in every:
        sizes[round(line.size * 2) / 2] += len(line.text)
        words.update(re.findall(r"\w+(?:-\w+)*", _without_last_word(line.text).lower()))
    if not sizes:
        return
    flow = _Flow(builder, sizes.most_common(1)[0][0], words)
    for runs in kept:
        for lines in columns(runs):
            _add_column(flow, lines)
    flow.end()


def _without_last_word(text: str) -> str:
    """Return a line without its last word, which the line's end may have cut."""
    return text if text[-1:].isspace() else text.removesuffix((text.split() or [""])[-1])


# --- Running headers --------------------------------------------------------------------------


def _with_repeated(pages: Sequence[Page]) -> Iterator[tuple[Page, set[str]]]:
    """Yield each page with the words that stand at the edge of several pages."""
    seen = Counter[str]()
    for page in pages:
        seen.update({_pattern(line) for line in _edge_lines(page)})
    least = 2 if len(pages) < 5 else 3
    repeated = {pattern for pattern, count in seen.items() if count >= least}
    for page in pages:
        yield page, repeated


def _pattern(line: Line) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", line.text.lower())


def _edge_lines(page: Page) -> list[Line]:
    """Return the lines nearest the upper and the lower edge of a page."""
    lines = lines_of(page.runs)
    above = [line for line in lines if line.bottom > (1 - MARGIN) * page.height][:2]
    below = [line for line in lines if line.top < MARGIN * page.height][-2:]
    return above + [line for line in below if line not in above]


def _without_frame(page: Page, repeated: set[str]) -> list[Run]:
    left_out = {
        run
        for line in _edge_lines(page)
        if _pattern(line) in repeated or PAGE_NUMBER.fullmatch(line.text)
        for run in line.runs
    }
    # a number by itself below all text is the page's, wherever the text ends
    for line in lines_of(page.runs)[-1:]:
        if line.text.isdecimal() and line.top < page.height / 3:
            left_out.update(line.runs)
    return [run for run in page.runs if run not in left_out]


# --- Paragraphs -------------------------------------------------------------------------------


def _add_column(flow: _Flow, lines: list[Line]) -> None:
    pitch = _pitch(lines)
    left = min(line.left for line in lines)
    right = max(line.right for line in lines)
    rows = _table_rows(lines)
    flow.last = None  # the first line of a column goes on with the paragraph if its words do
    for number, line in enumerate(lines):
        words = line.text
        if LEADERS.search(words):  # a line of a table of contents
            flow.end()
            continue
        if number in rows:
            if not flow.rows:
                flow.end()
            flow.rows.append([Placed(c.left, c.right, c.text) for c in cells_of(line)])
            continue
        flow.end_table()
        if line.is_fixed and (flow.code or flow.last is None or not HYPHEN.search(words)):
            if not flow.code:
                flow.end()
            flow.code.append(line)
            continue
        flow.end_code()
        if _is_heading(line, flow.body) and len(words) < 150:
            flow.end()
            flow.builder.heading(words, _level(line.size / flow.body))
            continue
        if _begins_paragraph(flow, line, pitch, left, right):
            flow.end()
        flow.add(words)
        flow.last = line


def _letter_width(line: Line) -> float:
    return max((line.right - line.left) / max(len(line.text), 1), 1.0)


def _pitch(lines: Sequence[Line]) -> float:
    """Return the usual distance from one line to the next."""
    steps = [a.bottom - b.bottom for a, b in itertools.pairwise(lines)]
    return median(steps) if steps else 0.0


def _is_heading(line: Line, body: float) -> bool:
    return line.size > 1.15 * body and any(c.isalpha() for c in line.text)


def _level(ratio: float) -> int:
    return 2 if ratio > 1.6 else 3 if ratio > 1.3 else 4


def _begins_paragraph(flow: _Flow, line: Line, pitch: float, left: float, right: float) -> bool:
    if not flow.text:
        return True
    words = line.text
    if flow.last is None:  # after the end of a column or page
        if HYPHEN.search(flow.text[-LONGEST_WORD:]):
            return False
        ended = SENTENCE_END.search(flow.text[-LONGEST_WORD:])
        return bool(ended) or BULLET.match(words) is not None or not words[:1].isalpha()
    if BULLET.match(words):
        return True
    if HYPHEN.search(flow.text[-LONGEST_WORD:]) and words[0].islower():
        return False
    if flow.last.bottom - line.bottom > 1.3 * pitch:
        return True
    width = right - left
    indented = line.left - left > line.runs[0].height and flow.last.left - left < 2
    ended_short = flow.last.right < right - 0.25 * width and bool(
        SENTENCE_END.search(flow.text[-LONGEST_WORD:])
    )
    # a line that had room for the next word was not wrapped
    first_word = len(words.split(" ", 1)[0]) * line.size * 0.6
    had_room = flow.last.right + first_word < right - 0.3 * width
    return indented or ended_short or had_room


def _table_rows(lines: Sequence[Line]) -> set[int]:
    """Return the numbers of lines that are rows: their neighbours' cells begin where theirs do."""
    cells = [cells_of(line) for line in lines]
    rows: set[int] = set()
    for number in range(1, len(lines)):
        first, second = cells[number - 1], cells[number]
        if min(len(first), len(second)) < 2:
            continue
        if sum(_aligned(cell, first) for cell in second) >= 2:
            rows |= {number - 1, number}
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


def _aligned(cell: Line, others: Sequence[Line]) -> bool:
    """Return whether a cell begins or ends where another one does."""
    return any(
        abs(cell.left - one.left) < SAME_PLACE or abs(cell.right - one.right) < SAME_PLACE
        for one in others
    )
