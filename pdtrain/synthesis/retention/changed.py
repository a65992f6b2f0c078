"""Change what a passage says about a fact, so that only reading tells it.

Once an adapter knows the documents, it can answer questions about them without reading what is in
view. So the words that a question asks for are replaced in its passage: those of another passage
take their place, or other digits. Whoever is held to the base's answers to such questions must take
them from the passage, against memory. The practice is that of counterfactual contexts in "Large
Language Models with Controllable Working Memory" (Li et al., arXiv 2211.05110), and of DisentQA
(Neeman et al., arXiv 2211.05655).
"""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from pdtrain.documents.sentences import sentence_spans
from pdtrain.records import Passage, Question, content_id
from pdtrain.synthesis.text import content_words

POOL = 256  # phrases that others are drawn from
DIGITS = re.compile(r"\d+")


class Change(NamedTuple):
    """Hold a changed passage and what is new in it, of which an answer must hold one."""

    passage: Passage
    new: tuple[str, ...]

    def is_read(self, answer: str) -> bool:
        """Return whether an answer holds all words of something that is new."""
        said = content_words(answer)
        return any(content_words(one) <= said or _holds(answer, one) for one in self.new)


def phrase_pool(questions: Iterable[Question], seed: int) -> list[Question]:
    """Return a sample of the questions that name the phrase they ask for, drawn by their ids."""
    named = (one for one in questions if content_words(one.phrase))
    return heapq.nsmallest(POOL, named, key=lambda one: content_id(seed, "phrases", one.id))


def change(
    question: Question, passage: Passage, pool: Sequence[Question], rng: random.Random
) -> Change | None:
    """Return the question's passage with other words for what it asks for.

    A question that names no phrase, such as a capable model's, may ask for a number: then all
    numbers change. None where there is nothing to change, or nothing to put in its place.

    Args:
        pool: questions whose phrases may take the place of this one's.
    """
    if not question.phrase:
        text, new = _renumbered(passage.text, rng)
        return _changed(passage, text, new) if new else None
    if not content_words(question.phrase) or _holds(passage.title, question.phrase):
        return None
    other = _other(question.phrase, passage, pool, rng)
    found = _whole_words(question.phrase)
    if not other or not found.search(passage.text):
        return None
    return _changed(passage, found.sub(lambda _: other, passage.text), (other,))


def _changed(passage: Passage, text: str, new: tuple[str, ...]) -> Change:
    spans, name = tuple(sentence_spans(text)), content_id(passage.id, text)
    return Change(replace(passage, id=name, text=text, sentences=spans), new)


def _other(phrase: str, passage: Passage, pool: Sequence[Question], rng: random.Random) -> str:
    """Return other words of the same shape; empty if there are none."""
    if DIGITS.search(phrase):
        return _renumbered(phrase, rng)[0]
    fitting = (
        one.phrase
        for one in pool
        if one.passage_id != passage.id
        and _shape(one.phrase) == _shape(phrase)
        and not _holds(passage.text, one.phrase)
    )
    found = sorted(set(fitting))
    return rng.choice(found) if found else ""


def _renumbered(text: str, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """Return the text with other numbers of as many digits, a year's century kept, and these."""
    numbers: dict[str, str] = {}

    def other(found: re.Match[str]) -> str:
        old = found[0]
        if old not in numbers:
            numbers[old] = next(one for one in _numbers(old, rng) if one != old)
        return numbers[old]

    return DIGITS.sub(other, text), tuple(numbers.values())


def _numbers(old: str, rng: random.Random) -> Iterator[str]:
    """Yield numbers of as many digits, of the same script, and without a 0."""
    kept = old[:2] if len(old) == 4 else ""
    while True:
        rest = (chr(ord(digit) - int(digit) + rng.randrange(1, 10)) for digit in old[len(kept) :])
        yield kept + "".join(rest)


def _shape(phrase: str) -> tuple[int, tuple[bool, ...]]:
    """Return how many words a phrase has, and which of them have a capital letter."""
    words = phrase.split()
    return len(words), tuple(word[:1].isupper() for word in words)


def _holds(text: str, words: str) -> bool:
    return bool(_whole_words(words).search(text))


def _whole_words(words: str) -> re.Pattern[str]:
    edge = r"\d" if words.isdigit() else r"\w"
    return re.compile(rf"(?<!{edge}){re.escape(words)}(?!{edge})", re.IGNORECASE)
