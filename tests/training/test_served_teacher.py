"""The teacher behind a server: its cache against our own teacher's, and against float64."""

import pytest
import torch
from completions_server import CompletionsServer
from support import tiny_model
from tiny_training import logged, prepared, trained
from transformers import AutoModelForCausalLM

from pdtrain.distillation.teacher_cache import TeacherCache
from pdtrain.distillation.teacher_spans import Spans
from pdtrain.distributed import served_teacher
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.training import setup, teacher, train, training_set

K = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


class TeachingServer(CompletionsServer):
    """Give the likeliest tokens of every place of a prompt, as vLLM's server does.

    Args:
        spoil: changes the places of an answer before they are sent.
    """

    def __init__(self, folder, most=100, spoil=lambda places: places):
        self.base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.most, self.spoil = most, spoil
        super().__init__()

    def complete(self, body):
        status, found = super().complete(body | {"seed": 0, "top_k": -1})
        k, ids = body.get("prompt_logprobs", 0), body["prompt"]
        if k > self.most:
            return 400, {"error": "Requested prompt logprobs are too many"}
        with torch.inference_mode(), self.lock:
            log_p_LV = self.base(torch.tensor([ids])).logits[0].log_softmax(-1)
        places = [None]
        for token, log_p_V in zip(ids[1:], log_p_LV, strict=False):
            best = [*dict.fromkeys([*log_p_V.topk(k).indices.tolist(), token])]
            places.append(
                {
                    str(i): {
                        "logprob": float(log_p_V[i]),
                        "rank": int((log_p_V > log_p_V[i]).sum()) + 1,
                        "decoded_token": "?",
                    }
                    for i in best
                }
            )
        found["choices"][0]["prompt_logprobs"] = self.spoil(places)
        return status, found


@pytest.fixture
def serve(model):
    running = []

    def start(*args, **options):
        running.append(TeachingServer(model, *args, **options))
        return running[-1]

    yield start
    for server in running:
        server.kill()


def sections(server=None, **more):
    found = {"loss": {"top_k": K}, "teacher": {"cache": True}, **more}
    if server:
        found["generation"] = {"server": {"url": server.url, "concurrent": 4, "attempts": 1}}
        found["teacher"] = {"source": "server", "cache": True}
    return found


def examples_of(config):
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    return list(training_set.of_run(config, chat, None).examples)


def cached(config):
    (folder,) = config.run.teacher_folder.glob("*/")
    examples = examples_of(config)
    cache = TeacherCache(folder, Spans.read(folder), 1.0)
    return folder, cache.topk(examples, torch.device("cpu")), examples


def test_the_cache_is_that_of_our_own_teacher(model, tmp_path, serve, monkeypatch):
    own = prepared(tmp_path / "own", model, **sections())
    teacher.teach(own)
    monkeypatch.setattr(served_teacher, "ANSWERS_A_CALL", 5)
    monkeypatch.setattr(setup, "load_model", lambda *_: pytest.fail("no weights are needed"))
    served = prepared(tmp_path / "served", model, **sections(serve()))
    teacher.teach(served)
    own_folder, wanted, _ = cached(own)
    folder, found, examples = cached(served)
    assert folder.name != own_folder.name, "bound by a hash of its own"
    precise = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    rows = []
    for example in examples:
        ids = torch.tensor([[*example.teacher_prompt, *example.answer]])
        with torch.inference_mode():
            log_p_LV = precise(ids).logits[0].log_softmax(-1)
        rows.append(log_p_LV[len(example.teacher_prompt) - 1 : -1])
    truth_NV = torch.cat(rows)
    ids_NK = truth_NV.topk(K).indices.sort(-1).values
    for topk in (wanted, found):
        assert torch.equal(topk.ids_NK.long(), ids_NK)
        torch.testing.assert_close(
            topk.log_p_NK.double(), truth_NV.gather(-1, ids_NK), atol=1e-5, rtol=0
        )
        tail_N = truth_NV.scatter(-1, ids_NK, -torch.inf).logsumexp(-1)
        torch.testing.assert_close(topk.log_p_tail_N.double(), tail_N, atol=1e-5, rtol=0)


def test_training_on_it_is_training_on_our_own_and_asks_nothing_again(model, tmp_path, serve):
    own = trained(tmp_path / "own", model, **sections())
    server = serve()
    config = prepared(tmp_path / "served", model, **sections(server))
    teacher.teach(config)
    asked = len(server.bodies)
    assert asked == len({str(body["prompt"]) for body in server.bodies}) == 12
    train.run(config)
    assert len(server.bodies) == asked
    assert logged(config) == pytest.approx(logged(own), abs=1e-5)


def test_train_fills_it_by_itself(model, tmp_path, serve):
    server = serve()
    trained(tmp_path / "run", model, **sections(server))
    assert len(server.bodies) == 12


def test_our_own_teachers_hashes_do_not_know_of_servers(model, tmp_path, serve):
    own = prepared(tmp_path / "own", model, **sections())
    served = prepared(tmp_path / "served", model, **sections(serve()))
    assert train.knobs_hash(own) != train.knobs_hash(served)
    assert "teacher.source" in train._unused_knobs(own)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"loss": {"temperature": 2.0}}, "are of temperature 1"),
        ({"train": {"epochs": 1}}, "a cache that is read"),
        ({"teacher": {"source": "server", "cache": False}}, "a cache that is read"),
        ({"generation": {}}, "needs generation.server.url"),
        ({"rounds": {"most": 1}}, "rounds.most > 0 needs rounds.epochs >= 2 there, got 1"),
    ],
)
def test_what_a_server_cannot_give_is_refused(model, tmp_path, serve, change, words):
    with pytest.raises(ValueError, match=words):
        prepared(tmp_path, model, **(sections(serve()) | change))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"most": 5}, f"--max-logprobs {K} or more"),
        ({"spoil": lambda places: None}, "gave no log-probabilities"),
        ({"spoil": lambda places: places[1:]}, "gave no log-probabilities"),
        ({"spoil": lambda places: [{"1": {"logprob": -1.0}} for _ in places]}, "another tokenizer"),
    ],
)
def test_a_server_that_is_not_fit_is_named(model, tmp_path, serve, options, words):
    config = prepared(tmp_path, model, **sections(serve(**options)))
    with pytest.raises(ValueError, match=words):
        teacher.teach(config)
