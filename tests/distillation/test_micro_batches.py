"""Test that micro-batches hold each answer once, within limits, and cost about the same."""

import random
import statistics

import pytest
import torch

from pdtrain.config import LossConfig
from pdtrain.distillation import micro_batches, packing, schedule
from pdtrain.distillation.examples import Example
from pdtrain.distillation.micro_batches import Costs, Limits

ONLINE, CACHED = Costs(2.0, 4.0, 3.0), Costs(0.0, 4.0, 2.0)
NO_LIMIT = Limits(10**9, 10**9)


def some_examples(num_passages=6, most_answers=9, seed=0):
    """Return examples with passages of 30 to 300 tokens, and other texts of many lengths."""
    rng = random.Random(seed)
    found = []
    for passage in range(num_passages):
        text = tuple(rng.randrange(1000) for _ in range(rng.randrange(30, 300)))
        for _ in range(rng.randrange(1, most_answers + 1)):
            question = tuple(rng.randrange(1000, 2000) for _ in range(rng.randrange(5, 40)))
            answer = tuple(rng.randrange(1000) for _ in range(rng.randrange(1, 40)))
            number = f"{len(found):03}"
            found.append(Example(number, f"p{passage}", text + question, question, answer))
    return found


def read(examples, costs):
    """Return the numbers of tokens that teacher and student really read."""
    batch = packing.twin_batch(examples, LossConfig(), torch.device("cpu"), with_teacher=True)
    return len(batch.teacher.ids) * bool(costs.teacher), len(batch.student.ids)


def cost(examples, costs):
    teacher, student = read(examples, costs)
    answer = sum(len(e.answer) for e in examples)
    return costs.teacher * teacher + costs.student * student + costs.row * answer


def all_ranks(examples, costs, limits, num_ranks):
    return [
        micro_batches.micro_batches(examples, costs, limits, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]


@pytest.mark.parametrize("teacher", [0.0, 2.0], ids=["cached", "online"])
def test_padding_counts_towards_the_limit_of_tokens(teacher):
    """One long row makes all rows of its micro-batch as long."""
    text, answer = (1,) * 80, (2,) * 20
    examples = [
        Example(f"{i:02}", f"p{i}", text * (1 + 59 * (i == 7)), text, answer) for i in range(16)
    ]
    limits = Limits(16, 8192)
    found = micro_batches.micro_batches(examples, Costs(teacher, 4.0, 2.0, shares=False), limits)
    assert sorted(e.answer_id for one in found for e in one.examples) == [
        e.answer_id for e in examples
    ]
    for one in found:
        rows = [len(e.student_prompt) + 19 for e in one.examples]
        read = [len(e.teacher_prompt) + 19 for e in one.examples] if teacher else [0]
        assert len(rows) == 1 or len(rows) * (max(rows) + max(read)) <= limits.tokens


@pytest.mark.parametrize("costs", [ONLINE, CACHED], ids=["online", "cached"])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_every_answer_of_a_step_is_held_once_and_limits_hold(costs, num_ranks):
    rng = random.Random(0)
    for seed in range(30):
        examples = some_examples(seed=seed)
        step = rng.sample(examples, rng.randrange(1, len(examples) + 1))
        limits = Limits(rng.randrange(1, 9), rng.randrange(420, 2000))
        ranks = all_ranks(step, costs, limits, num_ranks)
        assert len({len(own) for own in ranks}) == 1, "every rank takes part equally often"
        found = [one for own in ranks for one in own]
        held = [e.answer_id for one in found if not one.is_filler for e in one.examples]
        assert sorted(held) == sorted(e.answer_id for e in step)
        for one in found:
            assert 0 < len(one.examples) <= limits.answers
            assert sum(read(one.examples, costs)) <= limits.tokens


@pytest.mark.parametrize("costs", [ONLINE, CACHED], ids=["online", "cached"])
def test_ranks_finish_together(costs):
    """A round's dearest rank costs at most 1.25 of the mean; divided by count it costs more."""
    by_cost, by_count = [], []
    for seed in range(20):
        examples = some_examples(num_passages=8, most_answers=16, seed=seed)
        ranks = all_ranks(examples, costs, NO_LIMIT, 4)
        by_cost += [
            unevenness([one.examples for one in turn], costs) for turn in zip(*ranks, strict=True)
        ]
        shuffled = random.Random(seed).sample(examples, len(examples))
        by_count.append(unevenness(schedule.split_evenly(shuffled, 4), costs))
    assert statistics.mean(by_cost) < 1.1 and max(by_cost) < 1.25
    assert statistics.mean(by_count) > statistics.mean(by_cost)


def unevenness(turn, costs):
    found = [cost(examples, costs) for examples in turn]
    return max(found) / statistics.mean(found)


def test_a_passage_is_read_once_for_answers_that_stand_together():
    examples = some_examples(num_passages=4, most_answers=8)
    random.Random(1).shuffle(examples)
    (whole,) = micro_batches.micro_batches(examples, ONLINE, NO_LIMIT)
    parts = [c for c in all_ranks(examples, ONLINE, NO_LIMIT, 2) for c in c]
    read_whole, read_parts = (sum(read(c.examples, ONLINE)[0] for c in p) for p in ([whole], parts))
    longest = max(len(e.teacher_prompt) for e in examples)
    assert read_parts - read_whole <= longest, "one border goes through at most one passage"


def test_the_order_given_does_not_matter():
    examples = some_examples()
    again = random.Random(3).sample(examples, len(examples))
    for costs in (ONLINE, CACHED):
        limits = Limits(5, 1500)
        assert all_ranks(examples, costs, limits, 3) == all_ranks(again, costs, limits, 3)


def test_an_answer_beyond_the_limit_is_refused_with_what_to_set():
    example = Example("a", "p", tuple(range(300)), tuple(range(20)), (1, 2, 3))
    size = 300 + 2 + 20 + 2
    micro_batches.refuse_oversized([example], ONLINE, Limits(4, size))
    micro_batches.refuse_oversized([example], CACHED, Limits(4, 22))
    with pytest.raises(ValueError, match=rf"has {size} tokens.*tokens_per_micro_batch={size - 1};"):
        micro_batches.refuse_oversized([example], ONLINE, Limits(4, size - 1))
    with pytest.raises(ValueError, match=r"set that to 324 or more, or corpus\.max_passage"):
        micro_batches.micro_batches([example], ONLINE, Limits(4, size - 1))


def test_calls_of_the_teacher_hold_whole_passages_where_they_fit():
    examples = some_examples(num_passages=12)
    calls = micro_batches.teacher_calls(examples, 1200, 20)
    assert [e for call in calls for e in call] == packing.in_order(examples)
    assert len(calls) > 2
    for call in calls:
        assert len(call) <= 20 and (len(call) == 1 or read(call, ONLINE)[0] <= 1200)
    assert any(len({e.passage_id for e in call}) > 1 for call in calls)
    single = micro_batches.teacher_calls(examples[:3], 1)
    assert [len(call) for call in single] == [1, 1, 1], "at least one"
