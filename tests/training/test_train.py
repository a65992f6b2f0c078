"""The loop: resumed, cached and differently cut runs end where an undisturbed one does."""

import signal
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from support import stop_after, tiny_config, tiny_lesson, tiny_model, write_lesson
from transformers import AutoModelForCausalLM

from pdtrain.config import TrainConfig, from_dict
from pdtrain.distillation import micro_batches
from pdtrain.distillation.examples import Example
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.schedule import Schedule
from pdtrain.distributed.engine import PlainEngine
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat_template import prove
from pdtrain.storage import read_json, read_shards
from pdtrain.training import setup, teacher, train, training_set
from pdtrain.training import step as step_module

SETTINGS = {
    "epochs": 3,
    "answers_per_step": 4,
    "answers_per_micro_batch": 4,
    "save_every_steps": 1000,
    "learning_rate": 0.01,
}
SAVED = {"train": {"save_every_steps": 1}}
NUM_STEPS = 9  # 12 answers, 4 a step, 3 epochs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("undisturbed"), model)


def prepared(folder, model, **sections):
    sections["train"] = SETTINGS | sections.get("train", {})
    config = tiny_config(folder, model, **sections)
    write_lesson(config, *tiny_lesson())
    return config


def trained(folder, model, **sections):
    config = prepared(folder, model, **sections)
    train.run(config)
    return config


def adapter(config):
    return load_file(config.folder / "adapter" / "adapter_model.safetensors")


def losses(config):
    return [row["train/loss"] for row in config.run.metrics()]


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def assert_close(left, right, atol):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=atol, rtol=0)


def test_training_lowers_the_loss(undisturbed):
    found = losses(undisturbed)
    assert len(found) == NUM_STEPS
    assert sum(found[-3:]) < 0.8 * sum(found[:3])


def test_the_same_run_twice_is_the_same_to_the_bit(undisturbed, model, tmp_path):
    assert_same_bits(adapter(trained(tmp_path, model)), adapter(undisturbed))


def test_another_seed_is_another_run(undisturbed, model, tmp_path):
    other = adapter(trained(tmp_path, model, seed=1))
    assert not any(torch.equal(value, other[name]) for name, value in adapter(undisturbed).items())


def test_stopping_after_every_step_changes_nothing(
    undisturbed, model, tmp_path, monkeypatch, capsys
):
    config = prepared(tmp_path, model, **SAVED)
    for stop in range(NUM_STEPS):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, int(stop > 0))
            train.run(config)
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert losses(config) == losses(undisturbed)
    said = capsys.readouterr().err
    for stop in range(1, NUM_STEPS):
        assert f"resuming after step {stop} of {NUM_STEPS}" in said


def test_one_stop_just_before_the_end_changes_nothing(undisturbed, model, tmp_path, monkeypatch):
    config = prepared(tmp_path, model, **SAVED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, NUM_STEPS - 1)
        train.run(config)
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert losses(config) == losses(undisturbed)


def test_a_run_that_is_killed_again_and_again_gets_there(undisturbed, model, tmp_path, monkeypatch):
    """Saving every second step: what was done since then is done again, and logged once."""
    config = prepared(tmp_path, model, train={"save_every_steps": 2})
    for _ in range(3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, 3)
            train.run(config)
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert losses(config) == losses(undisturbed)
    assert [row["step"] for row in config.run.metrics()] == list(range(1, 10))


def on_first_call(monkeypatch, module, name, act):
    """The next call of `module.name` does something else first, as from outside."""
    real, calls = getattr(module, name), []

    def called(*args, **options):
        if not calls:
            act()
        calls.append(1)
        return real(*args, **options)

    monkeypatch.setattr(module, name, called)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("stage", [(setup, "load_model"), (train, "train_step")])
def test_a_signal_is_met_after_the_step(number, stage, undisturbed, model, tmp_path, monkeypatch):
    """While the base is loaded too; the handlers that were there are put back."""
    config = prepared(tmp_path, model)
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        on_first_call(patch, *stage, lambda: signal.raise_signal(number))
        with pytest.raises(train.Stopped, match=r"saved after step 1 of 9; the same command"):
            train.run(config)
    assert signal.getsignal(number) == before
    train.run(config)
    assert_same_bits(adapter(config), adapter(undisturbed))
    assert losses(config) == losses(undisturbed)


@pytest.mark.parametrize("ask", ["signal", "file"])
def test_a_stop_while_the_teacher_speaks_keeps_what_it_said(ask, model, tmp_path, monkeypatch):
    cached = {"teacher": {"cache": True}}
    monkeypatch.setattr(micro_batches, "ANSWERS_PER_CALL", 4)  # a passage's
    whole = trained(tmp_path / "whole", model, **cached)
    config = prepared(tmp_path / "run", model, **cached)
    stop = config.run.stop_file

    def act():
        signal.raise_signal(signal.SIGTERM) if ask == "signal" else stop.touch()

    with monkeypatch.context() as patch:
        on_first_call(patch, PlainEngine, "teach", act)
        with pytest.raises(train.Stopped, match=r"before the first step; what the teacher has"):
            train.run(config)
    assert not (config.folder / "checkpoints").exists()
    stop.unlink(missing_ok=True)
    asked, real = [], PlainEngine.teach
    monkeypatch.setattr(
        PlainEngine, "teach", lambda self, batch: asked.append(1) or real(self, batch)
    )
    train.run(config)
    assert len(asked) == 2  # of three passages, one was known
    assert_same_bits(adapter(config), adapter(whole))


def test_a_checkpoint_says_what_it_is_of(model, tmp_path, monkeypatch):
    config = prepared(tmp_path, model, **SAVED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 4)
        train.run(config)
    (path,) = config.folder.glob("checkpoints/step-000004*/manifest.json")
    found = read_json(path)
    assert from_dict(found["config"]) == config
    assert found["num_steps"] == NUM_STEPS and found["next"] == {"epoch": 1, "step_in_epoch": 1}


def test_a_finished_run_does_nothing(model, tmp_path, monkeypatch, capsys):
    config = trained(tmp_path, model)
    stop_after(monkeypatch, 0)
    train.run(config)
    assert "train: up to date" in capsys.readouterr().err


def test_another_setting_trains_again_from_the_start(model, tmp_path, capsys):
    before = adapter(trained(tmp_path, model))
    after = adapter(trained(tmp_path, model, train={"learning_rate": 0.02}))
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert "resuming" not in capsys.readouterr().err


@pytest.mark.parametrize("average", ["token", "answer"])
def test_the_adapter_does_not_depend_on_the_cut(average, model, tmp_path):
    whole, cut = (
        trained(
            tmp_path / str(size),
            model,
            loss={"average": average},
            train={"answers_per_micro_batch": size, "epochs": 1},
        )
        for size in (4, 1)
    )
    assert losses(cut) == pytest.approx(losses(whole), abs=1e-5)
    # Adam moves a weight by up to the rate, 1e-2, however small its gradient: a hundredth of that
    assert_close(adapter(cut), adapter(whole), atol=1e-4)


@pytest.mark.parametrize("labels", [0.0, 0.5])
def test_a_cached_teacher_teaches_as_the_one_online(model, tmp_path, labels):
    online, cached = (
        trained(tmp_path / str(cache), model, teacher={"cache": cache}, loss={"labels": labels})
        for cache in (False, True)
    )
    assert (cached.folder / "teacher").exists() and not (online.folder / "teacher").exists()
    assert losses(cached) == pytest.approx(losses(online), abs=1e-6)
    masses = [
        [row["distillation/teacher_mass"] for row in config.run.metrics()]
        for config in (online, cached)
    ]
    assert masses[1] == pytest.approx(masses[0], abs=1e-6)


def test_the_cache_filled_beforehand_is_the_one_that_training_reads(
    undisturbed, model, tmp_path, capsys, monkeypatch
):
    config = prepared(tmp_path, model, teacher={"cache": True})
    teacher.teach(config)
    said = capsys.readouterr().err
    tokens = sum(len(row["token_ids"]) for row in read_shards(config.folder / "answers"))
    assert f"teach: 12 answers, {tokens} answer tokens, " in said
    assert not (config.folder / "adapter").exists() and not (config.folder / "metrics").exists()
    monkeypatch.setattr(PlainEngine, "teach", None)  # nobody is asked again
    teacher.teach(config)
    train.run(config)
    assert losses(config) == pytest.approx(losses(undisturbed), abs=1e-6)


@pytest.mark.parametrize("off", [{"teacher": {"cache": False}}, {"train": {"epochs": 1}}])
def test_teaching_for_nobody_is_refused(off, model, tmp_path):
    config = prepared(tmp_path, model, **({"teacher": {"cache": True}} | off))
    with pytest.raises(ValueError, match=r"never reads a cache: set teacher.cache=true and train"):
        teacher.teach(config)


def test_teaching_before_answering_says_what_to_run(model, tmp_path):
    config = prepared(tmp_path, model, teacher={"cache": True})
    (config.folder / "answers" / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"answers is not there .* run `pdtrain answers CONFIG`"):
        teacher.teach(config)


def test_teaching_what_asks_no_teacher_is_refused(model, tmp_path):
    config = prepared(tmp_path, model, teacher={"cache": True}, train={"objective": "sft"})
    with pytest.raises(ValueError, match=r"objective=sft asks no teacher"):
        teacher.teach(config)


@pytest.mark.parametrize("cache", [False, True])
def test_a_step_says_where_its_time_went_and_what_it_read(cache, model, tmp_path):
    started = time.perf_counter()
    config = trained(tmp_path, model, teacher={"cache": cache})
    elapsed = time.perf_counter() - started
    rows = config.run.metrics()
    read = ("data", "teacher", "student", "loss", "backward", "optimizer", "other")
    total = 0.0
    for row in rows:
        seconds = {name: row[f"time/{name}_seconds"] for name in read}
        assert all(value >= 0 for value in seconds.values())
        total += sum(seconds.values())
        assert (seconds["teacher"] == 0) == cache
        assert min(seconds[name] for name in read if name not in ("teacher", "other")) > 0
        assert row["time/communication_seconds"] == 0
        tokens = row["train/answer_tokens"] / row["train/answer_fraction"]
        speeds = [row[f"train/{side}_tokens_per_second"] for side in ("student", "teacher")]
        spent = sum(seconds.values())
        assert sum(speeds) * spent == pytest.approx(tokens, rel=1e-6)
        assert (speeds[1] == 0) == cache
        assert row["train/padding_fraction"] == 0
        assert 0 < row["train/model_flops_utilization"] < 1.5
    assert 0 < total < elapsed


def test_a_cache_of_another_temperature_is_left_alone_and_not_used(model, tmp_path):
    sections = {"teacher": {"cache": True}}
    cold = trained(tmp_path / "run", model, **sections)
    (before,) = cold.run.teacher_folder.iterdir()
    shards = {path: path.read_bytes() for path in before.iterdir()}
    warm = trained(tmp_path / "run", model, loss={"temperature": 2.0}, **sections)
    assert len(list(warm.run.teacher_folder.iterdir())) == 2
    assert {path: path.read_bytes() for path in before.iterdir()} == shards
    fresh = trained(tmp_path / "fresh", model, loss={"temperature": 2.0}, **sections)
    assert losses(warm) == losses(fresh)


def test_checkpointing_of_activations_changes_memory_alone(undisturbed, model, tmp_path):
    spared = trained(tmp_path, model, train={"gradient_checkpointing": True})
    assert losses(spared) == pytest.approx(losses(undisturbed), abs=1e-5)


def test_every_epoch_trains_on_every_answer_in_a_new_order(model, tmp_path):
    examples = [Example(str(i), "p", (1,), (1,), (2,)) for i in range(10)]
    config = replace(prepared(tmp_path, model), train=TrainConfig(**SETTINGS | {"epochs": 2}))
    schedule = Schedule(config, "inputs", examples)
    seen = [
        [e.answer_id for cut in schedule.micro_batches(step) for e in cut.examples]
        for step in range(1, schedule.num_steps + 1)
    ]
    half = schedule.steps_per_epoch
    epochs = [[i for step in part for i in step] for part in (seen[:half], seen[half:])]
    assert [sorted(epoch) for epoch in epochs] == [sorted(str(i) for i in range(10))] * 2
    assert epochs[0] != epochs[1]


class Constant(torch.nn.Module):
    """Loss and mass of a batch are what its weights say, times the one weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return self.weight * batch.weights.sum() * batch.targets[0], batch.weights.sum() * 0.5


def test_a_step_divides_once_by_the_weight_of_all_its_micro_batches(model, tmp_path):
    from pdtrain.distillation.packing import twin_batch

    config = prepared(tmp_path, model)
    batches = [
        twin_batch(
            [Example("a", "p", (1,), (1, 1), (token,) * length)],
            config.loss,
            torch.device("cpu"),
            with_teacher=False,
        )
        for token, length in ((3, 1), (7, 4), (2, 5))
    ]
    engine = PlainEngine(Constant(), replace(config.train, max_grad_norm=1e9), 10)
    stats = step_module.train_step(engine, batches)
    mean = (3 * 1 + 7 * 4 + 2 * 5) / 10
    assert stats.loss == pytest.approx(mean)
    assert stats.grad_norm == pytest.approx(mean)
    assert stats.teacher_mass == pytest.approx(0.5)
    assert stats.answer_tokens == 10
    assert stats.student_tokens == (2 + 0) + (2 + 3) + (2 + 4)  # the last token is never read


def test_a_broken_loss_ends_the_run_without_an_adapter(model, tmp_path, monkeypatch):
    real = TopKLoss.student
    monkeypatch.setattr(TopKLoss, "student", lambda *args: real(*args) * torch.tensor(float("nan")))
    config = prepared(tmp_path, model, **SAVED)
    with pytest.raises(RuntimeError, match="non-finite"):
        train.run(config)
    assert not (config.folder / "adapter").exists()
    assert not list(config.folder.glob("checkpoints/step-*"))


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
    found = losses(config)
    assert found[0] == pytest.approx(float(torch.cat(nats).mean()), abs=1e-5)
    assert found[-1] < 0.9 * found[0]
    assert not (config.folder / "teacher").exists(), "no teacher was asked"


def test_raw_text_needs_passages_alone(model, tmp_path):
    config = tiny_config(tmp_path, model, train=SETTINGS | {"objective": "raw_text"})
    write_lesson(config, tiny_lesson()[0])
    train.run(config)
    assert adapter(config)


def test_objective_and_labels_decide_the_adapter(model, tmp_path):
    config = prepared(tmp_path, model)
    others = [
        replace(config, train=replace(config.train, objective="sft")),
        replace(config, train=replace(config.train, objective="raw_text")),
        replace(config, loss=replace(config.loss, labels=0.5)),
    ]
    assert len({train.inputs_hash(one, None) for one in (config, *others)}) == 4


def test_how_a_step_is_cut_and_saved_decides_nothing(model, tmp_path):
    config = prepared(tmp_path, model)
    settings = {"answers_per_micro_batch": 1, "save_every_steps": 7, "gradient_checkpointing": True}
    other = replace(config, train=replace(config.train, **settings))
    assert train.inputs_hash(other, None) == train.inputs_hash(config, None)


def test_no_answers_is_an_error_that_says_why(model, tmp_path):
    passages, questions, _ = tiny_lesson()
    config = tiny_config(tmp_path, model)
    write_lesson(config, passages, questions, [])
    with pytest.raises(ValueError, match="holds no answer to train on"):
        train.run(config)


def test_training_before_answering_says_what_to_run(model, tmp_path):
    with pytest.raises(ValueError, match=r"passages is not there .* run `pdtrain passages CONFIG`"):
        train.run(tiny_config(tmp_path, model))


def test_the_adapter_folder_holds_peft_files_and_fp32_weights_alone(undisturbed):
    names = {path.name for path in (undisturbed.folder / "adapter").iterdir()}
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
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = base(ids).logits
        loaded = PeftModel.from_pretrained(base, str(undisturbed.folder / "adapter")).eval()
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


def test_answers_of_other_questions_are_refused(model, tmp_path):
    passages, questions, answers = tiny_lesson()
    config = tiny_config(tmp_path, model)
    write_lesson(config, passages, questions[:-1], answers)
    with pytest.raises(ValueError, match="answers are of other passages or questions; run"):
        train.run(config)


def test_dropout_is_not_silently_off(model, tmp_path):
    sections = {"train": {"epochs": 1}}
    without = trained(tmp_path / "without", model, **sections)
    dropped = trained(tmp_path / "dropped", model, adapter={"dropout": 0.5}, **sections)
    # a fresh adapter says nothing, so its first loss is the same
    assert losses(dropped)[0] == pytest.approx(losses(without)[0], abs=1e-6)
    assert abs(losses(dropped)[-1] - losses(without)[-1]) > 1e-4
