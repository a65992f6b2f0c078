"""Pack answers into the two sides of a batch: groups of branches behind shared prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import torch

from pdtrain.config import LossConfig
from pdtrain.distillation.batch import Side, TwinBatch
from pdtrain.distillation.examples import Example
from pdtrain.models.attention.packed import Group, positions
from pdtrain.models.chat.chat_template import common_prefix


def twin_batch(
    chosen: Sequence[Example],
    loss: LossConfig,
    device: torch.device,
    *,
    with_teacher: bool,
    is_filler: bool = False,
    shares: bool = True,
) -> TwinBatch:
    """Return the answers as one TwinBatch, with rows passage by passage and answer by answer.

    With `loss.average` "answer" a row weighs 1 / its answer's length, so that the weighted sum
    divided by the sum of weights is the mean over answers of the mean over tokens (the paper's
    objective); with "token" every row weighs 1. A filler's rows weigh nothing.

    Args:
        chosen: the answers.
        loss: says how rows are weighted.
        device: where the tensors go.
        with_teacher: make the teacher's side, too.
        is_filler: the batch only keeps its rank in step with the others.
        shares: prompts that begin alike are read once; padded rows cannot share.
    """
    chosen = in_order(chosen)
    weights = [
        1.0 / len(e.answer) if loss.average == "answer" else 1.0 for e in chosen for _ in e.answer
    ]
    shares_of = [label_share(e, loss) for e in chosen]
    label_shares = [share for e, share in zip(chosen, shares_of, strict=True) for _ in e.answer]
    return TwinBatch(
        answer_ids=tuple(e.answer_id for e in chosen),
        student=student_side(chosen, device, shares=shares),
        teacher=teacher_side(chosen, device, shares=shares) if with_teacher else None,
        targets=torch.tensor([t for e in chosen for t in e.answer], device=device),
        weights=torch.tensor(weights, dtype=torch.float32, device=device) * (not is_filler),
        label_shares=(
            torch.tensor(label_shares, dtype=torch.float32, device=device)
            if any(label_shares)
            else None
        ),
    )


def label_share(example: Example, loss: LossConfig) -> float:
    """Return the share of an answer's own tokens in what the student learns; the rest is the KL."""
    if example.is_unsaid and loss.labels and loss.labels_unsaid is not None:
        return loss.labels_unsaid
    return loss.labels if example.is_checked or loss.labels_for == "all" else 0.0


def in_order(chosen: Iterable[Example]) -> list[Example]:
    """Return the answers in the order of a batch's rows: passage by passage, answer by answer."""
    return sorted(chosen, key=lambda e: (e.passage_id, e.answer_id))


def teacher_side(chosen: Sequence[Example], device: torch.device, *, shares: bool = True) -> Side:
    """Return the teacher's side, with a group for each passage, which is read once for all.

    Args:
        chosen: the answers, in the order of `in_order`.
        device: where the tensors go.
        shares: prompts that begin alike are read once.
    """
    groups = [list(group) for _, group in groupby(chosen, key=lambda e: e.passage_id)]
    pairs = [[(e.teacher_prompt, e.answer) for e in group] for group in groups]
    return _side(pairs, device, shares)


def student_side(chosen: Sequence[Example], device: torch.device, *, shares: bool = True) -> Side:
    """Return the student's side, one group: the system text that opens prompts is read once.

    Args:
        chosen: the answers, in the order of `in_order`.
        device: where the tensors go.
        shares: prompts that begin alike are read once.
    """
    return _side([[(e.student_prompt, e.answer) for e in chosen]], device, shares)


Pair = tuple[tuple[int, ...], tuple[int, ...]]  # tokens of a prompt and of its answer


def _side(groups: Sequence[Sequence[Pair]], device: torch.device, shares: bool) -> Side:
    ids: list[int] = []
    rows: list[int] = []
    layout = []
    for pairs in groups:
        prompts = [prompt for prompt, _ in pairs]
        shared = common_prefix(prompts) if shares and len(pairs) > 1 else 0
        ids += prompts[0][:shared]
        lengths = []
        for prompt, answer in pairs:
            # the prompt's last token predicts the answer's first, so the answer's last is not read
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
