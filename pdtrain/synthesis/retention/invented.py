"""Choose questions about short texts of invented facts, to practise reading on.

Nobody knows such facts without reading them. So an adapter that is held to its base on these
questions, with the text in view, is held to reading itself, and not to what the base remembers. The
texts come with the package: notices, letters, recipes, reports and the like, in English, each with
questions whose answers stand in it word for word. None of them is among those on which reading is
measured (`evaluate.reading`).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pdtrain.documents.sentences.finding import sentence_spans
from pdtrain.records import Passage, content_id
from pdtrain.synthesis.held_out import ReadingQuestion, read_reading
from pdtrain.synthesis.retention.changed import says
from pdtrain.synthesis.retention.reading_practice import Practice

TEXTS = Path(__file__).with_name("practice.jsonl")
EACH = 2  # questions for each that is wanted: not all are read


def choose(number: int, seed: int) -> list[Practice]:
    """Return `EACH` questions for each that is wanted, or all of them where there are no more.

    One about every text comes first, then a second about every text, and so on; which ones they
    are depends on the seed.
    """
    found = read_reading(str(TEXTS))
    found.sort(key=lambda one: content_id(seed, one.title, one.question.question))
    turns, turn_of = Counter[str](), dict[ReadingQuestion, int]()
    for one in found:
        turn_of[one] = turns[one.title]
        turns[one.title] += 1
    found.sort(key=lambda one: turn_of[one])
    return [_practice(one) for one in found[: EACH * number]]


def _practice(one: ReadingQuestion) -> Practice:
    text, asked = one.passage, one.question
    passage = Passage("", "", one.title, text, 0, len(text), 0, tuple(sentence_spans(text)))
    return Practice(
        asked.question, (passage,), lambda answer: any(says(answer, a) for a in asked.answers)
    )
