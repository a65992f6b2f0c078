"""vLLM's engine: what it is asked and what is made of its answers, with a stand-in for the package.

tests/generation/test_real_servers.py asks the real one.
"""

import asyncio
import json
import os
import sys
import threading
import types
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import thinking_templates as templates
import torch
from support import tiny_config, tiny_model

from pdtrain.config import SamplingConfig
from pdtrain.generation import vllm_engine
from pdtrain.generation.backend import open_backend
from pdtrain.generation.thoughts import ThinkingBackend
from pdtrain.generation.vllm_engine import VllmBackend

SAMPLING = SamplingConfig(temperature=0.7, top_k=5, top_p=0.9, max_new_tokens=9)
END = 2  # the tiny tokenizer's <|im_end|>


class StandIn:
    """Be vLLM's asynchronous engine: a completion is made of its prompt and its seed."""

    made: ClassVar[list["StandIn"]] = []

    def __init__(self, options):
        self.options, self.asked, self.running, self.most = options, [], 0, 0
        self.visible, self.is_over = os.environ.get("CUDA_VISIBLE_DEVICES"), False
        self.made.append(self)

    @classmethod
    def from_engine_args(cls, args):
        return cls(args)

    async def generate(self, prompt, how, name, lora_request=None):
        self.asked.append((prompt, how, name, lora_request))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        ids = [(sum(prompt["prompt_token_ids"]) + how["seed"] + i) % 200 + 50 for i in range(4)]
        reason = "length" if how["max_tokens"] < 4 else "stop"
        ids = ids[: how["max_tokens"]] if reason == "length" else [*ids, END]
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason=reason)])

    def shutdown(self):
        self.is_over = True


@pytest.fixture
def vllm(monkeypatch):
    def module(name, **members):
        found = types.ModuleType(name)
        found.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, found)

    module("vllm", AsyncEngineArgs=dict, AsyncLLMEngine=StandIn, SamplingParams=dict)
    kinds = SimpleNamespace(FINAL_ONLY="final")
    module("vllm.sampling_params", RequestOutputKind=kinds, StructuredOutputsParams=dict)
    module("vllm.lora")
    module("vllm.lora.request", LoRARequest=lambda *parts: parts)
    monkeypatch.setattr(vllm_engine, "is_installed", lambda: True)
    StandIn.made = []
    return StandIn


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def config(model, tmp_path):
    return tiny_config(tmp_path, model, generation={"backend": "vllm"})


def prompts_of(backend, count):
    return [backend.chat.student(f"What is {i}?") for i in range(count)]


def test_without_vllm_it_says_what_to_install(config, monkeypatch):
    monkeypatch.setattr(vllm_engine, "is_installed", lambda: False)
    with pytest.raises(
        ValueError, match=r"vllm serve.* set generation\.backend=server; or .*docs/generation\.md"
    ):
        open_backend(config)


def test_a_quantized_base_is_another_one(config, vllm):
    other = replace(config, model=replace(config.model, quantization="nf4"))
    with pytest.raises(ValueError, match="nf4 asks for another base"):
        VllmBackend.of_base(other)


def test_the_engine_caches_prefixes_and_takes_no_settings_of_the_model(config, vllm):
    backend = open_backend(config)
    options = vllm.made[0].options
    assert options["enable_prefix_caching"] and options["generation_config"] == "vllm"
    assert options["dtype"] == "float32" and options["tensor_parallel_size"] == 1
    assert "max_model_len" not in options and backend.window == 2048
    assert options["enable_chunked_prefill"] is False, "on a CPU a seed and a prompt in parts kill"
    assert "enable_chunked_prefill" not in vllm_engine.engine_options(config, 2)
    knobs = replace(config.generation.vllm, window=64, memory_share=0.5)
    short = replace(config, generation=replace(config.generation, vllm=knobs))
    assert open_backend(short).window == 64
    assert vllm.made[1].options["max_model_len"] == 64
    assert vllm.made[1].options["gpu_memory_utilization"] == 0.5


def test_ids_go_in_and_come_out_and_each_prompt_has_its_seed(config, vllm):
    backend = open_backend(config)
    prompts = prompts_of(backend, 6)
    found = backend.sample(prompts, SAMPLING, 3, stop_ids=[77])
    asked = vllm.made[0].asked
    assert [one[0]["prompt_token_ids"] for one in asked] == prompts
    for _, how, _, _ in asked:
        assert (how["temperature"], how["top_k"], how["top_p"]) == (0.7, 5, 0.9)
        assert how["max_tokens"] == 9 and how["stop_token_ids"] == [*backend.chat.stop_ids, 77]
        assert how["detokenize"] is False and how["output_kind"] == "final"
    seeds = [how["seed"] for _, how, _, _ in asked]
    assert len(set(seeds)) == 6 and all(0 <= seed < 2**31 for seed in seeds)
    assert all(one.token_ids[-1] == END and one.finished for one in found)
    assert found == backend.sample(prompts, SAMPLING, 3, stop_ids=[77])
    assert found[:2] == backend.sample(prompts[:2], SAMPLING, 3, stop_ids=[77])
    assert vllm.made[0].most == 6, "requests run together"


def test_what_the_limit_cuts_is_not_finished(config, vllm):
    backend = open_backend(config)
    found = backend.sample(prompts_of(backend, 1), replace(SAMPLING, max_new_tokens=3), 0)
    assert len(found[0].token_ids) == 3 and not found[0].finished


def test_a_completion_ends_at_the_first_stop_even_where_the_engine_leaves_it_out(config, vllm):
    backend = open_backend(config)
    stops = [*backend.chat.stop_ids, 77]
    made = backend._completion([60, 61], "stop", stops)
    assert made.token_ids == (60, 61, backend.chat.stop_ids[0]) and made.finished
    assert backend._completion([60, 77, 61], "length", stops).token_ids == (60, 77)


def test_threads_share_one_batch(config, vllm):
    backend = open_backend(config)
    prompts = prompts_of(backend, 8)
    wanted = [backend.sample(prompts, SAMPLING, seed) for seed in range(4)]
    vllm.made[0].most = 0
    found = {}

    def work(seed):
        found[seed] = backend.sample(prompts, SAMPLING, seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [found[seed] for seed in range(4)] == wanted
    assert vllm.made[0].most > 8


def test_an_adapter_goes_with_every_request(config, vllm, tmp_path):
    adapter = tmp_path / "mine"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 24}))
    backend = VllmBackend.of_base(config, adapter)
    backend.sample(prompts_of(backend, 2), SAMPLING, 0)
    engine = vllm.made[0]
    assert engine.options["enable_lora"] and engine.options["max_lora_rank"] == 32
    assert {one[3] for one in engine.asked} == {("mine", 1, str(adapter))}
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 1024}))
    with pytest.raises(ValueError, match="has rank 1024, and vLLM serves adapters of rank 512"):
        VllmBackend.of_base(config, adapter)


def test_the_engine_ends_with_the_backend(config, vllm):
    backend = open_backend(config)
    assert not vllm.made[0].is_over
    del backend
    assert vllm.made[0].is_over, "its GPUs are needed for training"


@pytest.mark.parametrize(
    "device, parallel, before, visible, size",
    [
        ("cuda", 0, None, "0,1,2,3", 4),
        ("cuda", 2, None, "0,1", 2),
        ("cuda:2", 2, "4,5,6,7", "6,7", 2),
        ("cuda:3", 0, None, "3", 1),
    ],
)
def test_an_engine_sees_its_own_gpus_alone(
    config, vllm, monkeypatch, device, parallel, before, visible, size
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    knobs = replace(config.generation.vllm, tensor_parallel=parallel)
    generation = replace(config.generation, vllm=knobs)
    model = replace(config.model, device=device)
    VllmBackend.of_base(replace(config, model=model, generation=generation))
    assert vllm.made[0].visible == visible
    assert vllm.made[0].options["tensor_parallel_size"] == size
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_what_does_not_fit_is_refused_before_the_engine_sees_it(config, vllm):
    backend = open_backend(config)
    with pytest.raises(ValueError, match="does not fit the model's window"):
        backend.sample([[5] * 2045], SAMPLING, 0)
    with pytest.raises(ValueError, match="without any token"):
        backend.sample([[]], SAMPLING, 0)
    assert not vllm.made[0].asked and not backend.can_score


def test_a_model_that_thinks_does_so_on_vllm_too(vllm, tmp_path):
    folder = tiny_model(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(templates.QWEN3)
    options = {"thinking": "on", "thinking_budget": 9}
    config = tiny_config(tmp_path, folder, model=options, generation={"backend": "vllm"})
    backend = open_backend(config)
    assert isinstance(backend, ThinkingBackend) and isinstance(backend.base, VllmBackend)


def test_completions_are_held_to_a_schema(config, vllm):
    backend, schema = open_backend(config), {"type": "array"}
    (prompt,) = prompts_of(backend, 1)
    backend.guided(schema).sample([prompt], SAMPLING, 0)
    backend.sample([prompt], SAMPLING, 0)
    (held, free) = (how for _, how, *_ in vllm.made[-1].asked)
    assert held["structured_outputs"] == {"json": schema}
    assert "structured_outputs" not in free and "json" not in free
