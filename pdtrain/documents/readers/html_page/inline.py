"""Write what stands inside a paragraph of a page as plain text: raised digits, formulas, quotes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pdtrain.documents.encoding.characters import on_one_line
from pdtrain.documents.readers.html_page.formulas import mathml
from pdtrain.documents.readers.html_page.parts import (
    BLOCKS,
    is_boilerplate,
    is_hidden,
    is_line_number,
)

if TYPE_CHECKING:
    from lxml.etree import _Element

ORDINAL = re.compile(r"(?:st|nd|rd|th|er|re|e|ère|ème|o|a|ª|º|TM|SM|®|™)\.?", re.IGNORECASE)
NOTE = re.compile(r"\[?(?:\d{1,3}|[a-z]|\*+|†|‡)\]?")
POWER = re.compile(r"[+−-]?[\w.]+")
ELEMENT = re.compile(r"(?:[A-Z][a-z]?|[)\]])$")  # of chemistry, before its number
BORDER = "\v"  # of a block: a blank that stays, whatever line breaks the page has beside it
LETTERS = re.compile(r"[^\W\d_]{3}$|[.,;:!?”’»]$")


class InlineText:
    """Collect the text of a paragraph from the elements that it is made of."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def text(self, text: str | None) -> None:
        """Add text as it stands in the page."""
        if text:
            self._parts.append(text)

    def take(self) -> str:
        """Return the text so far, and begin anew."""
        text = "".join(self._parts)
        self._parts.clear()
        return text

    def take_line(self) -> str:
        """Return the text so far on one line, and begin anew."""
        return on_one_line(self.take())

    def begin(self, element: _Element) -> None:
        """Add what stands before an element's content, and its first text."""
        if element.tag == "q":
            self._parts.append("“")
        self.text(element.text)

    def end(self, element: _Element) -> None:
        """Add what stands after an element's content."""
        if element.tag == "q":
            self._parts.append("”")

    def add_whole(self, element: _Element) -> bool:
        """Add an element that is read as a whole, and return whether it was one."""
        if element.tag == "math":
            formula = _formula(element)
            if formula[:1].isdigit() and self._last()[-1:].isdigit():  # 2 and ½ are not 21/2
                self._parts.append(" ")
            self._parts.append(formula)
        elif element.tag in ("sup", "sub"):
            inner = InlineText()
            inner.add_all(element)
            words = inner.take_line()
            before = self._last()
            linked = next(element.iter("a"), None) is not None
            raised = _raised if element.tag == "sup" else _lowered
            self._parts.append(raised(words, before, linked))
        else:
            return False
        return True

    def add_all(self, root: _Element) -> None:
        """Add all text below an element; blocks in it are parted by a blank."""
        from lxml import etree

        events = etree.iterwalk(root, events=("start", "end"))
        skipped: _Element | None = None
        for event, element in events:
            if element is not root and element.tag in BLOCKS:
                self._parts.append(BORDER)
            if event == "start":
                if element is not root and (_is_left_out(element) or self.add_whole(element)):
                    skipped = element
                    events.skip_subtree()
                else:
                    self.begin(element)
                continue
            if element is not skipped:
                self.end(element)
            skipped = None
            if element is not root:
                self.text(element.tail)

    def _last(self) -> str:
        """Return the last few characters, or none after a blank."""
        return "".join(self._parts[-3:])[-20:]


def _raised(words: str, before: str, linked: bool) -> str:
    """Return raised text so that no number runs into the one before: 2^10, m^2, 5th, word[1]."""
    if not words or ORDINAL.fullmatch(words):
        return words
    if not before or before[-1].isspace():
        return words
    if linked or (NOTE.fullmatch(words) and LETTERS.search(before)):
        return words if words.startswith(("[", "(")) else f"[{words}]"
    return f"^{words}" if POWER.fullmatch(words) else f"^({words})"


def _lowered(words: str, before: str, linked: bool) -> str:
    """Return lowered text: H2O, but x_i and log_2."""
    if not words or not before or before[-1].isspace():
        return words
    if words.isdigit() and ELEMENT.search(before) and not re.search(r"[a-z]{2}$", before):
        return words
    return f"_{words}" if POWER.fullmatch(words) else f"_({words})"


def _formula(element: _Element) -> str:
    """Return the TeX of a formula where the page holds it, or else what its elements say."""
    for note in element.iter("{*}annotation", "annotation"):
        if "tex" in (note.get("encoding") or "").lower() and note.text:
            return f" {note.text.strip()} "
    if spoken := element.get("alttext"):
        return f" {spoken.strip()} "
    return mathml(element)


def preformatted(element: _Element) -> str:
    """Return the lines of a listing, without the numbers that some pages put before them.

    Outside a `pre`, blanks between the elements of lines are no text.
    """
    from lxml import etree

    keeps_all = element.tag not in ("div", "td", "th")
    parts: list[str] = []
    events = etree.iterwalk(element, events=("start", "end"))
    skipped: _Element | None = None
    for event, inner in events:
        lines = inner.tag in ("div", "p", "li", "tr") and inner is not element
        left_out = inner is not element and (_is_left_out(inner) or is_line_number(inner))
        if event == "start" and left_out:
            skipped = inner
            events.skip_subtree()
        elif event == "start":
            before = inner.getprevious()
            if inner.tag == "br":
                parts.append("\n")
            elif inner.tag == "code" and before is not None and before.tag == "code":
                if not before.tail:  # two versions of a listing, of which a browser shows one
                    _break_line(parts)
            elif lines:
                _break_line(parts)
            parts.append(inner.text or "")
        else:
            if lines and inner is not skipped:
                _break_line(parts)
            skipped = None
            between = lines and not keeps_all and not (inner.tail or "").strip()
            if inner is not element and not between:
                parts.append(inner.tail or "")
    return "".join(parts)


def _is_left_out(element: _Element) -> bool:
    return is_hidden(element) or is_boilerplate(element, by_class=True)


def _break_line(parts: list[str]) -> None:
    last = next((part for part in reversed(parts) if part), "\n")
    if not last.endswith("\n"):
        parts.append("\n")
