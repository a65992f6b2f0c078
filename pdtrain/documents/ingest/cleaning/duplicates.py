"""Find documents and passages that say nothing new: equal ones, and nearly equal ones by MinHash.

Texts become sets of word shingles. A library computes their MinHash signatures; bands of these are
sorted to find candidates (locality-sensitive hashing), and a candidate counts where the signatures
agree often enough. The first of similar texts is kept. Time is n log n in the number of texts, and
memory a few numbers a text: signatures lie in a file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from pdtrain.errors import how_to_install

NUM_HASHES = 128  # the standard error of an estimated similarity is at most 0.045
ROW_BYTES = 4 * NUM_HASHES  # of a signature
BANDS = 16  # of 8 hashes: a pair of similarity 0.8 is a candidate with probability 0.95
WORDS_A_SHINGLE = 5
CHARACTERS_A_SHINGLE = 8  # of texts whose words are not separated by blanks
LONG_WORD = 15  # on average; then blanks do not separate words
NO_BLANKS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]+"
)  # letters of scripts that put none between words


def shingles(text: str) -> list[str]:
    """Return the overlapping runs of words of a text, without case and punctuation.

    Where blanks do not separate words, they are runs of letters.
    """
    words = re.findall(r"\w+", text.lower())
    length = sum(map(len, words))
    if words and (length > LONG_WORD * len(words) or _is_without_blanks(text, length)):
        joined, size = "".join(words), CHARACTERS_A_SHINGLE
        return [joined[i : i + size] for i in range(max(1, len(joined) - size + 1))]
    size = WORDS_A_SHINGLE
    return [" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))]


def _is_without_blanks(text: str, num_letters: int) -> bool:
    """Return whether most letters are of scripts whose clauses would count as words."""
    return not text.isascii() and 2 * sum(map(len, NO_BLANKS.findall(text))) > num_letters


def signature_of(text: str) -> str:
    """Return the MinHash signature of a text, in base 64.

    Raises:
        ValueError: the library is not installed.
    """
    hasher = _hasher()(NUM_HASHES, 0)
    hasher.update(shingles(text))
    return base64.b64encode(np.array(hasher.digest(), "<u4").tobytes()).decode()


@cache
def _hasher() -> Any:
    try:
        from rensa import RMinHash
    except ImportError:
        raise ValueError(
            f"corpus.duplicates=near needs an extra: {how_to_install('filters')}"
        ) from None
    return RMinHash


def signature_bytes(signature: str) -> bytes:
    """Return the bytes of a signature, as the rows of `near_duplicates` hold them."""
    return base64.b64decode(signature)


def equal_to_earlier(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return for each hash the index of the first equal one before it, and -1 where there is none.

    The hash 0 stands for a text that is not compared.
    """
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    earliest = first[inverse].astype(np.int64)
    own = np.arange(len(hashes), dtype=np.int64)
    return np.where((earliest == own) | (hashes == 0), -1, earliest)


def near_duplicates(
    signatures_NH: NDArray[np.uint32], alike: float, is_out: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return for each text the index of a similar one that is kept before it, and -1 for none.

    Args:
        signatures_NH: one row a text, of `NUM_HASHES` numbers; may lie in a file.
        alike: the share of equal hashes from which two texts are similar.
        is_out: texts that were left out already and are not compared.
    """
    neighbours: dict[int, set[int]] = {}
    for left, right in _candidates(signatures_NH, is_out):
        agree = (signatures_NH[left] == signatures_NH[right]).mean(axis=1)
        for a, b in zip(left[agree >= alike], right[agree >= alike], strict=True):
            neighbours.setdefault(int(b), set()).add(int(a))
    kept_before = np.full(len(signatures_NH), -1, np.int64)
    for text in sorted(neighbours):
        kept = [other for other in neighbours[text] if kept_before[other] < 0]
        if kept:
            kept_before[text] = min(kept)
    return kept_before


def _candidates(
    signatures_NH: NDArray[np.uint32], is_out: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of texts, the earlier one first, that agree in a whole band.

    Of many texts with one band, each is paired with the first and with the one before it: all pairs
    would be quadratic.
    """
    width = signatures_NH.shape[1] // BANDS
    texts = np.flatnonzero(~is_out)
    for band in range(BANDS):
        columns = np.ascontiguousarray(signatures_NH[texts, band * width : (band + 1) * width])
        keys = columns.view([("", columns.dtype)] * width).ravel()
        _, inverse = np.unique(keys, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        group = inverse[order]
        same = np.flatnonzero(group[1:] == group[:-1]) + 1
        begins = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        first_of = begins[np.searchsorted(begins, same, side="right") - 1]
        right = texts[order[same]]
        for left in (texts[order[first_of]], texts[order[same - 1]]):
            for start in range(0, len(right), 65536):
                piece = slice(start, start + 65536)
                yield left[piece].astype(np.int64), right[piece].astype(np.int64)
