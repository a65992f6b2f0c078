"""Find the borders of sentences."""

from __future__ import annotations

import re

Span = tuple[int, int]  # characters of a text, from the first to before the second

# a full stop after these does not end a sentence
ABBREVIATIONS = frozenset(
    (
        "mr mrs ms dr prof st sr jr vs etc e.g i.e no fig vol ca approx dept est inc ltd co corp "
        "jan feb mar apr jun jul aug sep sept oct nov dec gen col lt sgt capt rev hon gov sen rep"
    ).split()
)
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]*[A-Z0-9À-ÞͰ-ϿЀ-ӿ])|[。！？]")


def sentence_spans(text: str) -> list[Span]:
    """Return the spans of the sentences of a text, without the blanks between them.

    A line break always ends a sentence. The rules are for prose in scripts that have capital
    letters, and for full-width full stops. A wrong border moves the borders of passages a little;
    it never loses text.
    """
    spans: list[Span] = []
    for line in re.finditer(r"[^\n]+", text):
        start = line.start()
        for match in SENTENCE_END.finditer(text, line.start(), line.end()):
            word = text[start : match.start()].rsplit(None, 1)[-1:] or [""]
            bare = word[0].lstrip("\"'“‘([").lower()
            is_initial = len(bare) == 1 and bare.isalpha() and match.group().startswith(".")
            if match.group().startswith(".") and (bare in ABBREVIATIONS or is_initial):
                continue
            spans.append((start, match.end()))
            start = match.end()
        spans.append((start, line.end()))
    stripped = (strip_span(text, span) for span in spans)
    return [span for span in stripped if span[0] < span[1]]


def strip_span(text: str, span: Span) -> Span:
    """Return the span without the blanks at its ends."""
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())
