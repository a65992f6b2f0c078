"""Compare answers to one question: do samples agree, and does the base know it without the text?

Two answers are compared by their words or, with `answers.agreement=judge`, by asking the base.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.generation.backend import Backend
from pdtrain.progress import say
from pdtrain.records import Answer, Question
from pdtrain.storage import hash_json, read_shards
from pdtrain.synthesis.asking import replies, templates
from pdtrain.synthesis.asking.script import agreement, folded
from pdtrain.synthesis.question_kinds import kind_of
from pdtrain.synthesis.text import token_f1

VERSION = 2  # of the judge, part of the input hash: raise it when the same answers are judged anew
YES_OR_NO = SamplingConfig(temperature=0, max_new_tokens=4)
LEAST_AGREEMENT = 0.5  # token F1 of a further sample with the answer, and share of such samples


def says_the_same(one: str, other: str, *, any_language: bool = False) -> bool:
    """Return whether a text says about the same as another.

    Args:
        any_language: compare by letters instead of by words, which not every script divides.
    """
    alike = agreement(one, other) if any_language else token_f1(one, [other])
    return alike >= LEAST_AGREEMENT


def settings(config: RunConfig) -> str:
    """Return the hash of what decides how the base judges answers."""
    return hash_json([VERSION, templates.read(config.questions.prompts).texts["same.md"]])


def agree(
    pairs: Sequence[tuple[Question, str, str]],
    config: RunConfig,
    backend: Backend,
    *,
    if_unclear: bool,
) -> list[bool]:
    """Return for each question and two answers to it whether these say about the same.

    Args:
        backend: of the base, which judges where `answers.agreement` says so.
        if_unclear: what a verdict counts as that is neither yes nor no.
    """
    if config.answers.agreement == "words":
        return [
            says_the_same(one, other, any_language=kind_of(question.kind).any_language)
            for question, one, other in pairs
        ]
    prompts = templates.read(config.questions.prompts)
    verdicts = {i: True for i, (_, one, other) in enumerate(pairs) if folded(one) == folded(other)}
    left = [i for i in range(len(pairs)) if i not in verdicts]
    asked = []
    for question, one, other in (pairs[i] for i in left):
        text = prompts.fill("same.md", question=question.text, first=one, other=other)
        asked.append(backend.chat.encode([{"role": "user", "content": text}], system=""))
    done = backend.sample(asked, YES_OR_NO, seed=0) if asked else []
    for i, said in zip(left, done, strict=True):
        is_clear = replies.is_no(said.text) or replies.is_yes(said.text)
        verdicts[i] = replies.is_yes(said.text) if is_clear else if_unclear
    return [verdicts[i] for i in range(len(pairs))]


def consistent(
    answers: Sequence[Answer],
    samples: Sequence[Sequence[str]],
    questions: Mapping[str, Question],
    config: RunConfig,
    backend: Backend,
) -> list[bool]:
    """Return for each answer whether at least half of its further samples agree with it.

    Args:
        samples: of each answer.
        questions: by id.
    """
    pairs = [
        (questions[answer.question_id], one, answer.text)
        for answer, said in zip(answers, samples, strict=True)
        for one in said
    ]
    verdicts = iter(agree(pairs, config, backend, if_unclear=True))
    return [sum(next(verdicts) for _ in said) >= LEAST_AGREEMENT * len(said) for said in samples]


def marked(
    found: Sequence[Answer], questions: Iterable[Question], config: RunConfig, backend: Backend
) -> list[Answer]:
    """Return the answers, each with whether the base says about the same without the passage.

    Args:
        found: the answers.
        questions: those that they answer.
        backend: of the base; it is asked each answered question once, greedily.
    """
    answered = {answer.question_id for answer in found}
    asked = [question for question in questions if question.id in answered]
    max_new_tokens = config.answers.sampling.max_new_tokens
    prompts = [backend.chat.student(question.text) for question in asked]
    greedy = SamplingConfig(temperature=0, max_new_tokens=max_new_tokens)
    done = backend.sample(prompts, greedy, seed=0) if prompts else []
    said = {question.id: (question, one.text) for question, one in zip(asked, done, strict=True)}
    pairs = [(*said[answer.question_id], answer.text) for answer in found]
    known = agree(pairs, config, backend, if_unclear=False)
    return [replace(answer, known=one) for answer, one in zip(found, known, strict=True)]


def say_known(folder: Path) -> None:
    """Tell the user how many of a stage's answers are marked as known."""
    known = total = 0
    for record in read_shards(folder):
        known, total = known + bool(record.get("known")), total + 1
    say(f"answers: {known} of {total} are what the base says without the passage, too")
