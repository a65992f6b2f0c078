"""answers → TwinBatch: what every epoch reads, in which order, and how it is cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor

from pdtrain.chat import Chat, common_prefix
from pdtrain.config import LossConfig
from pdtrain.records import Answer, Passage, Question, Side, TwinBatch, rng_for


@dataclass(frozen=True, slots=True)
class Example:
    """One answer as both sides read it: prompts end where the answer begins."""

    answer_id: str
    passage_id: str
    teacher_prompt: tuple[int, ...]
    student_prompt: tuple[int, ...]
    answer: tuple[int, ...]


def examples(
    passages: Iterable[Passage],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    chat: Chat,
) -> list[Example]:
    """Every answer with at least one token, in the order of the answers."""
    texts = {passage.id: passage for passage in passages}
    asked = {question.id: question for question in questions}

    def example(answer: Answer) -> Example:
        passage, question = texts[answer.passage_id], asked[answer.question_id]
        return Example(
            answer.id,
            answer.passage_id,
            tuple(chat.teacher(passage, question.text, question.sentence)),
            tuple(chat.student(question.text)),
            answer.token_ids,
        )

    return [example(answer) for answer in answers if answer.token_ids]


def steps_per_epoch(num_examples: int, answers_per_step: int) -> int:
    return max(1, round(num_examples / answers_per_step))


def epoch_order(num_examples: int, seed: int, epoch: int) -> list[int]:
    """A new shuffle every epoch, the same on every machine and for any number of ranks."""
    order = list(range(num_examples))
    rng_for(seed, "epoch", epoch).shuffle(order)
    return order


def split_evenly(items: Sequence[int], num_parts: int) -> list[Sequence[int]]:
    """Parts in order whose lengths differ by at most one: no step is a small remainder."""
    borders = [round(i * len(items) / num_parts) for i in range(num_parts + 1)]
    return [items[a:b] for a, b in pairwise(borders)]


def micro_batches(
    all_examples: Sequence[Example], step: Sequence[int], answers_per_micro_batch: int
) -> list[list[Example]]:
    """The step's answers cut into micro-batches of about equal lengths, so that few are padded."""
    chosen = sorted(
        (all_examples[i] for i in step),
        key=lambda e: (len(e.student_prompt) + len(e.answer), e.answer_id),
    )
    num_parts = -(-len(chosen) // answers_per_micro_batch)
    return [
        [chosen[i] for i in part] for part in split_evenly(range(len(chosen)), num_parts) if part
    ]


def twin_batch(
    chosen: Sequence[Example], loss: LossConfig, device: torch.device, *, with_teacher: bool
) -> TwinBatch:
    """The answers as one TwinBatch; rows stand passage by passage, answer by answer.

    With `loss.average` "answer" a row weighs 1 / its answer's length, so that the weighted sum
    divided by the sum of weights is the mean over answers of the mean over tokens (the paper's
    objective); with "token" every row weighs 1.
    """
    chosen = sorted(chosen, key=lambda e: (e.passage_id, e.answer_id))
    groups = [list(group) for _, group in groupby(chosen, key=lambda e: e.passage_id)]
    weights = [
        1.0 / len(e.answer) if loss.average == "answer" else 1.0 for e in chosen for _ in e.answer
    ]
    return TwinBatch(
        answer_ids=tuple(e.answer_id for e in chosen),
        student=student_side(chosen, device),
        teacher=tuple(teacher_side(g, device) for g in groups) if with_teacher else (),
        targets=torch.tensor([t for e in chosen for t in e.answer], device=device),
        weights=torch.tensor(weights, dtype=torch.float32, device=device),
    )


def teacher_side(group: Sequence[Example], device: torch.device) -> Side:
    """Answers of one passage, which is read once for all of them."""
    shared = common_prefix([e.teacher_prompt for e in group]) if len(group) > 1 else 0
    return _side([(e.teacher_prompt, e.answer) for e in group], shared, device)


def student_side(chosen: Sequence[Example], device: torch.device) -> Side:
    return _side([(e.student_prompt, e.answer) for e in chosen], 0, device)


def _side(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], shared: int, device: torch.device
) -> Side:
    # the last answer token is predicted, never read
    branches = [(*prompt[shared:], *answer[:-1]) for prompt, answer in pairs]
    ids = torch.zeros(len(branches), max(map(len, branches)), dtype=torch.int64)
    for row, branch in enumerate(branches):
        ids[row, : len(branch)] = torch.tensor(branch)
    return Side(
        prefix_ids=torch.tensor(pairs[0][0][:shared], dtype=torch.int64, device=device),
        branch_ids=ids.to(device),
        lengths=torch.tensor([len(branch) for branch in branches], device=device),
        rows=torch.tensor(list(_rows(pairs, shared)), device=device),
    )


def _rows(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], shared: int
) -> Iterator[tuple[int, int]]:
    for branch, (prompt, answer) in enumerate(pairs):
        first = len(prompt) - shared - 1  # the prompt's last token predicts the answer's first
        yield from ((branch, first + i) for i in range(len(answer)))


def predicted_tokens(side: Side) -> Tensor:
    """The token after each row that is still inside its branch, -1 at a branch's last token."""
    ahead = torch.cat(
        [side.branch_ids[:, 1:], side.branch_ids.new_full((len(side.lengths), 1), -1)], 1
    )
    inside = side.rows[:, 1] + 1 < side.lengths[side.rows[:, 0]]
    return torch.where(inside, ahead[side.rows[:, 0], side.rows[:, 1]], -1)
