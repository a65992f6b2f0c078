"""Join the lines of pages to paragraphs, tables and headings, without what repeats on pages."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.grid import Placed, in_columns
from pdtrain.documents.own_lines import BULLET
from pdtrain.documents.plain import HYPHEN, LONGEST_WORD, keeps_hyphen
from pdtrain.documents.readers.pdf_page.frame import with_repeated, without_frame
from pdtrain.documents.readers.pdf_page.layout import Page, columns
from pdtrain.documents.readers.pdf_page.lines import MARK, Line, cells_of, lines_of, with_initials
from pdtrain.documents.readers.pdf_page.rows import table_rows, whole_rows

MOST_EMPTY = 2  # lines of code between two others
SENTENCE_END = re.compile(r"[.!?…:。！？؟।][\"'”’»)\]]*$")
# from the first dot of a row alone: from each of them, a long row would take its square in time
LEADERS = re.compile(r"(?<!\.)(?<!\. )(?:\. ?){4,}\s*(?:\d{1,4}|[ivxlc]+)?$|^(?:\. ?){4,}")


@dataclass
class _Flow:
    """Hold the paragraph that lines are added to."""

    builder: BlockBuilder
    body: float  # the usual size of the letters
    words: Counter[str]  # of the whole file: they tell how a word is spelled that a line end cuts
    text: str = ""
    last: Line | None = None
    rows: list[list[Placed]] = field(default_factory=list)
    heights: list[float] = field(default_factory=list)  # at which those lines stand
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
            self.builder.table(whole_rows(in_columns(self.rows), self.heights))
            self.rows, self.heights = [], []

    def end_code(self) -> None:
        """Write the lines of code that are open, indented as on the page."""
        if self.code:
            width = min(_letter_width(line) for line in self.code)
            left = min(line.left for line in self.code)
            steps = [a.bottom - b.bottom for a, b in itertools.pairwise(self.code)]
            pitch = min((step for step in steps if step > self.code[0].size / 2), default=1.0)
            text = ""
            for line, step in zip(self.code, [0.0, *steps], strict=True):
                breaks = "\n" * min(max(round(step / pitch), 1), MOST_EMPTY + 1) if text else ""
                text += f"{breaks}{' ' * round((line.left - left) / width)}{line.text}"
            self.builder.code(text)
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
    kept = [without_frame(page, repeated) for page, repeated in with_repeated(pages)]
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
        for lines in columns(with_initials(runs, words)):
            _add_column(flow, lines)
    flow.end()


def _without_last_word(text: str) -> str:
    """Return a line without its last word, which the line's end may have cut."""
    return text if text[-1:].isspace() else text.removesuffix((text.split() or [""])[-1])


def _add_column(flow: _Flow, lines: list[Line]) -> None:
    pitch = _pitch(lines)
    left = min(line.left for line in lines)
    right = max(line.right for line in lines)
    rows = table_rows(lines)
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
            flow.heights.append(line.bottom)
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
    if BULLET.match(words) or (line.runs[1:] and MARK.fullmatch(line.runs[0].text.strip())):
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
