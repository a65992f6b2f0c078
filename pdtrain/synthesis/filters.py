"""Find what is wrong with a question or an answer, and questions that nearly repeat another."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from pdtrain.records import Passage, Question
from pdtrain.synthesis.text import (
    among,
    claims,
    content_words,
    content_words_of,
    names,
    normalise,
    stem,
    stems_of,
    subject,
    words,
)

# phrases that only a reader of the passage understands; "the author of the Blue Mill" is named
NOT_ALONE = re.compile(
    r"\b(?!the (?:author|story|statement)s? of\b)"
    r"(?:the|this|that|above|following|given|provided) (?:text|passage|sentence|paragraph|"
    r"article|document|story|author|context|excerpt|statement)s?\b",
    re.IGNORECASE,
)
# content words of the sentence that a question about its subject must tell, besides the subject
LEAST_TOLD = 3
# shares of an answer's content words: in neither the sentence nor the title nor the question
MOST_OTHER_WORDS = 0.4
LEAST_OF_PHRASE = 0.5  # share of the content words of the phrase asked for that an answer has


class NearIndex:
    """Find out whether a text has nearly the same words as one that was added before.

    Two texts are near duplicates where their sets of words (stems, without articles) have a Jaccard
    similarity of at least `least`. Sets so alike have one of the first few words of either in
    common, in any order that is the same for all sets. So only texts with such a word in common
    are compared. Words come first that are rare among the texts indexed at the start, then long
    ones, which are rarer as well; and equal sets are held once.
    """

    def __init__(
        self,
        least: float,
        texts: Iterable[str] = (),
        without: frozenset[str] = frozenset(),
        sets: Callable[[str], frozenset[str]] | None = None,
    ) -> None:
        """Index these texts.

        Args:
            least: the similarity; at 1 nothing is a near duplicate, for equal texts are found
                without an index.
            without: words that do not count.
            sets: returns what of a text is compared; by default its words.
        """
        self.least, self.without, self._set = least, without, sets or word_set
        self.sets: dict[frozenset[str], None] = {}
        self.places: dict[str, list[frozenset[str]]] = defaultdict(list)  # by first words
        found = [self._set(text) - without for text in texts]
        self.common = Counter(word for one in dict.fromkeys(found) for word in one)
        for one in found:
            self._add(one)

    def add(self, text: str) -> None:
        """Add a text to the index."""
        self._add(self._set(text) - self.without)

    def _add(self, found: frozenset[str]) -> None:
        if not found or found in self.sets:
            return
        self.sets[found] = None
        for word in self._first(found):
            self.places[word].append(found)

    def holds(self, text: str) -> bool:
        """Return whether the text is a near duplicate of one in the index."""
        if self.least >= 1:
            return False
        found = self._set(text) - self.without
        return found in self.sets or any(
            jaccard(found, other) >= self.least
            for word in self._first(found)
            for other in self.places.get(word, ())
        )

    def _first(self, found: frozenset[str]) -> list[str]:
        num_shared = math.ceil(self.least * len(found) - 1e-9)  # with any set that is so alike
        in_order = sorted(found, key=lambda word: (self.common[word], -len(word), word))
        return in_order[: len(found) - num_shared + 1]


def word_set(text: str) -> frozenset[str]:
    """Return the stems of a text's words, without articles."""
    return frozenset(stem(word) for word in words(normalise(text)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the share of the elements of either set that both have; 1 for two empty sets."""
    return len(a & b) / len(a | b) if a or b else 1.0


# --- Checks of a kind: the reason why a question must not be asked, or an empty text ------------


def accepted(question: Question, passage: Passage) -> str:
    """Return an empty text: the question needs no check."""
    return ""


def shown_fault(question: Question, passage: Passage) -> str:
    """Check a request that shows a sentence: enough must be left to know the sentence by."""
    shown = question.text.partition(": ")[2]
    return "" if names(shown) or len(content_words(shown)) >= 2 else "showing too little"


def question_fault(question: Question, passage: Passage) -> str:
    """Check a question that the model wrote with the answer's phrase in view.

    It must be one question that stands alone, names something, claims nothing that the passage
    does not say, and does not give its answer away.
    """
    named = names(question.text) or names_subject(question.text, subject(passage))
    return _fault(question, passage, is_named=bool(named))


def reverse_fault(question: Question, passage: Passage) -> str:
    """Check a question for the subject: it tells enough of it, and not its name."""
    reason = _fault(question, passage, is_named=True)
    if reason or not question.phrase:
        return reason
    asked, known = content_words(question.text), content_words(subject(passage))
    if known <= asked:
        return "giving its answer away"
    start, end = passage.sentences[question.sentence]
    told = asked & content_words(passage.text[start:end])
    told -= known | content_words(question.phrase)
    return "" if len(told) >= LEAST_TOLD else "telling too little of its subject"


def _fault(question: Question, passage: Passage, *, is_named: bool) -> str:
    """Check what questions of both directions have in common.

    Args:
        is_named: the question names what it is about, or need not.
    """
    text = question.text
    if not question.phrase:
        return ""
    if not text.endswith(("?", "？")):
        return "not a question"
    if not 4 <= len(words(text)) <= 30:
        return "too short or too long"
    if NOT_ALONE.search(text):
        return "not standing alone"
    sources = (passage.title, passage.text)
    if not is_named or among(claims(text), map(stems_of, sources)) < claims(text):
        return "naming nothing, or things that are not in the passage"
    asked = content_words(text)
    if len(among(asked, map(content_words_of, sources))) < 0.6 * len(asked):
        return "about other things than the passage"
    return "giving its answer away" if content_words(question.phrase) <= asked else ""


def names_subject(text: str, about: str) -> bool:
    """Return whether a text has all words of its subject, which may have no capital letter."""
    known = content_words(about)
    return bool(known) and known <= content_words(text)


def standing_alone(question: str, about: str) -> str:
    """Return the question, with what it is about before it where it names nothing itself."""
    is_named = not about or names(question) or names_subject(question, about)
    return question if is_named else f"About {about}: {question}"


def needs_both(question: str, first: str, second: str, known: str) -> bool:
    """Return whether a question says something of each of two sentences.

    What the other sentence or `known`, such as the title, says as well does not count.
    """
    asked = content_words(question)
    one, other = content_words(first), content_words(second)
    told = (one & other) | content_words(known)
    return bool(asked & (one - told)) and bool(asked & (other - told))


def ungrounded(passage: Passage, question: Question, answer: str) -> str:
    """Return the reason why an answer does not come from the passage, or an empty text.

    An answer must say something that its sentence says and the question did not. For a question
    about no particular sentence, the whole passage counts as the sentence. Most of the answer's
    words must be in the sentence, the title or the question. Where a phrase was asked for, half of
    its words must be in the answer. And the answer may name nothing, and give no number, that the
    passage lacks.
    """
    source = passage.text
    if question.sentence >= 0:
        source = passage.text[slice(*passage.sentences[question.sentence])]
    claimed = claims(answer)
    if among(claimed, map(stems_of, (passage.title, passage.text, question.text))) < claimed:
        return "naming things that are not in the passage"
    about = [content_words_of(passage.title), content_words_of(source)]
    said, asked = content_words(answer), content_words(question.text)
    if not among(said - asked, about):
        return "saying nothing that the sentence says"
    wanted = content_words(question.phrase)
    if wanted and len(said & wanted) < LEAST_OF_PHRASE * len(wanted):
        return "without what was asked for"
    others = said - asked
    if len(others) - len(among(others, about)) > MOST_OTHER_WORDS * len(said):
        return "mostly about other things than the sentence"
    return ""
