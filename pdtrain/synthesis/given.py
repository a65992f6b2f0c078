"""Ask the questions of a data set: find the passage of each, and keep held-out ones apart."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from pdtrain.config import RunConfig
from pdtrain.documents.naming.references import DocumentNames
from pdtrain.documents.records.question_answers import GivenQuestion
from pdtrain.documents.records.question_files import files_of, read_given
from pdtrain.documents.words import ONE_LETTER, holds, search_words, words
from pdtrain.generation.backend import Backend
from pdtrain.records import Passage, Question
from pdtrain.storage import hash_json, sha256_file
from pdtrain.synthesis.asking.script import grams
from pdtrain.synthesis.filters import NearIndex, word_set
from pdtrain.synthesis.question_kinds import GIVEN, question_of
from pdtrain.synthesis.sentence_writer.question_templates import Request
from pdtrain.synthesis.text import content_words, normalise, sentences_of

CANDIDATES = 20  # passages that are looked into
MANY = 50  # passages: a word that more of them have, and more than a 50th of all, is passed over
LEAST_FOUND = 0.5  # share of the answer's content words that the passage of a question must have


def answer_ids(
    config: RunConfig, backend: Backend, passage: Passage, question: Question
) -> list[int]:
    """Return the tokens of the answer that a data set gives, with the token that ends it.

    Returns:
        Nothing for questions of other kinds, where the teacher is to answer, where prompt and
        answer do not fit the model's window or half a micro-batch, and where the answer holds the
        text of a token that ends it.
    """
    if question.kind != GIVEN.name or config.questions.given_answers == "sample":
        return []
    chat = backend.chat
    ids = chat.text_ids(question.phrase)  # what a data set spells is text
    size = len(chat.teacher(passage, question.text, question.sentence)) + len(ids)
    most = config.train.tokens_per_micro_batch // 2
    fits = size < min(most, backend.window or most)
    return [*ids, chat.stop_ids[0]] if ids and fits and not set(ids) & set(chat.stop_ids) else []


def hash_of(path: str) -> str:
    """Return the hash of a data set of questions: of all its files, with their names."""
    return hash_json([[file.name, sha256_file(file)] for file in files_of(Path(path))])


class Given:
    """Hold the questions of a data set by the passage that answers each.

    Args:
        config: names the data set.
        passages: those of the run.
        held_out: texts that must not be asked, normalised.

    Raises:
        ValueError: there is no such data set, or no question of it belongs to a passage.
    """

    def __init__(self, config: RunConfig, passages: Sequence[Passage], held_out: set[str]) -> None:
        self.found = self.asked = 0
        self.dropped: Counter[str] = Counter()
        self._by_passage: dict[str, list[Question]] = defaultdict(list)
        search = Search(passages)
        near = NearIndex(config.questions.near_duplicate, held_out, sets=_parts)
        seen: set[tuple[str, str]] = set()
        for one in read_given(Path(config.questions.given)):
            self.found += 1
            passage = search.passage_of(one) if one.answers else None
            key = (passage.id if passage else "", normalise(one.question) or one.question)
            reason = _fault(one, passage, key in seen)
            if not reason and (key[1] in held_out or near.holds(one.question)):
                reason = "held out, or nearly"
            if reason or passage is None:
                self.dropped[reason] += 1
                continue
            seen.add(key)
            self.asked += 1
            answer = one.answers[0]
            request = Request(one.question, _sentence(passage, answer), answer)
            self._by_passage[passage.id].append(question_of(passage, GIVEN, request))
        self.num_unknown = search.num_unknown
        if not self.asked:
            raise ValueError(
                f"questions.given={config.questions.given!r}: {self.line()}; its answers must "
                "stand in the documents of corpus.documents, which may be the same data set"
            )

    def about(self, passage: Passage) -> list[Question]:
        """Return the questions about a passage, in the order of the data set."""
        return self._by_passage.get(passage.id, [])

    def before(self, written: Sequence[Question], passage: Passage) -> list[Question]:
        """Return the questions about a passage, followed by others without those it has already."""
        own = self.about(passage)
        known = {normalise(question.text) for question in own}
        return [*own, *(q for q in written if normalise(q.text) not in known)]

    def line(self) -> str:
        """Return one line that says how many questions are asked, and why others are not."""
        reasons = "".join(f", {n} {reason}" for reason, n in self.dropped.most_common())
        named = (
            f"; {self.num_unknown} with a document that is not there" if self.num_unknown else ""
        )
        return f"{self.asked} of {self.found} given questions are asked{reasons}{named}"


def _fault(one: GivenQuestion, passage: Passage | None, is_repeated: bool) -> str:
    if not one.answers:
        return "without an answer"
    if passage is None:
        return "answered by no passage"
    return "repeated" if is_repeated else ""


def _sentence(passage: Passage, answer: str) -> int:
    """Return the index of the one sentence that holds the answer; -1 where that is not clear."""
    wanted = words(answer)
    holding = [
        index
        for index, sentence in enumerate(sentences_of(passage))
        if holds(words(sentence), wanted)
    ]
    return holding[0] if len(holding) == 1 else -1


class Search:
    """Find the passage that a question of a data set is about.

    Attributes:
        num_unknown: how many questions named a document that is not there.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self.num_unknown = 0
        self._words: dict[int, frozenset[str]] = {}  # of those passages that were looked into
        self._by_text: dict[str, list[int]] = {}  # of whole documents
        self._names = DocumentNames(passages)
        of_document: dict[str, list[int]] = defaultdict(list)
        for place, passage in enumerate(passages):
            of_document[passage.document_id].append(place)
        for places in of_document.values():
            text = " ".join(passages[place].text for place in places)
            self._by_text.setdefault(_key(text), places)

    @cached_property
    def _by_word(self) -> dict[str, list[int]]:
        """Index the passages by their words, which only questions about unknown texts need."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, passage in enumerate(self._passages):
            for word in _told(f"{passage.title}\n{passage.text}"):
                found[word].append(place)
        return found

    def passage_of(self, one: GivenQuestion) -> Passage | None:
        """Return the passage that answers a question best; None where none has its answer."""
        among: Sequence[int] | None = self._by_text.get(_key(one.text))
        if among is None and one.document:
            among = self._names.places(one.document) or None
            self.num_unknown += among is None
        if among is not None and len(among) == 1:
            return self._passages[among[0]]
        wanted = _told(one.answers[0])
        asked = _told(f"{one.question}\n{one.title}\n{one.context}") | wanted
        is_named = bool(among)
        if among is None:
            among = self._likely(asked)
        held = {place: self._words_of(place) for place in self._with_any(among, wanted)}
        enough = [p for p in held if len(held[p] & wanted) >= LEAST_FOUND * len(wanted)]
        if not enough and is_named:  # by its document: the answer may be yes, or in other words
            enough = sorted(among)
            held = {place: self._words_of(place) for place in enough}
        best = max(enough, key=lambda place: (len(held[place] & asked), -place), default=None)
        return None if best is None else self._passages[best]

    def _with_any(self, among: Sequence[int], wanted: set[str]) -> Sequence[int]:
        """Return those passages that could hold enough of the wanted words, and perhaps others.

        A passage that holds enough of them holds one of the rarest at least. Without this, every
        question about a long document would be compared with each of its passages.
        """
        if not wanted or len(among) <= CANDIDATES:
            return among
        number = len(wanted) - math.ceil(LEAST_FOUND * len(wanted)) + 1
        rarest = sorted(wanted, key=lambda word: len(self._by_word.get(word, ())))[:number]
        found = {place for word in rarest for place in self._by_word.get(word, ())}
        return sorted(found.intersection(among))

    def _words_of(self, place: int) -> frozenset[str]:
        if place not in self._words:
            self._words[place] = frozenset(_told(self._passages[place].text))
        return self._words[place]

    def _likely(self, asked: set[str]) -> list[int]:
        """Return the passages that have most of the rarest words."""
        scores: dict[int, float] = defaultdict(float)
        most = max(MANY, len(self._passages) // MANY)
        for word in asked:
            places = self._by_word.get(word, [])
            if 0 < len(places) <= most:  # others tell little
                weight = self._weight(word)
                for place in places:
                    scores[place] += weight
        return sorted(scores, key=lambda place: (-scores[place], place))[:CANDIDATES]

    def _weight(self, word: str) -> float:
        """Return how much a word tells: one that stands in half of the passages tells little."""
        return math.log1p(len(self._passages) / (1 + len(self._by_word[word])))


def _told(text: str) -> set[str]:
    """Return what a text tells by: its content words; pairs of letters where no blanks part words.

    A text of such a script may hold words and numbers of another one, which count as well.
    """
    found = content_words(text)
    if not ONE_LETTER.search(text):
        return found
    return {word for word in found if not ONE_LETTER.search(word)} | {*search_words(text)}


def _parts(text: str) -> frozenset[str]:
    """Return what of a question is compared with others: its words, or its letters by threes."""
    return grams(normalise(text)) if ONE_LETTER.search(text) else word_set(text)


def _key(text: str) -> str:
    return "".join(normalise(text).split())
