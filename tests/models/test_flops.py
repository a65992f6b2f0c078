"""FLOPs by formula against those that torch counts of a real step."""

from dataclasses import replace

import pytest
import torch
from architectures_table import case, write_model
from support import randomise_adapter, tiny_config, tiny_model, tiny_records
from torch.utils.flop_counter import FlopCounterMode

from pdtrain.distillation import packing
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.models import flops
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.attention.packed import Group
from pdtrain.models.base import load_model, load_tokenizer, skeleton
from pdtrain.models.chat.chat_template import prove
from pdtrain.models.shape import shape_of, weights_of


def test_what_a_packed_row_reads():
    found = flops.reading((Group(3, (2, 1)), Group(0, (4,))))
    assert found.tokens == 3 + 2 + 1 + 4
    # token by token, itself included: the prefix, two branches behind it, a branch alone
    assert found.pairs == (1 + 2 + 3) + (4 + 5) + 4 + (1 + 2 + 3 + 4)


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 384, "intermediate_size": 512, "num_hidden_layers": 3}
    config = tiny_config(folder / "run", tiny_model(folder / "model", **sizes))
    base = load_model(config.model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    model = add_adapter(base, config.adapter, 0)
    randomise_adapter(model)
    examples = from_answers(*tiny_records(), chat)
    shape = shape_of(skeleton(config.model), config.adapter.target_modules)
    weights = weights_of(config, shape)
    return config, model, examples, weights


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointing"])
def test_the_formulas_count_what_torch_counts(step, again):
    """Layers alone: what the loss computes depends on its implementation, and it has a test."""
    config, model, examples, weights = step
    batch = packing.twin_batch(examples, config.loss, torch.device("cpu"), with_teacher=True)
    twin = Twin(model, TopKLoss(config.loss), checkpointing=again)
    with FlopCounterMode(display=False) as counted:
        found = twin.hidden_rows(batch.teacher, batch.student)
        found[-1].sum().backward()
    wanted = flops.teacher(weights, flops.reading(batch.teacher.layout))
    wanted += flops.student(weights, flops.reading(batch.student.layout), again=again)
    # torch counts whole squares of scores and none of the norms: here both are below 2 %
    assert counted.get_total_flops() == pytest.approx(wanted, rel=0.02)


def test_the_gradient_of_a_weight_with_an_adapter_added_to_it_is_one_more_product():
    read = flops.Reading(tokens=3, pairs=0)
    plain = flops.Weights(matmuls=5, adapter=0, head=0, attention=0)
    merged = replace(plain, merged=5)
    assert flops.student(plain, read) == 2 * 2 * 5 * 3
    assert flops.student(merged, read) == 3 * 2 * 5 * 3
    assert flops.teacher(merged, read) == flops.teacher(plain, read)


def test_a_token_meets_the_experts_that_it_is_sent_to(tmp_path):
    write_model(case("qwen3_moe"), tmp_path)
    config = tiny_config(tmp_path, tmp_path, adapter={"target_parameters": "experts.down_proj"})
    shape = shape_of(skeleton(config.model), "all-linear", config.adapter.target_parameters)
    one = shape.fused[0]
    assert weights_of(config, shape).merged == 2 * 2 * one.out * one.into  # layers, experts


def test_the_loss_is_one_product_for_the_teacher_and_two_for_the_student():
    weights = flops.Weights(matmuls=0, adapter=0, head=7.0, attention=0)
    assert flops.loss(weights, 3, online=True) == 3 * 2 * 7 * 3
    assert flops.loss(weights, 3, online=False) == 2 * 2 * 7 * 3


def test_a_machine_s_peak_is_not_below_what_it_just_did():
    import time

    a = torch.randn(1024, 1024)
    for _ in range(20):  # other work on the machine may slow the one down and not the other
        flops.peak_per_second.cache_clear()
        peak = flops.peak_per_second(torch.device("cpu"), torch.float32)
        started = time.perf_counter()
        a @ a
        just_did = 2 * 1024**3 / (time.perf_counter() - started)
        if just_did < 3 * peak:
            break
    assert 1e8 < peak < 1e14
    assert just_did < 3 * peak
