"""Test how samples about other things hold an adapter to its base while it is trained."""

from dataclasses import replace

import pytest
import torch
from support import tiny_config, tiny_model, tiny_records, write_records

from pdtrain.config import LossConfig
from pdtrain.distillation import packing, schedule
from pdtrain.distillation.examples import from_regularization
from pdtrain.evaluation.forgetting import compare
from pdtrain.models.adapters.adapter import load_trained
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.synthesis.retention import regularization
from pdtrain.training import train, training_set

SETTINGS = {"weight": 1.0, "per_topic": 4, "per_step": 3, "sampling": {"max_new_tokens": 6}}
TRAIN = {
    "epochs": 2,
    "answers_per_step": 4,
    "answers_per_micro_batch": 4,
    "learning_rate": 0.01,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def prepared(folder, model, **sections):
    sections["train"] = TRAIN | sections.get("train", {})
    sections["retain"] = SETTINGS | sections.get("retain", {})
    config = tiny_config(folder, model, **sections)
    write_records(config, *tiny_records())
    regularization.collect(config, topics=regularization.TOPICS[:3])
    return config


def trained(folder, model, **sections):
    config = prepared(folder, model, **sections)
    train.run(config)
    return config


def made(config):
    return list(config.run.regularization())


def logged(config, name):
    return [row[name] for row in config.run.metrics()]


# --- Examples ---------------------------------------------------------------------------------


def test_both_sides_read_the_same_and_a_text_has_no_chat(model, tmp_path):
    config = prepared(tmp_path, model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    for one, example in zip(
        made(config), training_set.regularization_examples(config, chat), strict=True
    ):
        assert example.teacher_prompt == example.student_prompt
        assert example.answer == one.token_ids
        wanted = chat.ids(one.prompt) if one.kind == "text" else chat.student(one.prompt)
        assert list(example.student_prompt) == wanted


@pytest.mark.parametrize("num_examples, per_step", [(7, 3), (3, 7), (5, 5), (1, 2)])
def test_they_are_taken_in_turn(num_examples, per_step):
    taken = [
        i
        for step in range(1, 2 * num_examples + 1)
        for i in schedule.indices_in_turn(num_examples, per_step, step, seed=3)
    ]
    for start in range(0, len(taken) - num_examples + 1, num_examples):
        assert sorted(taken[start : start + num_examples]) == list(range(num_examples))


@pytest.mark.parametrize("average", ["token", "answer"])
@pytest.mark.parametrize("num_ranks, size", [(1, 100), (1, 2), (3, 1)])
def test_they_weigh_together_what_they_should(model, tmp_path, average, num_ranks, size):
    config = prepared(
        tmp_path,
        model,
        retain={"weight": 0.25},
        loss={"average": average},
        train={"answers_per_micro_batch": size, "answers_per_step": 4 * size},
    )
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    plan = train.Schedule(
        config,
        "inputs",
        training_set.chosen_examples(config, chat, None),
        training_set.regularization_examples(config, chat),
    )
    for step in range(1, plan.num_steps + 1):
        cuts = [
            cut for rank in range(num_ranks) for cut in plan.micro_batches(step, rank, num_ranks)
        ]
        weights = {True: 0.0, False: 0.0}
        for cut in cuts:
            batch = packing.twin_batch(
                cut.examples,
                LossConfig(average=average),
                torch.device("cpu"),
                with_teacher=False,
                is_filler=cut.is_filler,
            )
            weights[cut.is_regularization] += batch.total_weight * cut.weight
        assert weights[True] == pytest.approx(0.25 * weights[False])


# --- Training ---------------------------------------------------------------------------------


def test_the_first_loss_is_the_documents_alone_since_nothing_is_forgotten_yet(model, tmp_path):
    without = trained(tmp_path / "without", model, retain={"weight": 0.0})
    held = trained(tmp_path / "held", model, retain={"weight": 3.0})
    assert logged(held, "train/retain_loss")[0] == pytest.approx(0, abs=1e-9)
    assert logged(held, "train/loss")[0] == pytest.approx(logged(without, "train/loss")[0] / 4)
    assert logged(held, "train/retain_loss")[-1] > 1e-4
    assert "train/retain_loss" not in without.run.metrics()[0]


@pytest.mark.parametrize("objective", ["distill", "sft", "raw_text"])
def test_they_hold_the_adapter_to_its_base(objective, model, tmp_path):
    distance = []
    for weight in (0.0, 10.0):
        settings = {"objective": objective, "epochs": 12}
        config = trained(tmp_path / str(weight), model, retain={"weight": weight}, train=settings)
        twin, chat = load_trained(config)
        examples = from_regularization(made(prepared(tmp_path / "all", model)), chat)
        pairs = [(list(e.student_prompt), list(e.answer)) for e in examples]
        lines = compare(twin, pairs)
        distance.append(sum(line["kl_to_base"] for line in lines) / len(lines))
    assert distance[1] < 0.5 * distance[0]


def test_neither_cut_nor_cache_changes_a_step(model, tmp_path):
    """Losses are compared: Adam turns the rounding of a gradient near 0 into whole steps."""
    whole = trained(tmp_path / "whole", model)
    cut = trained(tmp_path / "cut", model, train={"answers_per_micro_batch": 1})
    cached = trained(tmp_path / "cached", model, teacher={"cache": True})
    assert (cached.folder / "teacher").exists() and not (whole.folder / "teacher").exists()
    for other in (cut, cached):
        for name in ("train/loss", "train/retain_loss"):
            assert logged(other, name) == pytest.approx(logged(whole, name), abs=1e-5)
        assert logged(other, "train/grad_norm") == pytest.approx(
            logged(whole, "train/grad_norm"), rel=1e-4
        )


def test_weight_and_number_decide_the_adapter(model, tmp_path):
    config = prepared(tmp_path, model)
    hashes = {
        train.inputs_hash(replace(config, retain=replace(config.retain, **change)), None)
        for change in ({}, {"weight": 2.0}, {"per_step": 4}, {"weight": 0.0})
    }
    assert len(hashes) == 4
