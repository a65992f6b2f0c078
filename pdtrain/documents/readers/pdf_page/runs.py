"""Take from a page of a PDF its runs: pieces of lines in one font, with the letters they draw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ctypes import byref, c_int, c_void_p, cast, create_string_buffer
from dataclasses import replace
from math import pi
from typing import Any

from pdtrain.documents.document import Unreadable
from pdtrain.documents.readers.pdf_page.lines import SLANTED, Run

HYPHENS = re.compile(
    r"(?<![\x02\ufffe])[\x02\ufffe]+(?=\s*$)"
)  # as the library marks those at a line's end
BULLETS = re.compile(
    "[\uf02d\uf06e\uf076\uf0a7\uf0a8\uf0b7\uf0d8\uf0fc]"
)  # of Word's fonts of signs
FIXED_PITCH = 1  # PDF's flag of such a font
FIXED_NAMES = re.compile(rb"mono|courier|consol|typewriter|cmtt|menlo", re.IGNORECASE)
MOST_RUNS = 100_000  # pieces of text on a page
MOST_SLANT = 0.2  # radians between a line and the nearest side of the page
NEAR = 0.6  # of a letter's height: a wider gap inside a word is none


def runs_of(page: Any) -> Iterator[Run]:
    """Yield the runs of text on a page, upright and slanted ones too.

    Letters that are drawn one by one are one run where the library sees no gap between them.

    Raises:
        Unreadable: there are more than any page of a document has.
    """
    text_page = page.get_textpage()
    if (count := text_page.count_rects()) > MOST_RUNS:
        raise Unreadable("too large", f"a page has {count} pieces of text, at most {MOST_RUNS}")
    before: Run | None = None
    for run, goes_on in _pieces(text_page, count):
        if before is not None and goes_on and _is_near(before, run):
            before = replace(before, right=run.right, text=before.text + run.text)
            continue
        if before is not None:
            yield before
        before = run
    if before is not None:
        yield before
    text_page.close()


def _pieces(text_page: Any, count: int) -> Iterator[tuple[Run, bool]]:
    """Yield what each element of a page draws, and whether it goes on with the word before."""
    from pypdfium2 import raw

    whole = text_page.get_text_range() if count else ""
    ranges = _ranges(text_page)
    # a page whose letters cannot be counted is asked for those that its boxes touch
    is_exact = len(ranges) == count and len(whole) == text_page.count_chars()
    end = -1
    for number in range(count):
        left, bottom, right, top = text_page.get_rect(number)
        if is_exact:
            start, last = ranges[number]
            following = ranges[number + 1][0] if number + 1 < count else len(whole)
            goes_on, end = start == end + 1, last
            blank = " " if whole[last + 1 : following].startswith(" ") else ""
            text = whole[start : last + 1] + blank
            index = start + len(text) - len(text.lstrip())
            if start < index <= last:  # how far code is indented
                left = text_page.get_charbox(index)[0]
        else:
            goes_on, text = False, text_page.get_text_bounded(left, bottom, right, top)
            index = raw.FPDFText_GetCharIndexAtPos(text_page, left + 1, (bottom + top) / 2, 5, 5)
        text = HYPHENS.sub("\u00ad", text.replace("\r", " ").replace("\n", " "))
        text = BULLETS.sub("•", re.sub(r"[\x02\ufffe]", "-", text))
        if not text.strip():
            end = -1
            continue
        size = raw.FPDFText_GetFontSize(text_page, index) if index >= 0 else 0.0
        turn = _turn(raw.FPDFText_GetCharAngle(text_page, max(index, 0)))
        if turn in (1, -1) and not (right - left < (top - bottom) / 3 and len(text.strip()) > 2):
            turn = 0
        height = right - left if turn in (1, -1) else top - bottom
        size = size if 2 < size < 200 else height
        yield Run(left, bottom, right, top, text, size, _is_fixed(text_page, index), turn), goes_on


def _ranges(text_page: Any) -> list[tuple[int, int]]:
    """Return the first and the last letter of what each element of the page draws."""
    from pypdfium2 import raw

    found: list[tuple[int, int]] = []
    last = None
    for index in range(text_page.count_chars()):
        if raw.FPDFText_IsGenerated(text_page, index) == 1:  # a blank that stands in no element
            continue
        element = cast(raw.FPDFText_GetTextObject(text_page, index), c_void_p).value
        if element == last and found:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
        last = element
    return found


def _turn(angle: float) -> int:
    """Return how a line is turned that runs at an angle, as `Run` has it."""
    quarters = angle / (pi / 2)
    if abs(quarters - round(quarters)) * (pi / 2) > MOST_SLANT:
        return SLANTED
    return (0, -1, 2, 1)[round(quarters) % 4]


def _is_near(before: Run, run: Run) -> bool:
    """Return whether a run stands where the word goes on that the one before has begun."""
    overlap = min(before.top, run.top) - max(before.bottom, run.bottom)
    is_alike = abs(before.size - run.size) < 0.1 * before.size and before.is_fixed == run.is_fixed
    is_beside = -NEAR < (run.left - before.right) / before.size < NEAR
    lies = not before.turn and not run.turn and overlap > 0
    return lies and is_alike and is_beside and not before.text.endswith((" ", "\u00ad"))


def _is_fixed(text_page: Any, index: int) -> bool:
    """Return whether a letter's font gives every letter the same width, as in listings of code."""
    from pypdfium2 import raw

    name, flags = create_string_buffer(128), c_int()
    raw.FPDFText_GetFontInfo(text_page, index, name, 128, byref(flags))
    return bool(flags.value & FIXED_PITCH) or bool(FIXED_NAMES.search(name.value))
