"""Going on from a trained adapter: its weights come first, and what it knows is trained on less."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import (
    needs_compiler,
    run_ranks,
    stop_after,
    tiny_config,
    tiny_lesson,
    tiny_model,
    write_lesson,
)

from pdtrain import cli
from pdtrain.config import from_dict
from pdtrain.distillation.examples import Example
from pdtrain.models import learnt_passages
from pdtrain.models.learnt_passages import Learnt
from pdtrain.storage import read_json, sha256_file, write_json
from pdtrain.training import train, training_set, warm_start

WEIGHTS = "adapter_model.safetensors"
SETTINGS = {"epochs": 2, "answers_per_step": 100, "learning_rate": 0.01, "warmup_ratio": 0.0}
SETTINGS["scheduler"] = "constant"  # two steps are the same in a run of three


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def prepared(folder, model, passages=(0, 1, 2), **sections):
    """A run on some of five passages, each a document, with four answers each."""
    sections["train"] = SETTINGS | sections.get("train", {})
    config = tiny_config(folder, model, **sections)
    found, questions, answers = tiny_lesson(5)
    ids = {found[i].id for i in passages}
    write_lesson(
        config,
        [p for p in found if p.id in ids],
        [q for q in questions if q.passage_id in ids],
        [a for a in answers if a.passage_id in ids],
    )
    return config


@pytest.fixture(scope="module")
def first(model, tmp_path_factory):
    """An adapter that has learnt the passages 0, 1 and 2. No test changes it."""
    config = prepared(tmp_path_factory.mktemp("first"), model)
    train.run(config)
    return config


@pytest.fixture
def begun(first, tmp_path):
    """A copy of that adapter, to start from."""
    return Path(shutil.copytree(first.folder / "adapter", tmp_path / "begun"))


def going_on(folder, model, begun, passages=(0, 1, 2), **settings):
    settings = {"start": str(begun)} | settings
    return prepared(folder, model, passages, train=settings)


def losses(config):
    return [row["train/loss"] for row in config.run.metrics()]


def ids(*numbers):
    found = tiny_lesson(5)[0]
    return [found[number].id for number in numbers]


def record(config):
    return read_json(config.folder / "adapter" / "documents.json")


def test_a_fresh_adapter_says_what_it_has_learnt(first):
    documents = {f"{i}.txt": ids(i) for i in range(3)}
    assert record(first) == {"started_from": None, "documents": documents, "new": []}


def test_the_first_step_is_taken_from_the_weights_of_the_start(first, begun, model, tmp_path):
    """Two steps from scratch made the start, so its first loss is the third one from scratch."""
    longer = prepared(tmp_path / "longer", model, train={"epochs": 3})
    train.run(longer)
    config = going_on(tmp_path / "run", model, begun, learning_rate=1e-12)
    train.run(config)
    assert losses(longer)[:2] == losses(first)
    assert losses(config) == pytest.approx([losses(longer)[2]] * 2, abs=1e-6)
    assert losses(config)[0] < losses(first)[1] < 0.99 * losses(first)[0]
    before, after = (load_file(c / WEIGHTS) for c in (begun, config.folder / "adapter"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-9, rtol=0)


def test_an_interrupted_training_goes_on_from_its_own_checkpoint(
    begun, model, tmp_path, monkeypatch, capsys
):
    whole = going_on(tmp_path / "whole", model, begun)
    train.run(whole)
    config = going_on(tmp_path / "run", model, begun, save_every_steps=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 1)
        train.run(config)
    capsys.readouterr()
    train.run(config)
    said = capsys.readouterr().err
    assert "resuming after step 1 of 2" in said and "going on from" not in said
    found, wanted = (load_file(c.folder / "adapter" / WEIGHTS) for c in (config, whole))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_what_was_learnt_accumulates(begun, model, tmp_path, capsys):
    """Document 1 is gone, document 3 is new; then 4 comes, on top of the second adapter."""
    second = going_on(tmp_path / "second", model, begun, (0, 2, 3), replay=0.5)
    train.run(second)
    said = capsys.readouterr().err
    assert f"train: 4 answers of passages that {begun} has not learnt, and 2 of 8 others" in said
    assert f"{begun} has learnt 1 passages that are not in the corpus any more" in said
    found = record(second)
    assert found["started_from"] == sha256_file(begun / WEIGHTS)
    assert found["new"] == ids(3)
    assert found["documents"] == {f"{i}.txt": ids(i) for i in range(4)}
    assert read_json(second.folder / "adapter" / "manifest.json")["num_answers"] == 6
    third = going_on(tmp_path / "third", model, second.folder / "adapter", (0, 3, 4))
    train.run(third)
    assert record(third)["documents"] == {f"{i}.txt": ids(i) for i in range(5)}
    assert record(third)["new"] == ids(4)


def test_a_start_that_knows_every_passage_is_trained_on_all_of_them(begun, model, tmp_path, capsys):
    config = going_on(tmp_path / "run", model, begun, (0, 1), replay=0.0)
    train.run(config)
    assert f"{begun} has learnt every passage, so all 8 answers" in capsys.readouterr().err
    assert record(config)["new"] == []


def test_an_adapter_from_elsewhere_is_trained_on_everything(begun, model, tmp_path, capsys):
    (begun / "documents.json").unlink()
    config = going_on(tmp_path / "run", model, begun, replay=0.0)
    train.run(config)
    assert "has no documents.json to say what it has learnt, so all 12" in capsys.readouterr().err
    assert record(config)["new"] == ids(0, 1, 2)


def test_raw_text_is_chosen_by_passage_too(begun, model, tmp_path, capsys):
    settings = {"objective": "raw_text", "replay": 1.0}
    config = going_on(tmp_path / "run", model, begun, (0, 1, 2, 3), **settings)
    train.run(config)
    assert "train: 1 answers of passages that" in capsys.readouterr().err
    assert read_json(config.folder / "adapter" / "manifest.json")["num_answers"] == 2


# --- The choice -------------------------------------------------------------------------------

EXAMPLES = [Example(str(i), f"p{i // 10}", (1,), (1,), (2,)) for i in range(40)]


@pytest.mark.parametrize("replay, num_old", [(0.0, 0), (0.5, 5), (1.0, 10), (1.25, 12), (9.0, 30)])
def test_replay_counts_old_answers_for_each_new_one(replay, num_old):
    chosen = training_set.selected(EXAMPLES, {"p0", "p1", "p3"}, replay, seed=0)
    assert [e for e in chosen if e.passage_id == "p2"] == EXAMPLES[20:30]
    assert len(chosen) == 10 + num_old
    assert [int(e.answer_id) for e in chosen] == sorted({int(e.answer_id) for e in chosen})


def test_the_draw_is_that_of_the_seed():
    draws = [training_set.selected(EXAMPLES, {"p0", "p1", "p3"}, 1.0, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_all_are_chosen_where_none_is_new():
    assert training_set.selected(EXAMPLES, {f"p{i}" for i in range(4)}, 0.0, seed=0) == EXAMPLES


@pytest.mark.parametrize("replay", [-0.1, float("nan"), float("inf")])
def test_a_replay_that_is_no_amount_is_refused(replay):
    with pytest.raises(ValueError, match=r"train.replay must be >= 0"):
        from_dict({"train": {"replay": replay}})


# --- What a run is known by -------------------------------------------------------------------


def inputs_hash(config):
    return train.inputs_hash(config, warm_start.of_config(config))


def test_weights_knowledge_and_replay_of_the_start_decide_and_its_place_does_not(
    begun, model, tmp_path
):
    config = going_on(tmp_path / "run", model, begun)
    hashes = [inputs_hash(config)]
    moved = replace(config, train=replace(config.train, start=str(begun.rename(tmp_path / "m"))))
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
def test_a_start_that_does_not_fit_is_refused_before_any_step(damage, said, begun, model, tmp_path):
    config = going_on(tmp_path / "run", model, begun)
    damage(begun)
    with pytest.raises(ValueError, match=said):
        train.run(config)
    assert not (config.folder / "metrics").exists() and not (config.folder / "adapter").exists()


@pytest.mark.parametrize("name", ["adapter", "export", "rounds/2/adapter"])
def test_a_run_does_not_start_from_what_it_writes(name, begun, model, tmp_path):
    config = going_on(tmp_path / "run", model, tmp_path / "run" / name)
    shutil.copytree(begun, tmp_path / "run" / name)
    with pytest.raises(ValueError, match="is what this run itself writes; copy the folder"):
        warm_start.of_config(config)


def test_a_start_on_another_base_is_warned_of(begun, model, tmp_path, capsys):
    config = going_on(tmp_path / "run", model, begun)
    for base, is_other in ((f"/elsewhere/{model.name}", False), ("", False), ("owner/b", True)):
        with_setting(begun, base_model_name_or_path=base)
        warm_start._mention_other_base(begun, config)
        said = f"was trained on b, and model.name is {model.name}"
        assert (said in capsys.readouterr().err) is is_other


def test_a_record_goes_out_and_in(tmp_path):
    made = Learnt("abc", {"a.txt": ["1", "2"], "b.txt": []}, ["2"])
    learnt_passages.write(tmp_path, made)
    assert learnt_passages.read(tmp_path) == made and made.passages == {"1", "2"}
    assert learnt_passages.read(tmp_path / "absent") is None
    for broken in ({"documents": {"a": "12"}}, {"new": [1]}, {"started_from": 3}):
        values = json.loads((tmp_path / "documents.json").read_text()) | broken
        other = tmp_path / "other"
        write_json(other / "documents.json", values)
        with pytest.raises(ValueError, match=r"documents.json must be"):
            learnt_passages.read(other)


# --- Several ranks ----------------------------------------------------------------------------


def train_on_rank(rank, runs):
    """One run after another on the same ranks."""
    import os

    from pdtrain.distributed.world import World, publish

    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    size = torch.distributed.get_world_size()
    publish(World(rank, size, rank, size, "the test"))
    for values in runs:
        train.run(from_dict(values))


@needs_compiler
def test_ranks_start_from_the_same_weights_and_choose_the_same_answers(
    begun, model, tmp_path, monkeypatch
):
    """ZeRO stages 0 to 3 on two ranks: the losses and the adapter of one process."""
    for name, value in {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plain = going_on(tmp_path / "plain", model, begun, (0, 2, 3), replay=0.5)
    train.run(plain)
    values = []
    for stage in range(4):
        folder = tmp_path / f"stage-{stage}"
        going_on(folder, model, begun, (0, 2, 3))
        values.append(
            {
                "out_dir": str(folder),
                "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
                "adapter": {"rank": 4, "alpha": 8},
                "teacher": {"cache": False},
                "train": SETTINGS | {"start": str(begun), "replay": 0.5},
                "engine": {"zero_stage": stage},
            }
        )
    run_ranks(train_on_rank, 2, tmp_path, values, timeout_seconds=400)
    wanted = load_file(plain.folder / "adapter" / WEIGHTS)
    for made in values:
        folder = Path(made["out_dir"])
        found = [row["train/loss"] for row in from_dict(made).run.metrics()]
        assert found == pytest.approx(losses(plain), abs=1e-5), folder.name
        weights = load_file(folder / "adapter" / WEIGHTS)
        for name, value in wanted.items():
            off = (weights[name] - value).norm() / value.norm()
            assert off < 1e-4, f"{folder.name}: {name} is off by {off:.1e}"
        assert record(from_dict(made)) == record(plain)


def test_a_budget_takes_whole_answers_up_to_it_and_a_larger_one_holds_a_smaller():
    lengths = [3, 1, 4, 1, 5, 9, 2, 6]
    found = [Example(str(i), "p", (), (), (0,) * n) for i, n in enumerate(lengths)]

    def taken(tokens):
        chosen = training_set.within(found, tokens, seed=0)
        assert [int(e.answer_id) for e in chosen] == sorted(int(e.answer_id) for e in chosen)
        return {e.answer_id for e in chosen}, sum(len(e.answer) for e in chosen)

    smaller, larger = taken(12), taken(20)
    assert 12 - max(lengths) < smaller[1] <= 12
    assert smaller[0] < larger[0] and larger[1] <= 20
    assert taken(sum(lengths))[0] == taken(0)[0] == {e.answer_id for e in found}
    with pytest.raises(ValueError, match="less than any answer"):
        training_set.within([found[5]], 8, seed=0)
    for seed in range(9):  # an answer that is too long comes first with some of them
        assert {len(e.answer) for e in training_set.within(found, 2, seed)} in ({1}, {2})


def test_only_a_passage_that_is_taken_whole_is_learnt(model, tmp_path):
    config = prepared(tmp_path, model, train={"answer_tokens": 30})
    train.run(config)
    taken = read_json(tmp_path / "adapter" / "manifest.json")["num_answers"]
    whole = learnt_passages.read(tmp_path / "adapter").passages
    assert 4 * len(whole) <= taken < 12 and whole < set(ids(0, 1, 2))


def test_a_passage_that_is_read_as_the_second_is_learnt_too(model, tmp_path):
    config = prepared(tmp_path, model)
    one, other = ids(0, 1)
    example = Example("a", one, (1,), (1,), (2,), other)
    assert training_set.passages_learnt(config, [example], None, None).passages == {one, other}


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
