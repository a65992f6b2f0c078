"""Test answers that the student writes: by the adapter of the step, the same when resumed."""

from dataclasses import replace

import pytest
import torch
from support import randomise_adapter, tiny_model
from tiny_training import adapter, assert_same_bits, logged, stop_after
from tiny_training import prepared as prepared_without_rollout

from pdtrain.config import RolloutConfig, SamplingConfig, from_dict
from pdtrain.distillation import packing
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.rollout import Rollout
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.world import World
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.lora import adapter_off, add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.records import seed_for
from pdtrain.training import train, training_set

ROLLOUT = {"share": 1.0, "sampling": {"max_new_tokens": 6}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def prepared(folder, model, **sections):
    sections["train"] = {"epochs": 2, "save_every_steps": 1} | sections.get("train", {})
    sections["rollout"] = ROLLOUT | sections.get("rollout", {})
    return prepared_without_rollout(folder, model, **sections)


def trained(folder, model, **sections):
    config = prepared(folder, model, **sections)
    train.run(config)
    return config


@pytest.fixture
def loaded(model, tmp_path):
    config = prepared(tmp_path, model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    twin = add_adapter(load_model(config.model), config.adapter, seed=0)
    examples = list(training_set.chosen_examples(config, chat, None))
    return config, HuggingFaceBackend(twin, chat), examples


def rollout(student, share=1.0, seed=0):
    return Rollout(student, RolloutConfig(share, SamplingConfig(1.0, 0, 1.0, 6)), seed)


def test_answers_are_what_the_student_says_now(loaded):
    _, student, examples = loaded
    randomise_adapter(student.model)
    found = rollout(student)(3, examples)
    prompts = [e.student_prompt for e in examples]
    sampling, seed = SamplingConfig(1.0, 0, 1.0, 6), seed_for(0, "rollout", 3)
    said = [c.token_ids for c in student.sample(prompts, sampling, seed)]
    assert [e.answer for e in found] == said
    with adapter_off(student.model):
        assert [c.token_ids for c in student.sample(prompts, sampling, seed)] != said
    for new, old in zip(found, examples, strict=True):
        assert new.answer_id != old.answer_id
        assert replace(new, answer_id=old.answer_id, answer=old.answer) == old


def test_a_share_is_written_and_the_rest_is_the_teachers(loaded):
    _, student, examples = loaded
    assert rollout(student, 0.0)(1, examples) == examples
    kept = [
        [new in examples for new in rollout(student, 0.5)(step, examples)] for step in range(1, 9)
    ]
    count = sum(map(sum, kept))
    assert 0.3 * 8 * len(examples) < count < 0.7 * 8 * len(examples)
    assert len({tuple(flags) for flags in kept}) > 4, "others at every step"


def test_the_same_step_writes_the_same_and_another_step_or_seed_does_not(loaded):
    _, student, examples = loaded
    first = rollout(student)(1, examples)
    assert rollout(student)(1, examples) == first
    assert rollout(student)(2, examples) != first
    assert rollout(student, seed=1)(1, examples) != first


def test_the_first_loss_is_the_divergence_on_what_the_base_says_without_the_passage(
    model, tmp_path, loaded
):
    config = trained(tmp_path / "run", model, train={"answers_per_step": 100})
    _, student, examples = loaded
    schedule = Schedule(config, "inputs", examples)
    order = [examples[i] for i in schedule._indices(0, 0)]
    written = rollout(student)(1, order)
    batch = packing.twin_batch(written, config.loss, torch.device("cpu"), with_teacher=True)
    loss, _ = Twin(student.model, TopKLoss(config.loss))(batch)
    assert schedule.steps_per_epoch == 1
    assert logged(config)[0] == pytest.approx(float(loss.detach()) / batch.total_weight, abs=1e-5)


def test_stopping_after_every_step_changes_nothing(model, tmp_path, monkeypatch):
    undisturbed = trained(tmp_path / "undisturbed", model, rollout={"share": 0.5})
    config = prepared(tmp_path / "stopped", model, rollout={"share": 0.5})
    for _ in range(len(logged(undisturbed)) - 1):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, 1)
            train.run(config)
    train.run(config)
    assert logged(config) == logged(undisturbed)
    assert_same_bits(adapter(config), adapter(undisturbed))


def test_nothing_is_cached_of_answers_that_come_once(model, tmp_path):
    config = trained(tmp_path, model, teacher={"cache": True})
    assert not (config.folder / "teacher").exists()
    assert len(set(logged(config, "train/answer_tokens"))) > 1


def test_its_share_decides_the_adapter(model, tmp_path):
    config = prepared(tmp_path, model)
    off = replace(config, rollout=RolloutConfig(0.0))
    hashes = {
        train.inputs_hash(c, None)
        for c in (config, off, replace(config, rollout=replace(config.rollout, share=0.5)))
    }
    assert len(hashes) == 3


def test_a_spread_base_cannot_write(model, tmp_path):
    config = prepared(tmp_path, model, engine={"kind": "deepspeed"})
    with pytest.raises(ValueError, match=r"rollout\.share > 0 needs a base that each rank holds"):
        train.refuse_ranks(config, World())


@pytest.mark.parametrize(
    "values, message",
    [
        ({"rollout": {"share": 1.5}}, r"rollout\.share must be in \[0, 1\], got 1\.5"),
        (
            {"rollout": {"share": 0.5}, "train": {"objective": "sft"}},
            r"objective=sft has no teacher .* set rollout\.share=0",
        ),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(values)
