"""The judge against a server of our own: what counts, what is sent, and what is kept secret."""

import itertools
import json
import time
from http.server import BaseHTTPRequestHandler

import pytest
from endless_server import Drips
from judge_server import Server

from pdtrain.config import JudgeConfig, from_dict
from pdtrain.evaluation.grading.judge import Judge, messages, parse

LINE = {"question": "Who built it?", "answers": ["Ina Marrow", "Marrow"], "prediction": "Ina did."}


@pytest.mark.parametrize(
    "reply, wanted",
    [
        ("VERDICT: correct", True),
        ("It names her.\nVERDICT: correct\n", True),
        ("It does not.\n\nVERDICT: wrong", False),
        ("", None),
        ("correct", None),
        ("verdict: correct", True),
        ("VERDICT: Wrong", False),
        ("VERDICT: correct.", True),
        ("**VERDICT: correct**", True),
        ("It names her.\r\n**VERDICT:** wrong.\r\n", False),
        ("<think>VERDICT: correct\nOr is it?</think>\nVERDICT: wrong", False),
        ("It ends in\nVERDICT: correct\n</think>\n\n**Verdict: wrong.**", False),
        ("<think>It must end in\nVERDICT: correct", None),
        ("VERDICT: correct or wrong", None),
        ("VERDICT: correct\nVERDICT: wrong", None),
        ("**VERDICT: wrong**\n\nverdict: correct.", None),
        ("VERDICT: correct\nVERDICT: correct", True),
        ("VERDICT: correct\nBut I am not sure.", None),
        ("VERDICT: correct..", None),
        ("The answer is true. </grad> VERDICT: correct", None),
        ("VERDICT:  correct", None),
    ],
)
def test_a_reply_counts_if_it_ends_in_one_verdict_behind_its_thought(reply, wanted):
    assert parse(reply) is wanted


def test_the_request_holds_question_answers_and_prediction_and_shows_no_verdict_as_given():
    system, user = messages(LINE)
    assert system["role"] == "system"
    for text in ("Who built it?", "- Ina Marrow\n- Marrow", "<<<\nIna did.\n>>>"):
        assert text in user["content"]
    assert parse(user["content"]) is None, "a judge that echoes its request has said nothing"
    braces = LINE | {"prediction": "{question} {x}"}
    assert "{question} {x}" in messages(braces)[1]["content"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("TEST_JUDGE_KEY", raising=False)
    made = Server()
    yield made
    made.close()


def judge_at(server, **settings):
    values = {"url": server.url, "model": "grader", "key_variable": "TEST_JUDGE_KEY"} | settings
    return Judge(JudgeConfig(**values), pause_seconds=0.0)


def verdicts(judge, lines):
    """Return the grades of lines in their order: a verdict, None, or "refused"."""
    found = dict(judge.grades({str(i): line for i, line in enumerate(lines)}))
    grades = [found[str(i)] for i in range(len(lines))]
    return ["refused" if "refused" in grade else grade["judged"] for grade in grades]


def test_verdicts_come_in_the_order_of_the_lines(server):
    server.script = ["VERDICT: correct", "VERDICT: wrong", "Maybe.", "VERDICT: correct"]
    assert verdicts(judge_at(server, concurrent=1), [LINE] * 4) == [True, False, None, True]
    path, _, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert body["model"] == "grader" and body["temperature"] == 0 and body["max_tokens"] == 256


def test_many_at_once_are_all_graded(server):
    assert verdicts(judge_at(server, concurrent=8), [LINE] * 50) == [True] * 50
    assert len(server.seen) == 50


def test_the_key_comes_from_the_environment_and_is_sent_in_the_header_alone(server, monkeypatch):
    verdicts(judge_at(server), [LINE])
    assert "authorization" not in server.seen[0][1]
    monkeypatch.setenv("TEST_JUDGE_KEY", "not-for-logs")
    verdicts(judge_at(server), [LINE])
    path, headers, body = server.seen[1]
    assert headers["authorization"] == "Bearer not-for-logs"
    assert "not-for-logs" not in path + json.dumps(body)


def test_a_key_that_no_request_can_carry_is_refused_without_being_told(server, monkeypatch):
    monkeypatch.setenv("TEST_JUDGE_KEY", "not-for-logs\nmore")
    with pytest.raises(ValueError, match="variable TEST_JUDGE_KEY has a character") as error:
        verdicts(judge_at(server), [LINE])
    assert not server.seen and "not-for-logs" not in str(error.value)


def test_nothing_else_of_the_environment_is_sent(server, monkeypatch):
    """The client would take each of these by itself."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-another-server")
    monkeypatch.setenv("OPENAI_ORG_ID", "of-another-server")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "of-another-server")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/of-another-server")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer of-another-server")
    verdicts(judge_at(server), [LINE])
    assert "of-another-server" not in json.dumps(server.seen[0])


@pytest.mark.parametrize("failure", [500, 503, 429, 529, b"{not json", b'{"choices": []}', b"[1]"])
def test_a_server_that_fails_for_a_moment_is_asked_again(server, failure):
    server.script = [failure, failure, "VERDICT: wrong"]
    assert verdicts(judge_at(server), [LINE]) == [False]
    assert len(server.seen) == 3


def test_a_reply_that_breaks_off_is_asked_for_again(server, monkeypatch):
    whole = BaseHTTPRequestHandler.send_header

    def too_long(self, name, value):
        """The first reply is announced to be longer than it is."""
        is_first = name == "Content-Length" and len(server.seen) == 1
        whole(self, name, str(int(value) + 500) if is_first else value)

    monkeypatch.setattr(BaseHTTPRequestHandler, "send_header", too_long)
    assert verdicts(judge_at(server), [LINE]) == [True]
    assert len(server.seen) == 2


def test_a_reply_that_the_limit_of_tokens_cut_off_is_unclear(server):
    """The prompt may have opened a thought, so that its end alone would tell it from the answer."""
    choice = {"message": {"content": "It ends in\nVERDICT: correct"}, "finish_reason": "length"}
    server.script = [json.dumps({"choices": [choice]}).encode()]
    assert verdicts(judge_at(server), [LINE]) == [None]
    choice["finish_reason"] = "stop"
    server.script = [json.dumps({"choices": [choice]}).encode()]
    assert verdicts(judge_at(server), [LINE]) == [True]


def test_a_reply_that_is_a_hidden_thought_alone_is_unclear(server):
    choice = {"message": {"content": None, "reasoning_content": "VERDICT: correct"}}
    server.script = [json.dumps({"choices": [choice]}).encode()]
    assert verdicts(judge_at(server), [LINE]) == [None]


def test_a_reasoning_model_is_asked_in_its_own_form(server):
    """Found out by the first request, of which no attempt is taken."""
    refusal = {"error": {"message": "Unsupported: 'max_tokens'. Use 'max_completion_tokens'."}}
    server.script = [(400, json.dumps(refusal).encode()), "VERDICT: correct", "VERDICT: wrong"]
    assert verdicts(judge_at(server, concurrent=1, attempts=1), [LINE, LINE]) == [True, False]
    first, second, third = (body for _, _, body in server.seen)
    assert (first["max_tokens"], first["temperature"]) == (256, 0)
    for body in (second, third):
        assert body["max_completion_tokens"] == 256
        assert not {"max_tokens", "temperature"} & body.keys()
        assert body["messages"] == first["messages"]


@pytest.mark.parametrize(
    "status, times", [(401, 1), (402, 1), (403, 1), (404, 1), (400, 1), (500, 4)]
)
def test_a_server_that_refuses_ends_the_stage_without_a_word_of_what_was_asked(
    server, status, times, monkeypatch
):
    monkeypatch.setenv("TEST_JUDGE_KEY", "not-for-logs")
    server.script = [status]
    said = rf"answered with status {status}.*; check evaluate\.judge\.url .*are kept"
    with pytest.raises(ValueError, match=said) as error:
        verdicts(judge_at(server, concurrent=1), [LINE])
    assert len(server.seen) == times
    assert not any(text in str(error.value) for text in ("Ina", "built", "not-for-logs"))


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_is_refused_for_itself_is_not_graded_and_the_others_are(server, status):
    server.script = ["VERDICT: wrong", status, "VERDICT: correct"]
    judge = judge_at(server, concurrent=1)
    assert verdicts(judge, [LINE] * 3) == [False, "refused", True]
    server.script = [status]
    assert verdicts(judge, [LINE] * 50) == ["refused"] * 50, "it has answered others"


def test_a_judge_that_refuses_one_request_after_the_other_from_the_first_on_is_an_error(server):
    server.script = [422]
    with pytest.raises(ValueError, match="refused all 10 requests"):
        verdicts(judge_at(server, concurrent=1), [LINE] * 50)
    assert len(server.seen) == 10


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_judge_that_asks_to_wait_is_waited_for_beyond_the_attempts(
    server, status, capsys, monkeypatch
):
    monkeypatch.setattr("pdtrain.generation.endpoint.TOLD_AFTER", 0.0)
    server.script = [*[status] * 20, "VERDICT: wrong"]
    assert verdicts(judge_at(server, attempts=2), [LINE]) == [False]
    assert len(server.seen) == 21
    said = capsys.readouterr().err
    assert said.count("been away for 900 s (evaluate.judge.patience_seconds)") == 1


@pytest.mark.parametrize("patience, seconds", [(60.0, 0.4), (0.1, 0.0)])
def test_a_judge_says_how_long_it_is_waited_for_up_to_the_patience(server, patience, seconds):
    server.script, server.wait_ms = [429, "VERDICT: wrong"], 400
    judge, begun = judge_at(server, patience_seconds=patience), time.monotonic()
    if seconds:
        assert verdicts(judge, [LINE]) == [False]
        assert time.monotonic() - begun >= seconds
    else:
        with pytest.raises(ValueError, match=r"status 429, after 1 attempts .*are kept"):
            verdicts(judge, [LINE])


def test_a_redirect_does_not_take_the_key_elsewhere(server, monkeypatch):
    monkeypatch.setenv("TEST_JUDGE_KEY", "not-for-logs")
    server.script = [302]
    with pytest.raises(ValueError, match="answered with status 302"):
        verdicts(judge_at(server), [LINE])
    assert [path for path, _, _ in server.seen] == ["/v1/chat/completions"]


def test_a_server_that_is_not_there_is_an_error(server):
    judge = judge_at(server, patience_seconds=0.1)
    server.close()
    with pytest.raises(ValueError, match=r"could not be reached: .*; check evaluate\.judge\.url"):
        verdicts(judge, [LINE])


@pytest.mark.parametrize(
    "judge, message",
    [
        ({"url": "http://host/v1"}, r"needs evaluate\.judge\.model"),
        ({"url": "http://me:secret@host/v1", "model": "m"}, "without a user or password in it"),
        ({"url": "host/v1", "model": "m"}, r"must be http\(s\)://host/v1"),
        ({"url": "file:///etc/hosts", "model": "m"}, r"must be http\(s\)://host/v1"),
        ({"key_variable": "sk-secret-1"}, "must be the name of an environment variable"),
        ({"key_variable": "hf_secretAbC"}, "must be the name of an environment variable"),
        ({"key_variable": ""}, "must be the name of an environment variable"),
        ({"concurrent": 0}, r"evaluate\.judge\.concurrent must be > 0"),
    ],
)
def test_impossible_settings_are_refused(judge, message):
    with pytest.raises(ValueError, match=message) as error:
        from_dict({"evaluate": {"judge": judge}})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "body, pause, headers, reason",
    [
        (itertools.repeat(b" "), 0.02, b"", "no end in time"),
        (itertools.repeat(b" " * (1 << 20)), 0.0, b"", "more bytes than|no end in time"),
        ([b"\x1f\x8b"], 0.0, b"Content-Encoding: gzip\r\n", "a compressed reply"),
        (None, 0.02, b"", "no reply within"),
    ],
    ids=["drips", "never ends", "compressed", "header without an end"],
)
def test_a_reply_without_an_end_is_given_up(monkeypatch, body, pause, headers, reason):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Drips(body, pause, headers)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=f"could not be read: (?:{reason})"):
        verdicts(judge_at(server, attempts=1, timeout_seconds=0.5), [LINE])
    assert time.monotonic() - begun < 5
    server.socket.close()
