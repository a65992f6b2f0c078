"""Experts, hybrids and wrappers on two gloo ranks of ZeRO-3: the numbers of one plain process.

A decoder layer is one leaf, experts and all, and is gathered whole.
"""

import os
from pathlib import Path

import pytest
import torch
from architectures_table import case, write_model
from safetensors.torch import load_file, save_file
from support import needs_compiler, randomise_adapter, run_ranks, tiny_config, tiny_records

from pdtrain.distillation import examples, packing
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.distributed.world import World, publish
from pdtrain.models import shape
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.training.step import train_step

STEPS = 2
SECONDS = 400.0
RELEASED = {
    "zero_optimization": {
        "stage3_param_persistence_threshold": 0,
        "stage3_max_reuse_distance": 0,
        "stage3_prefetch_bucket_size": 0,
        "stage3_max_live_parameters": 0,
    }
}
NAMES = [
    "gpt2",
    "gemma2",
    "gemma4_text",
    "gemma3",
    "mixtral",
    "qwen3_moe",
    "gpt_oss",
    "deepseek_v3",
    "glm4_moe",
    "qwen3_next",
    "qwen3_5",
    "falcon_h1",
    "nemotron_h",
    "lfm2",
    "granitemoehybrid",
    "qwen2_moe",
    "olmoe",
    "granitemoe",
    "phimoe",
    "jamba",
    "mamba",
    "mistral3",
    "qwen3_vl",
    "gemma4",
    "gemma4_moe",
    "qwen3_5_moe",
    "gemma3n_text",
    "qwen3_5_text",
    "mamba2",
    "lfm2_moe",
    "qwen3_vl_moe",
    "muse_glimmer",
    "ernie4_5_moe",
    "minimax_m2",
    "hunyuan_v1_moe",
    "dots1",
    "glm4_moe_lite",
    "kimi_linear",
    "bamba",
    "olmo_hybrid",
    "llama4_text",
    "llama4",
    "zamba2",
]


def turn_experts(folder):
    """Hold the experts' matrices in the file as published ones do, which transformers turns."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in [n for n in tensors if ".experts." in n]:
        tensors[name] = tensors[name].transpose(1, 2).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def config_for(folder, model, **sections):
    train = {
        "epochs": 1,
        "answers_per_step": 4,
        "answers_per_micro_batch": 2,
        "learning_rate": 0.01,
        "evaluate_every_epochs": 0,
    }
    return tiny_config(
        Path(folder), model, train=train, adapter={"rank": 3, "alpha": 6}, **sections
    )


def make_twin(config, spread=None):
    from pdtrain.distributed import sharded_loading

    with sharded_loading.spread(spread):
        base = load_model(config.model)
    if spread:
        sharded_loading.verify(base, config.model)
    adapted = add_adapter(base, config.adapter, seed=1)
    randomise_adapter(adapted)
    return Twin(adapted, TopKLoss(config.loss), checkpointing=True)


def steps(engine, config, rank=0, num_ranks=1):
    """Return loss and norm of every step, the first moments and the adapter."""
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    schedule = Schedule(config, "", examples.from_answers(*tiny_records(), chat))
    found = {}
    for step in range(1, STEPS + 1):
        batches = [
            packing.twin_batch(
                cut.examples,
                config.loss,
                torch.device("cpu"),
                with_teacher=True,
                is_filler=cut.is_filler,
            )
            for cut in schedule.micro_batches(step, rank, num_ranks)
        ]
        stats = train_step(engine, batches)
        found[f"{step} stats"] = torch.tensor([stats.loss, stats.grad_norm, stats.teacher_mass])
    state = engine.optimizer_state()
    found |= {k: v for k, v in state.items() if k.endswith(".exp_avg")}
    return found


def check(rank, folder, wanted):
    from pdtrain.distributed import zero
    from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine

    size = torch.distributed.get_world_size()
    world = World(rank, size, rank, size, "the test")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    publish(world)
    config = config_for(folder, Path(folder), engine={"zero_stage": 3}, deepspeed=RELEASED)
    settings = zero.settings(config, shape.sizes_of(config.model), world, torch.float32)
    engine = DeepSpeedEngine(make_twin(config, settings), config.train, 10, world, settings)
    found = steps(engine, config, rank, size)
    if rank == 0:
        for name, value in load_file(wanted).items():
            off = (found[name].double() - value.double()).norm()
            assert off <= 2e-5 * value.double().norm() + 1e-9, f"{name} is off by {off:.1e}"


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_give_the_numbers_of_one_process(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write_model(case(name), tmp_path)
    if name == "qwen3_vl_moe":
        turn_experts(tmp_path)
    config = config_for(tmp_path, tmp_path)
    wanted = tmp_path / "wanted.safetensors"
    save_file(steps(PlainEngine(make_twin(config), config.train, 10), config), wanted)
    run_ranks(check, 2, tmp_path, str(tmp_path), str(wanted), timeout_seconds=SECONDS)
