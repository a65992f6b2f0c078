"""Choose passages to ask about together, in any language: those that share rare words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from pdtrain.config import RunConfig
from pdtrain.documents.words import search_words
from pdtrain.records import Passage
from pdtrain.synthesis.sentence_writer.multi_hop import PassagePair, fit_together

MOST_SHARING = 8  # passages that have a word: one that more have connects nothing
LEAST_SHARED = 2  # such words that both passages of a pair have


def related_pairs(
    passages: Sequence[Passage], config: RunConfig, window: int | None = None
) -> list[PassagePair]:
    """Pair each passage with the later one that shares most rare words with it, if any does.

    Of the passages that have a word, each is compared with the next alone, so that the time grows
    with the length of the texts. A word counts the more the fewer passages have it. Two passages
    that the teacher cannot read together are left out.

    Args:
        window: tokens that the model can read; None where it has no limit.
    """
    where: dict[str, list[int]] = defaultdict(list)
    for place, passage in enumerate(passages):
        for word in sorted({*search_words(f"{passage.heading}\n{passage.text}")}):
            where[word].append(place)
    shared: dict[tuple[int, int], list[float]] = defaultdict(list)
    for places in where.values():
        if 2 <= len(places) <= MOST_SHARING:
            for pair in pairwise(places):
                shared[pair].append(1 / (len(places) - 1))
    best: dict[int, tuple[float, int]] = {}
    for (first, other), weights in shared.items():
        is_related = len(weights) >= LEAST_SHARED
        if is_related and fit_together(passages[first], passages[other], config, window):
            best[first] = max(best.get(first, (0.0, 0)), (sum(weights), -other))
    return [
        PassagePair(passages[first], passages[-other], (), is_compared=False)
        for first, (_, other) in sorted(best.items())
    ]
