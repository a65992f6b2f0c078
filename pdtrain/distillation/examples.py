"""answers → TwinBatch: what every epoch reads, in which order, and how it is cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch

from pdtrain.config import LossConfig
from pdtrain.models.attention.packed import Group, positions
from pdtrain.models.chat_template import Chat, common_prefix, joined
from pdtrain.records import (
    Answer,
    Passage,
    Question,
    Retained,
    Side,
    TwinBatch,
    content_id,
    rng_for,
)


@dataclass(frozen=True, slots=True)
class Example:
    """One answer as both sides read it: prompts end where the answer begins."""

    answer_id: str
    passage_id: str
    teacher_prompt: tuple[int, ...]
    student_prompt: tuple[int, ...]
    answer: tuple[int, ...]
    other_passage_id: str = ""  # of the second passage that the teacher reads, if it reads two


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
        question = asked.get(answer.question_id)
        other = question.other_passage_id if question else ""
        if question is None or not {answer.passage_id, other or answer.passage_id} <= texts.keys():
            raise ValueError(
                "the answers are of other passages or questions; run `pdtrain questions CONFIG` "
                "and `pdtrain answers CONFIG` first, or `pdtrain run CONFIG` for all"
            )
        passage = texts[answer.passage_id]
        if other:
            passage = joined([passage, texts[other]])
        return Example(
            answer.id,
            answer.passage_id,
            tuple(chat.teacher(passage, question.text, question.sentence)),
            tuple(chat.student(question.text)),
            answer.token_ids,
            other,
        )

    return [example(answer) for answer in answers if answer.token_ids]


def windows(
    passages: Iterable[Passage], chat: Chat, window_tokens: int, overlap: int
) -> list[Example]:
    """The passages' texts as they stand, cut into windows that overlap: no question, no chat.

    A window's first token (the tokenizer's own beginning, where it adds one) is what the student
    is given, the rest is to be said.
    """
    found = []
    for passage in passages:
        ids = tuple(chat.tokenizer(passage.text)["input_ids"])
        stride = window_tokens - overlap
        for start in range(0, max(1, len(ids) - overlap), stride):
            window = ids[start : start + window_tokens]
            if len(window) > 1:
                name = content_id(passage.id, start, window)
                found.append(Example(name, passage.id, window[:1], window[:1], window[1:]))
    return found


def retained(found: Iterable[Retained], chat: Chat) -> list[Example]:
    """What the base said unprompted by any passage: both sides read the same."""

    def example(one: Retained) -> Example:
        is_text = one.kind == "text"
        prompt = tuple(
            chat.tokenizer(one.prompt)["input_ids"] if is_text else chat.student(one.prompt)
        )
        return Example(one.id, f"retained {is_text}", prompt, prompt, one.token_ids)

    return [example(one) for one in found if one.token_ids]


def taken_in_turn(num_examples: int, per_step: int, step: int, seed: int) -> list[int]:
    """Those of a step (from 1 on): all are shuffled and taken in turn, again and again."""
    places = range((step - 1) * per_step, step * per_step)
    orders = {
        turn: epoch_order([""] * num_examples, seed, turn)
        for turn in {i // num_examples for i in places}
    }
    return [orders[i // num_examples][i % num_examples] for i in places]


def total_weight(chosen: Iterable[Example], loss: LossConfig) -> float:
    """What the rows of these answers weigh together, as `twin_batch` weighs them."""
    return sum(1.0 if loss.average == "answer" else len(e.answer) for e in chosen)


def steps_per_epoch(num_examples: int, answers_per_step: int) -> int:
    return max(1, round(num_examples / answers_per_step))


def epoch_order(
    passage_ids: Sequence[str], seed: int, epoch: int, answers_per_group: int = 1
) -> list[int]:
    """A new shuffle every epoch, the same on every machine and for any number of ranks.

    Args:
        passage_ids: of every answer.
        answers_per_group: so many answers of one passage, drawn anew every epoch, stay side by
            side, for a teacher that then reads the passage once for all of them.
    """
    rng, order = rng_for(seed, "epoch", epoch), list(range(len(passage_ids)))
    rng.shuffle(order)
    if answers_per_group == 1:
        return order
    by_passage: dict[str, list[int]] = {}
    for index in order:
        by_passage.setdefault(passage_ids[index], []).append(index)
    groups = [
        answers[first : first + answers_per_group]
        for answers in by_passage.values()
        for first in range(0, len(answers), answers_per_group)
    ]
    rng.shuffle(groups)
    return [index for group in groups for index in group]


def split_evenly(items: Sequence[int], num_parts: int) -> list[Sequence[int]]:
    """Parts in order whose lengths differ by at most one: no step is a small remainder."""
    borders = [round(i * len(items) / num_parts) for i in range(num_parts + 1)]
    return [items[a:b] for a, b in pairwise(borders)]


def twin_batch(
    chosen: Sequence[Example],
    loss: LossConfig,
    device: torch.device,
    *,
    with_teacher: bool,
    is_filler: bool = False,
) -> TwinBatch:
    """The answers as one TwinBatch; rows stand passage by passage, answer by answer.

    With `loss.average` "answer" a row weighs 1 / its answer's length, so that the weighted sum
    divided by the sum of weights is the mean over answers of the mean over tokens (the paper's
    objective); with "token" every row weighs 1. A filler's rows weigh nothing.
    """
    chosen = in_order(chosen)
    weights = [
        1.0 / len(e.answer) if loss.average == "answer" else 1.0 for e in chosen for _ in e.answer
    ]
    return TwinBatch(
        answer_ids=tuple(e.answer_id for e in chosen),
        student=student_side(chosen, device),
        teacher=teacher_side(chosen, device) if with_teacher else None,
        targets=torch.tensor([t for e in chosen for t in e.answer], device=device),
        weights=torch.tensor(weights, dtype=torch.float32, device=device) * (not is_filler),
    )


def in_order(chosen: Iterable[Example]) -> list[Example]:
    """As the rows of a batch stand: passage by passage, answer by answer."""
    return sorted(chosen, key=lambda e: (e.passage_id, e.answer_id))


def teacher_side(chosen: Sequence[Example], device: torch.device) -> Side:
    """Answers in order, those of one passage in a group, so that it is read once for all."""
    groups = [list(group) for _, group in groupby(chosen, key=lambda e: e.passage_id)]
    return _side([[(e.teacher_prompt, e.answer) for e in group] for group in groups], device)


def student_side(chosen: Sequence[Example], device: torch.device) -> Side:
    """Answers in order, in one group: the system text that opens every prompt is read once."""
    return _side([[(e.student_prompt, e.answer) for e in chosen]], device)


Pair = tuple[tuple[int, ...], tuple[int, ...]]  # tokens of a prompt and of its answer


def _side(groups: Sequence[Sequence[Pair]], device: torch.device) -> Side:
    ids: list[int] = []
    rows: list[int] = []
    layout = []
    for pairs in groups:
        prompts = [prompt for prompt, _ in pairs]
        shared = common_prefix(prompts) if len(pairs) > 1 else 0
        ids += prompts[0][:shared]
        lengths = []
        for prompt, answer in pairs:
            # the prompt's last token predicts the answer's first; the answer's last is never read
            first = len(ids) + len(prompt) - shared - 1
            rows += range(first, first + len(answer))
            ids += (*prompt[shared:], *answer[:-1])
            lengths.append(len(prompt) - shared + len(answer) - 1)
        layout.append(Group(shared, tuple(lengths)))
    return Side(
        ids=torch.tensor(ids, device=device),
        positions=torch.tensor(positions(tuple(layout)), device=device),
        rows=torch.tensor(rows, device=device),
        layout=tuple(layout),
    )
