"""A server that fails, stalls, asks to wait, answers nonsense, dies and comes back."""

import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
import thinking_templates as templates
from completions_server import KEY, CompletionsServer
from endless_server import Drips
from fake_backend import FakeBackend
from support import tiny_config, tiny_model, write_records

from pdtrain.config import SamplingConfig, ServerConfig
from pdtrain.generation import endpoint as endpoints
from pdtrain.generation.backend import guided, open_backend
from pdtrain.generation.ledger import Ledger, Usage
from pdtrain.generation.server import ServerBackend
from pdtrain.generation.thoughts import ThinkingBackend
from pdtrain.models.base import end_ids, load_model
from pdtrain.processes.workers import UnitFailed
from pdtrain.records import Passage, Question, content_id
from pdtrain.storage import read_json, read_shards
from pdtrain.synthesis import answers
from pdtrain.synthesis.asking import replies
from pdtrain.synthesis.asking.model_writer import ModelWriter

SAMPLING = SamplingConfig(temperature=1.0, top_k=7, max_new_tokens=64)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(endpoints, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def serve():
    running = []

    def start(*args, **options):
        running.append(CompletionsServer(*args, **options))
        return running[-1]

    yield start
    for server in running:
        server.kill()


def config_of(folder, model, server, /, **more):
    options = {"url": server.url, "concurrent": 16, "timeout_seconds": 20, **more}
    keeps_all = {"grounded": False, "quote": False, "checks": 0, "attempts": 1}
    keeps_all |= {"enough_per_sentence": 1000}
    generation = {"backend": "server", "server": options}
    return tiny_config(folder, model, generation=generation, answers=keeps_all)


@pytest.fixture
def open_to(model, tmp_path):
    def opened(server, **more):
        return open_backend(config_of(tmp_path, model, server, **more))

    return opened


def prompts_of(backend, count):
    return [backend.chat.student(f"What is {i}?") for i in range(count)]


# --- A server that is not to be trusted ------------------------------------------------------


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
    config = ServerConfig(url=server.url, model="m", attempts=2, timeout_seconds=0.5)
    begun = time.monotonic()
    with pytest.raises(UnitFailed, match=f"could not be read: (?:{reason}).*2 attempts"):
        endpoints.Endpoint(config, 0.01).complete("r", {"prompt": [1], "model": "m"})
    assert time.monotonic() - begun < 8
    server.socket.close()


@pytest.mark.parametrize("ids", [[-1], [10**9], [2**70], [True], ["1"], [1.0], [None]])
def test_ids_that_the_tokenizer_does_not_have_are_no_answer(open_to, serve, ids):
    server = serve()
    backend = open_to(server, attempts=2)
    prompts, whole = prompts_of(backend, 1), server.complete

    def complete(body):
        status, found = whole(body)
        found["choices"][0]["token_ids"] = ids
        return status, found

    server.complete = complete
    with pytest.raises(UnitFailed, match=r"model\.name does not have|cannot be read"):
        backend.sample(prompts, SAMPLING, 3)


# --- One request ------------------------------------------------------------------------------


def test_ids_go_out_and_the_sampled_ids_come_back(open_to, serve):
    server = serve()
    backend = open_to(server)
    (prompt,) = prompts_of(backend, 1)
    (found,) = backend.sample([prompt], SAMPLING, 3, stop_ids=[301])
    sent = server.bodies[-1]
    assert sent["prompt"] == prompt and sent["model"] == "tiny"
    assert (sent["top_k"], sent["temperature"], sent["max_tokens"]) == (7, 1.0, 64)
    assert sent["stop_token_ids"] == [*backend.chat.stop_ids, 301]
    assert 0 <= sent["seed"] < 2**31
    _, answer = server.complete(sent)
    assert list(found.token_ids) == answer["choices"][0]["token_ids"] and found.finished
    assert found.text == answer["choices"][0]["text"].strip()


def test_a_prompt_keeps_its_seed_whoever_asks_beside_it(open_to, serve):
    server = serve()
    backend = open_to(server)
    prompts = prompts_of(backend, 5)
    first, again = (backend.sample(prompts, SAMPLING, 3) for _ in "ab")
    assert first == again
    assert first != backend.sample(prompts, SAMPLING, 4)
    assert first[:2] == backend.sample(prompts[:2], SAMPLING, 3)
    same = backend.sample(prompts[:1] * 5, SAMPLING, 3)
    assert len({one.token_ids for one in same}) > 1, "each sample needs a seed of its own"


def test_a_completion_ends_at_the_callers_stop(open_to, serve):
    server = serve()
    backend = open_to(server)
    mark = backend.chat.ids("?")[-1]
    found = backend.sample(prompts_of(backend, 8), SAMPLING, 0, stop_ids=[mark])
    assert {one.token_ids[-1] for one in found} == {mark, backend.chat.stop_ids[0]}
    assert all(one.finished and mark not in one.token_ids[:-1] for one in found)


def test_a_completion_that_the_limit_cuts_is_not_finished(open_to, serve):
    backend = open_to(serve())
    short = replace(SAMPLING, max_new_tokens=3)
    assert all(
        not one.finished and len(one.token_ids) == 3
        for one in backend.sample(prompts_of(backend, 3), short, 0)
    )


@pytest.mark.parametrize("takes_ids", [True, False])
@pytest.mark.parametrize("knows_more, gives_ids", [(True, True), (True, False), (False, False)])
def test_servers_that_can_do_less_give_the_same_answers(
    open_to, serve, takes_ids, knows_more, gives_ids
):
    whole = open_to(serve())
    server = serve(takes_ids=takes_ids, knows_more=knows_more, gives_ids=gives_ids)
    backend = open_to(server)
    mark = backend.chat.ids("?")[-1]
    prompts = prompts_of(backend, 6)
    wanted = whole.sample(prompts, SAMPLING, 0, stop_ids=[mark])
    found = backend.sample(prompts, SAMPLING, 0, stop_ids=[mark])
    assert found == wanted
    assert isinstance(server.bodies[-1]["prompt"], str) != takes_ids
    assert ("top_k" in server.bodies[-1]) == knows_more


def test_the_ends_are_those_of_the_model_in_this_process(open_to, serve, model, tmp_path):
    config = tiny_config(tmp_path, model)
    backend, whole = open_to(serve()), open_backend(config)
    assert backend.chat.stop_ids == whole.chat.stop_ids and backend.window == whole.window
    assert end_ids(config.model) == load_model(config.model).generation_config.eos_token_id
    assert not backend.can_score


def test_the_smaller_window_counts(open_to, serve):
    server = serve()
    server.models[0]["max_model_len"] = 40
    backend = open_to(server)
    assert backend.window == 40
    with pytest.raises(ValueError, match="a prompt of 30 tokens with 64 to come"):
        backend.sample([[5] * 30], SAMPLING, 0)


def test_a_model_that_thinks_does_so_behind_a_server_too(serve, tmp_path):
    folder = tiny_model(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(templates.QWEN3)
    config = config_of(tmp_path, folder, serve())
    config = replace(config, model=replace(config.model, thinking="on", thinking_budget=9))
    backend = open_backend(config)
    assert isinstance(backend, ThinkingBackend) and isinstance(backend.base, ServerBackend)
    first, again = (backend.sample(prompts_of(backend, 4), SAMPLING, 0) for _ in "ab")
    assert first == again and all(one.text for one in first)


# --- What the server says no to ---------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 402, 403, 404, 307])
def test_a_server_that_takes_nothing_stops_the_stage(open_to, serve, status, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ValueError, match=f"status {status}; check generation.server.url") as said:
        open_to(serve(lambda _: status))
    assert not isinstance(said.value, UnitFailed) and KEY not in str(said.value)


def test_a_request_that_is_refused_is_not_repeated(open_to, serve):
    server = serve(lambda number: 400 if number == 1 else None)
    backend = open_to(server)
    with pytest.raises(UnitFailed, match=r"request [0-9a-f]{16}: .* answered with status 400"):
        backend.sample(prompts_of(backend, 1), SAMPLING, 0)
    assert len(server.bodies) == 2


def test_another_models_tokenizer_is_noticed(open_to, serve):
    server = serve()
    server.tokenizer.decode = lambda ids: "something else"
    with pytest.raises(ValueError, match="another model"):
        open_to(server)


def test_a_server_may_hold_back_half_a_letter(open_to, serve, monkeypatch):
    """The first tokens of an emoji are no text yet for a server, and a mark for the tokenizer."""
    server = serve()
    backend = open_to(server)
    halves = backend.chat.tokenizer("ok 🦙")["input_ids"][:-1]
    assert backend.chat.text(halves).endswith("\ufffd")
    choice = {"text": "ok ", "finish_reason": "length", "token_ids": halves}
    backend._check_tokenizer([1], {"choices": [choice]})
    with pytest.raises(ValueError, match="another model"):
        backend._check_tokenizer([1], {"choices": [choice | {"text": "no"}]})


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_the_end_that_a_server_names_is_the_end(open_to, serve, name):
    """It stands in no text: without it, a thought would have no end, and a question no mark."""
    backend = open_to(serve())
    text, (mark,) = "What is the lamp made of", backend.chat.tokenizer("?")["input_ids"]
    choice = {"text": text, "finish_reason": "stop", name: mark}
    said = backend._answer(choice, [mark, *backend.chat.stop_ids], 64)
    assert backend.chat.text(said["token_ids"]) == text + "?" and said["finished"]
    for unknown in (None, "?", 10**6, True):
        said = backend._answer(choice | {name: unknown}, [mark, *backend.chat.stop_ids], 64)
        assert said["token_ids"][-1] == backend.chat.stop_ids[0]


@pytest.mark.parametrize(
    "usage", ["none", 7, {"prompt_tokens_details": 3}, {"prompt_tokens": "many"}, None]
)
def test_usage_that_cannot_be_read_counts_nothing(usage):
    assert Usage.of_reply({"usage": usage}) == Usage(1)


@pytest.mark.parametrize("listed", [None, [], [{"name": "m"}], [{"id": "", "object": "model"}]])
def test_a_list_without_names_of_models_is_an_empty_one(open_to, serve, monkeypatch, listed):
    server = serve()
    backend = open_to(server)
    monkeypatch.setattr(
        backend.endpoint,
        "repeated",
        lambda name, ask, check: check({"data": listed}) or {"data": listed},
    )
    assert backend.endpoint.models() == []


def test_a_completion_with_other_data_beside_it_is_asked_for_again(open_to, serve):
    server = serve()
    backend, real, number = open_to(server, attempts=2), server.complete, itertools.count()

    def busy(body):
        status, found = real(body)
        return (200, {"data": [], "error": "busy"}) if next(number) == 0 else (status, found)

    server.complete = busy
    assert len(backend.sample(prompts_of(backend, 1), SAMPLING, 0)) == 1
    assert backend.endpoint.num_retries == 1


def test_a_server_that_adds_tokens_is_noticed(open_to, serve, monkeypatch):
    server = serve()
    real = server.complete

    def longer(body):
        status, found = real(body)
        found["usage"]["prompt_tokens"] += 1
        return status, found

    monkeypatch.setattr(server, "complete", longer)
    with pytest.raises(ValueError, match="adds tokens"):
        open_to(server)


def test_a_model_must_be_named_where_there_are_several(open_to, serve):
    server = serve()
    server.models.append({"id": "large"})
    with pytest.raises(ValueError, match=r"has large, tiny; set generation\.server\.model"):
        open_to(server)
    assert open_to(server, model="tiny").model == "tiny"
    with pytest.raises(ValueError, match="not 'small'"):
        open_to(server, model="small")


def test_a_model_that_is_served_and_not_listed_is_asked(open_to, serve):
    server = serve(takes_ids=False, knows_more=False, gives_ids=False)
    server.models, server.unlisted = [{"id": "in the cache"}], {"small"}
    assert open_to(server, model="small").model == "small"
    server.models = []
    assert open_to(server, model="small").window is not None
    with pytest.raises(ValueError, match="has no models"):
        open_to(server, model="large")


def test_the_key_comes_from_the_variable_and_goes_into_the_header_alone(
    open_to, serve, monkeypatch, caplog
):
    server = serve(lambda number: 500 if number == 1 else None)
    monkeypatch.setenv("OTHER_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-one")
    backend = open_to(server, key_variable="OTHER_KEY")
    backend.sample(prompts_of(backend, 3), SAMPLING, 0)
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in caplog.text and KEY not in repr(server.bodies)
    monkeypatch.delenv("OTHER_KEY")
    server.keys.clear()
    backend.sample(prompts_of(backend, 1), SAMPLING, 1)
    assert server.keys == {None}


def test_blanks_and_line_breaks_around_a_key_are_left_out(monkeypatch):
    """A file that a secret is mounted as often ends in a line break."""
    monkeypatch.setenv("OTHER_KEY", f" {KEY}\r\n")
    assert endpoints.key_headers("OTHER_KEY")["Authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("OTHER_KEY", "\n")
    assert not isinstance(endpoints.key_headers("OTHER_KEY")["Authorization"], str)


@pytest.mark.parametrize("mark", ["\n", "\x7f", "ß", "“"])
def test_a_key_that_no_request_can_carry_is_refused_without_being_told(
    open_to, serve, monkeypatch, mark
):
    server = serve()
    monkeypatch.setenv("OTHER_KEY", f"{KEY}{mark}more")
    with pytest.raises(ValueError, match="variable OTHER_KEY has a character") as said:
        open_to(server, key_variable="OTHER_KEY", model="tiny")
    assert not isinstance(said.value, UnitFailed)
    assert KEY not in str(said.value) and not server.bodies


def test_what_no_server_can_be_sent_is_not_tried_again(open_to, serve, monkeypatch):
    backend = open_to(serve())
    monkeypatch.setattr(endpoints, "key_headers", lambda _: {"Authorization": f"Bearer {KEY}\n"})
    with pytest.raises(ValueError, match=r"cannot be asked \(LocalProtocolError\); check") as said:
        backend.sample(prompts_of(backend, 1), SAMPLING, 0)
    assert not isinstance(said.value, UnitFailed) and KEY not in str(said.value)
    assert not backend.endpoint.num_retries


# --- What is tried again ----------------------------------------------------------------------


@pytest.mark.parametrize("fault", [500, 502, 408, 503, "wait", "broken", "hollow", "drop", "stall"])
def test_every_fault_is_tried_again_and_changes_nothing(open_to, serve, fault):
    wanted = open_to(serve())
    wanted = wanted.sample(prompts_of(wanted, 12), SAMPLING, 0)
    server = serve(lambda number: fault if number and number % 3 == 0 else None)
    backend = open_to(server, timeout_seconds=1.0, attempts=20)
    assert backend.sample(prompts_of(backend, 12), SAMPLING, 0) == wanted
    assert backend.endpoint.num_retries > 0
    assert sum(server.answered.values()) == 13, "twelve and the probe, none twice"


@pytest.mark.parametrize("fault", [500, "broken", "hollow", "stall"])
def test_attempts_have_an_end(open_to, serve, fault):
    server = serve(lambda number: fault if number else None)
    backend = open_to(server, attempts=3, timeout_seconds=1.0)
    with pytest.raises(UnitFailed, match="after 3 attempts"):
        backend.sample(prompts_of(backend, 1), SAMPLING, 0)
    assert len(server.bodies) == 4


def test_a_server_that_is_away_is_waited_for_up_to_the_patience(open_to, serve):
    server = serve()
    backend = open_to(server, patience_seconds=0.5, attempts=1)
    server.kill()
    with pytest.raises(UnitFailed, match="could not be reached"):
        backend.sample(prompts_of(backend, 1), SAMPLING, 0)
    backend = replace(
        backend,
        endpoint=endpoints.Endpoint(replace(backend.endpoint.config, patience_seconds=30.0)),
    )
    threading.Timer(0.6, server.start).start()
    assert len(backend.sample(prompts_of(backend, 4), SAMPLING, 0)) == 4


def test_a_patience_of_days_ends_in_no_overflow(monkeypatch):
    """A server that is away all night is asked thousands of times."""
    clock = itertools.count(0.0, 60.0)
    monkeypatch.setattr(endpoints.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(endpoints.time, "sleep", lambda seconds: None)

    def away(ask, check):
        raise endpoints._Failure("could not be reached", True)

    monkeypatch.setattr(endpoints, "_read", away)
    config = ServerConfig(url="http://127.0.0.1:9/v1", model="m", patience_seconds=500_000)
    with pytest.raises(UnitFailed, match=r"after [2-9]\d\d\d attempts"):
        endpoints.Endpoint(config).complete("r", {"prompt": [1], "model": "m"})


def test_an_absence_is_told_once_with_how_long_it_is_waited_for(monkeypatch, caplog):
    clock = itertools.count(0.0, 7.0)
    monkeypatch.setattr(endpoints.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(endpoints.time, "sleep", lambda seconds: None)
    told_before = []

    def away(ask, check):
        told_before.append(bool(caplog.text))
        raise endpoints._Failure("could not be reached: ConnectError", True)

    monkeypatch.setattr(endpoints, "_read", away)
    config = ServerConfig(url="http://127.0.0.1:9/v1", model="m", patience_seconds=900)
    with caplog.at_level("WARNING", "pdtrain"), pytest.raises(UnitFailed):
        endpoints.Endpoint(config).complete("r", {"prompt": [1], "model": "m"})
    (said,) = caplog.messages
    assert "could not be reached: ConnectError" in said and "away for 900 s" in said
    assert 1 <= told_before.index(True) <= 6, "after about half a minute"


def test_patience_is_for_the_absence_and_not_for_the_work_before_it(open_to, serve):
    """The server works longer on a request than the patience lasts, and then it dies."""
    server = serve(lambda number: "drop" if number == 1 else None, seconds=1.0)
    backend = open_to(server, patience_seconds=0.6)
    assert len(backend.sample(prompts_of(backend, 1), SAMPLING, 0)) == 1
    assert len(server.bodies) == 3, "the probe, and the request twice"


def test_all_requests_wait_when_the_server_asks_to(open_to, serve):
    server = serve(lambda number: "wait" if number == 1 else None)
    backend = open_to(server, concurrent=1)
    backend.sample(prompts_of(backend, 4), SAMPLING, 0)
    after = server.began[2] - server.began[1]
    assert after >= 0.29, f"asked again after {after:.2f} s, where the server said 0.3 s"


def test_no_more_requests_begin_in_a_minute_than_allowed(open_to, serve):
    server = serve()
    backend = open_to(server, requests_per_minute=1200)
    backend.sample(prompts_of(backend, 8), SAMPLING, 0)
    assert server.began[-1] - server.began[1] >= 7 * 60 / 1200 * 0.9


def test_no_more_requests_are_in_flight_than_allowed(open_to, serve):
    server = serve(seconds=0.2)
    backend = open_to(server, concurrent=5)
    backend.sample(prompts_of(backend, 20), SAMPLING, 0)
    assert server.most_at_once == 5


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({}, 0),
    ],
)
def test_what_a_server_asks_to_wait_is_read(headers, seconds):
    assert endpoints._wait_seconds(headers) == seconds


# --- A stage behind a server ------------------------------------------------------------------

PASSAGES, EACH = 30, 10


def asked(folder, model, server, num_passages=PASSAGES, each=EACH, **more):
    """Return a run whose questions, 300 of them, are to be answered by a server."""
    config = config_of(folder, model, server, **more)
    passages, questions = [], []
    for number in range(num_passages):
        text = f"The lamp of hall {number} burns oil."
        name = content_id(number)
        passages.append(Passage(name, "d", "Lamps", text, 0, len(text), 9, ((0, len(text)),)))
        for turn in range(each):
            words = f"What burns in hall {number}, and why {turn}?"
            questions.append(Question(content_id(name, turn), name, words, "fact", 0))
    write_records(config, passages, questions)
    return config


def answered(config):
    return list(read_shards(config.folder / "answers"))


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    server = CompletionsServer()
    config = asked(tmp_path_factory.mktemp("undisturbed"), model, server)
    answers.collect(config)
    server.kill()
    return answered(config)


def test_300_questions_survive_two_deaths_of_the_server(model, serve, tmp_path, undisturbed):
    server = serve(seconds=0.01)
    config = asked(tmp_path, model, server)

    def kill_twice():
        for count in (80, 190):
            while sum(server.answered.values()) < count:
                time.sleep(0.005)
            server.kill()
            time.sleep(0.3)
            server.start()

    killer = threading.Thread(target=kill_twice)
    killer.start()
    answers.collect(config)
    killer.join()
    found = answered(config)
    assert found == undisturbed and len({one["question_id"] for one in found}) == 300
    assert server.most_at_once <= 16
    assert not (config.folder / "answers" / "requests").exists()


def test_300_questions_survive_every_other_fault(model, serve, tmp_path, undisturbed):
    turns = [500, "wait", "broken", "drop", "hollow", 503, 408]

    def faults(number):
        return turns[number // 5 % len(turns)] if number and number % 5 == 0 else None

    config = asked(tmp_path, model, serve(faults), attempts=30)
    answers.collect(config)
    assert answered(config) == undisturbed


def test_what_failed_is_named_and_alone_asked_again(model, serve, tmp_path, undisturbed, caplog):
    poisoned = []

    def faults(number):
        is_bad = number and (number % 97 == 0 or server.bodies[number]["prompt"] in poisoned)
        if is_bad:
            poisoned.append(server.bodies[number]["prompt"])
        return 500 if is_bad else None

    server = serve(faults)
    config = asked(tmp_path, model, server, attempts=2)
    with pytest.raises(ValueError, match=r"of 30 passages are missing, which .*failed\.json lists"):
        answers.collect(config)
    named = read_json(config.folder / "answers" / "failed.json")
    assert 1 <= len(named) <= 5
    assert all("request" in why and "status 500" in why for why in named.values())
    assert not (config.folder / "answers" / "manifest.json").exists()
    before = server.answered.copy()
    server.faults = lambda _: None
    answers.collect(config)
    assert answered(config) == undisturbed
    again = {key for key, count in server.answered.items() if count > 1}
    assert len(again) <= 1, "the probe alone is asked twice"
    assert 1 <= len(server.answered) - len(before) <= len(poisoned)
    assert not (config.folder / "answers" / "failed.json").exists()


def test_a_dead_server_ends_the_stage_early(model, serve, tmp_path):
    server = serve(lambda number: 500 if number > 8 else None)
    config = asked(tmp_path, model, server, each=2, attempts=1, concurrent=2)
    with pytest.raises(ValueError, match="failures one after the other"):
        answers.collect(config)
    assert len(server.bodies) < 50, "of 60"
    server.faults = lambda _: None
    answers.collect(config)
    assert len(answered(config)) == 60


@pytest.mark.parametrize("gives_ids", [True, False])
def test_the_manifest_counts_tokens_and_what_was_tokenised_here(model, serve, tmp_path, gives_ids):
    config = asked(tmp_path, model, serve(gives_ids=gives_ids), num_passages=3)
    answers.collect(config)
    found = read_json(config.folder / "answers" / "manifest.json")["generation"]
    assert found["requests"] == 30
    assert found["retokenised"] == (0 if gives_ids else 30)
    assert found["prompt_tokens"] > 30 * 20 and found["completion_tokens"] > 30 * 3


def test_a_request_that_a_kill_cut_short_in_its_file_is_asked_again(tmp_path, serve, open_to):
    server = serve()
    backend = open_to(server)
    prompts = prompts_of(backend, 4)
    with Ledger(tmp_path).unit("one"):
        wanted = backend.sample(prompts, SAMPLING, 0)
    (path,) = (tmp_path / "requests").glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    ledger = Ledger(tmp_path)
    with ledger.unit("one"):
        assert backend.sample(prompts, SAMPLING, 0) == wanted
    assert sorted(server.answered.values()) == [1, 1, 1, 1, 2]
    ledger.finish("one")
    assert ledger.about()["generation"]["requests"] == 4 and not path.exists()


@pytest.mark.parametrize("damage", [b"\0" * 9, b'{"id": "a"}', b"7", b'{"id": "a\xff"}', b"[]"])
def test_a_damaged_request_in_the_file_is_asked_again_and_counted(
    tmp_path, serve, open_to, caplog, damage
):
    server = serve()
    backend = open_to(server)
    prompts = prompts_of(backend, 4)
    with Ledger(tmp_path).unit("one"):
        wanted = backend.sample(prompts, SAMPLING, 0)
    (path,) = (tmp_path / "requests").glob("*.jsonl")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
    with caplog.at_level("WARNING", "pdtrain"), Ledger(tmp_path).unit("one"):
        assert backend.sample(prompts, SAMPLING, 0) == wanted
    assert sorted(server.answered.values()) == [1, 1, 1, 1, 2]
    assert f"{path}: 1 of 4 lines are damaged; their requests are made again" in caplog.text


# --- Completions that are held to a schema ----------------------------------------------------

SCHEMA = {"type": "array", "items": {"type": "object"}}


def test_a_server_that_knows_schemas_is_given_them_and_others_are_not(open_to, serve):
    for guides in ("yes", "no", "ignores"):
        server = serve(guides=guides)
        backend = open_to(server)
        asked = len(server.bodies)
        held = backend.guided(SCHEMA)
        (prompt,) = prompts_of(backend, 1)
        (found,) = held.sample([prompt], SAMPLING, 0)
        (plain,) = backend.sample([prompt], SAMPLING, 0)
        bodies = server.bodies[asked:]
        shapes = [body.get("response_format", {}).get("json_schema", {}) for body in bodies]
        probe, first, second = (shape.get("schema") for shape in shapes)
        assert probe["items"] == {"enum": [7]} and second is None, "found out once"
        assert (first == SCHEMA, found.text == "[]") == (guides == "yes",) * 2
        assert (found == plain) == (guides != "yes")


def test_a_schema_asks_with_the_same_threads(open_to, serve):
    backend = open_to(serve(guides="yes"))
    assert backend.guided(SCHEMA)._pool is backend._pool


def test_the_knob_and_backends_without_schemas_leave_completions_free(model, tmp_path, serve):
    config = config_of(tmp_path, model, serve(guides="yes"))
    backend = open_backend(config)
    assert guided(backend, SCHEMA, config).schema == SCHEMA
    off = replace(config, generation=replace(config.generation, guided=False))
    assert guided(backend, SCHEMA, off) is backend
    fake = FakeBackend.in_turn("yes")
    assert guided(fake, SCHEMA, config) is fake
    thinks = ThinkingBackend(backend, None, 5)
    assert guided(thinks, SCHEMA, config) is thinks, "a thought is no JSON"


def test_the_model_writer_asks_for_json(model, tmp_path, serve):
    item = {"kind": "detail", "question": "Who built the mill of Osk?", "sentences": [1]}
    server = serve(guides="yes")
    server.guided = json.dumps([item | {"quote": "Anna Gray"}])
    config = config_of(tmp_path, model, server)
    knobs = replace(config.questions, model_per_sentence=1, model_per_passage=0, model_tokens=500)
    text = "Anna Gray built it."
    passage = Passage("p", "osk.txt", "The mill of Osk", text, 0, 19, 5, ((0, 19),))
    dropped = Counter()
    (found,) = ModelWriter(replace(config, questions=knobs), set(), dropped).about_passage(passage)
    assert (found.text, found.sentence) == (item["question"], 0)
    shapes = [body.get("response_format") for body in server.bodies]
    schemas = [shape["json_schema"]["schema"] for shape in shapes if shape]
    assert replies.SCHEMA in schemas and not dropped
