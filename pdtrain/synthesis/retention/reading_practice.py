"""Choose questions and passages that the adapter practises reading on, beside what it learns.

An adapter that only ever answers from memory may stop reading. So some of the samples that hold it
to its base are questions with passages in view, on both sides: the passage that the question is
about, that passage among others as a search would give them, or, now and then, another one that
does not help. The base answers them, and what it says is what the adapter is held to; where the
right passage is in view, it must say what was asked for. Others are about passages in which the
answer was changed, and are kept where the base reads it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pdtrain.config import RunConfig
from pdtrain.models.chat.chat_template import joined, titled
from pdtrain.records import Passage, Question, content_id, rng_for
from pdtrain.synthesis.filters import ungrounded
from pdtrain.synthesis.question_kinds import GIVEN, kind_of
from pdtrain.synthesis.retention.changed import change, says
from pdtrain.synthesis.text import content_words
from pdtrain.synthesis.units import refuse_others

T = TypeVar("T", Passage, Question)

# what is in view, in turn; of another passage a small base says anything, which is no reading
WAYS = ("own", "among others", "own", "another", "own", "among others")
NUM_OTHERS = 2  # passages beside the question's own one
POOL = 64  # passages that others are drawn from
PHRASES = 256  # phrases that take the place of others are drawn from so many
PLAIN_EACH = 2  # questions about passages as they are for each that is wanted: not all are read
CHANGED_EACH = 3  # the same about changed passages
CHANGED_AMONG = 3  # every so many of them has other passages beside the changed one
USES = ("reading", "changed")


def any_answer(answer: str) -> bool:
    """Return that an answer will do, whatever it says."""
    return True


@dataclass(frozen=True)
class Practice:
    """Hold a question with the passages in view, in the order in which they are read.

    Args:
        is_read: tells of the base's answer whether it may be practised.
        right: the place of the passage that holds the answer, which is never left out.
    """

    question: str
    passages: tuple[Passage, ...]
    is_read: Callable[[str], bool] = any_answer
    right: int = 0

    @property
    def in_view(self) -> Passage:
        """Return the passages as the one that stands in the prompt."""
        return joined(titled(self.passages))

    def shortened(self) -> Practice:
        """Return the same with one passage less, where there are several."""
        last = max((i for i in range(len(self.passages)) if i != self.right), default=None)
        if last is None:
            return self
        rest = tuple(one for i, one in enumerate(self.passages) if i != last)
        return replace(self, passages=rest, right=self.right - (last < self.right))


def choose(
    config: RunConfig, num_plain: int, num_changed: int
) -> tuple[list[Practice], list[Practice]]:
    """Return questions of the run with passages: as they are, and with what is asked for changed.

    `PLAIN_EACH` or `CHANGED_EACH` are returned for each that is wanted, since only those count that
    the base answers from what is in view; there are fewer where the run has fewer questions. Every
    third question about a changed passage has others beside it, among which a small base reads less
    well.

    Which they are depends on the seed and the ids alone. Records are read one by one, and only the
    chosen ones are held. What no document says is left out: the base may invent an answer to it,
    which the adapter would then be held to. Requests by templates, such as one for a sentence with
    a given word, are left out as well where there are questions: nobody asks so who has passages.

    Raises:
        ValueError: the questions are of other passages than those of the run.
    """
    seed, counts = config.seed, (PLAIN_EACH * num_plain, CHANGED_EACH * num_changed)
    samples = {
        (use, by_template): Smallest[Question](count, seed, use)
        for use, count in zip(USES, counts, strict=True)
        for by_template in (False, True)
    }
    phrases = Smallest[Question](PHRASES, seed, "phrases")
    for question in config.run.questions():
        if content_words(question.phrase):
            phrases.offer(question)
        kind = kind_of(question.kind)
        if not (question.other_passage_id or kind.stated):
            for use in USES:
                samples[use, kind.requests is not None].offer(question)
    asked = {use: samples[use, False].records or samples[use, True].records for use in USES}
    wanted = {question.passage_id for one in asked.values() for question in one}
    pool, passages = Smallest[Passage](POOL, seed, "reading"), dict[str, Passage]()
    for passage in config.run.passages():
        pool.offer(passage)
        if passage.id in wanted:
            passages[passage.id] = passage
    refuse_others(wanted, passages)
    others, other_phrases = pool.records, phrases.records
    plain = [
        _plain(config, question, passages[question.passage_id], others, turn)
        for turn, question in enumerate(asked["reading"])
    ]
    changed = list[Practice]()
    for question in asked["changed"]:
        own, turn = passages[question.passage_id], len(changed)
        one = _changed(question, own, other_phrases, others, turn, seed)
        changed += [one] if one else []
    return plain, changed


class Smallest(Generic[T]):
    """Hold a sample of the records that are offered, drawn by a hash of their ids.

    Args:
        number: how many are held at most.
        use: names what they are for; other uses draw others.
    """

    def __init__(self, number: int, seed: int, use: str) -> None:
        self.number, self.seed, self.use = number, seed, use
        self._heap: list[tuple[int, int, T]] = []  # the largest hash first, then the last offered
        self._offered = 0

    def offer(self, record: T) -> None:
        """Hold the record if its hash is among the smallest so far."""
        self._offered += 1
        order = -int(content_id(self.seed, self.use, record.id), 16)
        if len(self._heap) < self.number:
            heapq.heappush(self._heap, (order, -self._offered, record))
        elif self._heap and order > self._heap[0][0]:
            heapq.heapreplace(self._heap, (order, -self._offered, record))

    @property
    def records(self) -> list[T]:
        """Return the records, the smallest hash first."""
        return [record for *_, record in sorted(self._heap, key=lambda one: one[:2], reverse=True)]


def _plain(
    config: RunConfig, question: Question, own: Passage, pool: list[Passage], turn: int
) -> Practice:
    """Return the question with a view of passages as they are.

    The base answers wrongly what the adapter may know by then; it is not held to that, where it can
    be told.
    """
    views, kind = _in_view(question, own, pool, turn, config.seed), kind_of(question.kind)
    told = config.answers.grounded and not kind.any_language and kind is not GIVEN
    right = views.index(own) if own in views else 0
    if own not in views or not told:
        return Practice(question.text, views, right=right)
    return Practice(question.text, views, lambda answer: is_read(own, question, answer), right)


def is_read(passage: Passage, question: Question, answer: str) -> bool:
    """Return whether an answer comes from the passage and says the phrase that was asked for."""
    return not ungrounded(passage, question, answer) and says(answer, question.phrase)


def _changed(
    question: Question,
    own: Passage,
    phrases: list[Question],
    pool: list[Passage],
    turn: int,
    seed: int,
) -> Practice | None:
    rng = rng_for(seed, "changed", question.id)
    one = change(question, own, phrases, rng)
    if one is None:
        return None
    is_among = turn % CHANGED_AMONG == CHANGED_AMONG - 1
    others = [passage for passage in pool if passage.id != own.id] if is_among else []
    views = _among(one.passage, others, rng)
    return Practice(question.text, views, one.is_read, views.index(one.passage))


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
