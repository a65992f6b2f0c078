"""Test that stopped, resumed and differently divided runs end where an undisturbed one does."""

import re
import signal

import pytest
import torch
from support import tiny_config, tiny_model, tiny_records, write_records
from tiny_training import (
    NUM_STEPS,
    SETTINGS,
    adapter,
    assert_close,
    assert_same_bits,
    logged,
    on_each_call,
    prepared,
    stop_after,
    trained,
)
from transformers import AutoModelForCausalLM

from pdtrain.config import from_dict
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distributed.world import World
from pdtrain.progress import Stopped
from pdtrain.storage import read_json
from pdtrain.training import train, training_set

SAVED = {"train": {"save_every_steps": 1}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("undisturbed"), model)


def test_training_lowers_the_loss(undisturbed):
    found = logged(undisturbed)
    assert len(found) == NUM_STEPS
    assert sum(found[-3:]) < 0.8 * sum(found[:3])


def test_the_same_run_twice_is_the_same_to_the_bit(undisturbed, model, tmp_path):
    assert_same_bits(adapter(trained(tmp_path, model)), adapter(undisturbed))


def test_another_seed_is_another_run(undisturbed, model, tmp_path):
    other = adapter(trained(tmp_path, model, seed=1))
    assert not any(torch.equal(value, other[name]) for name, value in adapter(undisturbed).items())


def last_saved(config):
    """Return the step of the newest checkpoint; 0 where there is none."""
    path = config.run.checkpoints_folder / "latest"
    return int(path.read_text().split("-")[1]) if path.exists() else 0


def test_stopping_after_every_step_changes_nothing(undisturbed, model, tmp_path, monkeypatch):
    config = prepared(tmp_path, model, **SAVED)
    for stop in range(NUM_STEPS):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, int(stop > 0))
            train.run(config)
        # at most one step was taken, so each run went on from the checkpoint of the one before
        assert last_saved(config) == stop
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert logged(config) == logged(undisturbed)


def test_one_stop_just_before_the_end_changes_nothing(undisturbed, model, tmp_path, monkeypatch):
    config = prepared(tmp_path, model, **SAVED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, NUM_STEPS - 1)
        train.run(config)
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert logged(config) == logged(undisturbed)


def test_a_run_that_is_killed_again_and_again_gets_there(undisturbed, model, tmp_path, monkeypatch):
    """Steps after the last checkpoint are done again, and logged once."""
    config = prepared(tmp_path, model, train={"save_every_steps": 2})
    for _ in range(3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, 3)
            train.run(config)
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert logged(config) == logged(undisturbed)
    assert logged(config, "step") == list(range(1, NUM_STEPS + 1))


@pytest.mark.parametrize("left", [0, 2])
def test_lost_metrics_are_said_and_change_no_weight(
    left, undisturbed, model, tmp_path, monkeypatch, capsys
):
    config = prepared(tmp_path, model, **SAVED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 4)
        train.run(config)
    saved, path = last_saved(config), config.run.metrics_file
    assert saved > 2 and "is damaged" not in capsys.readouterr().err
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:left]))
    train.run(config)
    said = f"{path} is damaged ({left} of the {saved} lines are there that were logged"
    assert said in capsys.readouterr().err
    assert_same_bits(adapter(config), adapter(undisturbed))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("moment", ["set-up", "step"])
def test_a_signal_is_met_after_the_step(number, moment, undisturbed, model, tmp_path, monkeypatch):
    """The same holds for one that comes during the set-up; earlier handlers are put back."""
    config = prepared(tmp_path, model)
    before = signal.getsignal(number)

    def raise_once(call):
        if call == 1:
            signal.raise_signal(number)

    def read(chat):
        if moment == "set-up":
            signal.raise_signal(number)
        return training_set.of_run(config, chat, None)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match=r"saved after step 1 of 9"):
        if moment == "step":
            on_each_call(patch, "step", raise_once)
        inputs = train.inputs_hash(config, None)
        train.train_adapter(config, World(), read, start=None, output=config.run, inputs=inputs)
    assert signal.getsignal(number) == before
    assert last_saved(config) == 1
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert logged(config) == logged(undisturbed)


def test_a_checkpoint_says_what_it_is_of(model, tmp_path, monkeypatch):
    config = prepared(tmp_path, model, **SAVED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 4)
        train.run(config)
    (folder,) = config.run.checkpoints_folder.glob("step-000004*")
    found = read_json(folder / "manifest.json")
    assert from_dict(found["config"]) == config
    assert found["num_steps"] == NUM_STEPS and found["next"] == {"epoch": 1, "step_in_epoch": 1}


def test_a_finished_run_does_nothing(model, tmp_path, monkeypatch):
    config = trained(tmp_path, model)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    stop_after(monkeypatch, 0)
    train.run(config)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_setting_trains_again_from_the_start(model, tmp_path):
    changed = {"train": {"learning_rate": 0.02, "save_every_steps": 1}}
    before = adapter(trained(tmp_path / "run", model, **SAVED))
    after = adapter(trained(tmp_path / "run", model, **changed))
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert_same_bits(after, adapter(trained(tmp_path / "fresh", model, **changed)))


@pytest.mark.parametrize("average", ["token", "answer"])
def test_the_adapter_does_not_depend_on_how_steps_are_divided(average, model, tmp_path):
    whole, divided = (
        trained(
            tmp_path / str(size),
            model,
            loss={"average": average},
            train={"answers_per_micro_batch": size, "epochs": 1},
        )
        for size in (4, 1)
    )
    assert logged(divided) == pytest.approx(logged(whole), abs=1e-5)
    # Adam moves a weight by up to the rate, 1e-2, however small its gradient: a hundredth of that
    assert_close(adapter(divided), adapter(whole), atol=1e-4)


def test_a_broken_loss_ends_the_run_without_an_adapter(model, tmp_path, monkeypatch):
    real = TopKLoss.student
    monkeypatch.setattr(TopKLoss, "student", lambda *args: real(*args) * torch.tensor(float("nan")))
    config = prepared(tmp_path, model, **SAVED)
    with pytest.raises(ValueError, match=r"step 1: .* not a finite number.*: rank 0: \w+") as said:
        train.run(config)
    first = {answer.id for answer in tiny_records()[2]}
    named = re.search(r"rank 0: ([\w, ]+)\.", str(said.value))[1].split(", ")
    assert len(named) == SETTINGS["answers_per_micro_batch"] and {*named} <= first
    assert not config.run.adapter.exists()
    assert not list(config.run.checkpoints_folder.glob("step-*"))


def test_the_adapter_folder_holds_peft_files_and_fp32_weights_alone(undisturbed):
    names = {path.name for path in undisturbed.run.adapter.iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "documents.json",
        "manifest.json",
    }
    weights = adapter(undisturbed)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert all("lora_" in name for name in weights)


def test_plain_peft_loads_the_adapter(undisturbed, model):
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = base(ids).logits
        loaded = PeftModel.from_pretrained(base, str(undisturbed.run.adapter)).eval()
        after = loaded(ids).logits
    assert (after - before).abs().max() > 0.01


def test_dropout_falls_on_the_same_weights_in_a_resumed_run(model, tmp_path, monkeypatch):
    sections = {"adapter": {"dropout": 0.5}, "train": {"epochs": 1, "save_every_steps": 1}}
    undisturbed = trained(tmp_path / "undisturbed", model, **sections)
    config = prepared(tmp_path / "stopped", model, **sections)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 2)
        train.run(config)
    torch.manual_seed(99)
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))


def test_no_answers_is_an_error_that_says_why(model, tmp_path):
    passages, questions, _ = tiny_records()
    config = tiny_config(tmp_path, model)
    write_records(config, passages, questions, [])
    with pytest.raises(ValueError, match="holds no answer to train on"):
        train.run(config)


def test_training_before_answering_says_what_to_run(model, tmp_path):
    with pytest.raises(ValueError, match=r"passages is not there .* run `pdtrain passages CONFIG`"):
        train.run(tiny_config(tmp_path, model))


def test_answers_of_other_questions_are_refused(model, tmp_path):
    passages, questions, answers = tiny_records()
    config = tiny_config(tmp_path, model)
    write_records(config, passages, questions[:-1], answers)
    with pytest.raises(ValueError, match="answers are of other passages or questions; run"):
        train.run(config)
