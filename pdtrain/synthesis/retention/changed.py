"""Change what a passage says about a fact, so that only reading tells it.

Once an adapter knows the documents, it can answer questions about them without reading what is in
view. So the words that a question asks for are replaced in its passage: those of another passage
take their place, or other digits. Whoever is held to the base's answers to such questions must take
them from the passage, against memory. The practice is that of counterfactual contexts in "Large
Language Models with Controllable Working Memory" (Li et al., arXiv 2211.05110), and of DisentQA
(Neeman et al., arXiv 2211.05655).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

import regex

from pdtrain.documents.sentences.finding import sentence_spans
from pdtrain.documents.words import OTHER, holds, words
from pdtrain.records import Passage, Question, content_id
from pdtrain.synthesis.text import content_words

NUMBER = regex.compile(r"\d++(?:[.,:]\d++)*+")
DIGITS = regex.compile(r"\d+")
MARKER = regex.compile(r"[.)]\s")  # behind the number of a list's item
ONE_WORD = regex.compile(rf"(?V1){OTHER}")
TRIES = 20  # of as many digits, before there are more of them


class Change(NamedTuple):
    """Hold a changed passage, and what is new in it and what is gone."""

    passage: Passage
    new: tuple[str, ...]
    old: tuple[str, ...]

    def is_read(self, answer: str) -> bool:
        """Return whether an answer holds something that is new, and nothing that is gone."""
        said = words(answer)
        if any(holds(said, words(one)) for one in self.old):
            return False
        return any(says(answer, one) for one in self.new)


def says(answer: str, phrase: str) -> bool:
    """Return whether an answer holds a phrase, or all of its words that are no function words."""
    return holds(words(answer), words(phrase)) or (
        phrase.isascii() and content_words(phrase) <= content_words(answer)
    )


def change(
    question: Question, passage: Passage, pool: Sequence[Question], rng: random.Random
) -> Change | None:
    """Return the question's passage with other words for what it asks for.

    A question that names no phrase, such as a capable model's, may ask for a number: then all
    numbers change, except those of the question, of the headings and of lists' items. None where
    there is nothing to change, or nothing to put in its place.

    Args:
        pool: questions whose phrases may take the place of this one's.
    """
    around = f"{passage.heading}\n{question.text}"
    if not question.phrase:
        text, numbers = _renumbered(passage.text, {*words(around)}, rng)
        return _changed(passage, text, numbers)
    found = _whole(question.phrase)
    if (
        not content_words(question.phrase)
        or found.search(passage.heading)
        or not found.search(passage.text)
    ):
        return None
    other = _other(question.phrase, f"{around}\n{passage.text}", passage.id, pool, rng)
    text = found.sub(lambda _: other, passage.text)
    return _changed(passage, text, {question.phrase: other} if other else {})


def _changed(passage: Passage, text: str, by_old: dict[str, str]) -> Change | None:
    if not by_old:
        return None
    spans, name = tuple(sentence_spans(text)), content_id(passage.id, text)
    changed = replace(passage, id=name, text=text, sentences=spans)
    return Change(changed, tuple(by_old.values()), tuple(by_old))


def _other(
    phrase: str, known: str, passage_id: str, pool: Sequence[Question], rng: random.Random
) -> str:
    """Return other words of the same shape, which are not known; empty if there are none."""
    if DIGITS.search(phrase):
        return _renumbered(phrase, set(), rng, known={*words(known)})[0]
    told = content_words(known)
    fitting = {
        one.phrase
        for one in pool
        if one.passage_id != passage_id
        and _shape(one.phrase) == _shape(phrase)
        and not DIGITS.search(one.phrase)
        and not content_words(one.phrase) <= told
    }
    return rng.choice(sorted(fitting)) if fitting else ""


def _renumbered(
    text: str, kept: Set[str], rng: random.Random, known: Set[str] = frozenset()
) -> tuple[str, dict[str, str]]:
    """Return the text with other numbers of as many digits, and these by what they replace.

    Args:
        kept: numbers that stay, as `words` has them.
        known: further numbers that none becomes.
    """
    taken = {*words(text), *kept, *known}
    new: dict[str, str] = {}

    def other(found: regex.Match[str]) -> str:
        old = found[0]
        line = text[: found.start()].rpartition("\n")[2]
        is_marker = not line.strip() and MARKER.match(text, found.end())
        if is_marker or {*words(old)} <= kept:
            return old
        if old not in new:
            new[old] = next(one for one in _numbers(old, rng) if not {*words(one)} & taken)
            taken.update(words(new[old]))
        return new[old]

    return NUMBER.sub(other, text), new


def _numbers(old: str, rng: random.Random) -> Iterator[str]:
    """Yield numbers of as many digits, of the same script and without a 0; then longer ones.

    Years stay in their century.
    """

    def other(digits: str, more: int) -> str:
        kept = digits[:2] if len(digits) == 4 else ""
        drawn = digits[len(kept) :] + digits[-1] * more
        return kept + "".join(chr(ord(d) - int(d) + rng.randrange(1, 10)) for d in drawn)

    tried = 0
    while True:
        more = tried // TRIES
        yield DIGITS.sub(lambda found: other(found[0], more), old)  # noqa: B023 - used at once
        tried += 1


def _shape(phrase: str) -> tuple[int, tuple[bool, ...]]:
    """Return how many words a phrase has, and which of them have a capital letter."""
    found = phrase.split()
    return len(found), tuple(word[:1].isupper() for word in found)


def _whole(phrase: str) -> regex.Pattern[str]:
    """Return what finds a phrase where it is no part of longer words or numbers.

    Scripts without blanks have no such ends of words.
    """
    before = rf"(?<!{OTHER})(?<!\d[.,:])" if ONE_WORD.match(phrase) else ""
    after = rf"(?!{OTHER})(?![.,:]\d)" if ONE_WORD.match(phrase[-1:]) else ""
    return regex.compile(rf"(?V1){before}{regex.escape(phrase)}{after}", regex.IGNORECASE)
