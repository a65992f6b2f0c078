"""Split documents into passages: whole sentences up to a token budget, without losing any text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pdtrain.documents.blocks import CELLS
from pdtrain.documents.document import Block, Document
from pdtrain.documents.language import detect_language
from pdtrain.documents.sentences.finding import Span, sentence_spans, strip_span
from pdtrain.records import Passage, content_id

Count = Callable[[str], int]

# how far from the ideal length a passage may end for a better border, as a part of that length
PARAGRAPH_WORTH = 0.05
HEADING_WORTH = 0.1
LONGEST_TOKEN = 64  # characters: a longer text is halved without counting its tokens
# characters a token, more than any text has on average: of what is longer than that, the beginning
# alone is counted first, and where it has clearly too many tokens, so has the whole
LOOSE = 8
CLEARLY = 1.5
BLANK = re.compile(r"\s")


@dataclass(frozen=True)
class _Piece:
    """Hold a part that no border of passages goes through: a sentence, lines of code, rows."""

    span: Span
    tokens: int
    block: Block
    opens_block: bool


def split_document(
    document: Document, max_tokens: int, count_tokens: Count, overlap_tokens: int = 0
) -> list[Passage]:
    """Split a document into passages that are about equally long and end where the text does.

    No passage has more than `max_tokens` tokens. A sentence, a line of code or a row of a table
    that is longer by itself is split between words, or inside a word where it has no blanks. A
    passage that begins inside a table repeats the rows that name its columns. Together the
    passages hold every non-blank character of the document, exactly once where nothing overlaps.

    Args:
        document: the document.
        max_tokens: the budget of a passage.
        count_tokens: returns the number of tokens of a text.
        overlap_tokens: a passage begins with the last sentences of the one before, up to so many.
    """
    pieces = list(_pieces(document, max_tokens, count_tokens))
    tables = _Headers(document, max_tokens, count_tokens)
    passages: list[Passage] = []
    left = sum(piece.tokens for piece in pieces)
    first = 0
    while first < len(pieces):
        begin = _overlap_start(pieces, first, min(overlap_tokens, max_tokens // 2))
        room = max_tokens - sum(piece.tokens for piece in pieces[begin:first])
        room -= tables.tokens(pieces[begin])
        # the same for every passage: filled to the brim one by one, the last would often be a stub
        target = left / max(1, -(-left // max(1, room)))
        end = _end(pieces, first, target, room)
        section = pieces[first].block.section  # not that of the sentences before, which it repeats
        header = tables.header(pieces[begin])
        passage = _passage(document, pieces[begin:end], header, section, count_tokens)
        while passage.num_tokens > max_tokens and (end - first > 1 or begin < first):
            end, begin = (end - 1, begin) if end - first > 1 else (end, begin + 1)
            header = tables.header(pieces[begin])
            passage = _passage(document, pieces[begin:end], header, section, count_tokens)
        if passage.num_tokens > max_tokens:  # a row that fits alone, and not with the header
            passage = _passage(document, pieces[begin:end], "", section, count_tokens)
        passages.append(passage)
        left -= sum(piece.tokens for piece in pieces[first:end])
        first = end
    return passages


def _overlap_start(pieces: Sequence[_Piece], first: int, tokens: int) -> int:
    begin, held = first, 0
    while begin > 0 and held + pieces[begin - 1].tokens <= tokens:
        begin -= 1
        held += pieces[begin].tokens
    return begin


def _end(pieces: Sequence[_Piece], first: int, target: float, room: int) -> int:
    """Return where to end a passage that begins at a piece: the best border near its ideal length.

    Args:
        pieces: those of the document.
        first: the passage's first piece.
        target: tokens that it ideally has.
        room: tokens that it has at most.
    """
    best, least = first + 1, float("inf")
    held = 0
    for number in range(first, len(pieces)):
        held += pieces[number].tokens
        if held > room and number > first:
            break
        cost = abs(held - target) / target + _cost(pieces, number + 1)
        if cost <= least:
            best, least = number + 1, cost
    return best


def _cost(pieces: Sequence[_Piece], border: int) -> float:
    """Return what it costs to end a passage before a piece, in parts of its ideal length."""
    if border == len(pieces):
        return 0.0
    if pieces[border - 1].block.kind == "heading":
        return 1.0  # a heading is not left alone at the end
    if pieces[border].block.kind == "heading":
        return 0.0
    if pieces[border].opens_block:
        return HEADING_WORTH - PARAGRAPH_WORTH
    return HEADING_WORTH


def _passage(
    document: Document,
    pieces: Sequence[_Piece],
    header: str,
    section: tuple[str, ...],
    count_tokens: Count,
) -> Passage:
    start, end = pieces[0].span[0], pieces[-1].span[1]
    text = header + document.text[start:end]
    is_counted = len(pieces) == 1 and not header
    return Passage(
        id=content_id(document.id, document.title, start, text, *([section] if section else [])),
        document_id=document.id,
        title=document.title,
        text=text,
        start=start,
        end=end,
        num_tokens=pieces[0].tokens if is_counted else count_tokens(text),
        sentences=tuple(
            (a - start + len(header), b - start + len(header)) for a, b in (p.span for p in pieces)
        ),
        section=section,
    )


class _Headers:
    """Give the header of a table to a passage that begins below it."""

    def __init__(self, document: Document, max_tokens: int, count_tokens: Count) -> None:
        self._text = document.text
        self._longest = max_tokens // 4  # a longer header is not repeated
        self._count = count_tokens
        self._known: dict[int, tuple[str, int]] = {}  # by the table's start

    def header(self, piece: _Piece) -> str:
        """Return the lines to repeat before a piece, with a line break, or nothing."""
        return self._header_and_tokens(piece)[0]

    def tokens(self, piece: _Piece) -> int:
        """Return how many tokens the repeated lines take."""
        return self._header_and_tokens(piece)[1]

    def _header_and_tokens(self, piece: _Piece) -> tuple[str, int]:
        block = piece.block
        if not block.header:
            return "", 0
        if block.start not in self._known:
            lines = self._text[block.start : block.end].split("\n", block.header)
            header = "".join(line + "\n" for line in lines[: block.header])
            tokens = self._count(header)
            self._known[block.start] = (header, tokens) if tokens <= self._longest else ("", 0)
        header, tokens = self._known[block.start]
        return (header, tokens) if piece.span[0] >= block.start + len(header) else ("", 0)


# --- Pieces ---------------------------------------------------------------------------------------


def _pieces(document: Document, max_tokens: int, count_tokens: Count) -> Iterator[_Piece]:
    text = document.text
    blocks = document.blocks or [
        Block(*line.span()) for line in re.finditer(r"[^\n]+", text) if line.group().strip()
    ]
    prose = (text[b.start : b.end] for b in blocks if b.kind == "prose")
    language = detect_language(_sample(prose), least_probability=0.5)
    for block in blocks:
        opens = True
        for span in _units(text, block, language):
            for piece, tokens in _fit(text, span, block.kind, max_tokens, count_tokens):
                yield _Piece(piece, tokens, block, opens)
                opens = False


def _sample(texts: Iterator[str]) -> str:
    held: list[str] = []
    for text in texts:
        held.append(text)
        if sum(map(len, held)) > 2000:
            break
    return " ".join(held)


def _units(text: str, block: Block, language: str) -> list[Span]:
    """Return the spans of a block's sentences or rows; code is one unit as long as it fits."""
    if block.kind == "code":
        return [(block.start, block.end)]
    part = text[block.start : block.end]
    if block.kind == "table":
        lines = [line.span() for line in re.finditer(r"[^\n]+", part)]
        spans = [strip_span(part, line) for line in lines]
    else:
        spans = sentence_spans(part, language)
    return [(a + block.start, b + block.start) for a, b in spans if a < b]


def _fit(
    text: str, span: Span, kind: str, max_tokens: int, count_tokens: Count
) -> Iterator[tuple[Span, int]]:
    """Halve a span at the best border nearest its middle until every part fits the budget."""
    open_spans = [span]
    while open_spans:
        start, end = open_spans.pop()
        if end - start < 2 or _may_fit(text[start:end], max_tokens, count_tokens):
            tokens = count_tokens(text[start:end])
            if tokens <= max_tokens or end - start < 2:
                yield (start, end), tokens
                continue
        border = _middle(text, (start, end), kind)
        strip = _strip_lines if kind == "code" and text[border] == "\n" else strip_span
        parts = strip(text, (start, border)), strip(text, (border, end))
        open_spans += [part for part in reversed(parts) if part[0] < part[1]]


def _may_fit(text: str, max_tokens: int, count_tokens: Count) -> bool:
    """Tell whether it is worth counting all tokens of a text."""
    if len(text) > LONGEST_TOKEN * max_tokens:
        return False
    beginning = LOOSE * max_tokens
    return len(text) <= 2 * beginning or count_tokens(text[:beginning]) <= CLEARLY * max_tokens


def _strip_lines(text: str, span: Span) -> Span:
    """Return the span without empty lines at its ends; the first line keeps its indentation."""
    piece = text[span[0] : span[1]]
    filled = len(piece) - len(piece.lstrip())
    start = piece.rfind("\n", 0, filled) + 1
    return span[0] + start, span[0] + max(start, len(piece.rstrip()))


def _middle(text: str, span: Span, kind: str) -> int:
    """Return the border to split a span at: a line's or a cell's end, a blank, or its middle."""
    start, end = span
    middle = (start + end) // 2
    for border in {"code": ("\n\n", "\n"), "table": (CELLS,)}.get(kind, ()):
        reach = (end - start) // (4 if border == "\n\n" else 1)
        before = text.rfind(border, max(start + 1, middle - reach), middle + 1)
        after = text.find(border, middle, min(end - 1, middle + reach))
        if found := [place for place in (before, after) if place > start]:
            return min(found, key=lambda place: abs(place - middle))
    blank = BLANK.search(text, middle, end - 1)
    places = [max(text.rfind(mark, start + 1, middle) for mark in " \t\n\xa0\u3000")]
    places += [blank.start()] if blank else []
    found = [place for place in places if place > start]
    return min(found, key=lambda place: abs(place - middle), default=middle)
