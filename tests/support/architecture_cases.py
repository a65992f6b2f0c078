"""Hold the settings of tiny random models of many architectures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LEFT_OUT = object()  # a size that a config does not take
WINDOW = 24
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
DEEPSEEK = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
}
GATED_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_d_ssm": 64,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
WINDOWS = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
EYES = {  # as the Qwen family calls the sizes
    "depth": 1,
    "hidden_size": 16,
    "num_heads": 2,
    "intermediate_size": 32,
    "out_hidden_size": 32,
}
MROPE = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 1, 1],
    }
}
LLAMA4 = {
    "num_local_experts": 4,
    "intermediate_size_mlp": 64,
    "attention_chunk_size": WINDOW,
    "no_rope_layer_interval": 2,
    "interleave_moe_layer_step": 2,
}
GLOBAL_LAYERS = {  # of Gemma 4: larger heads, fewer keys, which are also the values
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "global_head_dim": 16,
    "final_logit_softcapping": 30.0,
}


@dataclass(frozen=True)
class Case:
    """Hold one architecture as a tiny model.

    Args:
        name: of the test, and of the line in the matrix.
        model_type: of transformers' config.
        family: the models that people know.
        batching: what `model.batching=auto` becomes.
        changes: of the config.
        wraps: the class that people serve, of a wrapper round a language model; its config takes
            `changes` as its text_config.
        more: of the wrapper's config.
        layers: what is inside them, for the matrix.
        quick: part of the default suite.
        untouched: parts of names of adapted layers that no gradient reaches.
    """

    name: str
    model_type: str
    family: str
    batching: str = "padded"
    changes: dict[str, Any] = field(default_factory=dict)
    wraps: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    layers: str = "attention"
    quick: bool = False
    untouched: tuple[str, ...] = ()

    @property
    def has_experts(self) -> bool:
        return "experts" in self.layers


def _case(name: str, family: str, **options: Any) -> Case:
    return Case(name, options.pop("model_type", name), family, **options)


PACKED = {"batching": "packed"}
EXPERTS = {"layers": "attention, experts"}
CASES = [
    _case("llama", "Llama 2, 3, SmolLM2, Yi", **PACKED, quick=True),
    _case("qwen2", "Qwen2, Qwen2.5", **PACKED),
    _case("qwen3", "Qwen3 dense", **PACKED),
    _case("mistral", "Mistral 7B", **PACKED, changes={"sliding_window": WINDOW}),
    _case("gemma3_text", "Gemma 3 1B", **PACKED, changes=WINDOWS | {"query_pre_attn_scalar": 8}),
    _case("phi3", "Phi-3, Phi-4", **PACKED),
    _case("olmo2", "OLMo 2", **PACKED),
    _case("gpt2", "GPT-2", changes={"n_embd": 32, "n_layer": 2, "n_head": 4}),
    _case("gpt_neox", "Pythia, GPT-NeoX"),
    _case("gptj", "GPT-J", changes={"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}),
    _case("opt", "OPT", changes={"ffn_dim": 64, "word_embed_proj_dim": 32}),
    _case("bloom", "BLOOM", changes={"n_head": 4, "n_layer": 2}),
    _case("falcon", "Falcon", changes={"head_dim": LEFT_OUT}),
    _case("mpt", "MPT", changes={"d_model": 32, "n_heads": 4, "n_layers": 2}),
    _case("phi", "Phi-1, Phi-2", changes={"num_key_value_heads": 4}, quick=True),
    _case("gemma2", "Gemma 2", changes=WINDOWS | {"query_pre_attn_scalar": 8}, quick=True),
    _case(
        "gemma3n_text",
        "Gemma 3n",
        changes={
            "layer_types": [
                "sliding_attention",
                "full_attention",
                "sliding_attention",
                "full_attention",
            ],
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "sliding_window": WINDOW,
            "vocab_size_per_layer_input": 320,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "activation_sparsity_pattern": [0.0] * 4,
        },
        layers="attention, shared keys",
    ),
    _case(
        "gemma4_text",
        "Gemma 4 E2B, E4B",
        changes={
            "layer_types": [
                "sliding_attention",
                "full_attention",
                "sliding_attention",
                "full_attention",
            ],
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "sliding_window": WINDOW,
            "vocab_size_per_layer_input": 320,
            "hidden_size_per_layer_input": 8,
            "final_logit_softcapping": 30.0,
            "global_head_dim": 16,
        },
        layers="attention, shared keys",
    ),
    _case("granite", "Granite 3", changes={"logits_scaling": 4.0, "attention_multiplier": 0.3}),
    _case("cohere", "Command R"),
    _case("cohere2", "Command R7B, Command A", changes=WINDOWS),
    _case("minicpm3", "MiniCPM3", changes=LATENT | {"num_key_value_heads": 4}),
    _case("nanochat", "nanochat"),
    _case("mixtral", "Mixtral", changes=LOCAL_MOE, **PACKED, **EXPERTS),
    _case(
        "qwen2_moe",
        "Qwen1.5-MoE, Qwen2-57B-A14B",
        **PACKED,
        **EXPERTS,
        changes=MOE | {"shared_expert_intermediate_size": 16},
    ),
    _case("qwen3_moe", "Qwen3-30B-A3B, 235B-A22B", changes=MOE, **PACKED, **EXPERTS, quick=True),
    _case(
        "olmoe", "OLMoE", changes={"num_experts": 4, "num_experts_per_tok": 2}, **PACKED, **EXPERTS
    ),
    _case(
        "glm4_moe",
        "GLM-4.5, 4.6",
        changes=DEEPSEEK | {"num_key_value_heads": 2},
        **PACKED,
        **EXPERTS,
    ),
    _case("granitemoe", "Granite 3 MoE", changes=LOCAL_MOE, **EXPERTS),
    _case(
        "gpt_oss",
        "gpt-oss",
        changes=LOCAL_MOE | WINDOWS,
        layers="attention with sinks, experts",
        quick=True,
    ),
    _case(
        "deepseek_v3",
        "DeepSeek V3, R1, Kimi K2",
        changes=DEEPSEEK | LATENT,
        layers="latent attention, experts",
    ),
    _case("phimoe", "Phi-3.5-MoE", changes=LOCAL_MOE, **EXPERTS),
    _case(
        "qwen3_next",
        "Qwen3-Next",
        changes=GATED_DELTA | MOE | {"shared_expert_intermediate_size": 16},
        layers="gated delta rule, attention, experts",
    ),
    _case(
        "qwen3_5_text",
        "Qwen3.5 dense, text class",
        changes=GATED_DELTA | {"initializer_range": 0.1},
        layers="gated delta rule, attention",
        quick=True,
    ),
    _case(
        "falcon_h1",
        "Falcon-H1",
        changes=MAMBA2 | {"lm_head_multiplier": 0.5},
        layers="mamba and attention side by side",
    ),
    _case(
        "nemotron_h",
        "Nemotron-H, Nemotron 3",
        changes={
            "hybrid_override_pattern": "M*-M",
            "num_hidden_layers": 4,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 2,
            "chunk_size": 16,
            "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
        },
        layers="mamba, attention",
    ),
    _case(
        "lfm2",
        "LFM2",
        changes={"layer_types": ["conv", "full_attention"]},
        layers="convolution, attention",
        quick=True,
    ),
    _case(
        "granitemoehybrid",
        "Granite 4",
        changes=LOCAL_MOE
        | MAMBA2
        | {
            "layer_types": ["mamba", "attention"],
            "shared_intermediate_size": 32,
            "logits_scaling": 4.0,
        },
        layers="mamba, attention, experts",
    ),
    _case("mamba", "Mamba", changes={"state_size": 8}, layers="mamba"),
    _case(
        "mamba2",
        "Mamba 2",
        changes={"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "chunk_size": 16},
        layers="mamba",
    ),
    _case(
        "jamba",
        "Jamba",
        changes={
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
        layers="mamba, attention, experts",
    ),
    _case(
        "gemma3",
        "Gemma 3 4B to 27B",
        wraps="Gemma3ForConditionalGeneration",
        **PACKED,
        changes=WINDOWS | {"query_pre_attn_scalar": 8},
        more={"vision_config": VISION, "mm_tokens_per_image": 4},
        quick=True,
    ),
    _case(
        "mistral3",
        "Mistral Small 3.x",
        wraps="Mistral3ForConditionalGeneration",
        **PACKED,
        changes={"model_type": "mistral"},
        more={"vision_config": VISION | {"model_type": "pixtral", "head_dim": 8}},
    ),
    _case(
        "qwen3_vl",
        "Qwen3-VL",
        wraps="Qwen3VLForConditionalGeneration",
        changes=MROPE,
        more={"vision_config": EYES | {"deepstack_visual_indexes": [0]}},
    ),
    _case(
        "qwen3_5",
        "Qwen3.5, 3.6",
        wraps="Qwen3_5ForConditionalGeneration",
        changes=GATED_DELTA,
        more={"vision_config": EYES},
        layers="gated delta rule, attention",
    ),
    _case(
        "gemma4",
        "Gemma 4",
        wraps="Gemma4ForConditionalGeneration",
        changes=WINDOWS
        | {
            "final_logit_softcapping": 30.0,
            "vocab_size_per_layer_input": 320,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 0,
            "global_head_dim": 16,
        },
        more={"vision_config": VISION | {"head_dim": 8}, "audio_config": None},
    ),
    _case(
        "gemma4_moe",
        "Gemma 4 26B-A4B",
        model_type="gemma4",
        wraps="Gemma4ForConditionalGeneration",
        changes=WINDOWS
        | GLOBAL_LAYERS
        | {
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 16,
            "hidden_size_per_layer_input": 0,
        },
        more={"vision_config": VISION | {"head_dim": 8}, "audio_config": None},
        **EXPERTS,
    ),
    _case(
        "gemma4_unified",
        "Gemma 4 12B",
        wraps="Gemma4UnifiedForConditionalGeneration",
        changes=WINDOWS | GLOBAL_LAYERS,
        more={"audio_config": None},
    ),
    _case(
        "muse_glimmer",
        "Muse Glimmer",
        wraps="MuseGlimmerForConditionalGeneration",
        changes=WINDOWS | {"output_multiplier": 0.5},
        more={
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            },
            "out_hidden_size": 64,
            "projector_hidden_size": 32,
        },
    ),
    _case(
        "qwen3_5_moe",
        "Qwen3.5, 3.6 35B-A3B",
        wraps="Qwen3_5MoeForConditionalGeneration",
        changes=GATED_DELTA | MOE | {"shared_expert_intermediate_size": 16},
        more={"vision_config": EYES},
        layers="gated delta rule, attention, experts",
    ),
    _case(
        "qwen3_vl_moe",
        "Qwen3-VL 30B-A3B",
        wraps="Qwen3VLMoeForConditionalGeneration",
        changes=MOE | MROPE | {"moe_intermediate_size": 24},
        more={"vision_config": EYES | {"deepstack_visual_indexes": [0]}},
        **EXPERTS,
    ),
    _case(
        "qwen2_5_vl",
        "Qwen2.5-VL",
        wraps="Qwen2_5_VLForConditionalGeneration",
        changes=MROPE,
        more={"vision_config": EYES | {"fullatt_block_indexes": [0]}},
    ),
    _case(
        "exaone4_5",
        "EXAONE 4.5",
        wraps="Exaone4_5_ForConditionalGeneration",
        **PACKED,
        changes={"model_type": "exaone4"},
        more={"vision_config": EYES | {"num_key_value_heads": 2}},
    ),
    _case(
        "llama4_text",
        "Llama 4, text class",
        changes=LLAMA4,
        layers="attention in chunks, experts",
    ),
    _case(
        "lfm2_moe",
        "LFM2 8B-A1B",
        changes=MOE | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
        layers="convolution, attention, experts",
    ),
    _case(
        "ernie4_5_moe",
        "ERNIE 4.5 21B-A3B",
        changes={
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 16,
            "moe_num_shared_experts": 1,
        },
        **EXPERTS,
    ),
    _case("minimax_m2", "MiniMax M2", changes=LOCAL_MOE, **EXPERTS),
    _case(
        "hunyuan_v1_moe",
        "Hunyuan A13B",
        changes={
            "num_experts": 4,
            "moe_topk": 2,
            "moe_intermediate_size": 16,
            "num_shared_expert": 1,
        },
        **EXPERTS,
    ),
    _case("dots1", "dots.llm1", changes=DEEPSEEK | {"num_key_value_heads": 2}, **EXPERTS),
    _case(
        "glm4_moe_lite",
        "GLM-4.7 Flash",
        changes=DEEPSEEK | LATENT,
        layers="latent attention, experts",
    ),
    _case(
        "kimi_linear",
        "Kimi Linear",
        changes={
            **LATENT,
            "q_lora_rank": None,
            "num_key_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
        },
        layers="gated delta rule, latent attention, experts",
    ),
    _case(
        "bamba", "Bamba", changes=MAMBA2 | {"attn_layer_indices": [1]}, layers="mamba, attention"
    ),
    _case("olmo_hybrid", "OLMo Hybrid", changes=GATED_DELTA, layers="gated delta rule, attention"),
    _case(
        "zamba2",
        "Zamba 2",
        changes={
            # the first and the last hybrid layer share their attention
            "layers_block_type": ["linear_attention", "hybrid", "hybrid", "hybrid"],
            "num_hidden_layers": 4,
            "initializer_range": 0.1,
            "num_mem_blocks": 2,
            "head_dim": LEFT_OUT,
            "num_key_value_heads": 4,
            "use_shared_attention_adapter": True,
            "use_mem_rope": True,
            "adapter_rank": 4,
            "n_mamba_heads": 8,
            "mamba_d_state": 8,
            "mamba_ngroups": 2,
            "chunk_size": 16,
        },
        layers="mamba, attention with shared weights",
    ),
    _case(
        "llama4",
        "Llama 4",
        wraps="Llama4ForConditionalGeneration",
        changes=LLAMA4,
        more={
            "vision_config": VISION
            | {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
        },
        layers="attention in chunks, experts",
    ),
]


def case(name: str) -> Case:
    """Return the case of a name."""
    return next(one for one in CASES if one.name == name)
