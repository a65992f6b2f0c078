"""Divide a step's answers into micro-batches of about equal cost, and give each rank its own.

Under ZeRO-3 every micro-step is a collective, so a rank with less to do waits for the others.
Answers are therefore divided by cost, not by number, within the limits that memory sets. Neither
the answers of a step nor its loss or gradient depend on how they are divided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pdtrain.distillation.examples import Example
from pdtrain.distillation.tokens.table import batch_order, columns
from pdtrain.models.chat.chat_template import common_prefix

ANSWERS_PER_CALL = 64  # given to the teacher together while its cache is filled
HALVINGS = 40  # of the interval that holds the smallest possible largest cost


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Hold the answers that one rank processes in one forward and backward pass."""

    examples: list[Example]
    is_filler: bool = False  # it only keeps its rank in step with the others
    is_regularization: bool = False  # it holds the adapter to its base
    weight: float = 1.0  # of each of its rows, on top of what `packing.twin_batch` gives them


@dataclass(frozen=True, slots=True)
class Costs:
    """Hold the cost of a token on each side, and of an answer row in the head, in any one unit."""

    teacher: float  # 0 where its distributions are cached: it reads nothing
    student: float
    row: float
    shares: bool = True  # a passage is read once for all its answers in a micro-batch


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold the limits of one micro-batch."""

    answers: int
    tokens: int  # that both sides read, a shared passage's counted once, and padding as well


@dataclass(frozen=True, slots=True)
class _Item:
    """Hold an answer with what it adds to a micro-batch, and what its passage adds once.

    Args:
        padded: tokens that the student and the teacher read, where rows are padded to the longest
            one of either side; None where they are packed.
    """

    example: Example
    tokens: int
    cost: float
    passage_tokens: int
    passage_cost: float
    padded: tuple[int, int] | None = None


def micro_batches(
    chosen: Sequence[Example],
    costs: Costs,
    limits: Limits,
    *,
    rank: int = 0,
    num_ranks: int = 1,
) -> list[MicroBatch]:
    """Divide the step's answers into micro-batches, and return those of one rank.

    Answers of one passage stay together if the teacher reads it, so that it is read once for all;
    otherwise answers of about equal lengths stay together. The largest cost of a micro-batch is as
    small as this order allows, and in each round the ranks get micro-batches of about equal cost.
    Every rank gets the same number; where there are too few, its last one is a filler.

    Raises:
        ValueError: one answer alone has more tokens than the limit.
    """
    items = _items(chosen, costs)
    for item in items:
        _refuse_oversized(item.tokens + item.passage_tokens, limits)
    at_least = len(list(_filled_parts(items, float("inf"), limits)))
    rounds = -(-at_least // num_ranks)
    parts = _balanced_parts(items, rounds * num_ranks, limits)
    parts.sort(key=_cost, reverse=True)
    own = [MicroBatch([item.example for item in part]) for part in parts[rank::num_ranks]]
    rounds = -(-len(parts) // num_ranks)
    smallest = min(items, key=lambda item: (item.tokens, item.example.answer_id)).example
    return own + [MicroBatch([smallest], is_filler=True)] * (rounds - len(own))


def refuse_oversized(
    examples: Sequence[Example], costs: Costs, limits: Limits, *, answer_tokens: int = 0
) -> None:
    """Raise ValueError, before any step, for an answer that no micro-batch could hold.

    Args:
        examples: the answers.
        costs: say whether the teacher reads, too.
        limits: of a micro-batch.
        answer_tokens: answers may come to have up to this many tokens.
    """
    of = columns(examples)
    answers = np.maximum(of.answer, answer_tokens) - 1
    tokens = of.student + answers
    if costs.teacher:
        tokens += of.teacher + answers
    _refuse_oversized(int(tokens.max()), limits)


class Calls(Sequence[list[Example]]):
    """Hold the calls of the teacher; the answers of a call are read when it is asked for.

    Args:
        examples: the answers.
        order: their places, in the order in which the teacher is asked.
        starts: where each call begins in `order`.
        ends: where each call ends.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        order: NDArray[np.int64],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> None:
        self.examples, self.order, self.starts, self.ends = examples, order, starts, ends

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> list[Example]: ...

    @overload
    def __getitem__(self, index: slice) -> Calls: ...

    def __getitem__(self, index: int | slice) -> list[Example] | Calls:
        if isinstance(index, slice):
            return Calls(self.examples, self.order, self.starts[index], self.ends[index])
        places = self.order[self.starts[index] : self.ends[index]]
        return [self.examples[i] for i in places]

    @property
    def num_answers(self) -> int:
        """Return the number of answers of all calls."""
        return int((self.ends - self.starts).sum())

    def of_any(self, is_wanted: NDArray[np.bool_]) -> Calls:
        """Return the calls that hold an answer that is wanted.

        Args:
            is_wanted: for each of the examples.
        """
        before = np.concatenate([[0], is_wanted[self.order].cumsum()])
        chosen = before[self.ends] > before[self.starts]
        return Calls(self.examples, self.order, self.starts[chosen], self.ends[chosen])


def teacher_calls(
    examples: Sequence[Example],
    tokens: int,
    answers: int = ANSWERS_PER_CALL,
    *,
    shares: bool = True,
) -> Calls:
    """Divide answers into calls of the teacher alone, passage by passage.

    Within a passage answers keep their order.

    Args:
        examples: the answers.
        tokens: the most tokens of a call, unless one answer alone has more.
        answers: the most answers of a call.
        shares: a passage is read once for all its answers in a call.
    """
    costs = Costs(teacher=1.0, student=0.0, row=0.0, shares=shares)
    order = batch_order(examples)
    in_order = (examples[i] for i in order)  # of these one passage's are held at a time
    items = _of_passages(in_order, costs, with_student=False)
    parts = _filled_parts(items, float("inf"), Limits(answers, tokens))
    ends = np.fromiter((len(part) for part in parts), np.int64).cumsum()
    return Calls(examples, order, np.concatenate([[0], ends[:-1]]).astype(np.int64), ends)


def student_tokens(example: Example) -> int:
    """Return how many tokens the student reads: all but the answer's last."""
    return len(example.student_prompt) + len(example.answer) - 1


def _teacher_tokens(example: Example, costs: Costs) -> int:
    return (len(example.teacher_prompt) + len(example.answer) - 1) if costs.teacher else 0


def _refuse_oversized(tokens: int, limits: Limits) -> None:
    if tokens > limits.tokens:
        raise ValueError(
            f"an answer with its prompts has {tokens} tokens, more than train."
            f"tokens_per_micro_batch={limits.tokens}; set that to {tokens} or more, or "
            "corpus.max_passage_tokens (of raw text, raw_text.window_tokens) lower"
        )


def _items(chosen: Sequence[Example], costs: Costs) -> list[_Item]:
    """Return the answers with their costs, in the order in which they are divided."""
    if not costs.teacher:
        ordered = sorted(chosen, key=lambda e: (student_tokens(e), e.answer_id))
        return [_item(e, 0, costs, with_student=True) for e in ordered]
    ordered = sorted(chosen, key=lambda e: (e.passage_id, e.answer_id))
    return list(_of_passages(ordered, costs, with_student=True))


def _of_passages(
    ordered: Iterable[Example], costs: Costs, *, with_student: bool
) -> Iterator[_Item]:
    """Yield the answers with their costs, where the teacher reads a passage once for all of it."""
    for _, group in groupby(ordered, key=lambda e: e.passage_id):
        answers = list(group)
        # a bound: any part of the group shares at least as much
        can_share = costs.shares and len(answers) > 1
        shared = common_prefix([e.teacher_prompt for e in answers]) if can_share else 0
        for example in answers:
            yield _item(example, shared, costs, with_student=with_student)


def _item(example: Example, shared: int, costs: Costs, *, with_student: bool) -> _Item:
    of_student = student_tokens(example) * with_student
    of_teacher = max(0, _teacher_tokens(example, costs) - shared)
    cost = costs.student * of_student + costs.teacher * of_teacher + costs.row * len(example.answer)
    padded = None if costs.shares else (of_student, of_teacher)
    return _Item(example, of_student + of_teacher, cost, shared, costs.teacher * shared, padded)


def _balanced_parts(items: list[_Item], num_parts: int, limits: Limits) -> list[list[_Item]]:
    """Return at most `num_parts` parts in order, with the largest cost as small as possible."""
    low, high = 0.0, _cost(items) + sum(item.passage_cost for item in items)
    best = list(_filled_parts(items, high, limits))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = list(_filled_parts(items, middle, limits))
        if len(found) <= num_parts:
            best, high = found, middle
        else:
            low = middle
    return best


def _filled_parts(items: Iterable[_Item], max_cost: float, limits: Limits) -> Iterator[list[_Item]]:
    """Yield parts in order, each as long as cost and limits allow, and at least one answer."""
    part: list[_Item] = []
    cost, tokens, passage = 0.0, 0, None
    longest = (0, 0)  # of the part's rows, where they are padded
    for item in items:
        is_new = item.example.passage_id != passage
        cost += item.cost + is_new * item.passage_cost
        tokens += item.tokens + is_new * item.passage_tokens
        if item.padded:
            longest = max(longest[0], item.padded[0]), max(longest[1], item.padded[1])
            tokens = (len(part) + 1) * sum(longest)
        is_full = len(part) >= limits.answers
        if not part or is_full or cost > max_cost or tokens > limits.tokens:
            if part:
                yield part
                part = []
            cost, tokens = item.cost + item.passage_cost, item.tokens + item.passage_tokens
            longest = item.padded or (0, 0)
        part.append(item)
        passage = item.example.passage_id
    if part:
        yield part


def _cost(part: Sequence[_Item]) -> float:
    once = {item.example.passage_id: item.passage_cost for item in part}
    return sum(item.cost for item in part) + sum(once.values())
