"""Scores on new and on old documents, for an adapter that started from another one."""

import shutil
from dataclasses import replace

import pytest
from judge_server import Server
from run_folders import ANSWERING, METRICS
from support import tiny_records

from pdtrain.evaluation import ages, evaluate
from pdtrain.evaluation.ages import questions_by_age, write_scores_by_age
from pdtrain.models.adapters import learned_passages
from pdtrain.records import TestQuestion
from pdtrain.run_folder import RunFolder
from pdtrain.storage import read_json, sha256_file, write_checked, write_headed
from pdtrain.synthesis.held_out import read_questions
from pdtrain.training import train


@pytest.fixture(scope="module")
def continued_once(trained_once, tmp_path_factory):
    run = trained_once.copy(tmp_path_factory.mktemp("continued") / "project")
    start = shutil.copytree(run.folder / "adapter", run.folder.parent / "start")
    learned = learned_passages.read(start)
    known = {name: ids for name, ids in learned.documents.items() if name != "1.txt"}
    learned_passages.write(start, replace(learned, documents=known))
    (start / "manifest.json").unlink()  # it vouches for what was changed
    train.run(run.config(train={"start": str(start)}))
    evaluate.score(run.config(train={"start": str(start)}))
    return run


@pytest.fixture
def continued(continued_once, tmp_path):
    """A run that was trained on from an adapter that had not learned document 1, and scored."""
    return continued_once.copy(tmp_path / "project")


def config_of(run, **evaluate):
    """Return the run's config; its adapter was trained from the copy in the same folder."""
    return run.config(train={"start": str(run.folder.parent / "start")}, evaluate=evaluate)


def test_new_and_old_documents_are_scored_apart(continued):
    config = config_of(continued)
    whole, apart = config.run.scores(), config.run.scores_by_age()
    questions = read_questions(config.evaluate.questions)
    among = questions_by_age(config, questions, learned_passages.read(config.run.adapter))
    assert list(apart) == list(among) == ["new", "old"]
    assert questions[0].id in among["old"] and questions[1].id in among["new"]
    for system in ANSWERING:
        lines = config.run.predictions(system)
        for metric in METRICS:
            if metric in ("recited", "repeated"):  # which are not in the file of predictions
                continue
            total = 0.0
            for age, ids in among.items():
                score = apart[age][system][metric]
                own = [line[metric] for line in lines if line["id"] in ids]
                assert score.n == len(own) > 0
                assert score.value == pytest.approx(sum(own) / len(own))
                assert score.low <= score.value <= score.high
                total += score.value * score.n
            assert total / len(questions) == pytest.approx(whole[system][metric].value)


def test_a_document_of_which_nothing_was_learned_is_new(continued):
    config = config_of(continued)
    questions = read_questions(config.evaluate.questions)
    learned = learned_passages.read(config.run.adapter)
    assert learned.new == [tiny_records()[0][1].id]
    rest = {name: ids for name, ids in learned.documents.items() if name != "0.txt"}
    among = questions_by_age(config, questions, replace(learned, documents=rest))
    assert {questions[0].id, questions[1].id} <= among["new"]
    assert among["old"] == {question.id for question in questions[2:]}


def test_a_lost_table_is_made_again_and_nothing_asked(continued):
    config = config_of(continued)
    path = config.run.scores_by_age_file
    text = path.read_text()
    before = {p: p.stat().st_mtime_ns for p in config.run.scores_folder.glob("*.jsonl")}
    path.unlink()
    evaluate.score(config)
    assert path.read_text() == text
    assert before == {p: p.stat().st_mtime_ns for p in config.run.scores_folder.glob("*.jsonl")}


def test_an_age_that_nobody_asked_about_has_no_systems(continued):
    config = config_of(continued)
    learned = learned_passages.read(config.run.adapter)
    learned_passages.write(config.run.adapter, replace(learned, new=[]))
    manifest = read_json(config.run.adapter / "manifest.json")
    changed = sha256_file(config.run.adapter / "documents.json")
    manifest["sha256"]["documents.json"] = changed
    write_checked(config.run.adapter / "manifest.json", manifest)
    evaluate.score(config)
    apart = config.run.scores_by_age()
    assert apart["new"] == {} and apart["old"]["adapter_closed_book"]["token_f1"].n == 3


def test_an_age_without_a_question_that_has_an_answer_is_said(continued, caplog):
    config = config_of(continued)
    asked = [
        TestQuestion(q.id, q.document, q.question, ()) if i < 2 else q
        for i, q in enumerate(read_questions(config.evaluate.questions))
    ]
    learned = learned_passages.read(config.run.adapter)
    for system in ages.answering_systems(config.evaluate):
        lines = [
            line | {"gold_in_answer": None, "exact_match": None, "token_f1": None}
            for line in config.run.predictions(system.name)
        ]
        write_headed(config.run.predictions_file(system.name), {"inputs": "x"}, lines)
    write_scores_by_age(config, asked, learned, None)
    apart = read_json(config.run.scores_by_age_file)
    assert all("gold_in_answer" not in scores for age in apart.values() for scores in age.values())
    assert "nothing was asked that they answer" in caplog.text


def test_training_from_scratch_takes_the_table_away(continued):
    train.run(continued.config())
    evaluate.score(continued.config())
    assert continued.config().run.scores_by_age() == {}


def test_training_answers_are_read_once_for_all_systems_and_ages(continued, monkeypatch):
    config, reads, read = config_of(continued), [], RunFolder.learned_answers
    before = config.run.scores(), config.run.scores_by_age()
    config.run.scores_file.unlink()
    monkeypatch.setattr(RunFolder, "learned_answers", lambda run: reads.append(run) or read(run))
    evaluate.score(config)
    assert len(reads) == 2, "for what is recited, and for their lengths"
    assert (config.run.scores(), config.run.scores_by_age()) == before
    assert before[0]["adapter_closed_book"]["recited"].n == 3


def test_a_judges_grades_are_scored_apart_too(continued, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    server.script = [
        lambda request: f"VERDICT: {'correct' if 'Who keeps' in request else 'wrong'}",
    ]
    config = config_of(continued, judge={"url": server.url, "model": "grader"})
    evaluate.score(config)
    server.close()
    apart = config.run.scores_by_age()
    grades = {age: systems["adapter_closed_book"]["judged"] for age, systems in apart.items()}
    assert grades["old"].value == 0.0
    assert grades["new"].value == pytest.approx(1 / grades["new"].n)
