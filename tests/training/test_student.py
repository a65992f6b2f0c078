"""The student that answers while it is trained, in one process and on the ranks of a training."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from support import (
    needs_compiler,
    randomise_adapter,
    run_ranks,
    tiny_config,
    tiny_model,
    tiny_records,
    write_records,
)

from pdtrain.config import SamplingConfig, from_dict
from pdtrain.distributed.world import World, publish
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.planning import automatic
from pdtrain.storage import read_json
from pdtrain.training import student, train
from pdtrain.training.student import SharedStudent

SECONDS = 400.0  # importing DeepSpeed in two processes on a busy machine of two cores
SAMPLING = SamplingConfig(temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def own(model, tmp_path):
    config = tiny_config(tmp_path, model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    adapted = add_adapter(load_model(config.model), config.adapter, seed=0)
    randomise_adapter(adapted)
    return HuggingFaceBackend(adapted, chat, batch_size=4)


@pytest.mark.parametrize("num_prompts", [0, 1, 2, 11])
def test_ranks_that_share_prompts_say_what_one_process_says(own, num_prompts, monkeypatch):
    prompts = [own.chat.student(f"{'Where ' * (i % 3 + 1)}is {i}?") for i in range(num_prompts)]
    parts, calls = [], []

    def gathered(mine):
        """Let the next rank answer, and return the parts of all once the last one has."""
        parts.append(mine)
        if len(parts) < 3:
            calls.append(SharedStudent(own, len(parts), 3).sample(prompts, SAMPLING, 5))
        return list(parts)

    monkeypatch.setattr(student, "gathered", gathered)
    calls.append(SharedStudent(own, 0, 3).sample(prompts, SAMPLING, 5))
    wanted = own.sample(prompts, SAMPLING, 5)
    assert calls == [wanted] * 3
    assert sum(map(len, parts)) == num_prompts, "nothing is written twice"
    assert min(map(len, parts)) >= num_prompts // 4, "and no rank is idle"


def test_ranks_together_score_nothing(own):
    shared = SharedStudent(own, 0, 2)
    assert not shared.can_score and shared.window == own.window and shared.chat is own.chat
    with pytest.raises(ValueError, match="score no texts"):
        shared.log_likelihoods([], [])


def prepared(folder, model, **sections):
    """Write the records and held-out questions of a run, and return its config as plain values."""
    asked = folder.parent / "held-out.jsonl"
    lines = [{"question": f"Who is {i}?", "answers": ["a", "e"], "document": "d"} for i in range(5)]
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = {
        "out_dir": str(folder),
        "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
        "adapter": {"rank": 3, "alpha": 6},
        "rollout": {"share": 0.5, "sampling": {"max_new_tokens": 6}},
        "evaluate": {"questions": str(asked), "max_new_tokens": 8, "batch_size": 2},
        "train": {
            "epochs": 2,
            "answers_per_step": 4,
            "answers_per_micro_batch": 2,
            "learning_rate": 0.01,
            "evaluate_every_epochs": 1,
        },
    } | sections
    write_records(from_dict(values), *tiny_records())
    return values


def run_rank(rank, values):
    """Train on this rank, with a student that writes a part of the answers."""
    size = torch.distributed.get_world_size()
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    publish(World(rank, size, rank, size, "the test"))
    train.run(from_dict(values))


@pytest.mark.slow  # pytest -m slow tests/training/test_student.py
@needs_compiler
def test_on_two_ranks_the_student_writes_and_is_asked_as_on_one(model, tmp_path, monkeypatch):
    alone = from_dict(prepared(tmp_path / "alone", model))
    train.run(alone)
    for name, value in (("DS_ACCELERATOR", "cpu"), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    values = prepared(tmp_path / "ranks", model, engine={"zero_stage": 2})
    run_ranks(run_rank, 2, tmp_path, values, timeout_seconds=SECONDS)
    shared = from_dict(values)
    found, wanted = (
        load_file(c.run.adapter / "adapter_model.safetensors") for c in (shared, alone)
    )
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    for metric in ("train/answer_tokens", "eval/gold_in_answer"):
        said = [
            [line[metric] for line in config.run.metrics() if metric in line]
            for config in (shared, alone)
        ]
        assert said[0] == said[1] and len(said[0]) > 2, metric
    steps = read_json(shared.run.adapter / "manifest.json")["num_steps"]
    untouched = from_dict(prepared(tmp_path / "off", model, rollout={"share": 0.0}))
    train.run(untouched)
    tokens = [
        line["train/answer_tokens"] for line in untouched.run.metrics() if "train/loss" in line
    ]
    assert len(tokens) == steps
    assert tokens != said[0], "the student has written something else than the teacher"


# --- What a base that is spread cannot do -----------------------------------------------------


@pytest.mark.parametrize("stage, is_refused", [("auto", True), (3, True), (2, False), (1, False)])
def test_only_a_base_in_parts_is_refused(model, tmp_path, stage, is_refused):
    config = tiny_config(
        tmp_path, model, rollout={"share": 0.5}, engine={"kind": "deepspeed", "zero_stage": stage}
    )
    if is_refused:
        with pytest.raises(ValueError, match=rf"engine\.zero_stage={stage} spreads it; set"):
            train.refuse_ranks(config, World())
    else:
        train.refuse_ranks(config, World())


def test_auto_leaves_every_rank_a_whole_base_where_it_has_to_write(model, tmp_path):
    two = World(0, 2, 0, 2, "the test")
    for share, stages in ((0.5, [2, 1, 3, 3]), (0.0, [3, 1, 3, 3])):
        config = tiny_config(tmp_path, model, rollout={"share": share})
        found = [
            automatic.for_machine(replace(config, engine=replace(config.engine, **knobs)), world)
            for knobs, world in (
                ({}, two),
                ({"zero_stage": 1}, two),
                ({"zero_stage": 3, "offload_base": True}, two),
                ({}, World()),
            )
        ]
        assert [one.config.engine.stage for one in found] == stages
