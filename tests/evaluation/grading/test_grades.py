"""A judge's grades of the predictions, by a server that grades by the question."""

import pytest
from judge_server import Server
from run_folders import ANSWERING

from pdtrain.evaluation import evaluate
from pdtrain.progress import Stopped
from pdtrain.storage import read_json, read_jsonl, write_headed

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


def requests_of(server):
    return [body["messages"][-1]["content"] for _, _, body in server.seen]


def stamps(run):
    return {path.name: path.stat().st_mtime_ns for path in run.folder.glob("scores/*.jsonl")}


def test_grades_are_a_metric_and_an_unclear_one_is_counted_apart(scored, server, capsys):
    before = stamps(scored)
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    assert before.items() < stamps(scored).items(), "no question was asked again"
    table = config.run.scores()
    for system in ANSWERING:
        score, unjudged = table[system]["judged"], table[system]["unjudged"]
        assert (score.value, score.n) == (pytest.approx(1 / 2), 2)
        assert (unjudged.value, unjudged.n) == (pytest.approx(1 / 3), 3)
        graded = [line["judged"] for line in config.run.predictions(system)]
        assert graded == [True, False, None]
    said, num = capsys.readouterr().err, len(ANSWERING)
    assert f"{num} of {3 * num} replies of the judge hold no clear verdict" in said
    assert "evaluate.judge.max_new_tokens=256 may be too low for a judge that thinks" in said


def test_a_few_unclear_replies_are_said_without_a_warning(scored, server, capsys):
    server.script = ["Maybe.", lambda request: "VERDICT: wrong"]
    evaluate.score(scored.config(evaluate=judged_by(server)))
    said = capsys.readouterr().err
    assert "replies of the judge hold no clear verdict" in said
    assert "judge.max_new_tokens" not in said


def test_a_judge_that_is_never_clear_gives_no_score_that_looks_measured(scored, server):
    server.script = ["Hm."]
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    table = config.run.scores()["base_closed_book"]
    assert "judged" not in table and table["unjudged"].value == 1.0


def test_a_question_without_an_answer_is_not_graded(scored, server):
    with scored.questions.open("a") as file:
        file.write('{"question": "Why?", "answers": []}\n')
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    for system in ANSWERING:
        assert config.run.scores()[system]["unjudged"].n == 3
        assert "judged" not in config.run.predictions(system)[-1]
    assert not any("Why?" in body["messages"][-1]["content"] for _, _, body in server.seen)


def test_the_same_answer_is_graded_once(scored, server):
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    requests = requests_of(server)
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


def test_a_stop_file_ends_it_after_a_grade_which_is_kept(scored, server):
    config = scored.config(evaluate=judged_by(server))
    config.run.stop_file.touch()
    with pytest.raises(Stopped, match="stopped at judge: 0 of "):
        evaluate.score(config)
    first = requests_of(server)[0]
    config.run.stop_file.unlink()
    evaluate.score(config)
    assert requests_of(server).count(first) == 1
    assert "judged" in read_json(scored.folder / "scores.json")["base_closed_book"]


def test_a_judge_that_fails_leaves_the_grades_of_finished_systems(scored, server):
    server.script = [verdict] * 3 + [401]
    config = scored.config(evaluate=judged_by(server))
    with pytest.raises(ValueError, match="answered with status 401"):
        evaluate.score(config)
    kept = {path.name for path in scored.folder.glob("scores/*.judged.jsonl")}
    assert kept == {"base_closed_book.judged.jsonl"}
    server.script, count = [verdict], len(server.seen)
    evaluate.score(config)
    again = requests_of(server)[count:]
    assert (
        len(again) == len(set(again)) and config.run.scores()["base_closed_book"]["unjudged"].n == 3
    )


def test_grades_are_kept_as_they_come_and_the_others_are_asked_for_again(scored, server):
    server.script = [verdict] * 2 + [401]
    config = scored.config(evaluate=judged_by(server))
    with pytest.raises(ValueError, match="answered with status 401"):
        evaluate.score(config)
    assert not list(scored.folder.glob("scores/*.judged.jsonl"))
    paid, server.script, count = requests_of(server)[:2], [verdict], len(server.seen)
    evaluate.score(config)
    assert not set(paid) & set(requests_of(server)[count:])
    whole = [line["judged"] for line in config.run.predictions("base_closed_book")]
    assert whole == [True, False, None]
    assert not list(scored.folder.glob("scores/**/journal*")), "it has ended, and needs none"


def test_what_finished_systems_have_paid_for_is_known_when_another_is_graded(scored, server):
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    count = len(server.seen)
    one, other = (scored.folder / "scores" / f"{name}.jsonl" for name in ("base_rag", "base_rag_3"))
    _, *lines = read_jsonl(one)
    header, *_ = read_jsonl(other)
    del header["sha256"]
    write_headed(other, header, lines)
    config.run.grades_file("base_rag_3").unlink()
    evaluate.score(config)
    assert len(server.seen) == count
    assert config.run.scores()["base_rag_3"]["judged"] == config.run.scores()["base_rag"]["judged"]


def test_a_request_that_the_judge_refuses_is_not_graded_and_not_wrong(scored, server, capsys):
    refused = "Who keeps the bird?"
    server.script = [lambda request: 400 if refused in request else verdict(request)]
    config = scored.config(evaluate=judged_by(server))
    evaluate.score(config)
    found = config.run.scores()["base_closed_book"]
    assert (found["judged"].value, found["judged"].n) == (1.0, 1)
    assert (found["unjudged"].value, found["unjudged"].n) == (pytest.approx(2 / 3), 3)
    num = len(ANSWERING)
    assert f"the judge refused {num} of {3 * num} requests" in capsys.readouterr().err
    count = len(server.seen)
    config.run.grades_file("base_closed_book").unlink()
    evaluate.score(config)
    assert len(server.seen) == count + 1, "what was refused is asked for again, and nothing else"


def test_a_judge_that_refuses_all_requests_is_an_error_and_no_grade(scored, server):
    server.script = [400]
    with pytest.raises(ValueError, match="refused all 3 requests"):
        evaluate.score(scored.config(evaluate=judged_by(server)))
    assert not list(scored.folder.glob("scores/*.judged.jsonl"))
