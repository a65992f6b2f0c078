"""Choose questions and passages that the adapter practises reading on, beside what it learns.

An adapter that only ever answers from memory may stop reading. So some of the samples that hold it
to its base are questions with passages in view, on both sides: the passage that the question is
about, that passage among others as a search would give them, or another one that does not help. The
base answers them, and what it says is what the adapter is held to.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from pdtrain.config import RunConfig
from pdtrain.models.chat.chat_template import joined, titled
from pdtrain.records import Passage, Question, content_id, rng_for
from pdtrain.synthesis.question_kinds import kind_of

T = TypeVar("T", Passage, Question)

WAYS = ("own", "among others", "another")  # what is in view, in turn
NUM_OTHERS = 2  # passages beside the question's own one
POOL = 64  # passages that others are drawn from


@dataclass(frozen=True)
class Practice:
    """Hold a question with the passages in view, in the order in which they are read."""

    question: str
    passages: tuple[Passage, ...]

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
    run, seed = config.run, config.seed

    def plain(*, templates: bool) -> Iterator[Question]:
        for question in run.questions():
            kind = kind_of(question.kind)
            if not (question.other_passage_id or kind.stated or (kind.requests and not templates)):
                yield question

    questions = _smallest(number, plain(templates=False), seed)
    questions = questions or _smallest(number, plain(templates=True), seed)
    pool = _smallest(POOL, run.passages(), seed)
    wanted = {question.passage_id for question in questions}
    passages = {one.id: one for one in run.passages() if one.id in wanted}
    return [
        Practice(question.text, _in_view(question, passages, pool, turn, seed))
        for turn, question in enumerate(questions)
    ]


def _smallest(number: int, records: Iterable[T], seed: int) -> list[T]:
    """Return a sample of the records, drawn by a hash of their ids."""
    return heapq.nsmallest(number, records, key=lambda one: content_id(seed, "reading", one.id))


def _in_view(
    question: Question, passages: Mapping[str, Passage], pool: list[Passage], turn: int, seed: int
) -> tuple[Passage, ...]:
    own, way = passages[question.passage_id], WAYS[turn % len(WAYS)]
    rng = rng_for(seed, "reading", question.id)
    others = [one for one in pool if one.id != own.id]
    if way == "own" or not others:
        return (own,)
    if way == "another":
        elsewhere = [one for one in others if one.document_id != own.document_id]
        return (rng.choice(elsewhere or others),)
    found = [own, *rng.sample(others, min(NUM_OTHERS, len(others)))]
    rng.shuffle(found)
    return tuple(found)
