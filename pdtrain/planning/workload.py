"""Count the tokens and rows that each GPU works through in a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pdtrain.config import RunConfig
from pdtrain.distillation import micro_batches
from pdtrain.models.shape import Shape


@dataclass(frozen=True)
class Work:
    """Hold what one rank works through in one micro-step; `micro_batches` of them make a step."""

    micro_batches: int
    answers: int
    student: int  # tokens
    teacher: int  # tokens; 0 where its distributions come from the cache
    rows: int


def with_batching(config: RunConfig, shape: Shape) -> RunConfig:
    """Return the config with `model.batching` as the model has it: packed or padded."""
    is_padded = config.model.batching == "padded" or not shape.packs
    model = replace(config.model, batching="padded" if is_padded else "packed")
    return replace(config, model=model)


def work_of(config: RunConfig, num_ranks: int) -> Work:
    """Return the work of a large corpus, where a step holds the answers of many passages.

    Raises:
        ValueError: some ranks would have nothing to do.
    """
    train = config.train
    if train.answers_per_step < num_ranks:
        raise ValueError(
            f"train.answers_per_step={train.answers_per_step} leaves most of {num_ranks} GPUs "
            f"without an answer; set it to {num_ranks} or more, or take fewer GPUs"
        )
    student, rows = per_answer(config)
    each = math.ceil(train.answers_per_step / num_ranks)
    most = min(train.answers_per_micro_batch, _answers_in(train.tokens_per_micro_batch, config))
    micro_batches = math.ceil(each / most)
    answers = math.ceil(each / micro_batches)
    return Work(
        micro_batches,
        answers,
        answers * student,
        _taught_tokens(answers, config) if config.is_teacher_online else 0,
        answers * rows,
    )


def per_answer(config: RunConfig) -> tuple[int, int]:
    """Return the student's tokens and rows of one answer, or of one window of raw text."""
    plan, window = config.plan, config.raw_text.window_tokens
    if config.train.objective == "raw_text":
        window = min(window, config.corpus.max_passage_tokens)
        return window, window - 1
    return plan.question_tokens + plan.answer_tokens, plan.answer_tokens


def num_answers(config: RunConfig) -> int:
    """Return how many answers, or windows of raw text, the whole corpus has in one epoch."""
    plan, raw = config.plan, config.raw_text
    if config.train.objective == "raw_text":
        stride = raw.window_tokens - raw.overlap
        beyond = max(1, config.corpus.max_passage_tokens - raw.overlap)
        return plan.passages * math.ceil(beyond / stride)
    return plan.passages * plan.answers_per_passage


def _taught_tokens(answers: int, config: RunConfig) -> int:
    passages = math.ceil(answers / _sharing(config, config.answers_per_group))
    branches = answers * (config.plan.question_tokens + config.plan.answer_tokens)
    return passages * config.corpus.max_passage_tokens + branches


def _sharing(config: RunConfig, answers: int) -> int:
    """Return how many of some answers to one passage share its reading: one where padded."""
    return 1 if config.model.batching == "padded" else answers


def _answers_in(tokens: int, config: RunConfig) -> int:
    """Return how many answers have at most so many tokens on both sides; at least one."""
    student, _ = per_answer(config)
    answers = max(1, tokens // student)
    if config.is_teacher_online:
        while answers > 1 and answers * student + _taught_tokens(answers, config) > tokens:
            answers -= 1
    return answers


def passage_work(config: RunConfig, num_answers: int) -> Work:
    """Return the work of one passage and some of its answers, as the teacher's cache is filled."""
    plan = config.plan
    branches = num_answers * (plan.question_tokens + plan.answer_tokens)
    rows = num_answers * plan.answer_tokens
    times = num_answers // _sharing(config, num_answers)
    return Work(1, num_answers, 0, times * config.corpus.max_passage_tokens + branches, rows)


def largest_call(config: RunConfig) -> Work:
    """Return the largest call in which the cache is filled, at the limits of a micro-batch."""
    plan, most = config.plan, config.train.tokens_per_micro_batch
    each = min(plan.answers_per_passage, micro_batches.ANSWERS_PER_CALL)
    branch = plan.question_tokens + plan.answer_tokens
    if config.model.batching == "padded":
        fit = most // (config.corpus.max_passage_tokens + branch)
    else:
        fit = (most - config.corpus.max_passage_tokens) // branch
    answers = max(1, min(each, fit))
    return passage_work(config, answers)
