"""Test that a cached teacher teaches as the one online, and that labels can stand for it."""

import signal

import pytest
import torch
from architectures_table import case, write_model
from support import tiny_model
from tiny_training import adapter, assert_same_bits, logged, on_each_call, prepared, trained
from transformers import AutoModelForCausalLM

from pdtrain.distributed.engine import PlainEngine
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.progress import Stopped
from pdtrain.storage import read_json
from pdtrain.training import teacher, train, training_set


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("ask", ["signal", "file"])
def test_a_stop_while_the_teacher_speaks_keeps_what_it_said(ask, model, tmp_path, monkeypatch):
    # so small that each call of the teacher holds the answers about one passage
    sections = {"teacher": {"cache": True}, "train": {"tokens_per_micro_batch": 550}}
    whole = trained(tmp_path / "whole", model, **sections)
    config = prepared(tmp_path / "run", model, **sections)
    stop, asked = config.run.stop_file, []

    def stop_in_the_first(call):
        if call == 1:
            signal.raise_signal(signal.SIGTERM) if ask == "signal" else stop.touch()

    with monkeypatch.context() as patch:
        on_each_call(patch, "teach", stop_in_the_first)
        with pytest.raises(Stopped, match=r"before the first step; what the teacher has"):
            train.run(config)
    assert not config.run.checkpoints_folder.exists()
    stop.unlink(missing_ok=True)
    on_each_call(monkeypatch, "teach", asked.append)
    train.run(config)
    assert len(asked) == 2, "of three passages one was known"
    assert_same_bits(adapter(config), adapter(whole))


@pytest.mark.parametrize("labels", [0.0, 0.5])
def test_a_cached_teacher_teaches_as_the_one_online(model, tmp_path, labels):
    online, cached = (
        trained(tmp_path / str(cache), model, teacher={"cache": cache}, loss={"labels": labels})
        for cache in (False, True)
    )
    assert cached.run.teacher_folder.exists() and not online.run.teacher_folder.exists()
    for name in ("train/loss", "distillation/teacher_mass"):
        assert logged(cached, name) == pytest.approx(logged(online, name), abs=1e-6)


def test_a_cached_teacher_of_padded_batches_teaches_as_the_one_online(tmp_path):
    folder = write_model(case("lfm2"), tmp_path / "model")
    online, cached = (
        trained(tmp_path / str(cache), folder, teacher={"cache": cache}) for cache in (False, True)
    )
    for name in ("train/loss", "distillation/teacher_mass"):
        assert logged(cached, name) == pytest.approx(logged(online, name), abs=1e-6)


def test_a_student_that_cannot_be_packed_writes_its_own_answers(tmp_path):
    folder = write_model(case("lfm2"), tmp_path / "model")
    config = trained(
        tmp_path / "run", folder, rollout={"share": 0.5, "sampling": {"max_new_tokens": 8}}
    )
    losses = logged(config)
    assert len(losses) == 9 and all(0 < loss < 100 for loss in losses)


def test_the_cache_filled_beforehand_is_the_one_that_training_reads(model, tmp_path, monkeypatch):
    online = trained(tmp_path / "online", model)
    config = prepared(tmp_path / "run", model, teacher={"cache": True})
    teacher.teach(config)
    shards = config.run.teacher_folder.glob("*/shard-*.json")
    lengths = [length for shard in shards for _, length in read_json(shard)["answers"]]
    assert sorted(lengths) == sorted(len(answer.token_ids) for answer in config.run.answers())
    assert not config.run.adapter.exists() and not config.run.metrics_folder.exists()
    monkeypatch.setattr(PlainEngine, "teach", None)  # the teacher is not asked again
    teacher.teach(config)
    train.run(config)
    assert logged(config) == pytest.approx(logged(online), abs=1e-6)


def test_a_cache_of_another_temperature_is_left_alone_and_not_used(model, tmp_path):
    sections = {"teacher": {"cache": True}}
    cold = trained(tmp_path / "run", model, **sections)
    (before,) = cold.run.teacher_folder.iterdir()
    shards = {path: path.read_bytes() for path in before.iterdir()}
    warm = trained(tmp_path / "run", model, loss={"temperature": 2.0}, **sections)
    assert len(list(warm.run.teacher_folder.iterdir())) == 2
    assert {path: path.read_bytes() for path in before.iterdir()} == shards
    fresh = trained(tmp_path / "fresh", model, loss={"temperature": 2.0}, **sections)
    assert logged(warm) == logged(fresh)


@pytest.mark.parametrize("off", [{"teacher": {"cache": False}}, {"train": {"epochs": 1}}])
def test_teaching_for_nobody_is_refused(off, model, tmp_path):
    config = prepared(tmp_path, model, **({"teacher": {"cache": True}} | off))
    with pytest.raises(ValueError, match=r"never reads a cache: set teacher.cache=true and train"):
        teacher.teach(config)


def test_teaching_before_answering_says_what_to_run(model, tmp_path):
    config = prepared(tmp_path, model, teacher={"cache": True})
    (config.run.answers_folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"answers is not there .* run `pdtrain answers CONFIG`"):
        teacher.teach(config)


def test_teaching_what_asks_no_teacher_is_refused(model, tmp_path):
    config = prepared(tmp_path, model, teacher={"cache": True}, train={"objective": "sft"})
    with pytest.raises(ValueError, match=r"objective=sft asks no teacher"):
        teacher.teach(config)


@pytest.mark.parametrize("objective", ["sft", "raw_text"])
def test_other_objectives_start_at_their_cross_entropy_and_lower_it(objective, model, tmp_path):
    """The first step's loss is the base's own, which plain transformers give."""
    settings = {"objective": objective, "answers_per_step": 100, "answers_per_micro_batch": 5}
    settings["epochs"] = 9
    config = trained(tmp_path, model, train=settings, teacher={"cache": True})
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    examples = training_set.chosen_examples(config, chat, None)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    nats = []
    for e in examples:
        with torch.no_grad():
            logits = base(torch.tensor([[*e.student_prompt, *e.answer]])).logits[0]
        answer = torch.tensor(e.answer)
        rows = logits[len(e.student_prompt) - 1 : -1]
        nats.append(torch.nn.functional.cross_entropy(rows, answer, reduction="none"))
    found = logged(config)
    assert found[0] == pytest.approx(float(torch.cat(nats).mean()), abs=1e-5)
    assert found[-1] < 0.9 * found[0]
    assert not config.run.teacher_folder.exists(), "no teacher was asked"
