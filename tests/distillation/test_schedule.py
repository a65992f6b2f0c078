"""Test the order of answers in the steps of every epoch."""

import random

import numpy as np
import pytest
from support import tiny_config, tiny_model

from pdtrain.distillation import schedule as schedules
from pdtrain.distillation.examples import Example
from pdtrain.distillation.schedule import Schedule, epoch_order
from pdtrain.records import rng_for


def test_every_epoch_trains_on_every_answer_in_a_new_order(tmp_path):
    examples = [Example(str(i), "p", (1,), (1,), (2,)) for i in range(10)]
    model = tiny_model(tmp_path / "model")
    config = tiny_config(tmp_path / "run", model, train={"epochs": 2, "answers_per_step": 4})
    schedule = Schedule(config, "inputs", examples)
    steps = [
        [e.answer_id for part in schedule.micro_batches(step) for e in part.examples]
        for step in range(1, schedule.num_steps + 1)
    ]
    half = schedule.steps_per_epoch
    epochs = [[i for step in part for i in step] for part in (steps[:half], steps[half:])]
    assert [sorted(epoch) for epoch in epochs] == [sorted(str(i) for i in range(10))] * 2
    assert epochs[0] != epochs[1]


def plain_order(passages, seed, epoch, answers_per_group):
    """Return the order of an epoch with plain lists: the slow, obvious way."""
    rng, order = rng_for(seed, "epoch", epoch), list(range(len(passages)))
    rng.shuffle(order)
    if answers_per_group == 1:
        return order
    by_passage = {}
    for index in order:
        by_passage.setdefault(passages[index], []).append(index)
    groups = [
        answers[first : first + answers_per_group]
        for answers in by_passage.values()
        for first in range(0, len(answers), answers_per_group)
    ]
    rng.shuffle(groups)
    return [index for group in groups for index in group]


@pytest.mark.parametrize("group", [1, 2, 5, 16, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 33, 500])
def test_the_order_of_an_epoch_is_that_of_plain_lists(count, group):
    drawn = random.Random(count)
    passages = [f"p{drawn.randrange(1 + count // 7)}" for _ in range(count)]
    numbers = np.unique(passages, return_inverse=True)[1].astype(np.int32)
    for epoch in range(3):
        wanted = plain_order(passages, 4, epoch, group)
        assert epoch_order(passages, 4, epoch, group).tolist() == wanted
        assert epoch_order(numbers, 4, epoch, group).tolist() == wanted


def test_examples_in_turn_are_those_of_plain_lists_and_shuffled_once_a_turn(monkeypatch):
    real, calls = schedules._shuffled, []
    monkeypatch.setattr(schedules, "_shuffled", lambda *a: calls.append(a) or real(*a))
    known = {}
    for step in range(1, 30):
        places = range((step - 1) * 3, step * 3)
        wanted = [plain_order([""] * 7, 5, i // 7, 1)[i % 7] for i in places]
        assert schedules.indices_in_turn(7, 3, step, 5, known) == wanted
        assert len(known) <= 2
    assert len(calls) == 1 + (29 * 3 - 1) // 7
