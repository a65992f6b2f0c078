"""Compiled layers against layers as they are: the same numbers, in fewer kernels."""

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
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat_template import prove

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
def test_compiled_layers_give_the_same_numbers(tmp_path, architecture, checkpointing):
    """Errors against float64 are no larger than those of plain layers, but for rounding."""
    torch._dynamo.reset()
    metrics.reset()
    build = {"checkpointing": checkpointing, "num_hidden_layers": 3}
    plain, examples = made(tmp_path / "a", architecture, compiled=False, **build)
    exact, _ = made(tmp_path / "b", architecture, compiled=False, dtype=torch.float64, **build)
    twin, _ = made(tmp_path / "c", architecture, compiled=True, **build)
    graphs = []
    for some in (examples, examples[:5], examples[3:], examples[1:8]):
        losses, gradients = zip(*(step(one, some) for one in (twin, plain, exact)), strict=True)
        assert losses[0] == pytest.approx(float(losses[2]), rel=1e-5)
        for name, truth in gradients[2].items():
            own, other = ((found[name] - truth).abs().max() for found in gradients[:2])
            assert own <= 2 * other + 1e-5 * truth.abs().max(), name
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    print(f"{architecture}: {graphs} graphs, {metrics.generated_kernel_count} kernels made")
    assert graphs[-1] == graphs[1], "another batch needs no other program"
    assert 0 < graphs[-1] <= 24


def test_a_model_that_takes_padded_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"engine\.compile=true needs packed rows"):
        made(tmp_path, "gpt2", compiled=True)
