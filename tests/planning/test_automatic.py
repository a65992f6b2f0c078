"""What `auto` chooses of ZeRO's stages and of checkpointing, by the plan's arithmetic."""

from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from house import ROOT
from support import tiny_config, tiny_model

from pdtrain import api
from pdtrain.config import RunConfig, load, load_run
from pdtrain.distributed.world import World
from pdtrain.models.base import skeleton
from pdtrain.models.shape import Shape, shape_of
from pdtrain.planning import automatic, estimate

SHAPES = ROOT / "tests" / "shapes"
CONFIGS = {  # a shipped config, and the shape of the model it names
    "llama-8b-one-node": "llama-3.1-8b",
    "llama-70b-two-nodes": "llama-3.3-70b",
    "llama-70b-eight-nodes": "llama-3.3-70b",
}
ONE_NODE = World(num_ranks=8, ranks_per_node=8, launcher="test")
GIB = 2**30


def shipped(name: str, *overrides: str) -> RunConfig:
    model = f"model.name={SHAPES / CONFIGS[name]}"
    return load(ROOT / "configs" / f"{name}.yaml", [model, *overrides])


def shape(config: RunConfig) -> Shape:
    return shape_of(skeleton(config.model), config.adapter.target_modules)


def chosen(config: RunConfig) -> RunConfig:
    return automatic.choose(config, config, shape(config), estimate.world_of(config)).config


def gpus(monkeypatch, gib: float) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gib > 0)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda _: namedtuple("Properties", "total_memory")(int(gib * GIB)),
    )


@pytest.mark.parametrize(
    ("name", "gib", "stage", "checkpoints"),
    [
        ("llama-8b-one-node", 80, 1, False),
        ("llama-8b-one-node", 40, 1, False),
        ("llama-8b-one-node", 32, 1, True),
        ("llama-8b-one-node", 24, 3, True),
        ("llama-70b-two-nodes", 80, 3, True),
        ("llama-70b-two-nodes", 192, 3, False),
        ("llama-70b-eight-nodes", 80, 3, True),
    ],
)
def test_the_fastest_that_fits_is_chosen(name, gib, stage, checkpoints):
    found = chosen(shipped(name, f"plan.gpu_memory_gib={gib}"))
    assert (found.engine.zero_stage, found.train.gradient_checkpointing) == (stage, checkpoints)
    made = estimate.estimate_of(found, shape(found))
    assert made.peak_bytes <= (1 - automatic.MARGIN) * gib * GIB


def test_where_nothing_fits_the_least_memory_is_taken_and_said():
    config = shipped("llama-70b-two-nodes", "plan.gpu_memory_gib=30")
    choice = automatic.choose(config, config, shape(config), estimate.world_of(config))
    assert (choice.config.engine.stage, choice.config.train.checkpoints) == (3, True)
    assert all("nothing fits" in reason for reason in choice.reasons)


def test_explicit_values_are_kept():
    config = shipped(
        "llama-8b-one-node", "engine.zero_stage=3", "train.gradient_checkpointing=true"
    )
    assert chosen(config) == config
    half = shipped("llama-8b-one-node", "engine.zero_stage=3")
    assert (chosen(half).engine.zero_stage, chosen(half).train.gradient_checkpointing) == (3, False)


CHANGES = (  # of one knob, each of which leaves the numbers as they are
    *(f"engine.zero_stage={stage}" for stage in (1, 2, 3)),
    *(f"train.gradient_checkpointing={value}" for value in ("true", "false")),
    *(f"train.answers_per_micro_batch={size}" for size in (1, 2, 4, 8, 16, 32, 64, 128)),
    *(f"train.tokens_per_micro_batch={size}" for size in (2048, 4096, 16384, 32768, 65536)),
    *(f"engine.hpz={value}" for value in ("true", "false")),
    *(f"engine.offload_base={value}" for value in ("true", "false")),
    "teacher.cache=false",
)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_shipped_config_is_beaten_by_a_single_change(name):
    config = shipped(name)
    best = chosen(config)
    ours, model_shape = estimate.estimate_of(best, shape(best)).step.worst, shape(config)
    tried = 0
    for change in CHANGES:
        explicit = [f"engine.zero_stage={best.engine.stage}"]
        explicit += [f"train.gradient_checkpointing={str(best.train.checkpoints).lower()}"]
        try:
            other = estimate.estimate_of(shipped(name, *explicit, change), model_shape)
        except ValueError:  # offloading where nothing is spread
            continue
        tried += other.fits
        assert not other.fits or ours < 1.5 * other.step.worst, change
    assert tried > 8


def test_on_a_cpu_it_is_what_it_was_before_there_was_a_choice(tmp_path):
    config = tiny_config(tmp_path, tiny_model(tmp_path))
    assert config.is_automatic and not config.train.checkpoints and config.engine.stage == 3
    found = automatic.for_machine(config, World()).config
    assert (found.engine.zero_stage, found.train.gradient_checkpointing) == (3, False)


def test_ranks_with_different_gpus_agree_on_the_smallest(monkeypatch):
    config = shipped("llama-8b-one-node")
    sizes = [80 * GIB] * 7 + [24 * GIB]
    monkeypatch.setattr(automatic, "gathered", lambda own: [min(own, size) for size in sizes])
    found = set()
    for gib in (80, 24):
        gpus(monkeypatch, gib)
        config_here = automatic.for_machine(config, ONE_NODE).config
        found.add((config_here.engine.zero_stage, config_here.train.gradient_checkpointing))
    assert found == {(1, True)}  # on GPUs of 80 GiB alone it were without checkpointing


def test_the_choice_and_its_reason_are_written_into_the_run_folder(tmp_path, monkeypatch):
    config = replace(
        shipped("llama-8b-one-node"), out_dir=str(tmp_path), model=tiny_config_model(tmp_path)
    )
    seen = []
    monkeypatch.setattr(api, "stage_function", lambda name: seen.append)
    api.run_stages(config, ["train"])
    text = config.run.config_file.read_text()
    assert "# train.gradient_checkpointing=false (auto): on a CPU" in text
    assert "# engine.zero_stage=3 (auto): on a CPU" in text
    assert [one.engine.zero_stage for one in seen] == [3]
    assert load_run(tmp_path).train.gradient_checkpointing is False
    api.run_stages(config, ["report"])  # does not train: what is written stays
    assert config.run.config_file.read_text() == text
    assert seen[-1] == config
    api.run_stages(replace(config, seed=1), ["report"])
    assert "zero_stage: auto" in config.run.config_file.read_text()


def tiny_config_model(folder):
    return replace(tiny_config(folder, tiny_model(folder / "model")).model)
