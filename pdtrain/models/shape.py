"""Read from a model's config the sizes that decide memory and work: parameters, layers, heads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pdtrain.config import ModelConfig, RunConfig
from pdtrain.models import quantization
from pdtrain.models.adapters import lora
from pdtrain.models.architectures import decoder_of, layers_of, obstacle, setting
from pdtrain.models.base import skeleton
from pdtrain.models.flops import Weights


@dataclass(frozen=True)
class Sizes:
    """Hold numbers of parameters of a base model; `layer` is its largest decoder layer.

    `active` counts those of all layers that one token is multiplied with: of a mixture of experts
    the experts that it is sent to.
    """

    total: int
    layer: int
    matrices: int  # of that layer, without its norms and biases
    num_layers: int
    active: int
    head: int
    is_tied: bool  # the head's weight is the embedding's
    hidden: int
    vocab: int
    quantizable: int = 0  # of the total: what a quantized base holds in 4 or 8 bits
    layer_quantizable: int = 0  # of the largest layer's matrices


def sizes_of(config: ModelConfig) -> Sizes:
    """Return the sizes of a model from its config alone; no weight is read."""
    return sizes_of_model(skeleton(config))


def sizes_of_model(model: PreTrainedModel) -> Sizes:
    """Return the sizes of a model whose weights are whole, or on the meta device."""
    decoder: Any = decoder_of(model)
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    found = layers_of(decoder)
    is_tied = getattr(model.config, "tie_word_embeddings", False)  # not every wrapper's has it
    layers = [
        (sum(p.numel() for p in own), sum(p.numel() for p in own if p.dim() > 1))
        for own in (list(layer.parameters()) for layer in found)
    ]
    layer, matrices = max(layers)
    quantizable = {id(part.weight) for part in quantization.quantizable(model).values()}
    return Sizes(
        total=sum(p.numel() for p in model.parameters()),
        layer=layer,
        matrices=matrices,
        num_layers=len(layers),
        active=sum(size for size, _ in layers) - round(_idle(found, model.config)),
        head=head.weight.numel(),
        is_tied=is_tied or head.weight is embedding.weight,
        hidden=head.weight.shape[1],
        vocab=head.weight.shape[0],
        quantizable=_count(model, quantizable),
        layer_quantizable=max(_count(own, quantizable) for own in found),
    )


def _count(model: nn.Module, chosen: set[int]) -> int:
    """Count the parameters of a model in the weights whose ids are chosen."""
    return sum(p.numel() for p in model.parameters() if id(p) in chosen)


def stored(config: ModelConfig, sizes: Sizes, width: int) -> Sizes:
    """Return the sizes of the tensors in which a base is held, spread and gathered.

    They are those of the model but for a quantized base, of which several parameters lie in one
    element. Scales, which are neither spread nor gathered, are left out.

    Args:
        width: bytes of an element.
    """

    def elements(parameters: int, quantized: int) -> int:
        return quantization.packed_bytes(config, parameters, quantized, width) // width

    return replace(
        sizes,
        total=elements(sizes.total, sizes.quantizable),
        layer=elements(sizes.layer, sizes.layer_quantizable),
        matrices=elements(sizes.matrices, sizes.layer_quantizable),
    )


# how many experts a token is sent to, as the configs of transformers call it
PER_TOKEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "top_k_experts",
)


def _idle(layers: nn.ModuleList, config: Any) -> float:
    """Return how many parameters of the layers' experts are left out for one token."""
    chosen = _chosen(config)
    idle = 0.0
    for name, part in layers.named_modules():
        if chosen is None or name.rpartition(".")[2] != "experts":
            continue
        weights = [weight for weight in part.parameters() if weight.dim() > 1]
        fused = [weight.shape[0] for weight in weights if weight.dim() == 3]
        count = len(part) if isinstance(part, nn.ModuleList) else max(fused, default=0)
        if count:
            idle += sum(w.numel() for w in weights) * max(0.0, 1 - chosen / count)
    return idle


def _chosen(config: Any) -> int | None:
    """Return how many experts a token is sent to; None where the config does not say."""
    settings = config.get_text_config()
    return next((x for x in (getattr(settings, n, None) for n in PER_TOKEN) if x), None)


def adapter_parameters(rank: int, shapes: list[tuple[int, int]]) -> int:
    """Count the parameters of a LoRA adapter on linear layers of these (out, in) shapes."""
    return sum(rank * (out + into) for out, into in shapes)


class Fused(NamedTuple):
    """Hold the sizes of a weight that `adapter.target_parameters` names, such as all experts' one.

    PEFT adds the product of the adapter's factors to it before it is multiplied with.
    """

    experts: int  # 1 for a plain matrix
    out: int
    into: int
    layer: int  # in which it lies

    @property
    def parameters(self) -> int:
        """Count the weight's own parameters."""
        return self.experts * self.out * self.into


def fused_parameters(rank: int, weights: Sequence[Fused]) -> int:
    """Count the parameters of a LoRA adapter on such weights: each expert has one of its own."""
    return sum(rank * one.experts * (one.out + one.into) for one in weights)


@dataclass(frozen=True)
class Shape:
    """Hold what of a base model decides memory and work."""

    sizes: Sizes
    adapted: tuple[tuple[int, int], ...]  # (out, in) of all linear layers with an adapter
    query: int  # query heads times head size
    keys: int  # key-value heads times head size
    heads: int
    mlp: int  # width between the MLP's matrices
    packs: bool = True  # its attention is known, so that batches can be packed
    fused: tuple[Fused, ...] = ()  # all weights that have an adapter and are no linear layers
    chosen: int | None = None  # experts that a token is sent to
    is_made_whole: bool = False  # its files are quantized, and made whole while they are read

    @property
    def matmuls(self) -> int:
        """Count the weights that every token is multiplied with before the head, norms included."""
        return self.sizes.active

    @property
    def merged_in_layer(self) -> int:
        """Count the parameters of one layer's weights that PEFT adds an adapter to, at most."""
        layers = Counter[int]()
        for one in self.fused:
            layers[one.layer] += one.parameters
        return max(layers.values(), default=0)


def shape_of(model: PreTrainedModel, target_modules: str, target_parameters: str = "") -> Shape:
    """Return the shape of a model, which may be on the meta device.

    Args:
        target_modules: `adapter.target_modules`.
        target_parameters: `adapter.target_parameters`.

    Raises:
        ValueError: `adapter.target_modules` names no linear layer of the model.
    """
    config = model.config.get_text_config()
    linears = _adapted(model, target_modules)
    if not linears:
        raise ValueError(
            f"adapter.target_modules={target_modules!r} names no linear layer of the model; take "
            "all-linear, or names such as q_proj,v_proj"
        )
    heads = setting(config, "num_attention_heads") or 1
    has_attention = setting(config, "num_attention_heads") is not None
    head_size = setting(config, "head_dim") or config.hidden_size // heads
    return Shape(
        sizes=sizes_of_model(model),
        adapted=tuple(linears),
        query=heads * head_size * has_attention,
        keys=has_attention * (setting(config, "num_key_value_heads") or heads) * head_size,
        heads=heads,
        mlp=setting(config, "intermediate_size") or 4 * config.hidden_size,
        packs=obstacle(model.config) is None,
        fused=tuple(_fused(model, target_parameters)),
        chosen=_chosen(model.config),
        is_made_whole=bool(quantization.made_whole(model.config)),
    )


def _adapted(model: PreTrainedModel, target_modules: str) -> list[tuple[int, int]]:
    """Return (out, in) of the linear layers that `lora.add_adapter` puts an adapter on."""
    wanted: str | list[str] = lora.names_in(target_modules)
    if wanted == [lora.ALL]:
        wanted = lora.all_linear(model)
    head, left_out = model.get_output_embeddings(), lora.not_adapted(model)
    found = []
    for name, part in model.named_modules():
        if not isinstance(part, nn.Linear | Conv1D) or part is head:
            continue
        is_named = wanted == lora.ALL or any(f".{name}".endswith(f".{one}") for one in wanted)
        if is_named and not (left_out and re.fullmatch(left_out, name)):
            rows, columns = part.weight.shape
            found.append((columns, rows) if isinstance(part, Conv1D) else (rows, columns))
    return found


def _fused(model: PreTrainedModel, target_parameters: str) -> Iterator[Fused]:
    """Yield the weights that PEFT puts an adapter on by their names, or by the ends of these."""
    names = [f".{name.strip()}" for name in target_parameters.split(",") if name.strip()]
    layers = enumerate(layers_of(decoder_of(model)))
    place = {id(weight): at for at, layer in layers for weight in layer.parameters()}
    for name, weight in model.named_parameters():
        if any(f".{name}".endswith(one) for one in names):
            experts = weight.shape[0] if weight.dim() == 3 else 1
            out, into = weight.shape[-2:]
            yield Fused(experts, out, into, place.get(id(weight), -1))


def adapter_weights(config: RunConfig, shape: Shape) -> int:
    """Count the parameters of the config's adapter on a model of this shape."""
    rank = config.adapter.rank
    return adapter_parameters(rank, list(shape.adapted)) + fused_parameters(rank, shape.fused)


def weights_of(config: RunConfig, shape: Shape) -> Weights:
    """Return what takes part in the matrix products of the config's model and adapter."""
    return Weights(
        matmuls=shape.matmuls,
        adapter=adapter_parameters(config.adapter.rank, list(shape.adapted)),
        merged=sum(
            one.out * one.into * min(one.experts, shape.chosen or one.experts)
            for one in shape.fused
        ),
        head=shape.sizes.head,
        attention=shape.query * shape.sizes.num_layers,
    )
