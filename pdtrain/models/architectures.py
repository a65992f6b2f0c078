"""Say which architectures can be trained, and why the others cannot."""

from __future__ import annotations

from typing import Any

# In the layers of these architectures nothing acts across tokens but rotary softmax attention,
# full or in a sliding window, through transformers' attention interface. Tests compare each.
SUPPORTED = frozenset(
    (
        "apertus arcee ernie4_5 exaone4 gemma gemma3_text glm4 helium hunyuan_v1_dense llama "
        "ministral ministral3 mistral nemotron olmo olmo2 olmo3 phi3 qwen2 qwen3 seed_oss smollm3 "
        "stablelm starcoder2"
    ).split()
)


LAYER_TYPES = {"full_attention", "sliding_attention"}


def obstacle(config: Any) -> str | None:
    """Return why packed rows would be wrong for a model with this config, or None."""
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
                "rows does not compute; take a model of an architecture without it"
            )


def refuse_other_heads(model: Any) -> None:
    """Refuse a model whose logits are not simply head x hidden state, before any work is done.

    Raises:
        ValueError: the model caps or scales its logits, or its head has a bias. Sampling and loss
            run the head on chosen rows alone and would silently leave that out.
    """
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    for name, neutral in (
        ("final_logit_softcapping", None),
        ("logit_scale", 1.0),
        ("logits_scaling", 1.0),
        ("lm_head_multiplier", 1.0),
    ):
        value = getattr(config, name, neutral)
        if value not in (None, neutral):
            raise ValueError(
                f"the model's config has {name}={value}: its logits are not head x hidden state, "
                "and the loss would be wrong; use a model without it"
            )
    if getattr(head, "bias", None) is not None:
        raise ValueError("the model's output head has a bias, which the loss does not support")
