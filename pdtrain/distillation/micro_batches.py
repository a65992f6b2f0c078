"""A step's answers → micro-batches of about equal cost, and of these a rank's.

Under ZeRO-3 every micro-step is a collective, so a rank with less to do waits for the others. A
step's answers are cut at equal cost, not at equal counts, and no cut goes beyond the limits that
memory sets. What a step holds does not depend on any of this, nor does its loss or its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from pdtrain.distillation.examples import Example
from pdtrain.models.chat_template import common_prefix

ANSWERS_PER_CALL = 64  # put to the teacher together while its cache is filled
HALVINGS = 40  # of the interval in which the least largest cost lies


@dataclass(frozen=True, slots=True)
class Cut:
    """The answers of one micro-batch; a filler only keeps its rank in step with the others."""

    examples: list[Example]
    is_filler: bool = False
    is_regularization: bool = False  # it holds the adapter to its base
    weight: float = 1.0  # of each of its rows, on top of what `rows.twin_batch` gives them


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one token that a side reads, and of one answer row in the head; in any one unit."""

    teacher: float  # 0 where its distributions are cached: it reads nothing
    student: float
    row: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one micro-batch. Tokens are those that both sides read, a shared passage's once."""

    answers: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Item:
    """An answer with what it adds to a micro-batch, and what its passage adds once."""

    example: Example
    tokens: int
    cost: float
    passage_tokens: int
    passage_cost: float


def micro_batches(
    chosen: Sequence[Example],
    costs: Costs,
    limits: Limits,
    *,
    rank: int = 0,
    num_ranks: int = 1,
) -> list[Cut]:
    """The step's answers cut into micro-batches, and of these the rank's.

    Answers of one passage stay together where the teacher reads it, so that it is read once for
    all; otherwise those of about equal lengths do. The largest cost of a micro-batch is as small
    as cuts of this order allow, and ranks are given those of about equal cost in the same round.
    Every rank gets the same number, the last ones fillers where there are too few.

    Raises:
        ValueError: one answer alone has more tokens than the limit.
    """
    items = _items(chosen, costs)
    for item in items:
        _refuse_oversized(item.tokens + item.passage_tokens, limits)
    at_least = len(_cut(items, float("inf"), limits))
    rounds = -(-at_least // num_ranks)
    parts = _least_largest(items, rounds * num_ranks, limits)
    parts.sort(key=_cost, reverse=True)
    mine = [Cut([item.example for item in part]) for part in parts[rank::num_ranks]]
    rounds = -(-len(parts) // num_ranks)
    smallest = min(items, key=lambda item: (item.tokens, item.example.answer_id)).example
    return mine + [Cut([smallest], is_filler=True)] * (rounds - len(mine))


def refuse_oversized(
    examples: Sequence[Example], costs: Costs, limits: Limits, *, answer_tokens: int = 0
) -> None:
    """Raise ValueError, before any step, for an answer that no micro-batch could hold.

    Answers may come to have up to `answer_tokens` tokens.
    """
    sides = 1 + bool(costs.teacher)
    tokens = max(
        student_tokens(e)
        + _teacher_tokens(e, costs)
        + sides * max(0, answer_tokens - len(e.answer))
        for e in examples
    )
    _refuse_oversized(tokens, limits)


def calls(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    """Answers for the teacher alone, passage by passage and in the order given within each.

    A call holds at most ANSWERS_PER_CALL answers and so many tokens, but at least one answer.
    """
    items = _items(examples, Costs(teacher=1.0, student=0.0, row=0.0), of_student=False)
    parts = _cut(items, float("inf"), Limits(ANSWERS_PER_CALL, tokens))
    return [[item.example for item in part] for part in parts]


def student_tokens(example: Example) -> int:
    """The answer's last token is never read."""
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


def _items(chosen: Sequence[Example], costs: Costs, *, of_student: bool = True) -> list[_Item]:
    """In the order in which they are cut."""
    if not costs.teacher:
        ordered = sorted(chosen, key=lambda e: (student_tokens(e), e.answer_id))
        return [_item(e, 0, costs, of_student) for e in ordered]
    ordered = sorted(chosen, key=lambda e: (e.passage_id, e.answer_id))
    items = []
    for _, group in groupby(ordered, key=lambda e: e.passage_id):
        answers = list(group)
        # any part of the group shares at least as much
        shared = common_prefix([e.teacher_prompt for e in answers]) if len(answers) > 1 else 0
        items += [_item(e, shared, costs, of_student) for e in answers]
    return items


def _item(example: Example, shared: int, costs: Costs, of_student: bool) -> _Item:
    read = student_tokens(example) * of_student
    taught = max(0, _teacher_tokens(example, costs) - shared)
    cost = costs.student * read + costs.teacher * taught + costs.row * len(example.answer)
    return _Item(example, read + taught, cost, shared, costs.teacher * shared)


def _least_largest(items: list[_Item], num_parts: int, limits: Limits) -> list[list[_Item]]:
    """At most so many parts, in order, the largest cost of which is as small as that allows."""
    low, high = 0.0, _cost(items) + sum(item.passage_cost for item in items)
    best = _cut(items, high, limits)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = _cut(items, middle, limits)
        if len(found) <= num_parts:
            best, high = found, middle
        else:
            low = middle
    return best


def _cut(items: list[_Item], most: float, limits: Limits) -> list[list[_Item]]:
    """Parts in order, each as long as cost and limits allow, and at least one answer long."""
    parts: list[list[_Item]] = []
    cost, tokens, passage = 0.0, 0, None
    for item in items:
        is_new = item.example.passage_id != passage
        cost += item.cost + is_new * item.passage_cost
        tokens += item.tokens + is_new * item.passage_tokens
        full = parts and len(parts[-1]) >= limits.answers
        if not parts or full or cost > most or tokens > limits.tokens:
            parts.append([])
            cost, tokens = item.cost + item.passage_cost, item.tokens + item.passage_tokens
        parts[-1].append(item)
        passage = item.example.passage_id
    return parts


def _cost(part: Sequence[_Item]) -> float:
    once = {item.example.passage_id: item.passage_cost for item in part}
    return sum(item.cost for item in part) + sum(once.values())
