"""Test training that goes on from an adapter: from its weights, and mainly on what is new."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import (
    needs_compiler,
    run_ranks,
    tiny_config,
    tiny_model,
    tiny_records,
    write_records,
)
from tiny_training import adapter, assert_same_bits, logged, on_each_call, stop_after

from pdtrain import cli
from pdtrain.config import from_dict
from pdtrain.storage import read_json, sha256_file, write_json
from pdtrain.training import train, warm_start

WEIGHTS = "adapter_model.safetensors"
SETTINGS = {"epochs": 2, "answers_per_step": 100, "learning_rate": 0.01, "warmup_ratio": 0.0}
SETTINGS["scheduler"] = "constant"  # two steps are the same in a run of three


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def prepared(folder, model, passages=(0, 1, 2), **sections):
    """Return the config of a run on some of five passages, each a document with four answers."""
    sections["train"] = SETTINGS | sections.get("train", {})
    config = tiny_config(folder, model, **sections)
    found, questions, answers = tiny_records(5)
    ids = {found[i].id for i in passages}
    write_records(
        config,
        [p for p in found if p.id in ids],
        [q for q in questions if q.passage_id in ids],
        [a for a in answers if a.passage_id in ids],
    )
    return config


@pytest.fixture(scope="module")
def first(model, tmp_path_factory):
    """Train an adapter that has learned the passages 0, 1 and 2; no test changes it."""
    config = prepared(tmp_path_factory.mktemp("first"), model)
    train.run(config)
    return config


@pytest.fixture
def start(first, tmp_path):
    """Copy that adapter, to start from it."""
    return Path(shutil.copytree(first.folder / "adapter", tmp_path / "start"))


def warm_started(folder, model, start, passages=(0, 1, 2), **settings):
    """Return the config of a run that goes on from an adapter."""
    settings = {"start": str(start)} | settings
    return prepared(folder, model, passages, train=settings)


def ids(*numbers):
    found = tiny_records(5)[0]
    return [found[number].id for number in numbers]


def record(config):
    return read_json(config.folder / "adapter" / "documents.json")


def num_answers(config):
    """Return how many answers an adapter was trained on."""
    return read_json(config.folder / "adapter" / "manifest.json")["num_answers"]


def test_a_fresh_adapter_says_what_it_has_learned(first):
    documents = {f"{i}.txt": ids(i) for i in range(3)}
    assert record(first) == {"started_from": None, "documents": documents, "new": []}


def test_the_first_step_is_taken_from_the_weights_of_the_start(first, start, model, tmp_path):
    """Two steps from scratch made the start, so its first loss is the third one from scratch."""
    longer = prepared(tmp_path / "longer", model, train={"epochs": 3})
    train.run(longer)
    config = warm_started(tmp_path / "run", model, start, learning_rate=1e-12)
    train.run(config)
    assert logged(longer)[:2] == logged(first)
    assert logged(config) == pytest.approx([logged(longer)[2]] * 2, abs=1e-6)
    assert logged(config)[0] < logged(first)[1] < 0.99 * logged(first)[0]
    before, after = (load_file(c / WEIGHTS) for c in (start, config.folder / "adapter"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-9, rtol=0)


def test_an_interrupted_training_goes_on_from_its_own_checkpoint(
    start, model, tmp_path, monkeypatch
):
    whole = warm_started(tmp_path / "whole", model, start)
    train.run(whole)
    config = warm_started(tmp_path / "run", model, start, save_every_steps=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 1)
        train.run(config)
    steps = []
    on_each_call(monkeypatch, "step", steps.append)
    train.run(config)
    assert len(steps) == 1
    assert_same_bits(adapter(config), adapter(whole))


def test_what_was_learned_accumulates(start, model, tmp_path):
    """Document 1 is gone, document 3 is new; then 4 comes, on top of the second adapter."""
    second = warm_started(tmp_path / "second", model, start, (0, 2, 3), replay=0.5)
    train.run(second)
    found = record(second)
    assert found["started_from"] == sha256_file(start / WEIGHTS)
    assert found["new"] == ids(3)
    assert found["documents"] == {f"{i}.txt": ids(i) for i in range(4)}
    assert num_answers(second) == 4 + round(0.5 * 4)
    third = warm_started(tmp_path / "third", model, second.folder / "adapter", (0, 3, 4))
    train.run(third)
    assert record(third)["documents"] == {f"{i}.txt": ids(i) for i in range(5)}
    assert record(third)["new"] == ids(4)


def test_a_start_that_knows_every_passage_is_trained_on_all_of_them(start, model, tmp_path):
    config = warm_started(tmp_path / "run", model, start, (0, 1), replay=0.0)
    train.run(config)
    assert num_answers(config) == 8
    assert record(config)["new"] == []


def test_an_adapter_from_elsewhere_is_trained_on_everything(start, model, tmp_path):
    for name in ("documents.json", "manifest.json"):
        (start / name).unlink()
    config = warm_started(tmp_path / "run", model, start, replay=0.0)
    train.run(config)
    assert num_answers(config) == 12
    assert record(config)["new"] == ids(0, 1, 2)


def test_raw_text_is_chosen_by_passage_too(start, model, tmp_path):
    settings = {"objective": "raw_text", "replay": 1.0}
    config = warm_started(tmp_path / "run", model, start, (0, 1, 2, 3), **settings)
    train.run(config)
    assert num_answers(config) == 2, "a passage is one window: the new one, and one of the others"


# --- What decides the adapter -------------------------------------------------------------------


def inputs_hash(config):
    return train.inputs_hash(config, warm_start.of_config(config))


def test_weights_knowledge_and_replay_of_the_start_decide_and_its_place_does_not(
    start, model, tmp_path
):
    (start / "manifest.json").unlink()  # it vouches for what is changed below
    config = warm_started(tmp_path / "run", model, start)
    hashes = [inputs_hash(config)]
    moved = replace(config, train=replace(config.train, start=str(start.rename(tmp_path / "m"))))
    assert inputs_hash(moved) == hashes[0]
    hashes.append(inputs_hash(prepared(tmp_path / "run", model)))
    hashes.append(inputs_hash(replace(moved, train=replace(moved.train, replay=2.0))))
    (tmp_path / "m" / "documents.json").unlink()
    hashes.append(inputs_hash(moved))
    edit(tmp_path / "m", lambda tensors: {name: value * 2 for name, value in tensors.items()})
    hashes.append(inputs_hash(moved))
    assert len(set(hashes)) == len(hashes)


# --- What is refused --------------------------------------------------------------------------


def edit(folder, change):
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def with_setting(folder, **settings):
    path = folder / "adapter_config.json"
    write_json(path, read_json(path) | settings)


@pytest.mark.parametrize(
    "damage, said",
    [
        (
            lambda f: shutil.rmtree(f),
            r"adapter_model.safetensors is not there; expected the folder",
        ),
        (lambda f: (f / "adapter_config.json").unlink(), r"adapter_config.json is not there"),
        (lambda f: (f / "adapter_config.json").write_text("{"), r"adapter_config.json is damaged"),
        (
            lambda f: (f / "adapter_config.json").write_text("[]"),
            r"adapter_config.json is damaged: .* copy the folder again, or set train.start=''",
        ),
        (lambda f: with_setting(f, r=2), r"has rank 2 and alpha 8, this config adapter.rank=4"),
        (lambda f: with_setting(f, lora_alpha=9), r"rank 4 and alpha 9, this config adapter.alpha"),
        (lambda f: with_setting(f, use_rslora=True), r"use_rslora=True, and only plain LoRA"),
        (lambda f: with_setting(f, alpha_pattern={"q": 1}), r"alpha_pattern=.* only plain LoRA"),
        (lambda f: (f / WEIGHTS).write_bytes(b"no tensors"), r"is damaged"),
        (
            lambda f: edit(f, lambda t: {n: v * float("nan") for n, v in t.items()}),
            r"hold values that are not finite",
        ),
        (
            lambda f: edit(f, lambda t: {n: v for n, v in t.items() if "q_proj" in n}),
            r"differ, .* first; .* set adapter.target_modules as it had them",
        ),
        (
            lambda f: edit(f, lambda t: {n: v[:, :1].clone() for n, v in t.items()}),
            r"does not fit model.name=.* tensors have other sizes",
        ),
        (lambda f: (f / "documents.json").write_text("{"), r"documents.json must be"),
        (lambda f: (f / "documents.json").write_text("[]"), r"documents.json must be"),
        (lambda f: (f / "documents.json").write_text('{"a": 1}'), r"documents.json must be"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_any_step(damage, said, start, model, tmp_path):
    config = warm_started(tmp_path / "run", model, start)
    (start / "manifest.json").unlink()  # the folder of another program has none
    damage(start)
    with pytest.raises(ValueError, match=said):
        train.run(config)
    assert not (config.folder / "metrics").exists() and not (config.folder / "adapter").exists()


@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json", "documents.json"])
def test_a_start_that_is_not_what_its_manifest_says_is_refused(name, start, model, tmp_path):
    config = warm_started(tmp_path / "run", model, start)
    data = bytearray((start / name).read_bytes())
    data[-2] ^= 1
    (start / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} is damaged .* copy the folder again, or set"):
        train.run(config)


@pytest.mark.parametrize("name", ["adapter", "export", "rounds/2/adapter"])
def test_a_run_does_not_start_from_what_it_writes(name, start, model, tmp_path):
    config = warm_started(tmp_path / "run", model, tmp_path / "run" / name)
    shutil.copytree(start, tmp_path / "run" / name)
    with pytest.raises(ValueError, match="is what this run itself writes; copy the folder"):
        warm_start.of_config(config)


def test_a_start_on_another_base_is_known_by_its_name(start, model, tmp_path):
    config = warm_started(tmp_path / "run", model, start)
    for base, other in ((f"/elsewhere/{model.name}", ""), ("", ""), ("owner/b", "b")):
        with_setting(start, base_model_name_or_path=base)
        assert warm_start.other_base(start, config) == other


def test_another_snapshot_of_the_hubs_cache_is_the_same_base(start, model, tmp_path):
    """Its folder is called by the hash of a commit, which changes with every update."""
    config = warm_started(tmp_path / "run", model, start)
    cached, names = tmp_path / "models--Acme--Tiny" / "snapshots", ("0" * 40, "1" * 40)
    for name in names:
        shutil.copytree(model, cached / name)
    with_setting(start, base_model_name_or_path=str(cached / names[0]))
    same = replace(config, model=replace(config.model, name=str(cached / names[1])))
    assert warm_start.other_base(start, same) == ""
    assert warm_start.other_base(start, config) == "Tiny"


# --- Several ranks ----------------------------------------------------------------------------


def train_on_rank(rank, runs):
    """Train one run after another on the same ranks."""
    import os

    from pdtrain.distributed.world import World, publish

    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    size = torch.distributed.get_world_size()
    publish(World(rank, size, rank, size, "the test"))
    for values in runs:
        train.run(from_dict(values))


@needs_compiler
def test_ranks_start_from_the_same_weights_and_choose_the_same_answers(
    start, model, tmp_path, monkeypatch
):
    """ZeRO stages 0 to 3 on two ranks give the losses and the adapter of one process."""
    for name, value in {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plain = warm_started(tmp_path / "plain", model, start, (0, 2, 3), replay=0.5)
    train.run(plain)
    values = []
    for stage in range(4):
        folder = tmp_path / f"stage-{stage}"
        warm_started(folder, model, start, (0, 2, 3))
        values.append(
            {
                "out_dir": str(folder),
                "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
                "adapter": {"rank": 4, "alpha": 8},
                "teacher": {"cache": False},
                "train": SETTINGS | {"start": str(start), "replay": 0.5},
                "engine": {"zero_stage": stage},
            }
        )
    run_ranks(train_on_rank, 2, tmp_path, values, timeout_seconds=400)
    wanted = load_file(plain.folder / "adapter" / WEIGHTS)
    for made in values:
        folder = Path(made["out_dir"])
        found = logged(from_dict(made))
        assert found == pytest.approx(logged(plain), abs=1e-5), folder.name
        weights = load_file(folder / "adapter" / WEIGHTS)
        for name, value in wanted.items():
            off = (weights[name] - value).norm() / value.norm()
            assert off < 1e-4, f"{folder.name}: {name} is off by {off:.1e}"
        assert record(from_dict(made)) == record(plain)


def test_a_run_whose_start_is_missing_ends_before_its_first_stage(model, tmp_path, capsys):
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "lamp.txt").write_text("The lamp burns rape oil.")
    (tmp_path / "my.yaml").write_text("corpus: {documents: documents}\ntrain: {start: nowhere}\n")
    command = ["run", str(tmp_path / "my.yaml"), f"model.name={model}"]
    assert cli.main([*command, f"out_dir={tmp_path / 'run'}"]) == 1
    said = capsys.readouterr().err
    assert "nowhere" in said and "adapter_model.safetensors is not there" in said
    assert not (tmp_path / "run" / "passages").exists()
