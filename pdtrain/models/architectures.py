"""Say which architectures can be packed, and why the others are padded; find a model's parts."""

from __future__ import annotations

from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedModel

# In the layers of these architectures nothing acts across tokens but rotary softmax attention,
# full or in a sliding window, through transformers' attention interface. Tests compare each.
SUPPORTED = frozenset(
    (
        "apertus arcee ernie4_5 exaone4 gemma gemma3_text glm4 glm4_moe helium hunyuan_v1_dense "
        "llama ministral ministral3 mistral mixtral nemotron olmo olmo2 olmo3 olmoe phi3 qwen2 "
        "qwen2_moe qwen3 qwen3_moe seed_oss smollm3 stablelm starcoder2"
    ).split()
)


LAYER_TYPES = {"full_attention", "sliding_attention"}


def obstacle(config: Any) -> str | None:
    """Return why packed rows would be wrong for a model with this config, or None.

    Args:
        config: of a model, or of a wrapper round a language model.
    """
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if others := kinds - LAYER_TYPES:
        return f"it has layers of type {', '.join(sorted(others))}, which cannot branch"
    if getattr(config, "attn_logit_softcapping", None):
        return f"it caps attention scores (attn_logit_softcapping={config.attn_logit_softcapping})"
    if config.model_type not in SUPPORTED:
        return (
            f"its architecture {config.model_type!r} is not among those whose attention is known: "
            + ", ".join(sorted(SUPPORTED))
        )
    return None


def longest(config: Any) -> int | None:
    """Return how many tokens a prefix and a branch may have together; None for any number.

    Beyond it, the rotary angles of all tokens depend on the longest branch of the batch, so that
    the student's hidden states would change with the length of the teacher's prompt beside it.
    """
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in ("dynamic", "longrope"):
        return None
    original = rope.get("original_max_position_embeddings")
    return original or getattr(config, "original_max_position_embeddings", None)


def refuse_unknown(options: dict[str, Any]) -> None:
    """Refuse what a layer asks of its attention that packed rows do not compute.

    `obstacle` cannot see it, for it is not in the model's config.

    Raises:
        ValueError: the layer asks for a cap on scores, for sinks or for a bias by position, which
            would silently be left out.
    """
    for name in ("softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise ValueError(
                f"a layer of this model asks its attention for {name}, which training on packed "
                "rows does not compute; set model.batching=padded"
            )


def is_packed(config: Any, batching: str) -> bool:
    """Return whether batches are packed, by `model.batching`; otherwise they are padded.

    Args:
        config: of the model.
        batching: auto, packed or padded.

    Raises:
        ValueError: packed batches are asked for, and would be wrong.
    """
    reason = obstacle(config)
    if batching == "packed" and reason:
        raise ValueError(f"model.batching=packed cannot be used: {reason}; set model.batching=auto")
    return batching != "padded" and reason is None


def served_class(config: Any) -> type[PreTrainedModel] | None:
    """Return the class of a wrapper round a language model, which people serve; None for others.

    Transformers also has classes for the language model alone, with other names of modules: an
    adapter under those names would have no effect on the wrapper, and no error would say so.
    """
    if config.get_text_config() is config:
        return None
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if found and isinstance(config, found.config_class) and found.can_generate():
            return found
    return None


def let_read_text(model: PreTrainedModel) -> PreTrainedModel:
    """Let a wrapper whose own code needs an image read text alone, and return it.

    Llama 4's of transformers 5.24 takes `image_outputs` of its language model's output, which has
    none. It is given as None; nothing else is changed, and other models are left as they are.
    """
    if type(model).__name__ == "Llama4ForConditionalGeneration":  # which need not be imported
        inner: Any = model.language_model
        inner.register_forward_hook(_without_images)
    return model


def _without_images(_: nn.Module, __: Any, output: Any) -> None:
    if not hasattr(output, "image_outputs"):
        output.image_outputs = None


def setting(config: Any, name: str) -> Any:
    """Return a config's attribute, the largest where it differs between layers; None if missing."""
    try:
        return getattr(config, name, None)
    except (RuntimeError, ValueError):  # it differs between layers
        layers = [config.per_layer_config[i] for i in range(config.num_hidden_layers)]
        return max(filter(None, (getattr(layer, name, None) for layer in layers)), default=None)


def decoder_of(model: Any) -> Any:
    """Return the part of a model before its head.

    For some wrappers (Llama 4) `get_decoder` of transformers returns the whole language model.
    """
    decoder = model.get_decoder()
    head = model.get_output_embeddings()
    return decoder.model if any(part is head for part in decoder.children()) else decoder


def layers_of(decoder: nn.Module) -> nn.ModuleList:
    """Return the layers of a decoder, in order: of its lists of modules the one with most weights.

    Raises:
        ValueError: it has no list of modules.
    """
    lists: dict[str, nn.ModuleList] = {}
    for name, part in decoder.named_modules():
        is_inner = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(part, nn.ModuleList) and not is_inner:
            lists[name] = part
    if not lists:
        raise ValueError(f"{type(decoder).__name__} has no list of layers; use another model")
    return max(lists.values(), key=lambda part: sum(1 for _ in part.parameters()))
