"""Read from a model's config the sizes that decide memory and work: parameters, layers, heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from pdtrain.config import ModelConfig, RunConfig
from pdtrain.models.base import skeleton
from pdtrain.models.flops import Weights


@dataclass(frozen=True)
class Sizes:
    """Hold numbers of parameters of a base model; `layer` is its largest decoder layer."""

    total: int
    layer: int
    matrices: int  # of that layer, without its norms and biases
    num_layers: int
    head: int
    is_tied: bool  # the head's weight is the embedding's
    hidden: int
    vocab: int


def sizes_of(config: ModelConfig) -> Sizes:
    """Return the sizes of a model from its config alone; no weight is read."""
    return sizes_of_model(skeleton(config))


def sizes_of_model(model: PreTrainedModel) -> Sizes:
    """Return the sizes of a model whose weights are whole, or on the meta device."""
    decoder: Any = model.get_decoder()
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    layers = [
        (sum(p.numel() for p in own), sum(p.numel() for p in own if p.dim() > 1))
        for own in (list(layer.parameters()) for layer in decoder.layers)
    ]
    layer, matrices = max(layers)
    return Sizes(
        total=sum(p.numel() for p in model.parameters()),
        layer=layer,
        matrices=matrices,
        num_layers=len(layers),
        head=head.weight.numel(),
        is_tied=model.config.tie_word_embeddings or head.weight is embedding.weight,
        hidden=head.weight.shape[1],
        vocab=head.weight.shape[0],
    )


def adapter_parameters(rank: int, shapes: list[tuple[int, int]]) -> int:
    """Count the parameters of a LoRA adapter on linear layers of these (out, in) shapes."""
    return sum(rank * (out + into) for out, into in shapes)


@dataclass(frozen=True)
class Shape:
    """Hold what of a base model decides memory and work."""

    sizes: Sizes
    adapted: tuple[tuple[int, int], ...]  # (out, in) of all linear layers with an adapter
    query: int  # query heads times head size
    keys: int  # key-value heads times head size
    heads: int
    mlp: int  # width between the MLP's matrices

    @property
    def matmuls(self) -> int:
        """Count the weights that every token is multiplied with before the head, norms included."""
        return self.sizes.layer * self.sizes.num_layers


def shape_of(model: PreTrainedModel, target_modules: str) -> Shape:
    """Return the shape of a model, which may be on the meta device.

    Raises:
        ValueError: `adapter.target_modules` names no linear layer of the model.
    """
    config, decoder = model.config.get_text_config(), model.get_decoder()
    wanted = {name.strip() for name in target_modules.split(",")}
    linears = [
        (module.out_features, module.in_features)
        for name, module in decoder.layers.named_modules()
        if isinstance(module, nn.Linear)
        and (wanted == {"all-linear"} or name.rsplit(".")[-1] in wanted)
    ]
    if not linears:
        raise ValueError(
            f"adapter.target_modules={target_modules!r} names no linear layer of the model; take "
            "all-linear, or names such as q_proj,v_proj"
        )
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        sizes=sizes_of_model(model),
        adapted=tuple(linears),
        query=heads * head_size,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * head_size,
        heads=heads,
        mlp=config.intermediate_size,
    )


def adapter_weights(config: RunConfig, shape: Shape) -> int:
    """Count the parameters of the config's adapter on a model of this shape."""
    return adapter_parameters(config.adapter.rank, list(shape.adapted))


def weights_of(config: RunConfig, shape: Shape) -> Weights:
    """Return what takes part in the matrix products of the config's model and adapter."""
    return Weights(
        matmuls=shape.matmuls,
        adapter=adapter_weights(config, shape),
        head=shape.sizes.head,
        attention=shape.query * shape.sizes.num_layers,
    )
