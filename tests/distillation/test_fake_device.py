"""Test on fake tensors of another device that a micro-step never waits, and what it launches."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from fake_device import DEVICE, Recorder
from support import tiny_config, tiny_model, tiny_records
from torch._subclasses import FakeTensor, FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from pdtrain.config import AdapterConfig, LossConfig, SamplingConfig, TrainConfig
from pdtrain.distillation import packing
from pdtrain.distillation.batch import RowFigures, Side, TwinBatch
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.attention import backends
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.training.step import take_step

# launches of one decoder layer: teacher and student forward, student backward
LOSS_CEILING = 60
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


def read_at_once(tensor):
    """Stand for Tensor.tolist, which copies a GPU's tensor to the host once; always zeros."""
    assert tensor.to("cpu").dim() == 1
    return [0] * len(tensor)


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


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_loss_never_waits_for_the_device(share):
    """The teacher's top-k, the student's divergence and its gradient, of 96 rows in one chunk."""
    loss = TopKLoss(LossConfig(), impl="chunked")
    launches = []
    for num_words in (2048, 4096):
        with FakeTensorMode():
            head_VD = torch.empty(num_words, 64, device=DEVICE)
            teacher_ND = torch.empty(96, 64, device=DEVICE)
            student_ND = torch.empty(96, 64, device=DEVICE, requires_grad=True)
            targets_N = torch.empty(96, dtype=torch.int64, device=DEVICE)
            shares_N = torch.full((96,), share, device=DEVICE) if share else None
            with Recorder() as seen:
                topk = loss.teacher(teacher_ND, head_VD)
                loss_N = loss.student(student_ND, head_VD, topk, targets_N, label_shares_N=shares_N)
                loss_N.sum().backward()
        assert student_ND.grad is not None and student_ND.grad.device.type == DEVICE
        assert not seen.syncs
        launches.append(seen.num_launches)
    print(f"labels {share}: {launches[0]} launches, {launches[1]} for twice the words")
    assert launches[1] <= launches[0] <= LOSS_CEILING


@pytest.mark.parametrize("num_micro_batches", [1, 3])
def test_a_whole_step_waits_for_its_norm_alone(num_micro_batches, tmp_path):
    """Twin, loss, backward, clipping and AdamW: the host reads the norm twice, to check and log."""
    twin, teacher, student = made(tmp_path, 2)
    twin.loss = TopKLoss(LossConfig(), impl="chunked")
    num_rows = len(student.rows)
    with FakeTensorMode(allow_non_fake_inputs=True):
        engine = PlainEngine(twin, TrainConfig(), num_steps=4)
        targets = torch.empty(num_rows, dtype=torch.int64, device=DEVICE)
        weights = torch.empty(num_rows, device=DEVICE)
        figures = RowFigures(num_rows, float(num_rows))
        batch = TwinBatch(("an answer",), student, teacher, targets, weights, figures=figures)
        with Recorder(reads_as=1.0):
            take_step(engine, [batch])  # makes the optimizer's state
        with Recorder(reads_as=1.0) as seen:
            take_step(engine, [batch] * num_micro_batches)
    assert seen.syncs == {"aten::_local_scalar_dense": 2}


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_token_of_generation_waits_once(temperature, tmp_path, monkeypatch):
    """Layers, head and choice of the next token: only the chosen tokens come to the host."""
    tiny_model(tmp_path)
    config = tiny_config(tmp_path, tmp_path)
    backend = HuggingFaceBackend.of_base(config.model, config.prompts)
    assert backend._head_rule and backend._decoding  # found by probes, which read values
    backend.model.to(DEVICE)
    sampling = SamplingConfig(temperature=temperature, top_p=0.9, top_k=20, max_new_tokens=5)
    monkeypatch.setattr(FakeTensor, "tolist", read_at_once)
    seen = {}
    for max_new_tokens in (2, 5):
        limit = replace(sampling, max_new_tokens=max_new_tokens)
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with fake, torch.no_grad(), Recorder() as seen[max_new_tokens]:
            backend._decode([[5, 6, 7], [8, 9, 10]], limit, [1, 2], set())
    waits = [found.syncs.total() for found in seen.values()]
    assert waits[1] - waits[0] == 3  # for three tokens more


def test_the_recorder_sees_what_waits():
    with FakeTensorMode(), Recorder() as seen:
        numbers = torch.ones(4, device=DEVICE)
        with pytest.raises(DataDependentOutputException):
            numbers.sum().item()
        with pytest.raises(DynamicOutputShapeException):
            numbers[numbers > 1]
    assert set(seen.syncs) == {"aten::_local_scalar_dense", "aten::index"}
