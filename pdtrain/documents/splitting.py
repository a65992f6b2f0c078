"""Split documents into passages: whole sentences up to a token budget, without losing any text."""

from __future__ import annotations

import re
from collections.abc import Callable

from pdtrain.documents.document import Document
from pdtrain.documents.sentences import Span, sentence_spans, strip_span
from pdtrain.records import Passage, content_id


def split_document(
    document: Document, max_tokens: int, count_tokens: Callable[[str], int]
) -> list[Passage]:
    """Split a document into passages of whole sentences that are about equally long.

    No passage has more than `max_tokens` tokens; a sentence that is longer is split between words,
    or inside a word where it has no blanks. Together the passages hold every non-blank character
    of the document exactly once.
    """
    pieces = [
        (piece, count_tokens(document.text[slice(*piece)]))
        for sentence in sentence_spans(document.text)
        for piece in _fit(document.text, sentence, max_tokens, count_tokens)
    ]
    groups: list[list[Span]] = []
    total = sum(tokens for _, tokens in pieces)
    # the same for every passage: filled to the brim one by one, the last would often be a stub
    target = total / max(1, -(-total // max_tokens))
    held = 0
    for piece, tokens in pieces:
        joined = groups and document.text[groups[-1][0][0] : piece[1]]
        if not joined or held + tokens / 2 > target or count_tokens(joined) > max_tokens:
            groups.append([])
            held = 0
        groups[-1].append(piece)
        held += tokens
    return [_passage(document, group, count_tokens) for group in groups]


def _passage(document: Document, pieces: list[Span], count_tokens: Callable[[str], int]) -> Passage:
    start, end = pieces[0][0], pieces[-1][1]
    text = document.text[start:end]
    return Passage(
        id=content_id(document.id, document.title, start, text),
        document_id=document.id,
        title=document.title,
        text=text,
        start=start,
        end=end,
        num_tokens=count_tokens(text),
        sentences=tuple((a - start, b - start) for a, b in pieces),
    )


def _fit(text: str, span: Span, max_tokens: int, count_tokens: Callable[[str], int]) -> list[Span]:
    """Halve a span at the blank nearest its middle until every part fits the budget."""
    start, end = span
    if count_tokens(text[start:end]) <= max_tokens or end - start < 2:
        return [span]
    border = middle = (start + end) // 2
    blanks = [start + 1 + match.start() for match in re.finditer(r"\s", text[start + 1 : end - 1])]
    if blanks:
        border = min(blanks, key=lambda blank: abs(blank - middle))
    left, right = strip_span(text, (start, border)), strip_span(text, (border, end))
    return [
        *_fit(text, left, max_tokens, count_tokens),
        *_fit(text, right, max_tokens, count_tokens),
    ]
