"""Which questions may be asked: each kind's check, and no question twice in other words."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable

from pdtrain.records import Passage, Question
from pdtrain.synthesis.multi_hop import SentencePair
from pdtrain.synthesis.question_kinds import subject
from pdtrain.synthesis.text import claims, content_words, names, normalise, stem, words

NOT_ALONE = re.compile(
    r"\b(?!the (?:author|story|statement)s? of\b)"  # of something that is named
    r"(?:the|this|that|above|following|given|provided) (?:text|passage|sentence|paragraph|"
    r"article|document|story|author|context|excerpt|statement)s?\b",
    re.IGNORECASE,
)


ASKING = ("fact", "reverse", "multi", "cross")  # kinds that the model words, phrase in view
SHOWING = ("complete", "blank")  # kinds that show a sentence but for what they ask for
LEAST_TOLD = 3  # content words of the sentence in a reverse question, besides the subject


class NearIndex:
    """Texts kept so far, and whether another has nearly the same words as one of them.

    Alike are texts whose sets of words (stems, no articles) have a Jaccard similarity of at least
    `least`; at 1 nothing is, since equal texts are found without it. Sets so alike share one of
    the first few words of either, in any order that is the same for all: only texts with such a
    word in common are compared. Long words come first, as the rarer ones.
    """

    def __init__(
        self, least: float, texts: Iterable[str] = (), without: frozenset[str] = frozenset()
    ) -> None:
        """Args: without: words that do not count."""
        self.least, self.without = least, without
        self.sets: list[frozenset[str]] = []
        self.places: dict[str, list[int]] = defaultdict(list)  # in `sets`, by first words
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        found = word_set(text) - self.without
        for word in self._first(found):
            self.places[word].append(len(self.sets))
        self.sets.append(found)

    def holds(self, text: str) -> bool:
        if self.least >= 1:
            return False
        found = word_set(text) - self.without
        near = {place for word in self._first(found) for place in self.places.get(word, ())}
        return any(jaccard(found, self.sets[place]) >= self.least for place in near)

    def _first(self, found: frozenset[str]) -> list[str]:
        num_shared = math.ceil(self.least * len(found) - 1e-9)  # with any set that is so alike
        in_order = sorted(found, key=lambda word: (-len(word), word))
        return in_order[: len(found) - num_shared + 1]


def word_set(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words(normalise(text)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0


def fault(question: Question, passage: Passage, held_out: set[str]) -> str:
    """Why a question is not to be asked; empty when it may be."""
    text = question.text
    if normalise(text) in held_out:
        return "equal to a held-out question"
    if question.kind in SHOWING:
        shown = text.partition(": ")[2]
        return "" if names(shown) or len(content_words(shown)) >= 2 else "showing too little"
    if question.kind not in ASKING or not question.phrase:
        return ""
    if not text.endswith(("?", "？")):
        return "not a question"
    if not 4 <= len(words(text)) <= 30:
        return "too short or too long"
    if NOT_ALONE.search(text):
        return "not standing alone"
    source = f"{passage.title}\n{passage.text}"
    named = question.kind == "reverse" or names(text) or _has_words_of(subject(passage), text)
    if not named or not claims(text) <= {stem(w) for w in words(source)}:
        return "naming nothing, or things that are not in the passage"
    asked = content_words(text)
    if len(asked & content_words(source)) < 0.6 * len(asked):
        return "about other things than the passage"
    if content_words(question.phrase) <= asked:
        return "giving its answer away"
    return _fault_of_reverse(question, passage) if question.kind == "reverse" else ""


def _has_words_of(about: str, text: str) -> bool:
    """Whether it names what it is about, which may be written in small letters."""
    known = content_words(about)
    return bool(known) and known <= content_words(text)


def _fault_of_reverse(question: Question, passage: Passage) -> str:
    """A property must be told well enough to know its subject by, and the subject not be told."""
    asked, known = content_words(question.text), content_words(subject(passage))
    if known <= asked:
        return "giving its answer away"
    start, end = passage.sentences[question.sentence]
    told = asked & content_words(passage.text[start:end])
    told -= known | content_words(question.phrase)
    return "" if len(told) >= LEAST_TOLD else "telling too little of its subject"


def standing_alone(question: str, about: str) -> str:
    """The question, with what it is about before it where it names nothing itself."""
    is_named = names(question) or _has_words_of(about, question)
    return question if is_named else f"About {about}: {question}"


def needs_both(question: str, pair: SentencePair, known: str) -> bool:
    """Whether it says something of each sentence that neither the other nor the title says."""
    asked = content_words(question)
    first, second = content_words(pair.first), content_words(pair.second)
    told = (first & second) | content_words(known)
    return bool(asked & (first - told)) and bool(asked & (second - told))
