"""Find out how a model makes logits of hidden rows: head, scale, bias and soft cap.

The loss and the sampler run the head on chosen rows alone, so they must do what the model's own
forward does before and behind its head. No list of names tells that. The model is asked instead:
its decoder is replaced by known hidden rows and its head by known products, so that the model's own
code shows what it makes of either. No weight is read, so this works where they are spread over
ranks.

D hidden size · V vocabulary · L probed rows: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pdtrain.models.architectures import decoder_of

ROWS = 3
LARGEST, SMALLEST = 1e4, 1e-2  # products that are tried: from nearly linear to wholly capped
# the largest error that is rounding, as a share of the value
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
NEAR_ONE = {torch.float64: 1e-9, torch.float32: 1e-6, torch.bfloat16: 2e-3, torch.float16: 5e-4}


@dataclass(frozen=True, slots=True)
class HeadRule:
    """Say what a model does around its head W, whose bias b may be missing.

    logits = c tanh(y / c), y = after (W (before h) + b), and logits = y without a soft cap c.
    """

    before: float = 1.0
    after: float = 1.0
    softcap: float | None = None

    def scaled(self, hidden: Tensor) -> Tensor:
        """Return what the head is multiplied with: the hidden rows themselves if nothing scales."""
        return hidden if self.before == 1.0 else hidden * self.before

    def logits(self, head: nn.Module, hidden: Tensor) -> Tensor:
        """Return the model's logits of hidden rows (..., D): (..., V), in the head's dtype."""
        found: Tensor = head(self.scaled(hidden))
        if self.after != 1.0:
            found = found * self.after
        if self.softcap is not None:
            found = (found / self.softcap).tanh() * self.softcap
        return found


def find(model: Any) -> HeadRule:
    """Return how the model makes logits, before any work is done.

    Args:
        model: a PreTrainedModel, whose weights may be anywhere.

    Raises:
        ValueError: it has no linear head, or does something to its logits that is neither a scale
            nor a soft cap. Sampling and loss would silently leave that out.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{name} is an encoder-decoder: its answers are not the continuation of a prompt, on "
            "which prompt distillation rests; use a causal language model"
        )
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"{name} has {'no output head' if head is None else f'a {type(head).__name__} as head'}"
            ", and the loss needs one matrix that multiplies the last hidden state; use another "
            "model"
        )
    if not any(c.__module__.startswith("transformers.") for c in type(head).__mro__):
        return _probe(model, head, name)
    raise ValueError(
        f"the head of {name} is a {type(head).__name__}, which does more than a matrix does; the "
        "loss would leave that out: use another model"
    )


def _probe(model: Any, head: nn.Linear, name: str) -> HeadRule:
    device = head.weight.device
    device = torch.device("cpu") if device.type == "meta" else device
    hidden_LD = _spread_values(ROWS * head.in_features, device).view(ROWS, -1)
    products_LV = _spread_values(ROWS * head.out_features, device).view(ROWS, -1)
    seen: list[Tensor] = []

    def as_head(given: Tensor, *_: Any, **__: Any) -> Tensor:
        seen.append(given)
        return products_LV.view(*given.shape[:-1], -1)

    output = _DecoderOutput(hidden_LD[None])
    decoders = {id(part): part for part in (model.base_model, decoder_of(model))}
    decoders.pop(id(model), None)
    # wrappers such as Llama 4's embed before they call their decoder
    embedding = model.get_input_embeddings()
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(called(head, as_head))
            stack.enter_context(called(embedding, lambda *_, **__: hidden_LD[None]))
            for part in decoders.values():
                stack.enter_context(called(part, lambda *_, **__: output))
            ids_1L = torch.zeros(1, ROWS, dtype=torch.int64, device=device)
            logits_LV = model(input_ids=ids_1L, return_dict=True).logits[0]
    except Exception as error:  # whatever a model's own code raises over an unusual input
        first = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(
            f"what {name} does around its head could not be found out "
            f"({type(error).__name__}: {first}); use another model"
        ) from error
    if len(seen) != 1 or logits_LV.shape != products_LV.shape:
        raise ValueError(
            f"{name} calls its head {len(seen)} times and makes logits of shape "
            f"{tuple(logits_LV.shape)}, expected once and {tuple(products_LV.shape)}; the loss "
            "does not know such a head: use another model"
        )
    before, wrong = _scale(hidden_LD, seen[0].reshape(hidden_LD.shape))
    if wrong:
        raise ValueError(
            f"{name} does more than scale its hidden rows before the head: by {before:.6g} they "
            f"are off by {wrong:.1e} of their size; the loss would be wrong: use another model"
        )
    return _behind(before, products_LV, logits_LV, name)


def _behind(before: float, products_LV: Tensor, logits_LV: Tensor, name: str) -> HeadRule:
    """Return the rule that explains the logits that a model made of its head's products."""
    after, wrong = _scale(products_LV, logits_LV)
    if wrong:
        softcap = float(logits_LV.abs().max())
        is_bent = logits_LV.abs() < softcap / 2
        straight = softcap * (logits_LV.double() / softcap).atanh()
        after, _ = _scale(products_LV[is_bent], straight[is_bent].to(logits_LV.dtype))
        capped = softcap * (after * products_LV.double() / softcap).tanh()
        off = float((capped - logits_LV.double()).abs().max() / softcap)
        if not off <= TOLERANCE[logits_LV.dtype]:
            raise ValueError(
                f"no scale and soft cap explain the logits of {name}: with a scale of {after:.6g} "
                f"and a cap of {softcap:.6g} they are off by {off:.1e} of the cap; the loss would "
                "be wrong: use another model"
            )
        return HeadRule(before, _positive(after, name), softcap)
    return HeadRule(before, _positive(after, name))


def _positive(scale: float, name: str) -> float:
    if scale > 0:
        return scale
    raise ValueError(f"{name} multiplies its logits by {scale:.6g}, and a scale must be above 0")


def _scale(given: Tensor, found: Tensor) -> tuple[float, float]:
    """Return the factor from given to found, and the largest relative error; 0 is rounding."""
    wanted, tolerance = given.double(), TOLERANCE[found.dtype]
    scale = float((found.double() / wanted).mean())
    if abs(scale - 1) <= NEAR_ONE[found.dtype]:
        scale = 1.0
    off = float((found.double() - scale * wanted).abs().div(wanted.abs()).max())
    return scale, 0.0 if off <= tolerance * max(abs(scale), 1e-12) else off


def _spread_values(count: int, device: torch.device) -> Tensor:
    """Return values of both signs, spread evenly over their logarithms."""
    size = torch.logspace(
        torch.tensor(SMALLEST).log10(), torch.tensor(LARGEST).log10(), count, device=device
    )
    sign = 1 - 2 * (torch.arange(count, device=device) % 2)
    return size * sign


class _DecoderOutput:
    """Be a decoder's output with known hidden rows and nothing else."""

    def __init__(self, hidden_1LD: Tensor) -> None:
        self.last_hidden_state = hidden_1LD

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, key: Any) -> Any:
        return self.last_hidden_state if key in (0, "last_hidden_state") else ()

    def get(self, key: str, default: Any = None) -> Any:
        return self.last_hidden_state if key == "last_hidden_state" else default


@contextmanager
def called(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a call of the module call `forward` inside, whatever stood there before."""
    before = vars(module).get("forward")
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
