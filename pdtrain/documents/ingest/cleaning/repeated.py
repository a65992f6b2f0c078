"""Find lines and sentences that stand in many documents, and take them out of passages.

Memory does not grow with the corpus: a count-min sketch of a fixed size finds what may be frequent,
and only that is counted exactly in a second pass.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from pdtrain.documents.ingest.parts import DOCUMENT, FILE
from pdtrain.documents.ingest.reading import CountTokens
from pdtrain.records import Passage, content_id

BITS = 21  # of a hash that name a cell in each of the sketch's rows
ROWS = 3


def repeated_lines(lines_twice: Iterable[Iterable[bytes]], least: int) -> set[int]:
    """Return the hashes of the lines and sentences that stand in at least `least` documents.

    Args:
        lines_twice: yields the lines of all parts, in two passes.
        least: so many documents make a line boilerplate.
    """
    first, second = lines_twice
    sketch = np.zeros((ROWS, 1 << BITS), np.uint32)
    for hashes in _of_documents(first):
        for row, cells in zip(sketch, _cells(hashes), strict=True):
            np.add.at(row, cells, 1)
    counts: Counter[int] = Counter()
    for hashes in _of_documents(second):
        rows = [row[cells] for row, cells in zip(sketch, _cells(hashes), strict=True)]
        counts.update(hashes[np.min(rows, axis=0) >= least].tolist())
    return {one for one, count in counts.items() if count >= least}


def without_repeated(
    passage: Passage, repeated: set[int], count_tokens: CountTokens
) -> Passage | None:
    """Return the passage without its repeated sentences; None if nothing is left of it.

    What stays of it keeps `start` and `end`, the place in the document that it came from.
    """
    text = passage.text
    keep = [span for span in passage.sentences if hash_of(text[slice(*span)]) not in repeated]
    if len(keep) == len(passage.sentences):
        return passage
    if not keep:
        return None
    opening = text[: passage.sentences[0][0]]  # the names of a table's columns
    pieces = [opening]
    spans: list[tuple[int, int]] = []
    length, before = len(opening), 0
    order = {tuple(span): number for number, span in enumerate(passage.sentences)}
    for span in keep:
        is_next = spans and order[tuple(span)] == before + 1
        between = text[passage.sentences[before][1] : span[0]] if is_next else "\n" if spans else ""
        piece = text[slice(*span)]
        spans.append((length + len(between), length + len(between) + len(piece)))
        pieces += [between, piece]
        length, before = spans[-1][1], order[tuple(span)]
    new = "".join(pieces)
    return replace(
        passage,
        id=content_id(passage.document_id, passage.title, passage.start, new),
        text=new,
        num_tokens=count_tokens(new),
        sentences=tuple(spans),
    )


def hash_of(sentence: str) -> int:
    """Return 64 bits that are the same for sentences that differ in case and blanks alone."""
    plain = " ".join(sentence.lower().split()).encode()
    return int.from_bytes(blake2b(plain, digest_size=8).digest(), "big")


def _of_documents(lines: Iterable[bytes]) -> Iterator[np.ndarray]:
    """Yield the different hashes of the sentences of each document."""
    found: set[int] = set()
    for line in lines:
        if line.startswith(DOCUMENT):
            yield np.fromiter(found, np.uint64, len(found))
            found = set()
        elif not line.startswith(FILE):
            passage = json.loads(line)
            found |= {hash_of(passage["text"][a:b]) for a, b in passage["sentences"]}


def _cells(hashes: np.ndarray) -> Iterator[np.ndarray]:
    for row in range(ROWS):
        yield ((hashes >> np.uint64(row * BITS)) & np.uint64((1 << BITS) - 1)).astype(np.int64)
