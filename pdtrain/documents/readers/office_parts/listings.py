"""Find the listings of a Word document, where only the font of their lines tells of them."""

from __future__ import annotations

import itertools
import re
from typing import Any

FIXED = re.compile(r"mono|courier|consol|typewriter|menlo|fixed", re.IGNORECASE)
STYLE = "Source Code"  # which the style map makes a listing of
MOST_FIXED = 0.5  # of a document's characters: with more, it is written on a typewriter


def with_listings(document: Any) -> Any:
    """Return a document of mammoth's whose paragraphs in fixed fonts are lines of listings."""
    from mammoth import documents, transforms

    paragraphs = transforms.get_descendants_of_type(document, documents.Paragraph)
    lengths = {id(one): _lengths(one) for one in paragraphs}
    fixed = sum(fixed for fixed, rest in lengths.values() if not rest)
    if not fixed or fixed > MOST_FIXED * sum(map(sum, lengths.values())):
        return document

    def is_line(element: Any) -> bool:
        found, rest = lengths.get(id(element), (0, 1))
        is_plain = isinstance(element, documents.Paragraph) and element.numbering is None
        return bool(found and not rest) and is_plain

    def changed(element: Any) -> Any:
        if not isinstance(element, documents.HasChildren):
            return element
        children = list(element.children)
        lines = [number for number, child in enumerate(children) if is_line(child)]
        for first, second in [*itertools.pairwise(lines)]:  # empty lines inside a listing
            between = children[first + 1 : second]
            if all(lengths.get(id(one)) == (0, 0) for one in between):
                lines += range(first + 1, second)
        listed = {number: children[number].copy(style_name=STYLE) for number in lines}
        return element.copy(
            children=[listed.get(n) or changed(child) for n, child in enumerate(children)]
        )

    return changed(document)


def _lengths(paragraph: Any) -> tuple[int, int]:
    """Return how many characters of a paragraph are in a fixed font, and how many are not."""
    from mammoth import documents, transforms

    fixed = rest = 0
    for run in transforms.get_descendants_of_type(paragraph, documents.Run):
        texts = transforms.get_descendants_of_type(run, documents.Text)
        length = sum(len(text.value.strip()) for text in texts)
        if FIXED.search(run.font or ""):
            fixed += length
        else:
            rest += length
    return fixed, rest
