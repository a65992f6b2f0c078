"""Which engine generates, and which ranks generate with it."""

from dataclasses import replace

import pytest
import torch
from support import tiny_config, tiny_model

from pdtrain.generation import vllm_engine, workers
from pdtrain.models import placement
from pdtrain.models.placement import Gpu


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    return tiny_config(folder / "run", tiny_model(folder / "model"))


def with_backend(config, name, **more):
    options = {"backend": name, **more}
    if name == "server":
        options["server"] = replace(config.generation.server, url="http://localhost:1/v1")
    return replace(config, generation=replace(config.generation, **options))


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that makes as if there were GPUs of a size, and vLLM or not."""

    def pretend(count, gib=80.0, vllm=True):
        size = int(gib * 2**30)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        found = [Gpu(index, size, size) for index in range(count)]
        monkeypatch.setattr(placement, "gpus_of", lambda config: found)
        monkeypatch.setattr(vllm_engine, "is_installed", lambda: vllm)

    return pretend


def on_gpu(config, device="auto"):
    return replace(config, model=replace(config.model, device=device))


@pytest.mark.parametrize(
    "count, vllm, quantization, wanted",
    [
        (1, True, "none", "vllm"),
        (0, True, "none", "huggingface"),
        (1, False, "none", "huggingface"),
        (1, True, "nf4", "huggingface"),
    ],
)
def test_auto_takes_vllm_where_it_is_installed_and_a_gpu_is_there(
    config, gpus, count, vllm, quantization, wanted
):
    gpus(count, vllm=vllm)
    found = on_gpu(with_backend(config, "auto"))
    found = replace(found, model=replace(found.model, quantization=quantization))
    assert workers.engine_of(found) == wanted
    for name in ("huggingface", "vllm", "server"):
        assert workers.engine_of(with_backend(config, name)) == name


def test_what_waits_works_on_several_passages(config):
    server = with_backend(config, "server")
    assert workers.units_at_once(config) == 1
    assert workers.units_at_once(server) == server.generation.server.concurrent == 32
    assert workers.units_at_once(with_backend(config, "vllm")) > 1


@pytest.mark.parametrize(
    "backend, count, gib, wanted",
    [
        ("huggingface", 0, 80, 1),  # CPUs
        ("server", 8, 80, 1),
        ("huggingface", 8, 80, 1),
        ("huggingface", 8, 0.5, 16),  # too small: the first rank alone
        ("vllm", 8, 80, 1),
        ("vllm", 8, 0.5, 8),  # an engine over the GPUs of each machine
        ("huggingface", 4, 80, 16),  # ranks see too few
    ],
)
def test_ranks_that_a_worker_takes(config, gpus, backend, count, gib, wanted):
    gpus(count, gib)
    assert workers.ranks_each(on_gpu(with_backend(config, backend)), 16, 8) == wanted
    assert workers.ranks_each(on_gpu(with_backend(config, backend)), 1, 1) == 1


def test_tensor_parallel_divides_the_ranks_of_a_machine(config, gpus):
    gpus(8)
    found = on_gpu(with_backend(config, "vllm"))
    vllm = replace(found.generation.vllm, tensor_parallel=4)
    found = replace(found, generation=replace(found.generation, vllm=vllm))
    assert workers.ranks_each(found, 16, 8) == 4
    mine = workers.on_rank(found, 4, 4)
    assert mine.model.device == "cuda:4" and vllm_engine.gpus_of(mine) == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="does not divide the 6 ranks"):
        workers.ranks_each(found, 6, 6)


def test_a_rank_generates_on_its_own_gpu(config, gpus):
    gpus(8)
    mine = workers.on_rank(on_gpu(config), 3, 1)
    assert mine.model.device == "cuda:3"
    assert mine.hash_for("questions") == config.hash_for("questions")
    gpus(0)
    assert workers.on_rank(on_gpu(config), 3, 1) == on_gpu(config)
