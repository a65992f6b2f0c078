"""Compiled layers against layers as they are: the same numbers, in fewer kernels."""

from collections import Counter
from contextlib import ExitStack

import pytest
import torch
from support import randomise_adapter, tiny_config, tiny_model, tiny_records
from torch._inductor import metrics

from pdtrain.config import AdapterConfig, LossConfig
from pdtrain.distillation import packing
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.attention import backends
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove

# torch's own compiler warns of its own parts
pytestmark = pytest.mark.filterwarnings("default")


def made(folder, architecture, *, compiled, checkpointing=False, dtype=torch.float32, **changes):
    config = tiny_config(folder, tiny_model(folder / "model", architecture, **changes))
    model = add_adapter(load_model(config.model), AdapterConfig(rank=4), seed=1)
    randomise_adapter(model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    twin = Twin(
        model.to(dtype), TopKLoss(LossConfig()), checkpointing=checkpointing, compiled=compiled
    )
    return twin, from_answers(*tiny_records(), chat)


@pytest.fixture
def settings():
    """Hold the compiler's settings of one test."""
    with ExitStack() as stack:
        yield stack


def step(twin, examples):
    """Return the loss and the adapter's gradients."""
    batch = packing.twin_batch(examples, LossConfig(), torch.device("cpu"), with_teacher=True)
    loss, _ = twin(batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in twin.named_parameters() if p.grad is not None}
    twin.zero_grad()
    return loss.detach(), found


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma"])
def test_compiled_layers_give_the_same_numbers(tmp_path, architecture, checkpointing, settings):
    """Errors against float64 are no larger than those of plain layers, but for rounding.

    Plain layers are taken with two kinds of attention, whose errors differ by up to four times
    because they round in another order; the larger one of any batch says what rounding does here.
    Gemma's is compiled without vectors: the compiler's tanh of a vector on a CPU is coarser, and
    twice the error of the plain layers comes from that alone.
    """
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    metrics.reset()
    if architecture == "gemma":
        settings.enter_context(torch._inductor.config.patch({"cpp.simdlen": 1}))
    build = {"checkpointing": checkpointing, "num_hidden_layers": 3}
    plain, examples = made(tmp_path / "a", architecture, compiled=False, **build)
    other, _ = made(tmp_path / "b", architecture, compiled=False, **build)
    other.attend = backends.BACKENDS["sdpa"]
    exact, _ = made(tmp_path / "c", architecture, compiled=False, dtype=torch.float64, **build)
    twin, _ = made(tmp_path / "d", architecture, compiled=True, **build)
    graphs, own, rounding = [], Counter(), Counter()  # errors by tensor, the largest of any batch
    for some in (examples, examples[:5], examples[3:], examples[1:8]):
        steps = [step(one, some) for one in (twin, plain, other, exact)]
        losses, gradients = zip(*steps, strict=True)
        assert losses[0] == pytest.approx(float(losses[-1]), rel=1e-5)
        for name, truth in gradients[-1].items():
            errors = [float((found[name] - truth).norm() / truth.norm()) for found in gradients]
            own[name] = max(own[name], errors[0])
            rounding[name] = max(rounding[name], *errors[1:3])
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert own and all(own[name] <= 2 * rounding[name] + 1e-5 for name in own), (own, rounding)
    print(f"{architecture}: {graphs} graphs, {metrics.generated_kernel_count} kernels made")
    assert graphs[-1] == graphs[1], "another batch needs no other program"
    assert 0 < graphs[-1] <= 24


def test_a_model_that_takes_padded_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"engine\.compile=true needs packed rows"):
        made(tmp_path, "gpt2", compiled=True)
