"""Hold tiny random models of many architectures, and what must hold for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from peft import PeftModel
from support import (
    assert_no_worse_than_eager,
    randomise_adapter,
    tiny_config,
    tiny_records,
    tiny_tokenizer,
)
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from pdtrain.config import AdapterConfig, LossConfig, SamplingConfig
from pdtrain.distillation import packing
from pdtrain.distillation.examples import Example, from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.architectures import served_class
from pdtrain.models.base import load_model, load_tokenizer, skeleton
from pdtrain.models.chat_template import prove
from pdtrain.models.shape import adapter_parameters, shape_of

CPU = torch.device("cpu")
RANK, ALPHA = 4, 12
WINDOW = 24
LEFT_OUT = object()  # a size that a config does not take
GREEDY = 20

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
        changes={
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
            }
        },
        more={
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "num_heads": 2,
                "intermediate_size": 32,
                "out_hidden_size": 32,
                "deepstack_visual_indexes": [0],
            }
        },
    ),
    _case(
        "qwen3_5",
        "Qwen3.5, 3.6",
        wraps="Qwen3_5ForConditionalGeneration",
        changes=GATED_DELTA,
        more={
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "num_heads": 2,
                "intermediate_size": 32,
                "out_hidden_size": 32,
            }
        },
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
]


def case(name: str) -> Case:
    """Return the case of a name."""
    return next(one for one in CASES if one.name == name)


def write_model(one: Case, folder: Path, seed: int = 0) -> Path:
    """Write the tiny model and the tokenizer of the tests."""
    tokenizer = tiny_tokenizer()
    words = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    settings = {k: v for k, v in (SIZES | words | one.changes).items() if v is not LEFT_OUT}
    if one.wraps:
        outer = {k: words[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = AutoConfig.for_model(
            one.model_type, text_config=settings, **outer, **one.more, initializer_range=0.2
        )
        build: Callable[..., Any] = getattr(transformers, one.wraps)._from_config
    else:
        config = AutoConfig.for_model(one.model_type, **settings)
        build = AutoModelForCausalLM.from_config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(config, dtype=torch.float32)
        for name, weight in model.named_parameters():
            if "sinks" in name or weight.dim() < 2:  # what starts at zero or one would hide errors
                weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build(
    one: Case, folder: Path, adapter: dict[str, Any] | None = None, **model: Any
) -> SimpleNamespace:
    """Return config, examples, and a twin whose adapter is random, of the tiny model in a folder.

    Args:
        adapter: further knobs of the section `adapter`.
        model: further knobs of the section `model`.
    """
    config = tiny_config(folder, folder, model=model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    adapted = add_adapter(
        load_model(config.model), AdapterConfig(rank=RANK, alpha=ALPHA, **(adapter or {})), seed=1
    )
    randomise_adapter(adapted)
    twin = Twin(adapted, TopKLoss(LossConfig(top_k=0)))
    examples = from_answers(*tiny_records(2, 3), chat)
    return SimpleNamespace(
        case=one, folder=folder, config=config, chat=chat, twin=twin, examples=examples
    )


def batch_of(examples: list[Example]) -> Any:
    return packing.twin_batch(examples, LossConfig(), CPU, with_teacher=True)


def plain_model(made: Any, *, with_adapter: bool, dtype: torch.dtype = torch.float32) -> Any:
    """Load the model in plain transformers, and add the adapter to its weights by hand."""
    settings = AutoConfig.from_pretrained(made.folder)
    auto = served_class(settings) or AutoModelForCausalLM
    model = auto.from_pretrained(made.folder, dtype=dtype).eval()
    if made.case.has_experts:
        model.set_experts_implementation("eager")  # the fused products know no fp64
    if with_adapter:
        for name, module in made.twin.model.get_base_model().named_modules():
            if hasattr(module, "lora_A"):
                a_RI, b_OR = (m["default"].weight for m in (module.lora_A, module.lora_B))
                change = (b_OR.detach().double() @ a_RI.detach().double()) * ALPHA / RANK
                weight = model.get_submodule(name).weight.data
                weight += (change.T if getattr(module, "fan_in_fan_out", False) else change).to(
                    dtype
                )
    return model


@torch.no_grad()
def plain_rows(model: Any, examples: list[Example], prompt: Callable[[Example], Any]) -> Tensor:
    """Return the last hidden states before each answer token, from one forward of each answer."""
    found = []
    for e in packing.in_order(examples):
        ids = torch.tensor([[*prompt(e), *e.answer[:-1]]])
        hidden_1LD = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        found.append(hidden_1LD[0, len(prompt(e)) - 1 :])
    return torch.cat(found)


def check_rows(made: Any) -> None:
    """Compare both sides' hidden rows with plain transformers, and all logits with the model's."""
    batch = batch_of(made.examples)
    with torch.no_grad():
        found = made.twin.hidden_rows(batch.teacher, batch.student)
    wanted = {}
    for dtype in (torch.float32, torch.float64):
        base, adapted = (plain_model(made, with_adapter=on, dtype=dtype) for on in (False, True))
        wanted[dtype] = (
            plain_rows(base, made.examples, lambda e: e.teacher_prompt),
            plain_rows(adapted, made.examples, lambda e: e.student_prompt),
        )
    for rows_ND, eager_ND, truth_ND in zip(found, *wanted.values(), strict=True):
        assert_no_worse_than_eager(rows_ND, eager_ND, truth_ND, slack=1e-5)
    unread_ND = plain_rows(base, made.examples, lambda e: e.student_prompt)
    assert all((truth_ND - unread_ND).abs().max() > 1e-2 for truth_ND in wanted[torch.float64])


def naive_loss(made: Any) -> Tensor:
    """Return the sum of the rows' KL by the whole model, one answer and one side at a time."""
    total = torch.zeros((), dtype=torch.float32)
    model = made.twin.model
    for e in packing.in_order(made.examples):
        logits = []
        for prompt in (e.teacher_prompt, e.student_prompt):
            ids = torch.tensor([[*prompt, *e.answer[:-1]]])
            if prompt is e.teacher_prompt:
                with torch.no_grad(), model.disable_adapter():
                    found = model(input_ids=ids, use_cache=False).logits
            else:
                found = model(input_ids=ids, use_cache=False).logits
            logits.append(found[0, len(prompt) - 1 :].log_softmax(-1))
        total = total + (logits[0].exp() * (logits[0] - logits[1])).sum()
    return total


def check_loss(made: Any) -> None:
    """Compare the loss and all adapter gradients with the naive loop of two passes."""
    weights = {n: p for n, p in made.twin.named_parameters() if p.requires_grad}
    wanted_loss = naive_loss(made)
    wanted = torch.autograd.grad(wanted_loss, list(weights.values()), allow_unused=True)
    loss, _ = made.twin(batch_of(made.examples))
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    assert abs(float(loss - wanted_loss)) <= 1e-4 * (1 + abs(float(wanted_loss)))
    largest = max(float(g.abs().max()) for g in wanted if g is not None)
    for name, mine, theirs in zip(weights, found, wanted, strict=True):
        if any(part in name for part in made.case.untouched):
            continue
        assert mine is not None and theirs is not None, f"no gradient reaches {name}"
        assert theirs.any(), f"the gradient of {name} is zero"
        off = float((mine - theirs).abs().max())
        assert off <= 1e-4 * (float(theirs.abs().max()) + 0.1 * largest), f"{name} is off by {off}"


@torch.no_grad()
def check_cached(made: Any) -> None:
    """Take the teacher's top-k alone, as the cache does: the loss is the one online, to the bit."""
    batch = batch_of(made.examples)
    topk = made.twin.as_topk(made.twin(replace(batch, student=None)))
    online, cached = made.twin(batch), made.twin(replace(batch, topk=topk, teacher=None))
    assert all(torch.equal(a, b) for a, b in zip(online, cached, strict=True))


@torch.no_grad()
def check_no_leak(made: Any) -> None:
    """Change one answer's tokens: the rows of the others stay as they are, to the last bit.

    With experts to rounding alone: an expert multiplies all tokens that were sent to it at once,
    and how a product of another size is summed may differ.
    """
    batch = batch_of(made.examples)
    (_, lengths) = batch.student.layout[0]
    shared = batch.student.layout[0].prefix
    own = slice(shared + lengths[0], shared + sum(lengths[:2]))
    ids = batch.student.ids.clone()
    ids[own] = ids[own].flip(0) % 290 + 5
    before, after = (
        made.twin.hidden_rows(None, replace(batch.student, ids=x))[0]
        for x in (batch.student.ids, ids)
    )
    changed = (batch.student.rows >= own.start) & (batch.student.rows < own.stop)
    if made.case.has_experts:
        torch.testing.assert_close(before[~changed], after[~changed], rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(before[~changed], after[~changed])
    assert not torch.isclose(before[changed], after[changed]).all(1).any()


def check_step(made: Any) -> None:
    """Take a training step with checkpointing: the loss is as without, and the adapter moves."""
    batch = batch_of(made.examples)
    with torch.no_grad():
        wanted, _ = made.twin(batch)
    made.twin.checkpointing = True
    engine = PlainEngine(made.twin, made.config.train, 4)
    before = engine.adapter_state()
    loss, _ = engine(batch)
    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-5, atol=1e-5)
    engine.backward(loss / batch.total_weight, last=True)
    norm, _ = engine.step()
    assert 0 < norm < float("inf")
    after = engine.adapter_state()
    unmoved = [n for n in before if torch.equal(before[n], after[n])]
    assert not [n for n in unmoved if not any(part in n for part in made.case.untouched)]


@torch.no_grad()
def check_reloads(made: Any, folder: Path) -> None:
    """Load the saved adapter onto the class that people serve: the same logits, and an effect."""
    made.twin.model.save_pretrained(folder)
    base = plain_model(made, with_adapter=False)
    ids = torch.tensor([list(made.examples[0].student_prompt)])
    without = base(input_ids=ids).logits
    loaded = PeftModel.from_pretrained(base, str(folder)).eval()
    found, wanted = loaded(input_ids=ids).logits, made.twin.model(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found - without).abs().max() > 1e-2, "the adapter has no effect"


@torch.no_grad()
def check_generation(made: Any) -> None:
    """Compare greedy tokens of a batch with transformers' `generate` of each prompt alone."""
    backend = HuggingFaceBackend(made.twin.model, made.chat)
    prompts = [list(e.student_prompt) for e in made.examples[:4]]
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=GREEDY)
    found = backend.sample(prompts, sampling, seed=0)
    for prompt, completion in zip(prompts, found, strict=True):
        out = made.twin.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=GREEDY,
            do_sample=False,
            eos_token_id=list(backend.chat.stop_ids),
        )
        assert list(completion.token_ids) == out[0, len(prompt) :].tolist()


@torch.no_grad()
def check_likelihoods(made: Any) -> None:
    """Compare log-likelihoods of a batch with the model's own logits of each answer alone."""
    backend = HuggingFaceBackend(made.twin.model, made.chat)
    chosen = made.examples[:4]
    found = backend.log_likelihoods(
        [list(e.student_prompt) for e in chosen], [list(e.answer) for e in chosen]
    )
    for e, mine in zip(chosen, found, strict=True):
        ids = torch.tensor([[*e.student_prompt, *e.answer]])
        log_p = made.twin.model(input_ids=ids).logits[0].log_softmax(-1)
        rows = log_p[len(e.student_prompt) - 1 : -1]
        wanted = rows.gather(-1, torch.tensor(e.answer)[:, None]).mean()
        assert abs(mine - float(wanted)) < 1e-4


def check_plan(made: Any) -> None:
    """Compare what is planned by config.json alone with the model and its adapter."""
    found = shape_of(skeleton(made.config.model), made.config.adapter.target_modules)
    weights = list(made.twin.named_parameters())
    frozen = sum(p.numel() for _, p in weights if not p.requires_grad)
    own = sum(p.numel() for _, p in weights if p.requires_grad)
    assert found.sizes.total == frozen
    assert adapter_parameters(RANK, list(found.adapted)) == own
    in_layers = sum(
        p.numel() for layer in made.twin.layers for p in layer.parameters() if not p.requires_grad
    )
    assert (found.sizes.active < in_layers) == made.case.has_experts
    assert found.matmuls == found.sizes.active


CHECKS: dict[str, Callable[..., None]] = {
    "plan": check_plan,
    "rows": check_rows,
    "loss": check_loss,
    "cached": check_cached,
    "no leak": check_no_leak,
    "generate": check_generation,
    "likelihoods": check_likelihoods,
    "export": check_reloads,
    "train": check_step,
}


def examine(one: Case, folder: Path) -> SimpleNamespace:
    """Run every check of an architecture."""
    write_model(one, folder / "model")
    made = build(one, folder / "model")
    assert made.twin.is_packed == (one.batching == "packed")
    for name, check in CHECKS.items():
        try:
            check(made, *([folder / "adapter"] if name == "export" else []))
        except BaseException as error:
            error.add_note(f"in the check {name!r} of {one.name}")
            raise
    return made
