"""Name every kind of question in one table: how it is asked, checked, answered and counted.

To add a kind, add a line to `KINDS` and, in `pdtrain/schema/synthesis.py`, the knob that says how
many questions of it are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pdtrain import records
from pdtrain.config import QuestionConfig, RunConfig
from pdtrain.records import Passage, Question, content_id
from pdtrain.synthesis import filters
from pdtrain.synthesis.asking.templates import OF_PAIRS, OF_PASSAGES, OF_SENTENCES
from pdtrain.synthesis.sentence_writer import question_examples as examples
from pdtrain.synthesis.sentence_writer import question_templates as templates
from pdtrain.synthesis.sentence_writer.question_examples import FewShot
from pdtrain.synthesis.sentence_writer.question_templates import Request, Requests
from pdtrain.synthesis.text import (
    normalise,
    phrases_in_turn,
    sentences_of,
    subject_in_turn,
)


class Target(NamedTuple):
    """Say what the model is to ask for: a phrase of one sentence of the passage."""

    sentence: int  # its index in the passage
    phrase: str


@dataclass(frozen=True)
class QuestionKind:
    """Say how the questions of one kind are asked, checked and answered.

    A kind is asked either by the model (`targets` and `few_shot`) or by templates (`requests`).
    Kinds with neither have a plan of their own in the folder `sentence_writer`.

    Args:
        name: stands in `Question.kind`.
        knob: of `questions`: how many questions are asked for.
        few_shot: what the model is shown.
        targets: (passage, count) to what the model is to ask for.
        requests: (passage, count, seed) to requests about the passage.
        by_sentence: whether its requests come with those of other kinds about the same sentence,
            after the requests about whole passages.
        check: (question, passage) to the reason why it must not be asked, or an empty text.
        shows_sentence: its text is a sentence of which something was left out. Two such texts are
            alike and yet ask for different things.
        asks_subject: the answer is the subject of the passage, which the question must not name.
        quoted: the answer is the sentence itself.
        stated: the answer is the phrase itself, and no model is asked for one.
        spanned: the phrase alone is an answer, too (`answers.spans`).
        quizzed: its phrases are the facts that the quiz of the rounds asks about.
        any_language: its answers are not checked by rules for English, but by further samples.
    """

    name: str
    knob: str
    few_shot: FewShot | None = None
    targets: Callable[[Passage, int], Iterator[Target]] | None = None
    requests: Requests | None = None
    by_sentence: bool = False
    check: Callable[[Question, Passage], str] = filters.accepted
    shows_sentence: bool = False
    asks_subject: bool = False
    quoted: bool = False
    stated: bool = False
    spanned: bool = False
    quizzed: bool = False
    any_language: bool = False

    def count(self, config: QuestionConfig) -> int:
        """Return how many questions are asked for, in the unit of the knob."""
        return int(getattr(config, self.knob))


# --- What the model is to ask for ---------------------------------------------------------------


def _phrases(passage: Passage, count: int) -> Iterator[Target]:
    """Yield `count` phrases of every sentence, in turn."""
    for index, sentence in enumerate(sentences_of(passage)):
        turns = phrases_in_turn(sentence, passage.title)
        for turn in range(count if turns else 0):
            yield Target(index, turns[turn % len(turns)])


def _subjects(passage: Passage, count: int) -> Iterator[Target]:
    """Yield what every sentence calls the passage's subject, where it names it, `count` times."""
    for index, sentence in enumerate(sentences_of(passage)):
        turns = subject_in_turn(sentence, passage)
        for turn in range(count if turns else 0):
            yield Target(index, turns[turn % len(turns)])


# --- The table ----------------------------------------------------------------------------------

FACT = QuestionKind(
    "fact",
    "per_sentence",
    few_shot=examples.FACT_EXAMPLES,
    targets=_phrases,
    check=filters.question_fault,
    spanned=True,
    quizzed=True,
)
REVERSE = QuestionKind(
    "reverse",
    "per_sentence_reverse",
    few_shot=examples.REVERSE_EXAMPLES,
    targets=_subjects,
    check=filters.reverse_fault,
    asks_subject=True,
    spanned=True,
)
# about two sentences of a passage, and about two passages
MULTI = QuestionKind(
    "multi", "per_pair", few_shot=examples.PAIR_EXAMPLES, check=filters.question_fault
)
CROSS = QuestionKind(
    "cross", "per_entity", few_shot=examples.PAIR_EXAMPLES, check=filters.question_fault
)
COMPARE = QuestionKind("compare", "per_passage_comparisons")
BLIND = QuestionKind("blind", "blind")
# what no document says, with an answer that says so
UNSAID = QuestionKind(records.UNSAID, "per_passage_unanswerable", stated=True)

# of a data set that has questions, with the answer that stands there as the phrase
GIVEN = QuestionKind("given", "given", spanned=True)

KINDS: dict[str, QuestionKind] = {  # of the questions that are written here
    kind.name: kind
    for kind in (
        FACT,
        REVERSE,
        MULTI,
        QuestionKind("recital", "per_passage", requests=templates.recitals),
        QuestionKind("summary", "per_passage_summaries", requests=templates.summaries),
        QuestionKind("list", "per_passage_lists", requests=templates.lists),
        QuestionKind(
            "complete",
            "per_sentence_completions",
            requests=templates.completions,
            by_sentence=True,
            check=filters.shown_fault,
            shows_sentence=True,
            quoted=True,
        ),
        QuestionKind(
            "cue", "per_sentence_cues", requests=templates.cues, by_sentence=True, quoted=True
        ),
        QuestionKind(
            "blank",
            "per_sentence_blanks",
            requests=templates.blanks,
            by_sentence=True,
            check=filters.shown_fault,
            shows_sentence=True,
            quoted=True,
        ),
        QuestionKind("name", "per_name", requests=templates.name_recitals, by_sentence=True),
        BLIND,
        UNSAID,
        CROSS,
        COMPARE,
    )
}


# those of `asking.model_writer`, which two knobs count for all of them
KINDS_BY_MODEL: dict[str, QuestionKind] = {
    **{n: QuestionKind(n, "model_per_sentence", any_language=True) for n in OF_SENTENCES},
    **{n: QuestionKind(n, "model_per_passage", any_language=True) for n in OF_PASSAGES},
    **{n: QuestionKind(n, "model_per_pair", any_language=True) for n in OF_PAIRS},
}


def kind_of(name: str) -> QuestionKind:
    """Return the kind with this name.

    Raises:
        ValueError: there is none.
    """
    if name == GIVEN.name:
        return GIVEN
    known = KINDS | KINDS_BY_MODEL
    if name not in known:
        raise ValueError(f"no kind of question is called {name!r}; known are {', '.join(known)}")
    return known[name]


# --- What all kinds share -----------------------------------------------------------------------


def question_of(
    passage: Passage, kind: QuestionKind, request: Request, other_passage_id: str = ""
) -> Question:
    """Return a question with an id made of its content.

    Args:
        other_passage_id: of another passage that the teacher must read, too.
    """
    others = [other_passage_id] if other_passage_id else []
    name = content_id(passage.id, kind.name, request.text, *others)
    return Question(name, passage.id, request.text, kind.name, *request[1:], other_passage_id)


def requests(passage: Passage, config: RunConfig) -> Iterator[Question]:
    """Yield the questions about a passage that need no model: about all of it, then by sentence."""
    found: list[tuple[QuestionKind, Request]] = []
    for kind in KINDS.values():
        if kind.requests:
            made = kind.requests(passage, kind.count(config.questions), config.seed)
            found += [(kind, request) for request in made]
    whole = [(kind, request) for kind, request in found if not kind.by_sentence]
    single = [(kind, request) for kind, request in found if kind.by_sentence]
    for kind, request in [*whole, *sorted(single, key=lambda pair: pair[1].sentence)]:
        yield question_of(passage, kind, request)


def fault(question: Question, passage: Passage, held_out: set[str]) -> str:
    """Return the reason why a question must not be asked, or an empty text.

    Args:
        held_out: texts that must not be asked, normalised.
    """
    if normalise(question.text) in held_out:
        return "equal to a held-out question"
    return kind_of(question.kind).check(question, passage)
