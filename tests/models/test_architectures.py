"""Test tiny models of many architectures, each from loading to the reloaded adapter."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from architectures_table import (
    ALPHA,
    CASES,
    CHECKS,
    CPU,
    RANK,
    batch_of,
    build,
    case,
    check_loss,
    check_step,
    write_model,
)

from pdtrain.config import AdapterConfig
from pdtrain.distillation.packing import twin_batch
from pdtrain.distillation.schedule import Schedule
from pdtrain.distributed.world import World
from pdtrain.models.base import skeleton
from pdtrain.models.shape import adapter_weights, shape_of
from pdtrain.planning.memory_model import FP32, memory_of

ROOT = Path(__file__).parents[2]
marks = {False: [pytest.mark.slow], True: []}
EVERY = [pytest.param(one, id=one.name, marks=marks[one.quick]) for one in CASES]


@pytest.fixture(scope="module", params=EVERY)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.name)
    write_model(request.param, folder)
    return build(request.param, folder)


def test_batches_are_packed_where_the_attention_is_known(made):
    assert made.twin.is_packed == (made.case.batching == "packed")


@pytest.mark.parametrize("check", CHECKS)
def test_an_architecture(made, check, tmp_path):
    CHECKS[check](made, *([tmp_path] if check == "export" else []))


def test_experts_take_an_adapter_where_they_are_named(tmp_path):
    """Value and gradient against the naive loop; routers are left alone."""
    write_model(case("qwen3_moe"), tmp_path)
    fused = "mlp.experts.gate_up_proj,mlp.experts.down_proj"
    made = build(case("qwen3_moe"), tmp_path, adapter={"target_parameters": fused})
    names = [name for name, p in made.twin.named_parameters() if p.requires_grad]
    assert sum("experts" in name for name in names) == 2 * 2 * 2  # layers, weights, matrices
    assert not any(".gate." in name for name in names)
    check_loss(made)
    check_step(made)


def test_an_adapter_on_experts_is_planned_as_large_as_it_is(tmp_path):
    """Parameters, and what stands beside the base from forward to backward: experts once more."""
    write_model(case("qwen3_moe"), tmp_path)
    fused = "mlp.experts.gate_up_proj, mlp.experts.down_proj"
    settings = {"target_parameters": fused}
    made = build(case("qwen3_moe"), tmp_path, adapter=settings, dtype="float32")
    config = replace(
        made.config, adapter=AdapterConfig(rank=RANK, alpha=ALPHA, target_parameters=fused)
    )
    bare = shape_of(skeleton(config.model), "all-linear")
    shape = shape_of(skeleton(config.model), "all-linear", fused)
    own = sum(p.numel() for p in made.twin.parameters() if p.requires_grad)
    assert adapter_weights(config, shape) == own > adapter_weights(config, bare)

    base = {p.untyped_storage().data_ptr() for p in made.twin.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made.twin(batch_of(made.examples))
    sizes = {FP32 * one.parameters for one in shape.fused}
    added = sum(size for at, (size, _) in kept.items() if size in sizes and at not in base)
    memories = [memory_of(config, one, World()) for one in (bare, shape)]
    assert added == memories[1].layer_inputs - memories[0].layer_inputs
    # under checkpointing it is that of one of two layers, beside its gradient
    again = replace(config, train=replace(config.train, gradient_checkpointing=True))
    memories = [memory_of(again, one, World()) for one in (bare, shape)]
    assert memories[1].layer_inputs == memories[0].layer_inputs
    assert memories[1].layer_at_work - memories[0].layer_at_work == 2 * added // 2


def test_experts_and_routers_are_left_alone_otherwise(tmp_path):
    write_model(case("qwen3_moe"), tmp_path)
    made = build(case("qwen3_moe"), tmp_path)
    names = [name for name, p in made.twin.named_parameters() if p.requires_grad]
    assert names and all("self_attn" in name for name in names)


def test_padded_batches_are_counted_as_they_are_read(tmp_path):
    """No prefix is shared: what a side holds is what its rows hold."""
    write_model(case("lfm2"), tmp_path)
    made = build(case("lfm2"), tmp_path)
    schedule = Schedule(made.config, "", made.examples)
    assert not schedule.is_packed and not schedule.costs.shares
    batch = twin_batch(
        made.examples, made.config.loss, CPU, with_teacher=True, shares=schedule.is_packed
    )
    prompts = [(e.teacher_prompt, e.student_prompt) for e in made.examples]
    answers = sum(len(e.answer) - 1 for e in made.examples)
    for side, of_side in zip(
        (batch.teacher, batch.student), zip(*prompts, strict=True), strict=True
    ):
        assert len(side.ids) == sum(map(len, of_side)) + answers
    with torch.no_grad():
        found = made.twin(batch)
        shared = made.twin(batch_of(made.examples))
    assert torch.equal(found[0], shared[0])


def test_the_matrix_in_the_docs_is_up_to_date():
    """Lines of slow cases are as the command wrote them; those of quick ones passed here."""
    matrix = load_matrix()
    text = (ROOT / "docs" / "models-matrix.md").read_text(encoding="utf-8")
    assert text.startswith(matrix.HEAD)
    lines = text.removeprefix(matrix.HEAD).strip().split("\n")
    assert len(lines) == len(CASES)
    for one, found in zip(CASES, lines, strict=True):
        assert f"`{one.model_type}` | {one.layers} | {one.batching} |" in found
        if one.quick:
            assert found == matrix.line(one, {}, matrix.on_ranks())


def load_matrix():
    path = ROOT / "docs" / "models_matrix.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_enough_architectures():
    assert len({one.model_type for one in CASES}) >= 35
    assert sum(one.quick for one in CASES) >= 8
