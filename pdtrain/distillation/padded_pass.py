"""Run a side of a twin through the model's own decoder, whatever is inside its layers.

Rows are padded on the right, one for each answer, behind an ordinary mask. The decoder makes its
own positions, masks, and whatever else its layers take. The teacher's pass comes first, then the
student's, so that under ZeRO-3 each layer's weights are gathered once for each and once in
backward: 3P bytes, where packed sequences need 2P.

B rows · L tokens of a row · N answer rows · D hidden size: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pdtrain.distillation.batch import Side
from pdtrain.models.adapters.lora import dropout_on, switched_off
from pdtrain.models.adapters.lora import tuners_of as tuners_in
from pdtrain.models.attention import padded
from pdtrain.models.head import called


@torch.no_grad()
def teacher_rows(decoder: Any, side: Side) -> Tensor:
    """Return the last hidden states (N, D) at the side's rows, with the adapter off."""
    with switched_off(tuners_in(decoder)):
        return _rows(decoder, side)


def student_rows(
    decoder: Any,
    layers: nn.ModuleList,
    tuners_of: Sequence[Sequence[BaseTunerLayer]],
    side: Side,
    *,
    checkpointing: bool,
) -> Tensor:
    """Return the last hidden states (N, D) at the side's rows, with gradients to the adapter.

    Args:
        decoder: the base without its head.
        layers: its layers.
        tuners_of: the parts of each layer that have an adapter.
        side: what the student reads.
        checkpointing: let each layer keep only its input, and compute the rest again in backward.
    """
    inner = {tuner for own in tuners_of for tuner in own}
    outer = [tuner for tuner in tuners_in(decoder) if tuner not in inner]
    with ExitStack() as stack:
        stack.enter_context(dropout_on(outer))  # beside the layers, such as Gemma 4's projection
        if torch.is_grad_enabled():
            # the first layer's hooks fire when its input's gradient is known: it must have one
            embedding = decoder.get_input_embeddings()
            hook = embedding.register_forward_hook(_asks_for_gradient)
            stack.callback(hook.remove)
        for layer, tuners in zip(layers, tuners_of, strict=True):
            run = partial(_run, layer.forward, tuners, checkpointing=checkpointing)
            stack.enter_context(called(layer, run))
        return _rows(decoder, side)


def _rows(decoder: Any, side: Side) -> Tensor:
    laid = padded.rows(side.layout, side.ids.device)
    hidden_BLD = decoder(
        input_ids=side.ids[laid.token_BL], attention_mask=laid.mask_BL, use_cache=False
    ).last_hidden_state
    return hidden_BLD.flatten(0, 1)[laid.place_T[side.rows]]


def _run(
    forward: Callable[..., Any],
    tuners: Sequence[BaseTunerLayer],
    *args: Any,
    checkpointing: bool,
    **options: Any,
) -> Any:
    def run(*args: Any) -> Any:
        with dropout_on(tuners):
            return forward(*args, **options)

    if checkpointing and torch.is_grad_enabled():
        return checkpoint(run, *args, use_reentrant=False)
    return run(*args)


def _asks_for_gradient(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
    # not a leaf: models may scale their embeddings in place
    return embedded.detach().requires_grad_().clone()
