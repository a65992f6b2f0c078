"""Test rounds: what they train on, when they end, and that a kill changes nothing."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import lamp
import pytest
from fake_backend import FakeBackend
from run_folders import write_stage
from safetensors.torch import load_file
from support import tiny_config, tiny_model, write_records
from tiny_training import on_each_call

from pdtrain.config import RoundsConfig
from pdtrain.distillation.schedule import indices_in_turn
from pdtrain.evaluation import evaluate, examination
from pdtrain.evaluation.systems import SYSTEMS
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.adapter import trained
from pdtrain.progress import Stopped
from pdtrain.records import UNSAID, Answer, Question, seed_for
from pdtrain.reporting.exporting import export
from pdtrain.storage import read_json, read_shards, sha256_file, write_checked
from pdtrain.synthesis.text import normalise
from pdtrain.training import train
from pdtrain.training.rounds import round_training, rounds
from pdtrain.training.rounds.round_training import RoundRecords
from pdtrain.training.rounds.rounds import Generators

PHRASES = lamp.PHRASES
SETTINGS = {"most": 2, "questions_per_miss": 2, "least_gain": 0.0, "replay": 0.5}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


class Knowledge:
    """Say which phrases the teacher knows, and which the student knows after each round."""

    def __init__(self, teacher, *students):
        self.teacher, self.students = teacher, students

    def generators(self, base=None):
        return Generators(base or lamp.backend(self.teacher), self.open_student)

    def open_student(self, _, adapter):
        """Return a student that knows what it should after the round of this adapter."""
        number = int(adapter.parent.name) if adapter.parent.parent.name == "rounds" else 0
        return lamp.backend(self.students[number])


def prepared(folder, model, records=None, **settings):
    """Write the records of a run, train it, and return its config."""
    config = tiny_config(
        folder,
        model,
        answers={"grounded": False},
        train={
            "epochs": 1,
            "answers_per_step": 2,
            "save_every_steps": 1,
            "evaluate_every_epochs": 0,
            "learning_rate": 0.01,
        },
        rounds=SETTINGS | settings,
    )
    write_records(config, *(records or lamp.records()))
    train.run(config)
    return config


def run(folder, model, known, **settings):
    """Train a run and its rounds, and return its config."""
    config = prepared(folder, model, **settings)
    rounds.run(config, known.generators())
    return config


def summary(config):
    return read_json(config.folder / "rounds" / "rounds.json")


def records(config, *names):
    """Return the records in a folder below that of the rounds."""
    return list(read_shards(config.folder.joinpath("rounds", *names)))


def trained_answers(config, number):
    """Return the ids of the answers that a round was trained on."""
    return set(read_json(config.run.round(number).trained_on_file))


def answers_of(config):
    """Return all answers of a run and its rounds, by id."""
    folders = [config.run, *(config.run.round(number) for number in (1, 2))]
    there = [folder for folder in folders if (folder.answers_folder / "manifest.json").exists()]
    return {row["id"]: row for folder in there for row in read_shards(folder.answers_folder)}


def trained_questions(config, number):
    """Return the texts of the questions whose answers a round was trained on."""
    folders = [config.run, *(config.run.round(n) for n in range(1, int(number) + 1))]
    asked = {q.id: q.text for folder in folders for q in folder.questions()}
    found = answers_of(config)
    return {asked[found[i]["question_id"]] for i in trained_answers(config, number)}


def weights(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


def test_nothing_happens_without_rounds(tmp_path, model):
    config = run(tmp_path, model, Knowledge(PHRASES), most=0)
    assert not (tmp_path / "rounds").exists()
    assert trained(config) == tmp_path / "adapter"


def test_rounds_go_on_until_all_is_known(tmp_path, model):
    known = Knowledge(PHRASES, ("rape oil",), PHRASES)
    config = run(tmp_path, model, known, most=5)
    found = summary(config)
    assert [r["recovery"] for r in found["rounds"]] == [pytest.approx(1 / 3), 1.0]
    assert [r["missed"] for r in found["rounds"]] == [2, 0]
    assert "knows all" in found["stopped"] and found["best"] == 1
    first, second = (r["new_questions"] for r in found["rounds"])
    assert first == 0 and 0 < second <= 4
    assert trained(config) == tmp_path / "rounds" / "1" / "adapter"


def test_a_round_that_recovers_too_little_is_the_last(tmp_path, model):
    known = Knowledge(PHRASES, ("rape oil",), ("rape oil",))
    found = summary(run(tmp_path, model, known, most=5, least_gain=0.01))
    assert len(found["rounds"]) == 2 and "least_gain" in found["stopped"]
    assert found["best"] == 0  # of equal rounds the earlier


def test_there_are_no_more_rounds_than_asked_for(tmp_path, model):
    known = Knowledge(PHRASES, (), ("rape oil",), PHRASES)
    found = summary(run(tmp_path, model, known, most=1))
    assert len(found["rounds"]) == 2 and "rounds.most=1" in found["stopped"]


def test_a_worse_round_leaves_the_better_adapter(tmp_path, model):
    known = Knowledge(PHRASES, ("rape oil", "iron chains"), ())
    config = run(tmp_path, model, known)
    assert len(summary(config)["rounds"]) == 2
    assert trained(config) == tmp_path / "adapter"


def test_what_the_teacher_misses_is_neither_asked_again_nor_counted(tmp_path, model):
    known = Knowledge(("rape oil", "north tower"), ("north tower",), ("north tower",))
    config = run(tmp_path, model, known, most=1)
    found = summary(config)
    assert found["facts"] == {"quizzed": 3, "unquizzed": 0, "missed_by_teacher": 1}
    assert [r["recovery"] for r in found["rounds"]] == [0.5, 0.5]
    assert {row["phrase"] for row in records(config, "1", "questions")} == {"rape oil"}


def test_a_teacher_that_knows_nothing_ends_it_at_once(tmp_path, model):
    config = run(tmp_path, model, Knowledge(()))
    assert summary(config)["rounds"] == [] and trained(config) == tmp_path / "adapter"
    assert summary(config)["facts"] == {"quizzed": 3, "unquizzed": 0, "missed_by_teacher": 3}


def test_recall_is_told_by_passage_and_round(tmp_path, model):
    known = Knowledge(PHRASES, ("iron chains",), ("rape oil", "iron chains"))
    config = run(tmp_path, model, known, most=1)
    found = {p["document"]: (p["asked"], p["known"]) for p in summary(config)["passages"]}
    assert found == {"lamp.txt": (2, [0, 1]), "pier.txt": (1, [1, 1])}


@pytest.fixture
def held_out(tmp_path):
    """Write every question that opens with "So" into a file of held-out ones."""
    texts = [q.text for q in lamp.all_questions() if q.text.startswith("So")]
    lines = [json.dumps({"question": text, "answers": ["?"]}) for text in texts]
    path = tmp_path / "held-out.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_no_round_trains_on_a_question_of_the_quiz_or_a_held_out_one(tmp_path, model, held_out):
    known = Knowledge(PHRASES, (), (), ())
    config = prepared(tmp_path / "run", model, questions_per_miss=3)
    config = replace(config, evaluate=replace(config.evaluate, questions=str(held_out)))
    rounds.run(config, known.generators())
    in_quiz = {normalise(row["question"]["text"]) for row in records(config, "quiz")}
    kept_out = {normalise(json.loads(line)["question"]) for line in held_out.open()}
    assert len(in_quiz) == 3 and not in_quiz & kept_out
    asked = [row["text"] for row in read_shards(config.folder / "questions")]
    for number in ("1", "2"):
        new = [row["text"] for row in records(config, number, "questions")]
        assert new and not {*map(normalise, new)} & {*map(normalise, asked)}
        asked += new
        trained_on = {normalise(text) for text in trained_questions(config, number)}
        assert trained_on and not trained_on & (in_quiz | kept_out)
    assert not {*map(normalise, asked)} & in_quiz


def test_a_round_trains_on_its_new_answers_and_replays_earlier_ones(tmp_path, model):
    known = Knowledge(PHRASES, (), (), ())
    config = run(tmp_path, model, known)
    earlier = {row["id"] for row in read_shards(config.folder / "answers")}
    for number in (1, 2):
        new = {row["id"] for row in records(config, str(number), "answers")}
        trained_on = trained_answers(config, number)
        assert new <= trained_on and trained_on - new <= earlier
        assert len(trained_on - new) == min(len(earlier), round(0.5 * len(new)))
        made = read_json(tmp_path / "rounds" / str(number) / "adapter" / "manifest.json")
        assert made["num_answers"] == len(trained_on)
        earlier |= new


def test_each_round_goes_on_from_the_one_before(tmp_path, model):
    config = run(tmp_path, model, Knowledge(PHRASES, (), (), ()), learning_rate=1e-6)
    folders = [tmp_path / "adapter", *(tmp_path / "rounds" / n / "adapter" for n in "12")]
    first, *others = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    for other in others:  # as far as so small a rate can have brought it
        gaps = [(other[name] - weight).abs().max().item() for name, weight in first.items()]
        assert 0 < max(gaps) < 1e-4
    assert round_training.round_settings(config, 1).train.learning_rate == 1e-6
    other = replace(config, rounds=replace(config.rounds, learning_rate=0.0))
    settings = round_training.round_settings(other, 1)
    assert settings.train.learning_rate == config.train.learning_rate


def records_with_unsaid(num_unsaid, num_of_run=100, num_of_rounds=0):
    """Return records of which so many are answers that no document says something."""
    passage = lamp.passages()[0]
    kinds = [UNSAID] * num_unsaid + ["fact"] * (num_of_run - num_unsaid + num_of_rounds)
    asked = [Question(f"q{i}", passage.id, f"Asked {i}?", kind, -1) for i, kind in enumerate(kinds)]
    answered = [Answer(f"a{i}", f"q{i}", passage.id, "That", (5,), True) for i in range(len(kinds))]
    return RoundRecords({passage.id: passage}, asked, answered, num_of_run)


@pytest.mark.parametrize(
    ("num_unsaid", "num_new", "replay", "expected"),
    [
        (4, 50, 1.0, 4),  # of 100 in the round, as of 100 in training
        (10, 20, 0.5, 3),  # of 30
        (10, 50, 3.0, 10),  # all that there are, and all others
        (50, 10, 0.2, 1),  # half of what is drawn
        (10, 10, 0.0, 0),
        (0, 20, 1.0, 0),
    ],
)
def test_what_no_document_says_keeps_its_share_in_a_round(
    tmp_path, model, num_unsaid, num_new, replay, expected
):
    config = tiny_config(tmp_path, model, rounds={"most": 1, "replay": replay})
    records = records_with_unsaid(num_unsaid, num_of_rounds=15)
    new = [Answer(f"new{i}", "q0", "p", "New", (5,), True) for i in range(num_new)]
    found = [answer.id for answer in round_training.replayed(config, records, new)]
    assert len(found) == len(set(found)) == min(115, round(replay * num_new))
    assert sum(int(name[1:]) < num_unsaid for name in found) == expected


def test_each_round_is_held_to_the_base_by_samples_of_its_own(tmp_path, model):
    """Short rounds would otherwise all see the samples of the first steps of training."""
    config = tiny_config(tmp_path, model, rounds={"most": 2})
    settings = [config, *(round_training.round_settings(config, number) for number in (1, 2))]
    seeds = [seed_for(one.seed, "retain") for one in settings]
    first = {tuple(indices_in_turn(1000, 4, 1, seed)) for seed in seeds}
    assert len(first) == 3


def test_records_without_a_fact_end_it_with_a_reason_of_their_own(tmp_path, model, capsys):
    passages, asked, answered = lamp.records()
    asked = [replace(question, kind="recital", phrase="") for question in asked]
    config = prepared(tmp_path, model, (passages, asked, answered))
    rounds.run(config, Knowledge(PHRASES).generators())
    assert "training asked for no phrase of a sentence" in summary(config)["stopped"]
    assert "the teacher answers no question" not in capsys.readouterr().out


def test_what_decides_the_answers_of_a_round_decides_the_rounds(tmp_path, model):
    config = prepared(tmp_path, model)
    whole = replace(config, answers=replace(config.answers, unfinished=False))
    assert rounds.inputs_hash(config) != rounds.inputs_hash(whole)


def test_a_second_run_does_nothing(tmp_path, model):
    config = run(tmp_path, model, Knowledge(PHRASES, (), (), ()))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    base = lamp.backend()
    rounds.run(config, Generators(base))
    assert not base.calls
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


class Dying(FakeBackend):
    """Say what another backend says, and die at one of the calls."""

    def __init__(self, backend, call):
        super().__init__(backend.reply)
        self.call = call

    def sample(self, *args, **options):
        found = super().sample(*args, **options)
        if len(self.calls) == self.call:
            raise KeyboardInterrupt
        return found


def die(is_now):
    if is_now:
        raise KeyboardInterrupt


def die_before_renaming_to(name, patch):
    real = Path.replace

    def replace(path, target):
        die(Path(target).name == name)
        return real(path, target)

    patch.setattr(Path, "replace", replace)


def test_a_killed_round_goes_on_where_it_was(tmp_path, model, monkeypatch):
    known = Knowledge(PHRASES, (), ("rape oil",), ("rape oil", "north tower"))
    calm = run(tmp_path / "calm", model, known)
    config = prepared(tmp_path / "killed", model)
    first, second = config.run.round(1), config.run.round(2)

    def kill(generators=None, act=lambda patch: None):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            act(patch)
            rounds.run(config, generators or known.generators())
        with pytest.raises(ValueError, match="run `pdtrain rounds CONFIG` first"):
            trained(config)

    kill(known.generators(Dying(lamp.backend(), 2)))
    assert not (config.run.quiz_folder / "manifest.json").exists(), "killed while making the quiz"
    kill(Generators(lamp.backend(), lambda *_: Dying(lamp.backend(()), 1)))
    assert (config.run.quiz_folder / "manifest.json").exists(), "killed while the student answers"
    kill(known.generators(Dying(lamp.backend(), 2)))
    assert first.questions_folder.exists(), "killed while the first round asks"
    assert not (first.questions_folder / "manifest.json").exists()
    kill(act=lambda patch: on_each_call(patch, "step", lambda call: die(call == 2)))
    assert first.checkpoints_folder.exists() and not first.adapter.exists()
    has_begun = (second.answers_folder / "manifest.json").exists
    kill(act=lambda patch: on_each_call(patch, "adapter_state", lambda _: die(has_begun())))
    assert first.adapter.exists() and has_begun() and not second.checkpoints_folder.exists()
    kill(act=lambda patch: die_before_renaming_to("rounds.json", patch))
    assert second.adapter.exists() and (second.path / "quiz.json").exists()
    rounds.run(config, known.generators())
    assert summary(config) == summary(calm) and summary(config)["best"] == 2
    for number in (1, 2):
        killed, whole = (weights(c.run.round(number).adapter) for c in (config, calm))
        assert killed == whole


def test_a_file_named_stop_ends_it_between_rounds_and_while_something_is_asked(
    tmp_path, model, monkeypatch
):
    config, known = prepared(tmp_path, model), Knowledge(PHRASES, (), (), ())
    (tmp_path / "STOP").touch()
    with pytest.raises(Stopped, match="stopped at facts: 1 of "):
        rounds.run(config, known.generators())
    (tmp_path / "STOP").unlink()

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="stopped before round 1"):
        # asked once a quiz is over; it names no reason to end the rounds
        patch.setattr(rounds.recall, "why_to_stop", lambda *_: (tmp_path / "STOP").touch())
        rounds.run(config, known.generators())
    (tmp_path / "STOP").unlink()
    rounds.run(config, known.generators())
    assert len(summary(config)["rounds"]) == 3


def test_a_new_training_needs_new_rounds(tmp_path, model):
    known = Knowledge(PHRASES, (), PHRASES)
    config = run(tmp_path, model, known)
    other = replace(config, train=replace(config.train, learning_rate=0.02))
    train.run(other)
    with pytest.raises(ValueError, match="are of another adapter"):
        trained(other)
    rounds.run(other, known.generators())
    assert trained(other) == tmp_path / "rounds" / "1" / "adapter"


def test_a_gone_adapter_of_training_is_told_wherever_the_run_is(tmp_path, model):
    config = prepared(tmp_path / "rounds" / "x", model, most=0)
    (trained(config) / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="run `pdtrain train CONFIG` again"):
        trained(config)


def test_a_gone_adapter_of_a_round_is_told_with_what_to_do(tmp_path, model):
    config = run(tmp_path, model, Knowledge(PHRASES, (), PHRASES))
    (trained(config) / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="run `pdtrain rounds CONFIG` again"):
        trained(config)


def test_answers_that_do_not_hold_end_it_with_a_reason_of_their_own(tmp_path, model):
    config = prepared(tmp_path, model)
    strict = replace(config.answers, grounded=True, quote=False)
    base, vague = lamp.backend(), lamp.backend(())

    def sample(prompts, sampling, seed, **options):
        """Answer well when quizzed, greedily, and badly where answers are sampled."""
        chosen = vague if sampling == strict.sampling else base
        return FakeBackend.sample(chosen, prompts, sampling, seed, **options)

    base.sample = sample
    known = Knowledge(PHRASES, ())
    rounds.run(replace(config, answers=strict), known.generators(base))
    found = summary(config)
    assert re.fullmatch(r"no answer to \d+ new questions about what .* held", found["stopped"])
    assert len(found["rounds"]) == 1 and trained(config) == tmp_path / "adapter"


def test_a_budget_of_training_limits_no_round_and_a_round_learns_no_passage_more(tmp_path, model):
    config, known = prepared(tmp_path, model), Knowledge(PHRASES, (), PHRASES)
    limited = replace(config, train=replace(config.train, answer_tokens=12))
    train.run(limited)
    first = learned_passages.read(tmp_path / "adapter")
    assert len(first.passages) < 2
    rounds.run(limited, known.generators())
    trained_on = [answers_of(limited)[i] for i in trained_answers(limited, 1)]
    made = read_json(tmp_path / "rounds" / "1" / "adapter" / "manifest.json")
    assert made["num_answers"] == len(trained_on)
    assert sum(len(row["token_ids"]) for row in trained_on) > 12
    assert learned_passages.read(trained(limited)).documents == first.documents


def test_rounds_say_what_was_learned_only_where_training_does(tmp_path, model):
    known = Knowledge(PHRASES, (), (), PHRASES)
    config = prepared(tmp_path, model)
    manifest = read_json(tmp_path / "adapter" / "manifest.json")
    del manifest["sha256"]["documents.json"]  # as training without documents leaves it
    write_checked(tmp_path / "adapter" / "manifest.json", manifest)
    (tmp_path / "adapter" / "documents.json").unlink()
    rounds.run(config, known.generators())
    assert trained(config) == tmp_path / "rounds" / "2" / "adapter"
    assert not list((tmp_path / "rounds").rglob("documents.json"))


def test_the_card_tells_of_training_and_of_the_rounds_apart(tmp_path, model):
    config = run(tmp_path, model, Knowledge(PHRASES, (), (), PHRASES))
    export.write(config)
    card = (tmp_path / "export" / "README.md").read_text()
    places = [tmp_path / "adapter", *(tmp_path / "rounds" / n / "adapter" for n in "12")]
    first, *others = [read_json(place / "manifest.json") for place in places]
    assert f"| answers | {first['num_answers']} |" in card and "on top of |" not in card
    answers, steps = (sum(m[key] for m in others) for key in ("num_answers", "num_steps"))
    assert "| rounds after it | round 2, the best, on top of those before it: " in card
    assert f"{answers} answers, {steps} optimizer steps together |" in card


def test_no_hash_knows_of_rounds_that_are_off(tmp_path, model):
    off = prepared(tmp_path, model, most=0)
    other = replace(off, rounds=RoundsConfig(questions_per_miss=99, replay=7.0))
    on = replace(off, rounds=RoundsConfig(most=1))
    source = tmp_path / "adapter"
    assert train.inputs_hash(off, None) == train.inputs_hash(other, None)
    assert train.inputs_hash(off, None) == train.inputs_hash(on, None)
    assert export.inputs_hash(off, source) == export.inputs_hash(other, source)
    assert export.inputs_hash(off, source) != export.inputs_hash(on, source)
    asked = (SYSTEMS["unrelated_text"], ("one", "two"))
    hashes = [examination.unrelated_inputs(c, *asked) for c in (off, other)]
    assert hashes[0] == hashes[1]


def test_scores_by_age_are_those_of_training_whatever_its_rounds_started_from(
    tmp_path, model, held_out
):
    known = Knowledge(PHRASES, (), PHRASES)
    config = prepared(tmp_path / "run", model)
    shutil.copytree(trained(replace(config, rounds=RoundsConfig())), tmp_path / "before")
    asked = replace(
        config.evaluate,
        questions=str(held_out),
        max_new_tokens=2,
        bootstrap_samples=40,
    )
    config = replace(config, evaluate=asked)
    for start in ("", str(tmp_path / "before")):
        going_on = replace(config, train=replace(config.train, start=start))
        train.run(going_on)
        rounds.run(going_on, known.generators())
        evaluate.score(going_on)
        weights = trained(going_on) / "adapter_model.safetensors"
        assert weights.parent == config.folder / "rounds" / "1" / "adapter"
        manifest = read_json(config.folder / "scores" / "manifest.json")
        assert manifest["adapter"] == sha256_file(weights)
        assert (config.folder / "scores_by_age.json").exists() is bool(start)


def test_a_round_is_held_to_the_base_as_training_was(tmp_path, model):
    known = Knowledge(PHRASES, (), PHRASES)
    config = run(tmp_path, model, known, replay=0.0)
    assert "train/retain_loss" not in config.run.round(1).metrics()[0]
    one = {"id": "r", "kind": "text", "prompt": "Rivers", "text": "run", "token_ids": [5, 6]}
    write_stage(tmp_path / "retain", [one])
    held = replace(config, retain=replace(config.retain, weight=1.0, per_step=1))
    train.run(held)
    rounds.run(held, known.generators())
    assert held.run.round(1).metrics()[0]["train/retain_loss"] > 0
