"""Test the order of answers in the steps of every epoch."""

from support import tiny_config, tiny_model

from pdtrain.distillation.examples import Example
from pdtrain.distillation.schedule import Schedule


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
