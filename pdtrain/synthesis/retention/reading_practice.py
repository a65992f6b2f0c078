"""Choose questions and passages that the adapter practises reading on, beside what it learns.

An adapter that only ever answers from memory may stop reading. So some of the samples that hold it
to its base are questions with passages in view, on both sides: the passage that the question is
about, that passage among others as a search would give them, or another one that does not help. The
base answers them, and what it says is what the adapter is held to. Others are about passages in
which the answer was changed, and are kept where the base reads it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from pdtrain.config import RunConfig
from pdtrain.models.chat.chat_template import joined, titled
from pdtrain.records import Passage, Question, content_id, rng_for
from pdtrain.synthesis.filters import ungrounded
from pdtrain.synthesis.question_kinds import kind_of
from pdtrain.synthesis.retention import changed

T = TypeVar("T", Passage, Question)

WAYS = ("own", "among others", "another")  # what is in view, in turn
NUM_OTHERS = 2  # passages beside the question's own one
POOL = 64  # passages that others are drawn from
CHANGED_EACH = 3  # questions about changed passages for each that is wanted: not all are answered
CHANGED_AMONG = 3  # every so many of them has other passages beside the changed one


def any_answer(answer: str) -> bool:
    """Return that an answer will do, whatever it says."""
    return True


@dataclass(frozen=True)
class Practice:
    """Hold a question with the passages in view, in the order in which they are read.

    Args:
        is_read: tells of the base's answer whether it may be practised.
    """

    question: str
    passages: tuple[Passage, ...]
    is_read: Callable[[str], bool] = any_answer

    @property
    def in_view(self) -> Passage:
        """Return the passages as the one that stands in the prompt."""
        return joined(titled(self.passages))

    def shortened(self) -> Practice:
        """Return the same with one passage less, where there are several."""
        return replace(self, passages=self.passages[: max(1, len(self.passages) - 1)])


def choose(config: RunConfig, number: int) -> list[Practice]:
    """Return so many questions of the run with passages; fewer where it has fewer questions.

    Which they are depends on the seed and the ids alone. Records are read one by one, and only the
    chosen ones are held. What no document says is left out: the base may invent an answer to it,
    which the adapter would then be held to. Requests by templates, such as one for a sentence with
    a given word, are left out as well where there are questions: nobody asks so who has passages.
    """
    questions = _drawn(config, number)
    passages = _passages_of(config, questions)
    pool = _smallest(POOL, config.run.passages(), config.seed)
    found = list[Practice]()
    for turn, question in enumerate(questions):
        own = passages[question.passage_id]
        views = _in_view(question, own, pool, turn, config.seed)
        found.append(Practice(question.text, views, _check(question, own, views)))
    return found


def _check(question: Question, own: Passage, views: tuple[Passage, ...]) -> Callable[[str], bool]:
    """Return what tells whether an answer comes from the passage, where that is to be had.

    The base answers wrongly what the adapter may know by then; it is not held to that.
    """
    if own not in views or kind_of(question.kind).any_language:
        return any_answer
    return lambda answer: not ungrounded(own, question, answer)


def choose_changed(config: RunConfig, number: int) -> list[Practice]:
    """Return questions about passages in which what they ask for was changed.

    They are more than `number`, since only those count that the base answers from the changed
    passage. Every third has other passages beside it, among which a small base reads less well.
    """
    seed = config.seed
    questions = _drawn(config, CHANGED_EACH * number, "changed")
    passages = _passages_of(config, questions)
    pool = _smallest(POOL, config.run.passages(), seed)
    phrases = changed.phrase_pool(config.run.questions(), seed)
    found = list[Practice]()
    for question in questions:
        rng = rng_for(seed, "changed", question.id)
        one = changed.change(question, passages[question.passage_id], phrases, rng)
        if one is None:
            continue
        is_among = len(found) % CHANGED_AMONG == CHANGED_AMONG - 1
        others = [p for p in pool if p.id != question.passage_id] if is_among else []
        views = _among(one.passage, others, rng)
        found.append(Practice(question.text, views, one.is_read))
    return found


def _drawn(config: RunConfig, number: int, use: str = "reading") -> list[Question]:
    """Return a sample of the questions that are worth practising, for a named use."""

    def plain(*, templates: bool) -> Iterator[Question]:
        for question in config.run.questions():
            kind = kind_of(question.kind)
            if not (question.other_passage_id or kind.stated or (kind.requests and not templates)):
                yield question

    questions = _smallest(number, plain(templates=False), config.seed, use)
    return questions or _smallest(number, plain(templates=True), config.seed, use)


def _passages_of(config: RunConfig, questions: Iterable[Question]) -> dict[str, Passage]:
    wanted = {question.passage_id for question in questions}
    return {one.id: one for one in config.run.passages() if one.id in wanted}


def _smallest(number: int, records: Iterable[T], seed: int, use: str = "reading") -> list[T]:
    """Return a sample of the records, drawn by a hash of their ids."""
    return heapq.nsmallest(number, records, key=lambda one: content_id(seed, use, one.id))


def _in_view(
    question: Question, own: Passage, pool: list[Passage], turn: int, seed: int
) -> tuple[Passage, ...]:
    way = WAYS[turn % len(WAYS)]
    rng = rng_for(seed, "reading", question.id)
    others = [one for one in pool if one.id != own.id]
    if way == "own" or not others:
        return (own,)
    if way == "another":
        elsewhere = [one for one in others if one.document_id != own.document_id]
        return (rng.choice(elsewhere or others),)
    return _among(own, others, rng)


def _among(own: Passage, others: list[Passage], rng: random.Random) -> tuple[Passage, ...]:
    """Return a passage among a few others, in any order."""
    found = [own, *rng.sample(others, min(NUM_OTHERS, len(others)))]
    rng.shuffle(found)
    return tuple(found)
