"""vLLM itself, with the embedded model: `make test-servers` installs and names it.

Its server is asked by pdtrain's own environment, its engine by the environment that it stands in.
Loading takes minutes on a CPU, so that one server serves all the tests. Figures of one run stand in
docs/results.md.
"""

import json
import os
import subprocess
from dataclasses import replace

import pytest
import torch
from real_servers import COUNT, PATIENCE, TEXT, TOOLS, RealServer, through_two_deaths
from support import tiny_config

from pdkernels import TopK
from pdtrain.config import SamplingConfig, dump
from pdtrain.distillation.examples import Example
from pdtrain.distributed.served_teacher import ServedTeacher
from pdtrain.generation.backend import open_backend
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.generation.server import ServerBackend
from pdtrain.models.base import load_model, resolve
from pdtrain.models.embedded import embedded_folder
from pdtrain.synthesis.asking import replies

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(
        "PDTRAIN_VLLM" not in os.environ,
        reason="needs vLLM in an environment of its own: make test-servers",
    ),
]
QUESTIONS = [
    "What is the capital of France?",
    "Name a colour.",
    "How many days are there in a week?",
    "What do bees make?",
    "Where do fish live?",
    "Who wrote Hamlet?",
    "What is ice made of?",
    "Why is the sky blue?",
]
GREEDY = SamplingConfig(temperature=0, max_new_tokens=24)
SAMPLED = SamplingConfig(temperature=0.9, top_k=20, top_p=0.95, max_new_tokens=24)


class Vllm(RealServer):
    """Start vLLM's server with the embedded model."""

    def command(self):
        # the script `vllm` of the CPU build looks for a package of another name, and ends
        words = [TOOLS / "python", "-m", "vllm.entrypoints.openai.api_server"]
        words += ["--model", embedded_folder(), "--host", "127.0.0.1", "--port", self.port]
        words += ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "16"]
        words += ["--served-model-name", "embedded", "--enforce-eager", "--max-logprobs", "64"]
        return [*words, *self.options]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """Return a folder with an adapter that changes what the embedded model says."""
    from peft import LoraConfig, get_peft_model

    config = tiny_config(tmp_path_factory.mktemp("run"), "embedded")
    torch.manual_seed(0)
    settings = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(load_model(config.model), settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02)
    folder = tmp_path_factory.mktemp("adapter") / "mine"
    model.peft_config["default"].base_model_name_or_path = resolve(config.model)
    model.save_pretrained(str(folder))
    return folder, model


@pytest.fixture(scope="module")
def server(tmp_path_factory, adapter):
    folder, _ = adapter
    options = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"mine={folder}")
    running = Vllm(tmp_path_factory.mktemp("server"), *options)
    yield running
    running.kill()


def config_of(folder, server, **more):
    served = {"url": server.url, "model": "embedded", "concurrent": 16, **more}
    return tiny_config(folder, "embedded", generation={"backend": "server", "server": served})


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return open_backend(tiny_config(tmp_path_factory.mktemp("ours"), "embedded"))


def equal(left, right):
    return sum(one.token_ids == other.token_ids for one, other in zip(left, right, strict=True))


def test_greedy_answers_are_those_of_transformers(server, ours, tmp_path):
    served = open_backend(config_of(tmp_path, server))
    assert served.dialect.takes_ids and served.dialect.gives_ids and served.window == 1024
    assert served.chat.stop_ids == ours.chat.stop_ids
    prompts = [served.chat.student(question) for question in QUESTIONS]
    found, wanted = (one.sample(prompts, GREEDY, 0) for one in (served, ours))
    print(f"\nserver: {equal(found, wanted)} of {len(found)} greedy answers equal transformers'")
    assert equal(found, wanted) >= len(QUESTIONS) - 1, "one may part where two tokens are near"
    for one in found:
        assert one.finished == (one.token_ids[-1] in served.chat.stop_ids)


def test_a_seed_repeats_itself_and_a_stop_ends(server, tmp_path):
    served = open_backend(config_of(tmp_path, server))
    prompts = [served.chat.student(question) for question in QUESTIONS]
    first, again = (served.sample(prompts, SAMPLED, 3) for _ in "ab")
    assert first == again
    assert equal(first, served.sample(prompts, SAMPLED, 4)) < len(first)
    full_stop = served.chat.ids("The end.")[-1]
    stopped = served.sample(prompts, GREEDY, 0, stop_ids=[full_stop])
    assert any(one.token_ids[-1] == full_stop for one in stopped)
    assert all(full_stop not in one.token_ids[:-1] for one in stopped)


def test_replies_are_held_to_a_schema(server, tmp_path):
    """A model of 135M replies with no JSON by itself."""
    served = open_backend(config_of(tmp_path, server))
    held = served.guided(replies.SCHEMA)
    assert held is not served
    prompts = [served.chat.student(f"Ask questions about this: {TEXT}")] * 2
    sampling = SamplingConfig(temperature=0, max_new_tokens=160)
    for one in held.sample(prompts, sampling, 0):
        found, reason = replies.items(one.text, is_finished=one.finished)
        print(f"\nguided: {len(found)} questions, {reason or 'whole'}")
        assert one.text.lstrip().startswith("[") and reason in ("", "endless")
        assert all({"kind", "question", "sentences", "quote"} <= item.keys() for item in found)
    (free,) = served.sample(prompts[:1], sampling, 0)
    assert not free.text.lstrip().startswith("[")


def test_the_teacher_there_is_the_teacher_here(server, ours, tmp_path):
    """Log-probabilities of the likeliest tokens along an answer, both in float32."""
    config = config_of(tmp_path, server)
    config = replace(config, loss=replace(config.loss, top_k=16))
    prompt = ours.chat.student(f"{TEXT} Who built the mill?")
    answer = ours.chat.ids("Anna Gray built the mill of Osk in 1801.")
    example = Example("a", "p", tuple(prompt), tuple(prompt), tuple(answer))
    found = ServedTeacher(config, len(ours.chat.tokenizer))([example])
    with torch.inference_mode():
        logits = ours.model(torch.tensor([[*prompt, *answer]])).logits[0]
    log_p_NV = logits[len(prompt) - 1 : -1].double().log_softmax(-1)
    wanted = TopK.from_logits(log_p_NV, 16)
    same = (found.ids_NK.long() == wanted.ids_NK).float().mean().item()
    apart = (found.log_p_NK.double() - log_p_NV.gather(-1, found.ids_NK.long())).abs().max()
    tails = (found.log_p_tail_N.exp() - wanted.log_p_tail_N.exp()).abs().max()
    print(f"\nteacher: {same:.3f} of the ids equal, {apart:.1e} nats apart, tails {tails:.1e}")
    assert same > 0.95 and apart < 1e-3 and tails < 1e-4


def test_the_adapter_answers_there_as_it_does_here(server, adapter, ours, tmp_path):
    _, model = adapter
    served = ServerBackend.of_base(config_of(tmp_path, server), "mine")
    alone = open_backend(config_of(tmp_path, server))
    prompts = [served.chat.student(question) for question in QUESTIONS]
    found, plain = (one.sample(prompts, GREEDY, 0) for one in (served, alone))
    here = HuggingFaceBackend(model, ours.chat).sample(prompts, GREEDY, 0)
    print(
        f"\nadapter: {equal(found, here)} of {len(found)} equal, {equal(found, plain)} the base's"
    )
    assert equal(found, here) >= len(QUESTIONS) - 1
    assert equal(found, plain) < len(QUESTIONS) // 2, "its effect is not nil"


def test_questions_survive_two_deaths_of_a_real_server(server, tmp_path):
    served = vars(config_of(tmp_path, server, patience_seconds=PATIENCE).generation.server)
    found, wanted, about = through_two_deaths(server, tmp_path, served, COUNT)
    same = sum(one == other for one, other in zip(found, wanted, strict=True))
    print(f"\n{same} of {COUNT} records as undisturbed; {json.dumps(about)}")
    assert len({one["question_id"] for one in found}) == len(found) == COUNT
    assert about["requests"] == COUNT and about["retokenised"] == 0
    # a batch's sums depend on who shares it, and a sampled token may then fall the other way
    assert same >= 0.95 * COUNT


ENGINE = """
import json, sys
from pathlib import Path
from pdtrain.config import SamplingConfig, load
from pdtrain.generation.vllm_engine import VllmBackend

def main():
    config, adapter, prompts = load(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    backend = VllmBackend.of_base(config, adapter if adapter.name == "mine" else None)
    greedy = SamplingConfig(temperature=0, max_new_tokens=24)
    sampled = SamplingConfig(temperature=0.9, top_k=20, top_p=0.95, max_new_tokens=24)
    long = [(prompt * 100)[:700] for prompt in prompts]  # more than it reads in one step
    assert len(backend.sample(long, sampled, 3)) == len(long)
    said = [backend.sample(prompts, how, 3) for how in (greedy, sampled, sampled)]
    print("SAID", json.dumps([[list(one.token_ids) for one in done] for done in said]))

if __name__ == "__main__":  # the engine's process reads this file again
    main()
"""


@pytest.mark.parametrize("name", ["mine", "base"])
def test_the_engine_answers_as_transformers_do(name, adapter, ours, tmp_path):
    folder, model = adapter
    prompts = [ours.chat.student(question) for question in QUESTIONS]
    config = tiny_config(
        tmp_path / "run",
        "embedded",
        generation={"backend": "vllm", "vllm": {"window": 1024, "memory_share": 0.2}},
    )
    dump(config, tmp_path / "config.yaml")
    (tmp_path / "ask.py").write_text(ENGINE)
    words = [TOOLS / "python", tmp_path / "ask.py", tmp_path / "config.yaml"]
    words += [folder if name == "mine" else tmp_path / "base", json.dumps(prompts)]
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(word) for word in words], env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    greedy, sampled, again = json.loads(line.removeprefix("SAID "))
    assert sampled == again and sampled != greedy
    here = HuggingFaceBackend(model, ours.chat) if name == "mine" else ours
    wanted = [list(one.token_ids) for one in here.sample(prompts, GREEDY, 0)]
    same = sum(one == other for one, other in zip(greedy, wanted, strict=True))
    print(f"\nengine, {name}: {same} of {len(wanted)} greedy answers equal transformers'")
    assert same >= len(QUESTIONS) - 1
