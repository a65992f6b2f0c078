"""The stage: what is written, what is asked again, and when the adapter is on."""

import json

import pytest
import torch
from embedding_model import write_model
from run_folders import ANSWERING, FORGETTING, METRICS, READING, READING_METRICS, UNRELATED
from safetensors.torch import load_file, save_file
from support import tiny_config, tiny_records, write_records

from pdtrain.evaluation import evaluate, examination, systems
from pdtrain.evaluation.examination import system_keys
from pdtrain.evaluation.grading import metrics
from pdtrain.evaluation.grading.declining import declines
from pdtrain.evaluation.grading.metrics import Metric, gold_in_answer
from pdtrain.evaluation.scores import table_text
from pdtrain.evaluation.systems import System, counterpart, named
from pdtrain.stage import mark_finished
from pdtrain.storage import read_json, read_jsonl
from pdtrain.synthesis.held_out import read_reading
from pdtrain.training import train


def stamps(run):
    return {path.stem: path.stat().st_mtime_ns for path in run.folder.glob("scores/*.jsonl")}


def redone(run, before):
    return {system for system, stamp in stamps(run).items() if stamp != before.get(system)}


WITH_ADAPTER = [name for name in (*ANSWERING, *READING) if named(name).with_adapter]


def test_scores_have_the_documented_shape(scored):
    table = read_json(scored.folder / "scores.json")
    assert list(table) == [*ANSWERING, *READING, *UNRELATED]
    sizes = dict.fromkeys(ANSWERING, 3) | {"unrelated_text": 8, "unrelated_questions": 24}
    reading = read_reading(scored.config().evaluate.reading)
    answerable = sum(bool(one.question.answers) for one in reading)
    for system, scores in table.items():
        wanted = METRICS if system in ANSWERING else FORGETTING
        wanted = READING_METRICS if system in READING else wanted
        assert set(scores) == {*wanted, *(["gain"] if system in WITH_ADAPTER else [])}
        for metric, score in scores.items():
            assert set(score) == {"value", "low", "high", "n"}
            assert score["low"] <= score["value"] <= score["high"]
            if system not in READING:
                assert score["n"] == sizes[system]
            elif metric in ("gold_in_answer", "token_f1", "gain"):
                assert score["n"] == answerable
            elif metric == "invented":
                assert score["n"] == len(reading) - answerable
            else:
                assert score["n"] == len(reading)


def test_every_prediction_is_written_with_its_grades(scored):
    table = scored.config().run.scores()
    asked = [record["question"] for record in read_jsonl(scored.questions)]
    for system in ANSWERING:
        lines = scored.config().run.predictions(system)
        assert [line["question"] for line in lines] == asked
        for metric in METRICS:
            if metric not in ("recited", "repeated"):  # which need the other answers
                mean = sum(line[metric] for line in lines) / 3
                assert table[system][metric].value == pytest.approx(mean)


def test_the_gain_is_the_difference_to_the_base_that_reads_the_same(scored):
    run = scored.config().run
    for name in WITH_ADAPTER:
        gold = {}
        for system in (named(name), counterpart(named(name))):
            found = (line["gold_in_answer"] for line in run.predictions(system.name))
            gold[system.with_adapter] = [value for value in found if value is not None]
        number = len(gold[True])
        assert number == len(gold[False])
        wanted = (sum(gold[True]) - sum(gold[False])) / number
        assert run.scores()[name]["gain"].value == pytest.approx(wanted), name


def test_a_reading_item_is_asked_with_its_own_passage(scored):
    """A question that its passage does not answer has no gold answer, and no grade by one."""
    lines = scored.config().run.predictions("adapter_unrelated_reading")
    items = read_reading(scored.config().evaluate.reading)
    assert [line["question"] for line in lines] == [one.question.question for one in items]
    for line in lines:
        assert (line["gold_in_answer"] is None) == (line["answers"] == [])
        assert (line["invented"] is None) == (line["answers"] != [])
        assert (line["gold_log_likelihood"] is None) == (line["answers"] == [])


def test_a_question_that_the_documents_do_not_answer_shows_what_is_invented(scored):
    open_question = {"document": "0", "question": "What did the pier cost?", "answers": []}
    with scored.questions.open("a") as file:
        file.write(json.dumps(open_question) + "\n")
    evaluate.score(scored.config())
    table = scored.config().run.scores()
    for system in ANSWERING:
        *answered, last = scored.config().run.predictions(system)
        assert last["gold_in_answer"] is None and last["gold_log_likelihood"] is None
        assert last["invented"] == float(not declines(last["prediction"]))
        assert all(line["invented"] is None for line in answered)
        assert (table[system]["invented"].value, table[system]["invented"].n) == (
            last["invented"],
            1,
        )
        assert table[system]["gold_in_answer"].n == 3 and table[system]["finished"].n == 4
        if named(system).with_adapter:
            assert table[system]["gain"].n == 3


def test_reading_is_measured_on_ones_own_passages(scored):
    path = scored.folder.parent / "own.jsonl"
    asked = {"question": "What colour is the lamp?", "answers": ["green"]}
    path.write_text(json.dumps({"passage": "The lamp is green.", "questions": [asked]}))
    evaluate.score(scored.config(evaluate={"reading": str(path)}))
    scores = scored.config().run.scores()["base_unrelated_reading"]
    assert scores["gold_in_answer"].n == 1 and "invented" not in scores


def test_a_second_time_nothing_is_done(scored):
    files = [path for path in scored.folder.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    evaluate.score(scored.config())
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_systems_without_the_adapter_survive_another_training(scored):
    before = stamps(scored)
    config = scored.config(train={"learning_rate": 0.1})
    train.run(config)
    evaluate.score(config)
    assert redone(scored, before) == {*WITH_ADAPTER, *UNRELATED}


@pytest.mark.parametrize(
    "change, wanted",
    [
        ({"bootstrap_samples": 60}, set()),
        ({"batch_size": 2}, set()),
        ({"rag_passages": [1, 2]}, {"base_rag_2", "adapter_rag_2"}),
        ({"max_new_tokens": 5}, {*ANSWERING, *READING}),
        ({"limit": 2}, {*ANSWERING, *READING}),
    ],
)
def test_a_setting_asks_those_again_whom_it_concerns(scored, change, wanted):
    before = stamps(scored)
    evaluate.score(scored.config(evaluate=change))
    assert redone(scored, before) == wanted


def test_one_more_question_asks_everything_but_what_is_unrelated_again(scored):
    before = stamps(scored)
    with open(scored.questions, "a", encoding="utf-8") as file:
        file.write('{"question": "Where?", "answers": ["Osk"]}\n')
    evaluate.score(scored.config())
    assert redone(scored, before) == set(ANSWERING)
    assert scored.config().run.scores()["base_rag"]["token_f1"].n == 4


def test_a_new_metric_is_one_entry_of_the_table(scored, monkeypatch):
    """Runs that were scored before it was there are graded by it, too."""
    length = Metric("num_words", "Words", "words of it", grade=lambda said, _: len(said.split()))
    monkeypatch.setitem(metrics.METRICS, length.name, length)
    evaluate.score(scored.config())
    table = scored.config().run.scores()
    for system in ANSWERING:
        words = [
            len(line["prediction"].split()) for line in scored.config().run.predictions(system)
        ]
        assert table[system]["num_words"].value == pytest.approx(sum(words) / len(words))
    assert "num_words" in table_text(table)


def test_after_a_change_of_the_grading_everything_is_graded_anew(scored, monkeypatch):
    """So that no table holds grades of two versions, of the base and of a newer adapter."""
    before = system_keys(scored.config())
    monkeypatch.setattr(examination, "GRADING", examination.GRADING + 1)
    after = system_keys(scored.config())
    changed = {system for system in before if before[system] != after[system]}
    assert {system.name for system in changed} >= set(ANSWERING)
    assert {system.name for system in before if system not in changed} == {
        "unrelated_text",
        "unrelated_questions",
    }


def test_a_new_system_is_one_entry_of_the_table(scored, monkeypatch):
    before = stamps(scored)
    both = System("adapter_gold_again", True, "gold", "adapter again", "adapter, open book again")
    monkeypatch.setitem(systems.SYSTEMS, both.name, both)
    evaluate.score(scored.config())
    assert redone(scored, before) == {both.name}
    table = scored.config().run.scores()
    assert table[both.name]["token_f1"].n == 3
    assert both.name in table_text(table)


def test_a_kill_between_systems_costs_none_that_had_answered(scored):
    """What a kill leaves behind: some files of predictions, and no sign of the end."""
    before, table = stamps(scored), (scored.folder / "scores.json").read_bytes()
    gone = {"adapter_rag", "unrelated_text"}
    for system in gone:
        scored.config().run.predictions_file(system).unlink()
    (scored.folder / "scores" / "manifest.json").unlink()
    (scored.folder / "scores.json").unlink()
    evaluate.score(scored.config())
    assert redone(scored, before) == gone
    assert (scored.folder / "scores.json").read_bytes() == table


def test_the_adapter_is_on_in_its_own_systems_alone(scored):
    before = scored.config().run.scores()
    path = scored.folder / "adapter" / "adapter_model.safetensors"
    noise = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(w.shape, generator=noise) * 0.2 for n, w in load_file(path).items()}
    save_file(weights, path)
    mark_finished(path.parent, "another training", [path.name])
    evaluate.score(scored.config())
    after = scored.config().run.scores()
    for system in ANSWERING:
        old, new = (table[system]["gold_log_likelihood"].value for table in (before, after))
        assert (abs(new - old) > 0.01) == named(system).with_adapter, system
    for system in UNRELATED:
        old, new = (table[system]["kl_to_base"].value for table in (before, after))
        assert new > 0.01 and abs(new - old) > 0.01, system
        old, new = (table[system]["base_perplexity"].value for table in (before, after))
        assert new == pytest.approx(old, rel=1e-6), system


def test_the_same_prompt_gets_the_same_answer(scored):
    """A question about a passage that retrieval finds is put to the base once."""
    run = scored.config().run
    teacher, rag = run.predictions("teacher_open_book"), run.predictions("base_rag")
    same = [found == line for found, line in zip(rag, teacher, strict=True)]
    assert any(same), "BM25 finds at least one gold passage of so few"


def test_forgetting_is_measured_on_ones_own_texts(scored):
    path = scored.folder.parent / "unrelated.jsonl"
    path.write_text('{"text": "The pier and the lamp."}\n')
    config = scored.config(evaluate={"unrelated": str(path)})
    evaluate.score(config)
    table = config.run.scores()
    assert table["unrelated_text"]["kl_to_base"].n == 1
    assert "unrelated_questions" not in table


def test_dense_retrieval_has_systems_of_its_own_and_leaves_the_others(scored, tmp_path):
    pytest.importorskip("sentence_transformers")
    before = stamps(scored)
    config = scored.config(evaluate={"dense": write_model(tmp_path / "dense")})
    evaluate.score(config)
    numbers = ("", "_3", "_5")
    dense = [f"{who}_dense_rag{n}" for who in ("base", "adapter") for n in numbers]
    assert redone(scored, before) == {*dense}
    table = config.run.scores()
    assert list(table) == [*ANSWERING, *dense, *READING, *UNRELATED]
    assert table["adapter_dense_rag"]["token_f1"].n == 3


def test_without_questions_the_stage_is_skipped(model, tmp_path):
    evaluate.score(tiny_config(tmp_path, model))
    assert not (tmp_path / "scores.json").exists()


def test_questions_that_are_not_there_are_named(model, tmp_path):
    config = tiny_config(tmp_path, model, evaluate={"questions": str(tmp_path / "gone.jsonl")})
    write_records(config, *tiny_records())
    with pytest.raises(ValueError, match=r"gone.jsonl' is not a file; expected JSONL with a quest"):
        evaluate.score(config)


def test_scoring_before_training_says_what_to_run(model, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "Where?", "answers": ["Osk"]}\n')
    config = tiny_config(tmp_path / "run", model, evaluate={"questions": str(path)})
    write_records(config, *tiny_records())
    with pytest.raises(ValueError, match=r"no trained adapter yet; run `pdtrain train CONFIG`"):
        evaluate.score(config)


def test_the_bundled_passages_are_read_where_no_file_is_named(scored):
    """A third of their questions has no answer in the passage, and every other one has."""
    items = read_reading()
    assert len(items) == 66 and sum(not one.question.answers for one in items) == 22
    for one in items:
        assert not one.question.answers or gold_in_answer(one.passage, one.question.answers)
    evaluate.score(scored.config(evaluate={"reading": "", "limit": 2}))
    lines = scored.config().run.predictions("base_unrelated_reading")
    assert [line["question"] for line in lines] == [one.question.question for one in items[:2]]
