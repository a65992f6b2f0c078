"""Where a base that one process holds whole is loaded: one GPU, several, or a refusal."""

import pytest
import torch
from accelerate import dispatch_model
from fake_gpus import FakeGpus, spread
from support import randomise_adapter, tiny_config, tiny_model

from pdtrain.config import ModelConfig, SamplingConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models import base, placement
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.models.placement import CONTEXT_BYTES, Gpu, Need, place

# a GPU draws from the same distribution in another way than a CPU: only greedy tokens are the same
GREEDY = SamplingConfig(temperature=0, max_new_tokens=8)
PROMPTS = [[*range(4, 30), 40 + i] for i in range(4)] + [[7, 8, 9]]  # four share a prefix


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placement")
    return tiny_config(folder, tiny_model(folder, num_hidden_layers=6))


@pytest.fixture(scope="module")
def bare(config):
    """Return the skeleton and what it needs, without room for a batch: the numbers are tiny."""
    model = base.skeleton(config.model).to(torch.float32)
    return model, Need(placement.need_of(model).weights, 0)


def auto(config) -> ModelConfig:
    return ModelConfig(name=config.model.name, device="cuda")


def gpus(need: Need, *shares: float) -> list[Gpu]:
    """Return GPUs with so much of the weights' size free beside the context."""
    sizes = [CONTEXT_BYTES + int(share * need.weights) for share in shares]
    return [Gpu(index, size, size) for index, size in enumerate(sizes)]


def test_one_gpu_that_holds_the_base_takes_all_of_it(config, bare):
    assert place(auto(config), *bare, gpus(bare[1], 1.0, 1.0)) is None


def test_a_base_that_one_gpu_cannot_hold_is_spread_over_several(config, bare):
    found = place(auto(config), *bare, gpus(bare[1], 0.8, 0.8))
    assert set(found.values()) == {0, 1}
    assert found["model.layers.0"] == 0 and found["model.layers.5"] == 1


def test_room_for_batches_is_a_reason_to_spread_but_none_to_refuse(config, bare):
    model, need = bare
    batches = Need(need.weights, need.weights)
    found = place(auto(config), model, batches, gpus(need, 1.3, 1.3))
    assert set(found.values()) == {0, 1}
    assert place(auto(config), model, batches, gpus(need, 1.3)) is None


@pytest.mark.parametrize(
    ("shares", "said"), [((0.8,), "there are 1.0 GiB"), ((0.3, 0.3), "there are 1.0, 1.0 GiB")]
)
def test_what_fits_nowhere_is_refused_with_sizes_and_what_to_do(config, bare, shares, said):
    large = Need(70 * 2**30, 0)  # said in GiB
    with pytest.raises(ValueError, match="does not fit") as error:
        place(auto(config), bare[0], large, gpus(bare[1], *shares))
    for part in ("70.0 GiB of weights", said, "CUDA_VISIBLE_DEVICES"):
        assert part in str(error.value)


def test_a_gpu_that_the_config_names_is_the_only_one(config, bare, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: asked.append(i) or (5, 6))
    named = ModelConfig(name=config.model.name, device="cuda:1")
    assert placement.gpus_of(named) == [Gpu(1, 5, 6)] and asked == [1]
    with pytest.raises(ValueError, match=r"set model\.device=auto"):
        place(named, *bare, gpus(bare[1], 0.5))


def test_what_this_process_keeps_does_not_count_as_taken(config, monkeypatch):
    kept = [2 * 2**30]  # by PyTorch, of an engine that was closed
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "empty_cache", kept.clear)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4 * 2**30 - sum(kept), 4 * 2**30))
    assert placement.gpus_of(auto(config)) == [Gpu(0, 4 * 2**30, 4 * 2**30)]


def test_the_memory_of_ranks_that_end_is_waited_for(config, monkeypatch):
    need, free = Need(2**30, 0), iter([0, 0, 3 * 2**30])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (next(free), 4 * 2**30))
    monkeypatch.setattr(placement.time, "sleep", lambda _: None)
    assert placement.settled_gpus(auto(config), need) == [Gpu(0, 3 * 2**30, 4 * 2**30)]


def test_on_a_cpu_nothing_is_placed(config):
    assert placement.device_map(config.model) is None


def generated(model, config):
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    backend = HuggingFaceBackend(model, chat, 8)
    scores = backend.log_likelihoods(PROMPTS, [[5, 6]] * len(PROMPTS))
    return backend.sample(PROMPTS, GREEDY, seed=0), scores


@pytest.mark.parametrize("with_adapter", [False, True])
def test_a_spread_base_generates_the_same_tokens(config, bare, monkeypatch, with_adapter):
    """Every tensor claims its GPU, and tensors of two GPUs in one operation are an error."""

    def adapted(model):
        if with_adapter:
            model = add_adapter(model, config.adapter, 0)
            randomise_adapter(model)
        return model

    # the adapter is drawn while the generators of its GPUs are kept
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: device)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    found = place(auto(config), *bare, gpus(bare[1], 0.8, 0.8))
    wanted = generated(adapted(load_model(config.model)), config)
    alone = load_model(config.model)
    with FakeGpus():
        model = adapted(spread(alone, found, monkeypatch))
        assert {str(p.device) for p in model.parameters()} == {"cuda:0", "cuda:1"}
        assert generated(model, config) == wanted


def test_fake_gpus_refuse_a_mix_of_devices(config, bare, monkeypatch):
    found = place(auto(config), *bare, gpus(bare[1], 0.8, 0.8))
    alone = load_model(config.model)
    with FakeGpus():
        model = spread(alone, found, monkeypatch)
        one, other = model.get_input_embeddings().weight, model.lm_head.weight
        with pytest.raises(RuntimeError, match=r"cuda:0.*cuda:1"):
            one + other


def test_weights_that_wait_on_disk_generate_the_same_tokens(config, tmp_path):
    wanted = generated(load_model(config.model), config)
    parts = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    places = {f"model.layers.{i}": "disk" if i == 1 else "cpu" for i in range(6)}
    places |= dict.fromkeys(parts, "cpu")
    model = dispatch_model(load_model(config.model), places, offload_dir=str(tmp_path))
    assert model.model.layers[1].mlp.up_proj.weight.is_meta
    assert generated(model, config) == wanted


def test_a_gpu_that_is_named_by_its_number_becomes_the_current_one(config, monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(str(device)))
    monkeypatch.setattr(
        "transformers.PreTrainedModel.to", lambda self, device: done.append(f"to {device}") or self
    )
    load_model(ModelConfig(name=config.model.name, device="cuda:1", dtype="float32"))
    assert done == ["cuda:1", "to cuda:1"]
    done.clear()
    load_model(ModelConfig(name=config.model.name, device="cuda", dtype="float32"))
    assert done == ["to cuda"]
