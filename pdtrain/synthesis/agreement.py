"""Compare answers to one question: do samples agree, and does the base know it without the text?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pdtrain.config import SamplingConfig
from pdtrain.generation.backend import Backend
from pdtrain.progress import say
from pdtrain.records import Answer, Question
from pdtrain.storage import read_shards
from pdtrain.synthesis.asking.script import agreement
from pdtrain.synthesis.question_kinds import kind_of
from pdtrain.synthesis.text import token_f1

LEAST_AGREEMENT = 0.5  # token F1 of a further sample with the answer, and share of such samples


def says_the_same(one: str, other: str, *, any_language: bool = False) -> bool:
    """Return whether a text says about the same as another.

    Args:
        any_language: compare by letters instead of by words, which not every script divides.
    """
    alike = agreement(one, other) if any_language else token_f1(one, [other])
    return alike >= LEAST_AGREEMENT


def is_consistent(answer: str, samples: Sequence[str], *, any_language: bool = False) -> bool:
    """Return whether at least half of the further samples say about the same as the answer."""
    agree = sum(says_the_same(one, answer, any_language=any_language) for one in samples)
    return agree >= LEAST_AGREEMENT * len(samples)


def marked(
    found: Sequence[Answer], questions: Iterable[Question], backend: Backend, max_new_tokens: int
) -> list[Answer]:
    """Return the answers, each with whether the base says about the same without the passage.

    Args:
        found: the answers.
        questions: those that they answer.
        backend: of the base; it is asked each answered question once, greedily.
        max_new_tokens: of what it says.
    """
    answered = {answer.question_id for answer in found}
    asked = [question for question in questions if question.id in answered]
    prompts = [backend.chat.student(question.text) for question in asked]
    greedy = SamplingConfig(temperature=0, max_new_tokens=max_new_tokens)
    done = backend.sample(prompts, greedy, seed=0) if prompts else []
    said = {question.id: one.text for question, one in zip(asked, done, strict=True)}
    kinds: Mapping[str, str] = {question.id: question.kind for question in asked}

    def is_known(answer: Answer) -> bool:
        any_language = kind_of(kinds[answer.question_id]).any_language
        text = said[answer.question_id]
        return says_the_same(text, answer.text, any_language=any_language)

    return [replace(answer, known=is_known(answer)) for answer in found]


def say_known(folder: Path) -> None:
    """Tell the user how many of a stage's answers are marked as known."""
    known = total = 0
    for record in read_shards(folder):
        known, total = known + bool(record.get("known")), total + 1
    say(f"answers: {known} of {total} are what the base says without the passage, too")
