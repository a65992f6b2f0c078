"""A judge's grades of the predictions, by a server that grades by the question."""

import pytest
from judge_server import Server
from run_folders import ANSWERING

from pdtrain.evaluation import evaluate
from pdtrain.progress import Stopped
from pdtrain.storage import read_json

VERDICTS = {
    "How long is the pier?": "VERDICT: correct",
    "Who keeps the bird?": "VERDICT: wrong",
    "What is it?": "I am not sure.",
}


def verdict(request):
    return next(reply for question, reply in VERDICTS.items() if question in request)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    made.script = [verdict]
    yield made
    made.close()


def judged_by(server, **settings):
    return {"judge": {"url": server.url, "model": "grader", "concurrent": 1, **settings}}


def stamps(run):
    return {path.name: path.stat().st_mtime_ns for path in run.folder.glob("scores/*.jsonl")}


def test_grades_are_a_metric_and_an_unclear_one_is_wrong(scored, server):
    before = stamps(scored)
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    assert before.items() < stamps(scored).items(), "no question was asked again"
    table = config.run.scores()
    for system in ANSWERING:
        score = table[system]["judged"]
        assert (score.value, score.n) == (pytest.approx(1 / 3), 3)
        graded = [line["judged"] for line in config.run.predictions(system)]
        assert graded == [True, False, False]


def test_a_question_without_an_answer_is_not_graded(scored, server):
    with scored.questions.open("a") as file:
        file.write('{"question": "Why?", "answers": []}\n')
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    for system in ANSWERING:
        assert config.run.scores()[system]["judged"].n == 3
        assert "judged" not in config.run.predictions(system)[-1]
    assert not any("Why?" in body["messages"][-1]["content"] for _, _, body in server.seen)


def test_the_same_answer_is_graded_once(scored, server):
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    requests = [body["messages"][-1]["content"] for _, _, body in server.seen]
    assert len(requests) == len(set(requests)) > 0
    after = stamps(scored)
    evaluate.score(config)
    assert stamps(scored) == after and len(server.seen) == len(requests)


def test_another_judge_grades_everything_again(scored, server):
    evaluate.score(scored.config(evaluate=judged_by(server)))
    count = len(server.seen)
    evaluate.score(scored.config(evaluate=judged_by(server, model="another")))
    assert len(server.seen) == 2 * count
    assert {body["model"] for _, _, body in server.seen[count:]} == {"another"}


def test_without_a_judge_the_grades_of_an_earlier_one_are_no_metric(scored, server):
    evaluate.score(scored.config(evaluate=judged_by(server)))
    evaluate.score(scored.config())
    assert "judged" not in read_json(scored.folder / "scores.json")["base_rag"]


def test_a_stop_file_ends_it_after_the_grades_of_a_system_which_are_kept(scored, server):
    config = scored.config(evaluate=judged_by(server))
    config.run.stop_file.touch()
    with pytest.raises(Stopped, match="stopped at judge: 1 of "):
        evaluate.score(config)
    assert len(server.seen) == 3
    kept = stamps(scored)
    config.run.stop_file.unlink()
    evaluate.score(config)
    assert kept.items() < stamps(scored).items()


def test_a_judge_that_fails_leaves_the_grades_of_finished_systems(scored, server):
    server.script = [verdict] * 3 + [401]
    config = scored.config(evaluate=judged_by(server))
    with pytest.raises(ValueError, match="answered with status 401"):
        evaluate.score(config)
    kept = {path.name for path in scored.folder.glob("scores/*.judged.jsonl")}
    assert kept == {"base_closed_book.judged.jsonl"}
    server.script, count = [verdict], len(server.seen)
    evaluate.score(config)
    again = [body["messages"][-1]["content"] for _, _, body in server.seen[count:]]
    assert (
        len(again) == len(set(again)) and config.run.scores()["base_closed_book"]["judged"].n == 3
    )
