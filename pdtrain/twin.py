"""base + adapter; the hidden rows of teacher and student, and the loss, from one call.

The teacher is the base with the adapter switched off and the passage in its prompt; the student
is the same base with the adapter on and without the passage. The head is frozen and runs on
answer rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from pdkernels import TopK
from pdtrain import prefix
from pdtrain.config import AdapterConfig
from pdtrain.model import refuse_other_heads
from pdtrain.records import Side, TwinBatch


def add_adapter(base: PreTrainedModel, config: AdapterConfig, seed: int) -> PeftModel:
    """The base with a LoRA adapter of zero initial effect; adapter weights are fp32."""
    names = [name.strip() for name in config.target_modules.split(",")]
    targets = names[0] if names == ["all-linear"] else names
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            base,
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=targets,
                task_type="CAUSAL_LM",
            ),
        )
    return model.eval()


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The base alone. A flag on each layer; unlike PEFT's own switch it leaves requires_grad be."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer._disable_adapters = was


class Loss(Protocol):
    """How the two sides are compared; `losses.TopKLoss` is one."""

    def teacher(self, hidden_ND: Tensor, head_VD: Tensor) -> TopK: ...

    def student(self, hidden_ND: Tensor, head_VD: Tensor, topk: TopK) -> Tensor: ...


class Twin(nn.Module):
    """One call a micro-batch: teacher first, student second, then the loss.

    Raises:
        ValueError: the model's logits are more than head times hidden state (a soft cap, a
            scale or a bias), which the loss would silently leave out.
    """

    def __init__(self, model: PeftModel, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        refuse_other_heads(model.get_base_model())

    @property
    def head_VD(self) -> Tensor:
        base: Any = self.model.get_base_model()
        return base.get_output_embeddings().weight

    def forward(self, batch: TwinBatch) -> tuple[Tensor, Tensor]:
        """The weighted sum of row losses, and of the teacher's captured mass, both scalars."""
        topk = batch.topk or self.teacher(batch)
        student_ND = self.student(batch)
        loss_N = self.loss.student(student_ND, self.head_VD, topk)
        weights_N = batch.weights.to(loss_N)
        mass_N = topk.log_p_NK.exp().sum(-1)
        return (loss_N * weights_N).sum(), (mass_N * weights_N).sum()

    @torch.no_grad()
    def teacher(self, batch: TwinBatch) -> TopK:
        """The teacher's top-k for every row of the batch."""
        with adapter_off(self.model):
            hidden = [hidden_rows(self.decoder, side) for side in batch.teacher]
        return self.loss.teacher(torch.cat(hidden), self.head_VD)

    def student(self, batch: TwinBatch) -> Tensor:
        """(N, D) hidden rows with the adapter on; gradients reach the adapter alone.

        In training mode, or dropout and activation checkpointing would be silently off.
        """
        self.model.train()
        try:
            return hidden_rows(self.decoder, batch.student)
        finally:
            self.model.eval()

    @property
    def decoder(self) -> nn.Module:
        base: Any = self.model.get_base_model()
        return base.get_decoder()


def hidden_rows(decoder: nn.Module, side: Side) -> Tensor:
    """(N, D) last hidden states at `side.rows`.

    Branches are padded on the right, where a causal model's real tokens never look, so the only
    mask is the causal one. A prefix is read once for all branches.
    """
    shared, ids_BL = len(side.prefix_ids), side.branch_ids
    keys = None
    if shared and prefix.is_prepared(decoder) and not _recomputes(decoder):
        keys = prefix.read(decoder, side.prefix_ids)
    elif shared:  # the architecture cannot share it, or must not keep it: every branch reads it
        ids_BL = torch.cat([side.prefix_ids.expand(len(ids_BL), -1), ids_BL], 1)
    first = shared if keys else 0
    positions = torch.arange(first, first + ids_BL.shape[1], device=ids_BL.device)
    with prefix.in_view(keys):
        hidden_BLD = decoder(
            input_ids=ids_BL, position_ids=positions[None], use_cache=False
        ).last_hidden_state
    rows = side.rows[:, 1] + (shared - first)
    return hidden_BLD[side.rows[:, 0], rows]


def _recomputes(decoder: nn.Module) -> bool:
    """Activation checkpointing throws away the keys and values that a prefix would be kept as."""
    on = getattr(decoder, "is_activation_checkpointing", None)
    if on is None:  # the name that transformers used before
        on = getattr(decoder, "is_gradient_checkpointing", False)
    return decoder.training and bool(on)
