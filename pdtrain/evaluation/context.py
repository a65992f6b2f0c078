"""Put before a question what a system reads first: the gold passage, or what retrieval finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from pdtrain.config import RunConfig
from pdtrain.documents.naming.references import DocumentNames
from pdtrain.documents.words import words
from pdtrain.evaluation.retrieval import BM25, Dense, fingerprint
from pdtrain.evaluation.systems import Context, System
from pdtrain.models.chat.chat_template import Chat, joined, titled
from pdtrain.records import Passage, TestQuestion, content_id
from pdtrain.stage import output_hash
from pdtrain.synthesis.held_out import ReadingQuestion

GOLD_VERSION = 2  # part of the input hash: raise it when a question would get another gold passage


def context_inputs(config: RunConfig, system: System) -> list[Any]:
    """Return what decides, besides the question, which passages stand before it."""
    if system.context == "none":
        return []
    needs: list[Any] = [output_hash(config.run.passages_folder)]
    if system.context == "gold":
        needs.append(GOLD_VERSION)
    if system.retriever:
        needs.append(system.num_passages)
    if system.context == "dense":
        needs.append(fingerprint(config.evaluate.dense))
    return needs


class Retriever(Protocol):
    """Find passages for a question, as `retrieval.BM25` and `retrieval.Dense` do."""

    passages: list[Passage]

    def __call__(self, question: str, k: int) -> list[Passage]: ...


class Contexts:
    """Put passages of a run before a question, as a system says.

    Args:
        systems: those that will ask.
        window: how many tokens the model can read; None for no limit.

    Attributes:
        num_shortened: how many prompts of each system lack passages because of the window.
    """

    def __init__(
        self, config: RunConfig, systems: Iterable[System], window: int | None = None
    ) -> None:
        passages = list(config.run.passages())
        self.window, self.num_shortened = window, Counter[str]()
        self.answer_tokens = config.evaluate.max_new_tokens
        self.bm25 = BM25(passages)
        self.retrievers: dict[Context, Retriever] = {"bm25": self.bm25}
        if any(system.context == "dense" for system in systems):
            self.retrievers["dense"] = Dense(passages, config.evaluate.dense)

    def prompt(self, system: System, question: TestQuestion, chat: Chat) -> list[int]:
        """Return the token ids of the prompt: the passages, if any, and the question.

        Of several retrieved passages the last ones are left out where the prompt would not fit the
        window, as retrieval is served.
        """
        if system.context == "none":
            return chat.student(question.question)
        if system.context == "gold":
            return chat.teacher(gold_passage(question, self.bm25), question.question)
        found = self.retrievers[system.context](question.question, system.num_passages)
        whole = prompt = chat.teacher(joined(titled(found)), question.question)
        # behind the prompt goes an answer of the model's, or the gold one, to be scored
        gold = len(chat.text_ids(question.answers[0])) if question.answers else 0
        most = self.window and self.window - max(self.answer_tokens, gold)
        while most and len(prompt) > most and len(found) > 1:
            found = found[:-1]
            prompt = chat.teacher(joined(titled(found)), question.question)
        self.num_shortened[system.name] += prompt is not whole
        return prompt

    def num_unknown(self, questions: Iterable[TestQuestion]) -> int:
        """Return how many questions name a document that is not there."""
        documents = _documents_of(self.bm25)
        return sum(bool(q.document) and not documents.named(q.document) for q in questions)


def passage_of(reading: ReadingQuestion) -> Passage:
    """Return the passage about something else that a question comes with."""
    text = reading.passage
    name = content_id(reading.title, text)
    return Passage(name, reading.title, reading.title, text, 0, len(text), 0, ())


def gold_passage(question: TestQuestion, bm25: Retriever) -> Passage:
    """Return the passage that a question is about.

    It is a passage of the question's document that holds a gold answer; among several the one that
    BM25 ranks first. Where none holds an answer, any passage of the document may be it.

    Args:
        question: its `document` is what `documents.naming.references` knows a document by; where
            it names none that is there, all passages may be it.
    """
    documents = _documents_of(bm25)
    among = documents.named(question.document) or documents.passages
    answers = [found for answer in question.answers if (found := _spaced(answer)).strip()]
    holding = [p for p in among if any(one in documents.words[p.id] for one in answers)]
    among = holding or among
    if len(among) == 1:
        return among[0]
    allowed = {passage.id for passage in among}
    ranked = bm25(question.question, len(bm25.passages))
    return next(passage for passage in ranked if passage.id in allowed)


class _Documents:
    """Find passages by what a question may call their document; it is made once for all questions.

    Attributes:
        passages: all of them, in order.
        words: those of their texts by id, as answers are graded by, with blanks around each.
    """

    def __init__(self, passages: list[Passage]) -> None:
        self.passages = passages
        self.words = {passage.id: _spaced(passage.text) for passage in passages}
        self._names = DocumentNames(passages)

    def named(self, document: str) -> list[Passage]:
        """Return the passages of the document with this name; none where no document has it."""
        return [self.passages[place] for place in self._names.places(document)]


def _spaced(text: str) -> str:
    return f" {' '.join(words(text))} "


_KNOWN: WeakKeyDictionary[Retriever, _Documents] = WeakKeyDictionary()


def _documents_of(retriever: Retriever) -> _Documents:
    if retriever not in _KNOWN:
        _KNOWN[retriever] = _Documents(retriever.passages)
    return _KNOWN[retriever]
