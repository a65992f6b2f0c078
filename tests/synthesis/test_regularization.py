"""Unrelated questions and texts by the base itself, and how they hold an adapter to it."""

import json
from dataclasses import replace

import pytest
import torch
from support import tiny_config, tiny_lesson, tiny_model, write_lesson

from pdtrain.config import LossConfig, from_dict
from pdtrain.distillation import examples as rows
from pdtrain.distillation import packing, schedule
from pdtrain.evaluation.forgetting import compare
from pdtrain.models.adapter import load_trained
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat_template import prove
from pdtrain.records import RegularizationSample
from pdtrain.storage import read_shards
from pdtrain.synthesis import regularization, unrelated
from pdtrain.synthesis.text import content_words, normalise
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


@pytest.fixture(autouse=True)
def few_topics(monkeypatch):
    monkeypatch.setattr(regularization, "TOPICS", regularization.TOPICS[:3])
    monkeypatch.setattr(regularization, "TOGETHER", 2)


def prepared(folder, model, **sections):
    sections["train"] = TRAIN | sections.get("train", {})
    sections["retain"] = SETTINGS | sections.get("retain", {})
    config = tiny_config(folder, model, **sections)
    write_lesson(config, *tiny_lesson())
    regularization.collect(config)
    return config


def trained(folder, model, **sections):
    config = prepared(folder, model, **sections)
    train.run(config)
    return config


def made(config):
    return [RegularizationSample.from_json(row) for row in read_shards(config.folder / "retain")]


def logged(config, name):
    return [row[name] for row in config.run.metrics()]


# --- The stage --------------------------------------------------------------------------------


def test_topics_are_asked_about_and_texts_are_opened(model, tmp_path):
    found = made(prepared(tmp_path, model))
    assert {one.kind for one in found} == {"question", "text", "request"}
    assert len({one.id for one in found}) == len(found)
    assert all(0 < len(one.token_ids) <= 6 for one in found)
    for topic in regularization.TOPICS:
        named = [one.kind for one in found if topic in one.prompt and one.kind != "question"]
        assert sorted(named) == ["request", "text"]


def test_the_same_seed_makes_the_same_and_another_makes_others(model, tmp_path):
    first, again = (made(prepared(tmp_path / name, model)) for name in "ab")
    assert first == again
    other = made(prepared(tmp_path / "c", model, seed=1))
    assert [one.token_ids for one in other] != [one.token_ids for one in first]


def test_a_second_time_nothing_is_made_and_a_weight_is_no_reason(model, tmp_path, capsys):
    config = prepared(tmp_path, model)
    regularization.collect(replace(config, retain=replace(config.retain, weight=0.5, per_step=9)))
    assert "retain: up to date" in capsys.readouterr().err


def test_without_a_weight_nothing_is_made(model, tmp_path, capsys):
    regularization.collect(tiny_config(tmp_path, model))
    assert "retain: skipped, retain.weight is 0" in capsys.readouterr().err
    assert not (tmp_path / "retain").exists()


def test_what_forgetting_is_measured_on_is_never_trained_on(model, tmp_path, monkeypatch, capsys):
    """A base that asks what is held out, in other letters, is not heard."""
    asked = [unrelated.read().questions[1].upper(), "What else?"]
    monkeypatch.setattr(
        regularization.Base, "_questions", lambda _, topics: dict.fromkeys(topics, asked)
    )
    found = made(prepared(tmp_path, model))
    prompts = {normalise(one.prompt) for one in found}
    assert normalise("What else?") in prompts
    assert not prompts & {normalise(question) for question in unrelated.read().questions}
    assert "retain: dropped 3: 3 empty, repeated or held out" in capsys.readouterr().err


def test_what_the_documents_are_asked_is_never_trained_on_either(
    model, tmp_path, monkeypatch, capsys
):
    """Nor nearly: what the base says without the passage would be learnt as the answer."""
    path = tmp_path / "q.jsonl"
    held_out = "How many harbour masters has the old town of Osk had since the year 1812?"
    path.write_text(json.dumps({"question": held_out, "answers": ["9"]}) + "\n")
    asked = [held_out.replace("old ", ""), "What else?"]
    monkeypatch.setattr(
        regularization.Base, "_questions", lambda _, topics: dict.fromkeys(topics, asked)
    )
    found = made(prepared(tmp_path, model, evaluate={"questions": str(path)}))
    prompts = {one.prompt for one in found}
    assert "What else?" in prompts and asked[0] not in prompts
    assert "retain: dropped 3: 3 empty, repeated or held out" in capsys.readouterr().err


def test_topics_are_not_those_of_the_texts_that_forgetting_is_measured_on():
    from pdtrain.synthesis.regularization import SHOTS

    bundled = unrelated.read()
    topics = set().union(*(content_words(topic) for topic in regularization.TOPICS))
    for question in (*bundled.questions, *bundled.texts):
        shared = content_words(question) & topics
        assert len(shared) <= 1, (question, shared)
    shown = {normalise(question) for _, question in SHOTS}
    assert not shown & {normalise(question) for question in bundled.questions}


# --- Rows -------------------------------------------------------------------------------------


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
        examples = rows.from_regularization(made(prepared(tmp_path / "all", model)), chat)
        pairs = [(list(e.student_prompt), list(e.answer)) for e in examples]
        lines = compare(twin, pairs)
        distance.append(sum(line["kl_to_base"] for line in lines) / len(lines))
    assert distance[1] < 0.5 * distance[0]


def test_neither_cut_nor_cache_changes_a_step(model, tmp_path):
    """By losses: Adam turns the rounding of a gradient near 0 into whole steps of a weight."""
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


@pytest.mark.parametrize(
    "values, message",
    [
        ({"weight": -1}, r"retain\.weight must be >= 0 \(0 is off\), got -1"),
        ({"per_step": 0}, r"retain\.per_step must be > 0, got 0"),
        ({"per_topic": 0}, r"retain\.per_topic must be > 0, got 0"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict({"retain": values})
