"""transformers' own server, `transformers serve`, with the embedded model.

It takes text alone, knows OpenAI's fields alone, and lists other models than it serves. It stands
in the environment that `make test-servers` makes for vLLM.
"""

import json
import os

import pytest
from real_servers import COUNT, PATIENCE, TOOLS, RealServer, through_two_deaths
from support import tiny_config

from pdtrain.config import SamplingConfig
from pdtrain.generation.backend import open_backend
from pdtrain.models.embedded import embedded_folder

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(
        "PDTRAIN_VLLM" not in os.environ,
        reason="needs a server in an environment of its own: make test-servers",
    ),
]
QUESTIONS = ["What is the capital of France?", "What do bees make?", "What is ice made of?"]


class TransformersServe(RealServer):
    """Start `transformers serve` with the embedded model alone."""

    def command(self):
        words = [TOOLS / "transformers", "serve", embedded_folder(), "--device", "cpu"]
        return [*words, "--dtype", "float32", "--host", "127.0.0.1", "--port", self.port]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = TransformersServe(tmp_path_factory.mktemp("server"), up="health")
    yield running
    running.kill()


@pytest.fixture
def served(server):
    return {
        "url": server.url,
        "model": str(embedded_folder()),
        "concurrent": 16,
        "patience_seconds": PATIENCE,
    }


def test_greedy_answers_are_those_of_transformers_in_this_process(served, tmp_path):
    generation = {"backend": "server", "server": served}
    there = open_backend(tiny_config(tmp_path / "there", "embedded", generation=generation))
    here = open_backend(tiny_config(tmp_path / "here", "embedded"))
    assert not there.dialect.takes_ids and not there.dialect.knows_more
    prompts = [here.chat.student(question) for question in QUESTIONS]
    greedy = SamplingConfig(temperature=0, max_new_tokens=24)
    found, wanted = (one.sample(prompts, greedy, 0) for one in (there, here))
    same = sum(one.text == other.text for one, other in zip(found, wanted, strict=True))
    print(f"\ntransformers serve: {same} of {len(wanted)} greedy answers equal ours")
    assert same >= len(QUESTIONS) - 1, "one may part where two tokens are near"


def test_questions_survive_two_deaths_of_this_server(server, served, tmp_path):
    """Greedy: its seed is one for all requests in flight, whose order nothing decides."""
    greedy = {"temperature": 0.0, "max_new_tokens": 4}  # it answers one request after the other
    found, wanted, about = through_two_deaths(server, tmp_path, served, COUNT, greedy)
    print(f"\n{len(found)} records; {json.dumps(about)}")
    assert found == wanted and len({one["question_id"] for one in found}) == COUNT
    assert about["requests"] == about["retokenised"] == COUNT
