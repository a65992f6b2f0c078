"""Recall and precision of `corpus.duplicates=near` on planted documents, and its time by number.

    python benchmarks/near_duplicates.py --documents 10000 --times 10000 20000 40000

Of the documents a tenth are edited copies of others: words are replaced, sentences are left out or
added, so that all degrees of likeness occur. A tenth share half of their text with another one, and
all begin and end with the same two sentences. The truth is the share of common runs of five words
(Jaccard similarity), counted exactly for every planted pair and for every pair that was found.
"Alike" are pairs from `corpus.near_duplicate` = 0.8 on. Time is that of the signatures and of their
comparison, on one core.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from itertools import accumulate, pairwise

import numpy as np

from pdtrain.documents.ingest.cleaning.duplicates import (
    NUM_HASHES,
    near_duplicates,
    shingles,
    signature_bytes,
    signature_of,
)

ALIKE = 0.8
BANDS = (0.0, 0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 1.01)
SENTENCES, WORDS = 20, 12  # of a document, and of a sentence
VOCABULARY = 20_000
FRAME = ("This page is part of the handbook.", "All rights are reserved by the town of Osk.")


class Writer:
    """Write random sentences whose words are as unequally frequent as those of a language."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.words = ["".join(self.rng.choices(letters, k=2 + i % 8)) for i in range(VOCABULARY)]
        self.weights = list(accumulate(1 / (rank + 10) for rank in range(VOCABULARY)))

    def sentence(self) -> str:
        """Return a new sentence."""
        return " ".join(self.rng.choices(self.words, cum_weights=self.weights, k=WORDS)) + "."

    def document(self) -> list[str]:
        """Return the sentences of a new document."""
        return [self.sentence() for _ in range(SENTENCES)]

    def edited(self, sentences: list[str]) -> list[str]:
        """Return an edited copy, from hardly any change to a third of the words."""
        share = self.rng.random() ** 2 * 0.1
        text = [
            " ".join(
                self.rng.choice(self.words) if self.rng.random() < share else word
                for word in sentence.split()
            )
            for sentence in sentences
        ]
        for _ in range(self.rng.randrange(3)):
            if self.rng.random() < 0.5:
                text.insert(self.rng.randrange(len(text)), self.sentence())
            else:
                text.pop(self.rng.randrange(len(text)))
        return text


def corpus(number: int, seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the texts, in random order, and the pairs of places that were planted."""
    writer = Writer(seed)
    tenth = number // 10
    documents = [writer.document() for _ in range(number - 2 * tenth)]
    pairs = []
    for _ in range(tenth):
        of = writer.rng.randrange(number - 2 * tenth)
        pairs.append((of, len(documents)))
        documents.append(writer.edited(documents[of]))
    for _ in range(tenth):
        of = writer.rng.randrange(number - 2 * tenth)
        pairs.append((of, len(documents)))
        documents.append(documents[of][: SENTENCES // 2] + writer.document()[: SENTENCES // 2])
    order = list(range(number))
    writer.rng.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    texts = [" ".join([FRAME[0], *documents[old], FRAME[1]]) for old in order]
    return texts, [(min(p), max(p)) for p in ((place[a], place[b]) for a, b in pairs)]


def likeness(one: str, other: str) -> float:
    """Return the share of the runs of words of either text that both have."""
    a, b = set(shingles(one)), set(shingles(other))
    return len(a & b) / len(a | b)


def found_in(texts: list[str]) -> tuple[np.ndarray, float, float]:
    """Return what each text is a near copy of, and the seconds of both steps."""
    started = time.perf_counter()
    rows = np.frombuffer(b"".join(signature_bytes(signature_of(text)) for text in texts), "<u4")
    signed = time.perf_counter()
    copy_of = near_duplicates(
        rows.reshape(-1, NUM_HASHES), ALIKE, np.zeros(len(texts), dtype=np.bool_)
    )
    return copy_of, signed - started, time.perf_counter() - signed


def judged(number: int, seed: int) -> dict[str, object]:
    """Return recall by likeness, and precision, on planted documents."""
    texts, pairs = corpus(number, seed)
    copy_of, _, _ = found_in(texts)
    out = {int(place) for place in np.flatnonzero(copy_of >= 0)}
    by_band = {f"{low:g} to {min(high, 1):g}": [0, 0] for low, high in pairwise(BANDS)}
    names = list(by_band)
    alike = recalled = 0
    for first, second in pairs:
        truth = likeness(texts[first], texts[second])
        band = names[np.searchsorted(BANDS, truth, side="right") - 1]
        # either may be the copy of a third one, which is kept before it
        is_found = second in out or first in out
        by_band[band][0] += 1
        by_band[band][1] += is_found
        alike += truth >= ALIKE
        recalled += truth >= ALIKE and is_found
    true = [likeness(texts[place], texts[int(copy_of[place])]) for place in sorted(out)]
    return {
        "documents": number,
        "planted": len(pairs),
        "alike": alike,
        "recall": round(recalled / alike, 4),
        "left out": len(out),
        "precision": round(sum(one >= ALIKE for one in true) / len(true), 4),
        "least alike that was left out": round(min(true), 3),
        "found by likeness": {name: f"{n[1]} of {n[0]}" for name, n in by_band.items() if n[0]},
    }


def main() -> None:
    """Print a line of the judgement, and one for each number of documents that is timed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--times", type=int, nargs="*", default=[10_000, 20_000, 40_000])
    options = parser.parse_args()
    for seed in options.seeds:
        print(json.dumps({"seed": seed} | judged(options.documents, seed)), flush=True)
    for number in options.times:
        texts, _ = corpus(number, 0)
        _, signing, comparing = found_in(texts)
        each = 1e6 * (signing + comparing) / number
        print(
            f"{number} documents: signatures {signing:.2f} s, comparison {comparing:.2f} s, "
            f"{each:.0f} µs a document",
            flush=True,
        )


if __name__ == "__main__":
    main()
