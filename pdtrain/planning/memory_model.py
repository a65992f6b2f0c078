"""Compute the memory of one GPU at the worst moment of a training step, part by part.

Sizes are bytes unless a name says otherwise. It is arithmetic: the bytes of parameters are checked
against runs of tiny models on CPU ranks, and nothing has been measured on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch

from pdtrain.config import RunConfig
from pdtrain.distributed import zero
from pdtrain.distributed.world import World
from pdtrain.models import quantization
from pdtrain.models.shape import Shape, Sizes, adapter_weights, stored
from pdtrain.planning.workload import Work, largest_call, work_of

GIB = 2**30
FP32 = 4
MASTER_AND_MOMENTS = 3 * FP32
SCORE = FP32 + FP32 + 2  # packed attention: scores and probabilities in fp32, those also in bf16
LAYERS_AHEAD = 2  # ZeRO-3: layers that the host's queue may be ahead of the GPU, each gathered
SLAB_ROWS = 4096  # pdkernels: rows of a block
SLAB = SLAB_ROWS * (2048 * 4 + 4096 * 8)  # pdkernels: its logits in fp32, and its candidates


def adapter_bytes(config: RunConfig) -> int:
    """Return the bytes of one adapter weight; DeepSpeed keeps fp32 masters beside it."""
    is_alone = config.plan.nodes * config.plan.gpus_per_node == 1
    plain = config.engine.kind == "plain" or (is_alone and config.engine.kind == "auto")
    return FP32 if plain else bytes_of(config)


@dataclass(frozen=True)
class Memory:
    """Hold the bytes of one GPU at the worst moment of a training step."""

    base_shard: int
    second_shard: int  # hpZ's
    adapter: int  # weights, whole on every rank, and gradients
    optimizer: int  # fp32 masters and two moments
    layer_inputs: int  # kept from forward to backward
    layer_at_work: int  # of one layer, teacher and student
    loss: int
    gathered: int  # whole weights, and the flat buffer they arrive in
    gathered_ahead: int  # what the host has asked for before the GPU needs it
    reserve: int

    @property
    def total(self) -> int:
        """Return the bytes of all parts together."""
        return sum(getattr(self, f.name) for f in fields(self))


def bytes_of(config: RunConfig) -> int:
    """Return the bytes of one weight of the base on a GPU, where `auto` is bf16."""
    return FP32 if config.model.dtype == "float32" else 2


def base_bytes(config: RunConfig, sizes: Sizes) -> int:
    """Return the bytes of the whole base in one process, the scales of a quantized one included."""
    return quantization.stored_bytes(config.model, sizes.total, sizes.quantizable, bytes_of(config))


def whole_at_first(config: RunConfig, shape: Shape) -> int:
    """Return the bytes of the whole base that each rank holds before DeepSpeed spreads it.

    It is 0 for a base that is spread weight by weight while it is read, as all are but those of
    `models.base.is_spread_later`.
    """
    is_later = config.model.quantization != "none" or shape.is_made_whole
    return base_bytes(config, shape.sizes) if is_later else 0


def loading_memory(config: RunConfig, shape: Shape) -> int:
    """Return the bytes of one GPU with a whole base that is spread later; 0 for other bases."""
    whole = whole_at_first(config, shape)
    return whole + int(config.plan.reserve_gib * GIB) if whole else 0


def why_whole(config: RunConfig) -> str:
    """Say why a base cannot be spread while it is read."""
    kind = config.model.quantization
    if kind == "none":
        return "its files hold quantized weights, which are made whole while they are read"
    return f"model.quantization={kind} quantizes it while it is read"


def remedy(config: RunConfig) -> str:
    """Say what spreads a base while it is read, where each rank would hold it whole at first."""
    if config.model.quantization == "none":
        return f"{why_whole(config)}; take the unquantized model, which is spread as it is read"
    return f"{why_whole(config)}; model.quantization=none is spread as it is read"


def shard(parameters: int, width: int, ranks: int) -> int:
    """Return the bytes of a rank's part, without what ZeRO pads each tensor with."""
    return math.ceil(parameters / ranks) * width


def memory_of(config: RunConfig, shape: Shape, world: World) -> Memory:
    """Return the memory while training, by how DeepSpeed 0.19.8 spreads things.

    The base of P parameters on W ranks is P/W at stage 3, else P; the scales of a quantized one are
    held by every rank. With engine.offload_base it lies
    in the CPU's memory, as does hpZ's second part, P / GPUs of a node. Gradients are fp32: at
    stages 2 and 3 they are spread over the ranks, beside one reduce bucket. A weight to which PEFT
    adds an adapter, such as that of fused experts, is there a second time: with its adapter it is
    kept for backward, or made again under checkpointing, and a layer's gradient is as large.
    benchmarks/zero3_memory.py compares this with CPU ranks.
    """
    width, work = bytes_of(config), work_of(config, world.num_ranks)
    sizes, stage = stored(config.model, shape.sizes, width), config.engine.stage
    scales = quantization.scale_bytes(config.model, sizes.quantizable)
    base = shard(sizes.total, width, world.num_ranks if stage == 3 else 1)
    second = zero.hpz_ranks(config, world)
    settings = zero_settings(config, shape.sizes, world)
    weights = adapter_weights(config, shape)
    spread = world.num_ranks if stage >= 2 else 1
    masters = world.num_ranks if stage >= 1 else 1
    bucket = settings["reduce_bucket_size"] if stage else 0
    saved, passing = saved_by_layer(config, shape), passing_through_layer(config, shape)
    again = config.train.checkpoints
    is_offloaded = offloads(config, world)
    return Memory(
        base_shard=scales + (0 if is_offloaded else base),
        second_shard=0 if second == 1 or is_offloaded else shard(sizes.total, width, second),
        adapter=weights * adapter_bytes(config) + (math.ceil(weights / spread) + bucket) * FP32,
        optimizer=shard(weights, MASTER_AND_MOMENTS, masters),
        layer_inputs=sizes.num_layers * work.student * (sizes.hidden * width if again else saved)
        + (0 if again else sum(one.parameters for one in shape.fused) * width),
        layer_at_work=work.student * (saved * again + passing)
        + work.teacher * passing
        + (1 + again) * shape.merged_in_layer * width
        + _dequantized(config, shape)
        + (_scores(config, shape, work.answers) if work.teacher else 0),
        loss=_loss(work, config, shape),
        gathered=_gathered(settings, sizes, second if second > 1 else world.num_ranks) * width
        if stage == 3 and world.num_ranks > 1
        else 0,
        gathered_ahead=LAYERS_AHEAD * sizes.matrices * width
        if stage == 3 and world.num_ranks > 1
        else 0,
        reserve=int(config.plan.reserve_gib * GIB),
    )


def offloads(config: RunConfig, world: World) -> bool:
    """Return whether the base lies with the CPUs; one plain process keeps it where it computes."""
    runs_deepspeed = config.engine.kind == "deepspeed" or world.num_ranks > 1
    return config.engine.offload_base and runs_deepspeed


def host_memory(config: RunConfig, shape: Shape, world: World) -> int:
    """Return the pinned bytes of one node's CPUs for an offloaded base, hpZ's part included."""
    if not offloads(config, world):
        return 0
    width = bytes_of(config)
    total = stored(config.model, shape.sizes, width).total
    first = shard(total, width, world.num_nodes)
    hpz = zero.hpz_ranks(config, world) > 1
    return first + (total * width if hpz else 0)


def caching_memory(config: RunConfig, shape: Shape, world: World) -> int:
    """Return the bytes of one GPU while the teacher's cache is filled: no student, no gradient.

    The scores of a call's branches against their passage are made at once (attention/packed.py).
    """
    trained, work = memory_of(config, shape, world), largest_call(config)
    scores = _scores(config, shape, work.answers)
    kept = trained.total - trained.layer_inputs - trained.layer_at_work - trained.loss
    working = work.teacher * passing_through_layer(config, shape) + _dequantized(config, shape)
    return kept + working + scores + _loss(work, config, shape)


def _scores(config: RunConfig, shape: Shape, answers: int) -> int:
    """Return the bytes of the scores of so many branches against their passage and themselves."""
    branch = config.plan.question_tokens + config.plan.answer_tokens
    reach = config.corpus.max_passage_tokens + branch
    return answers * branch * reach * shape.heads * SCORE


def saved_by_layer(config: RunConfig, shape: Shape) -> int:
    """Return the bytes that autograd keeps of a student's token between forward and backward.

    For layers of RMSNorm, rotary attention and a gated MLP, in order: the norms' inputs in fp32
    and outputs; queries, keys, values, their repeats for every head and the output; scores;
    gate, its activation, up and product; the adapter's inputs cast to its dtype, one for each
    linear layer, where the base has another; and the adapter's inner states.
    """
    width, D = bytes_of(config), shape.sizes.hidden
    norms = 2 * D * (FP32 + width)
    attention = (6 * shape.query + 2 * shape.keys) * width
    context = config.plan.question_tokens + config.plan.answer_tokens
    scores = context * shape.heads * SCORE
    mlp = 4 * shape.mlp * width
    num_layers, adapter = shape.sizes.num_layers, adapter_bytes(config)
    inputs = sum(into for _, into in shape.adapted) // num_layers
    casts = inputs * adapter if width != adapter else 0
    inner = len(shape.adapted) // num_layers * config.adapter.rank * adapter
    return norms + attention + scores + mlp + casts + inner


def passing_through_layer(config: RunConfig, shape: Shape) -> int:
    """Return a token's most bytes in a layer without autograd, or of gradients in backward."""
    return (4 * shape.sizes.hidden + 3 * shape.mlp) * bytes_of(config)


def _dequantized(config: RunConfig, shape: Shape) -> int:
    """Return the bytes of the largest weight, which a quantized base makes whole to multiply."""
    if config.model.quantization == "none":
        return 0
    return max(out * into for out, into in shape.adapted) * bytes_of(config)


def _loss(work: Work, config: RunConfig, shape: Shape) -> int:
    """Return the bytes of the loss, as kernels/README.md says.

    They are one slab, rows of hidden states, the student's fp32 gradient and mean word, and five
    (N, k) tensors in fp64.
    """
    k = min(config.loss.top_k or shape.sizes.vocab, shape.sizes.vocab)
    rows = 2 * bytes_of(config) + 2 * FP32
    slab = SLAB * min(1.0, work.rows / SLAB_ROWS)
    return int(slab) + work.rows * (shape.sizes.hidden * rows + 5 * k * 8)


def _gathered(settings: dict[str, Any], sizes: Sizes, group: int) -> int:
    """Return the parameters that stand gathered at once.

    They are the live ones, of the layer at work and the next; the buffer of one gather that
    arrives, or the head beside them; and this rank's part of it, which is copied together first.
    """
    live, prefetched = (
        max(settings[f"stage3_{name}"], sizes.matrices)
        for name in ("max_live_parameters", "prefetch_bucket_size")
    )
    return live + max(prefetched, sizes.head) + prefetched // group


def zero_settings(config: RunConfig, sizes: Sizes, world: World) -> dict[str, Any]:
    """Return the ZeRO section of the settings that DeepSpeed will be given."""
    return zero.settings(config, sizes, world, torch.bfloat16)["zero_optimization"]


MEANINGS = {
    "base_shard": "base, this GPU's part",
    "second_shard": "base, second part (hpZ)",
    "adapter": "LoRA weights and gradients",
    "optimizer": "optimizer: fp32 masters, two moments",
    "layer_inputs": "activations kept for backward",
    "layer_at_work": "activations of the layer at work",
    "loss": "loss: slab, rows, gradient",
    "gathered": "gathered weights and their buffer",
    "gathered_ahead": "gathered ahead by the host's queue",
    "reserve": "CUDA context and reserve (assumed)",
}
