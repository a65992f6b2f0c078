"""How far the CPU may be ahead of the GPU, with events that only take notes."""

from itertools import count

import pytest
import torch
from support import randomise_adapter, tiny_config, tiny_model, tiny_records

from pdtrain.config import AdapterConfig, LossConfig
from pdtrain.distillation import packing
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.run_ahead import RunAhead
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove

LAYERS = 5


class Notes:
    """Make events, and note in which order they are recorded and waited for."""

    def __init__(self):
        self.numbers, self.said = count(), []

    def __call__(self):
        notes, number = self, next(self.numbers)

        class Event:
            def record(self):
                notes.said.append(("record", number))

            def synchronize(self):
                notes.said.append(("wait", number))

        return Event()


@pytest.fixture
def made(tmp_path):
    """Return a twin of several layers and a batch for it."""
    config = tiny_config(tmp_path, tiny_model(tmp_path / "model", num_hidden_layers=LAYERS))
    model = add_adapter(load_model(config.model), AdapterConfig(rank=4), seed=1)
    randomise_adapter(model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    examples = from_answers(*tiny_records(), chat)
    batch = packing.twin_batch(examples, LossConfig(), torch.device("cpu"), with_teacher=True)
    return model, batch


def gradients(twin, batch):
    loss, _ = twin(batch)
    loss.backward()
    found = [p.grad.clone() for p in twin.parameters() if p.grad is not None]
    twin.zero_grad()
    return [loss.detach(), *found]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_cpu_is_never_more_layers_ahead_than_it_may_be(made, most, checkpointing):
    model, batch = made
    twin = Twin(model, TopKLoss(LossConfig()), checkpointing=checkpointing)
    plain, notes = gradients(twin, batch), Notes()
    bound = RunAhead(twin.layers, most, notes)
    for one, wanted in zip(gradients(twin, batch), plain, strict=True):
        assert torch.equal(one, wanted)
    recorded = [number for what, number in notes.said if what == "record"]
    waited = [number for what, number in notes.said if what == "wait"]
    assert recorded == list(range(2 * LAYERS))  # each layer forward and backward
    assert waited == list(range(2 * LAYERS - most))
    for place, (what, number) in enumerate(notes.said):
        if what == "record" and number >= most:
            assert ("wait", number - most) in notes.said[:place]
    bound.close()
    notes.said.clear()
    gradients(twin, batch)
    assert not notes.said


def test_no_layer_ahead_is_refused():
    with pytest.raises(ValueError, match="at least one layer ahead, got 0"):
        RunAhead([], 0)
