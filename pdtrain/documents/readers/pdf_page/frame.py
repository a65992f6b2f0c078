"""Leave out what stands around the text of pages: running headers, page numbers, line numbers."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pdtrain.documents.readers.pdf_page.layout import Page
from pdtrain.documents.readers.pdf_page.lines import Line, Run, lines_of

MARGIN = 0.12  # of a page's height: running headers and page numbers stand above or below
PAGE_NUMBER = re.compile(
    r"[\W_]*(?:(?:page|seite|p\.|стр\.|页|第)\s*)?(?:\d{1,4}|[ivxlc]{1,7})"
    r"(?:\s*(?:of|von|de|di|из|/|\|)\s*\d{1,4})?[\W_]*(?:页)?",
    re.IGNORECASE,
)
LEAST_NUMBERED = 5  # lines of a page whose lines are numbered
LEAST_WRAPPED = 0.3  # of them go on in small letters, which no rows of a table do


def with_repeated(pages: Sequence[Page]) -> Iterator[tuple[Page, set[str]]]:
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


def without_frame(page: Page, repeated: set[str]) -> list[Run]:
    """Return the runs of a page without its running headers, page number and line numbers.

    Args:
        repeated: patterns of lines at the edge of several pages, as `with_repeated` yields them.
    """
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
    return _without_line_numbers([run for run in page.runs if run not in left_out])


def _without_line_numbers(runs: list[Run]) -> list[Run]:
    """Return the runs of a page without the numbers at the left margin that count its lines."""
    lines = [line for line in lines_of(runs) if len(line.runs) > 1]
    found = [_number(line) for line in lines]
    numbered = [line for line, one in zip(lines, found, strict=True) if one is not None]
    if len(numbered) < LEAST_NUMBERED:
        return runs
    numbers = [one for one in found if one is not None]
    steps = {second - first for first, second in itertools.pairwise(numbers)}
    edge = max(line.runs[0].right for line in numbered)
    counts_lines = steps in ({1}, {5}) and all(
        edge < run.left
        for line, one in zip(lines, found, strict=True)
        for run in line.runs[one is not None :]
    )
    texts = [line.runs[1].text.lstrip() for line in numbered]
    wrapped = sum(text[:1].islower() for text in texts[1:])
    if not counts_lines or wrapped < LEAST_WRAPPED * len(texts):
        return runs
    left_out = {line.runs[0] for line in numbered}
    return [run for run in runs if run not in left_out]


def _number(line: Line) -> int | None:
    """Return the number that a line begins with, apart from what follows; None for none."""
    first, second = line.runs[:2]
    text = first.text.strip()
    is_apart = second.left - first.right > 0.5 * second.height
    return int(text) if text.isdecimal() and len(text) < 5 and is_apart else None
