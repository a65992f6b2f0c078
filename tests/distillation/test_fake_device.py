"""Test on fake tensors of another device that a micro-step never waits, and what it launches."""

import sys
from types import SimpleNamespace

import pytest
import torch
from fake_device import DEVICE, Recorder
from support import tiny_config, tiny_model, tiny_records
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from pdtrain.config import AdapterConfig, LossConfig
from pdtrain.distillation import packing
from pdtrain.distillation.batch import Side
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.attention import backends
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat_template import prove

# launches of one decoder layer: teacher and student forward, student backward
CEILINGS = {"packed": 450, "sdpa": 245, "flash": 240}


def flash_attn_varlen_func(query, key, value, *_, **__):
    """Stand for flash-attn, which is one launch each way."""
    return query * 1.0 + (key.sum() + value.sum()) * 0


@pytest.fixture(autouse=True)
def flash_attn(monkeypatch):
    stand_in = SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
    monkeypatch.setitem(sys.modules, "flash_attn", stand_in)


def made(folder, num_layers, *, checkpointing=False, attend="packed"):
    """Return a twin on another device and the two sides of a batch of several groups."""
    tiny_model(folder, num_hidden_layers=num_layers)
    config = tiny_config(folder, folder)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    model = add_adapter(load_model(config.model), AdapterConfig(rank=4), seed=1)
    twin = Twin(
        model, TopKLoss(LossConfig()), checkpointing=checkpointing, attend=backends.BACKENDS[attend]
    )
    examples = from_answers(*tiny_records(), chat)
    batch = packing.twin_batch(examples, LossConfig(), torch.device("cpu"), with_teacher=True)

    def there(side):
        ids, positions, rows = (
            torch.empty(len(x), dtype=torch.int64, device=DEVICE)
            for x in (side.ids, side.positions, side.rows)
        )
        return Side(ids, positions, rows, side.layout)

    return twin.to(DEVICE), there(batch.teacher), there(batch.student)


def micro_step(twin, teacher, student):
    """Record the layers' part of a micro-step; what depends on the layout is there already."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        twin.hidden_rows(teacher, student)[-1].sum().backward()
        with Recorder() as seen:
            _, rows = twin.hidden_rows(teacher, student)
            rows.sum().backward()
    return seen


@pytest.mark.parametrize("attend", ["packed", "sdpa", "flash"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_micro_step_never_waits_for_the_device(attend, checkpointing, tmp_path):
    seen = micro_step(*made(tmp_path, 2, checkpointing=checkpointing, attend=attend))
    assert not seen.syncs
    assert seen.num_launches > 100


@pytest.mark.parametrize("attend", list(CEILINGS))
def test_a_layer_has_a_limited_number_of_launches(attend, tmp_path):
    numbers = []
    for num_layers in (2, 3):
        seen = micro_step(*made(tmp_path / str(num_layers), num_layers, attend=attend))
        numbers.append(seen.num_launches)
    print(f"{attend}: {numbers[1] - numbers[0]} launches a layer")
    assert numbers[1] - numbers[0] <= CEILINGS[attend]


def test_the_recorder_sees_what_waits():
    with FakeTensorMode(), Recorder() as seen:
        numbers = torch.ones(4, device=DEVICE)
        with pytest.raises(DataDependentOutputException):
            numbers.sum().item()
        with pytest.raises(DynamicOutputShapeException):
            numbers[numbers > 1]
    assert set(seen.syncs) == {"aten::_local_scalar_dense", "aten::index"}
