"""What a run takes of GPUs and links: memory, bytes moved, time. Arithmetic alone.

The bytes of parameters, and those gathered, are checked against runs of tiny models on CPU ranks.
Nothing here has been measured on a GPU. Sizes are bytes unless a name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from pdtrain.config import RunConfig
from pdtrain.distillation import micro_batches
from pdtrain.distributed import zero
from pdtrain.distributed.world import World
from pdtrain.models import flops
from pdtrain.models.flops import Reading
from pdtrain.models.shape import Shape, Sizes, adapter_weights, weights_of

GIB = 2**30
FP32 = 4
MASTER_AND_MOMENTS = 3 * FP32
SCORE = FP32 + FP32 + 2  # packed attention: scores and probabilities in fp32, those also in bf16
LAYERS_KEPT = 1  # at the turn, beside the head: tests
SLAB_ROWS = 4096  # pdkernels: rows of a block
SLAB = SLAB_ROWS * (2048 * 4 + 4096 * 8)  # pdkernels: its logits in fp32, and its candidates


@dataclass(frozen=True)
class Work:
    """Of one rank in one micro-step, in tokens; `micro_batches` of them make a step."""

    micro_batches: int
    answers: int
    student: int
    teacher: int  # 0 where its distributions come from the cache
    rows: int


def work_of(config: RunConfig, num_ranks: int) -> Work:
    """Of a large corpus, where a step holds no more answers of a passage than it is told to.

    Raises:
        ValueError: some ranks would have nothing to do.
    """
    train = config.train
    if train.answers_per_step < num_ranks:
        raise ValueError(
            f"train.answers_per_step={train.answers_per_step} leaves most of {num_ranks} GPUs "
            f"without an answer; set it to {num_ranks} or more, or take fewer GPUs"
        )
    student, rows = per_answer(config)
    each = math.ceil(train.answers_per_step / num_ranks)
    most = min(train.answers_per_micro_batch, _answers_in(train.tokens_per_micro_batch, config))
    micro_batches = math.ceil(each / most)
    answers = math.ceil(each / micro_batches)
    return Work(
        micro_batches,
        answers,
        answers * student,
        _taught_tokens(answers, config) if config.is_teacher_online else 0,
        answers * rows,
    )


def per_answer(config: RunConfig) -> tuple[int, int]:
    """Tokens that the student reads, and rows; of raw text an "answer" is a window of it."""
    plan, window = config.plan, config.raw_text.window_tokens
    if config.train.objective == "raw_text":
        window = min(window, config.corpus.max_passage_tokens)
        return window, window - 1
    return plan.question_tokens + plan.answer_tokens, plan.answer_tokens


def num_answers(config: RunConfig) -> int:
    """Of the whole corpus, in one epoch."""
    plan, raw = config.plan, config.raw_text
    if config.train.objective == "raw_text":
        stride = raw.window_tokens - raw.overlap
        beyond = max(1, config.corpus.max_passage_tokens - raw.overlap)
        return plan.passages * math.ceil(beyond / stride)
    return plan.passages * plan.answers_per_passage


def _taught_tokens(answers: int, config: RunConfig) -> int:
    passages = math.ceil(answers / config.answers_per_group)
    branches = answers * (config.plan.question_tokens + config.plan.answer_tokens)
    return passages * config.corpus.max_passage_tokens + branches


def _answers_in(tokens: int, config: RunConfig) -> int:
    """How many answers have at most so many tokens on both sides, and at least one."""
    student, _ = per_answer(config)
    answers = max(1, tokens // student)
    if config.is_teacher_online:
        while answers > 1 and answers * student + _taught_tokens(answers, config) > tokens:
            answers -= 1
    return answers


def passage_work(config: RunConfig, num_answers: int) -> Work:
    """One passage with some of its answers, as the cache of the teacher is filled."""
    plan = config.plan
    branches = num_answers * (plan.question_tokens + plan.answer_tokens)
    rows = num_answers * plan.answer_tokens
    return Work(1, num_answers, 0, config.corpus.max_passage_tokens + branches, rows)


def largest_call(config: RunConfig) -> Work:
    """Return the largest call in which the cache is filled, at the limits of a micro-batch."""
    plan, most = config.plan, config.train.tokens_per_micro_batch
    each = min(plan.answers_per_passage, micro_batches.ANSWERS_PER_CALL)
    branch = plan.question_tokens + plan.answer_tokens
    answers = max(1, min(each, (most - config.corpus.max_passage_tokens) // branch))
    return passage_work(config, answers)


def adapter_bytes(config: RunConfig) -> int:
    """Of one adapter weight: DeepSpeed keeps fp32 masters beside weights of the base's dtype."""
    is_alone = config.plan.nodes * config.plan.gpus_per_node == 1
    plain = config.engine.kind == "plain" or (is_alone and config.engine.kind == "auto")
    return FP32 if plain else bytes_of(config)


# --- Memory -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """Of one GPU, at the worst moment of a training step."""

    base_shard: int
    second_shard: int  # hpZ's
    adapter: int  # weights, whole on every rank, and gradients
    optimizer: int  # fp32 masters and two moments
    layer_inputs: int  # kept from forward to backward
    layer_at_work: int  # of one layer, teacher and student
    loss: int
    gathered: int  # whole weights, and the flat buffer they arrive in
    reserve: int

    @property
    def total(self) -> int:
        return sum(getattr(self, f.name) for f in fields(self))


def bytes_of(config: RunConfig) -> int:
    """Of a weight of the base on a GPU, where `auto` is bf16."""
    return FP32 if config.model.dtype == "float32" else 2


def shard(parameters: int, width: int, ranks: int) -> int:
    """A rank's part; ZeRO pads every tensor to a multiple of the ranks, which is left out."""
    return math.ceil(parameters / ranks) * width


def memory(config: RunConfig, shape: Shape, world: World) -> Memory:
    """While training, by how DeepSpeed 0.19.8 spreads things; what a layer saves, see there.

    base shard: P/W at stage 3, else P; with engine.offload_base in the CPU's memory, as is hpZ's
    second shard, P / GPUs of a node. Gradients are fp32: at stages 2 and 3 spread over the ranks,
    beside one reduce bucket. Checked on CPU ranks: benchmarks/zero3_memory.py.
    """
    width, work = bytes_of(config), work_of(config, world.num_ranks)
    sizes, stage = shape.sizes, config.engine.zero_stage
    base = shard(sizes.total, width, world.num_ranks if stage == 3 else 1)
    second = zero.hpz_ranks(config, world)
    settings = _zero_settings(config, sizes, world)
    weights = adapter_weights(config, shape)
    spread = world.num_ranks if stage >= 2 else 1
    masters = world.num_ranks if stage >= 1 else 1
    bucket = settings["reduce_bucket_size"] if stage else 0
    saved, passing = saved_by_layer(config, shape), passing_through_layer(config, shape)
    again = config.train.gradient_checkpointing
    return Memory(
        base_shard=0 if config.engine.offload_base else base,
        second_shard=0
        if second == 1 or config.engine.offload_base
        else shard(sizes.total, width, second),
        adapter=weights * adapter_bytes(config) + (math.ceil(weights / spread) + bucket) * FP32,
        optimizer=shard(weights, MASTER_AND_MOMENTS, masters),
        layer_inputs=sizes.num_layers * work.student * (sizes.hidden * width if again else saved),
        layer_at_work=work.student * (saved * again + passing)
        + work.teacher * passing
        + (_scores(config, shape, work.answers) if work.teacher else 0),
        loss=_loss(work, config, shape),
        gathered=_gathered(settings, sizes, second if second > 1 else world.num_ranks) * width
        if stage == 3 and world.num_ranks > 1
        else 0,
        reserve=int(config.plan.reserve_gib * GIB),
    )


def host_memory(config: RunConfig, shape: Shape, world: World) -> int:
    """Of one node, pinned, for an offloaded base: its ranks' parts, and with hpZ their second."""
    if not config.engine.offload_base:
        return 0
    first = shard(shape.sizes.total, bytes_of(config), world.num_nodes)
    hpz = zero.hpz_ranks(config, world) > 1
    return first + (shape.sizes.total * bytes_of(config) if hpz else 0)


def memory_caching(config: RunConfig, shape: Shape, world: World) -> int:
    """While the teacher's distributions are computed: no student, no gradient.

    The scores of a call's branches against their passage are made at once (packed.py).
    """
    trained, work = memory(config, shape, world), largest_call(config)
    scores = _scores(config, shape, work.answers)
    kept = trained.total - trained.layer_inputs - trained.layer_at_work - trained.loss
    working = work.teacher * passing_through_layer(config, shape)
    return kept + working + scores + _loss(work, config, shape)


def _scores(config: RunConfig, shape: Shape, answers: int) -> int:
    """Of so many branches against their passage and themselves, as packed.py makes them."""
    branch = config.plan.question_tokens + config.plan.answer_tokens
    reach = config.corpus.max_passage_tokens + branch
    return answers * branch * reach * shape.heads * SCORE


def saved_by_layer(config: RunConfig, shape: Shape) -> int:
    """A student's token, between a layer's forward and backward: what autograd keeps.

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
    """A token's largest moment in a layer without autograd, or of the gradients in backward."""
    return (4 * shape.sizes.hidden + 3 * shape.mlp) * bytes_of(config)


def _loss(work: Work, config: RunConfig, shape: Shape) -> int:
    """kernels/README.md: one slab, rows of hidden states, the student's fp32 gradient and mean
    word, and five (N, k) tensors in fp64."""
    k = min(config.loss.top_k or shape.sizes.vocab, shape.sizes.vocab)
    rows = 2 * bytes_of(config) + 2 * FP32
    slab = SLAB * min(1.0, work.rows / SLAB_ROWS)
    return int(slab) + work.rows * (shape.sizes.hidden * rows + 5 * k * 8)


def _gathered(settings: dict[str, Any], sizes: Sizes, group: int) -> int:
    """Parameters: live ones, the layer at work and the next; the buffer of one gather that arrives,
    or the head beside them; and this rank's part of the gather, which is copied together first."""
    live, prefetched = (
        max(settings[f"stage3_{name}"], sizes.matrices)
        for name in ("max_live_parameters", "prefetch_bucket_size")
    )
    return live + max(prefetched, sizes.head) + prefetched // group


def _zero_settings(config: RunConfig, sizes: Sizes, world: World) -> dict[str, Any]:
    return zero.settings(config, sizes, world, torch.bfloat16)["zero_optimization"]


# --- Bytes moved ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """What ranks exchange. Gathered bytes are of whole tensors, a rank's own part included."""

    base_per_micro_step: int  # gathered by every rank
    adapter_per_micro_step: int
    adapter_per_step: int
    gradients_per_micro_step: int  # reduced, fp32
    is_base_inside_nodes: bool  # no weight of the base crosses nodes


def traffic(config: RunConfig, shape: Shape, world: World) -> Traffic:
    """Return what a rank gathers and reduces under DeepSpeed's settings.

    tests/planning/test_plan.py compares it with counted traffic.

    The base, P with a head H and an embedding of the same size: each layer, a ZeRO-3 leaf, once
    in forward and once in backward for teacher and student alike; the head in forward and, as
    its hooks want, in backward; the embedding in forward alone: 2P - H. A tied weight serves as
    embedding and as head, and is gathered for each: 2P + H. With prefetch, the head and the last
    layers stay gathered over the turn from forward to backward, and are gathered once less.

    The adapter's weights stay gathered over a step where they are below the persistence
    threshold, else they travel with their layer, twice. Its gradients are reduced in fp32 in
    every micro-step.
    """
    sizes, adapter = shape.sizes, adapter_weights(config, shape)
    reduced = adapter * FP32 if world.num_ranks > 1 else 0
    if config.engine.zero_stage < 3 or world.num_ranks == 1:
        return Traffic(0, 0, 0, reduced, True)
    settings = _zero_settings(config, sizes, world)
    parameters = 2 * sizes.total + (sizes.head if sizes.is_tied else -sizes.head)
    if settings["stage3_prefetch_bucket_size"] >= sizes.matrices:
        parameters -= sizes.head + min(LAYERS_KEPT, sizes.num_layers) * sizes.layer
    largest = config.adapter.rank * max(max(pair) for pair in shape.adapted)
    persists = largest <= settings["stage3_param_persistence_threshold"]
    return Traffic(
        base_per_micro_step=parameters * bytes_of(config),
        adapter_per_micro_step=0 if persists else 2 * adapter * adapter_bytes(config),
        adapter_per_step=adapter * adapter_bytes(config) if persists else 0,
        gradients_per_micro_step=reduced,
        is_base_inside_nodes=world.num_nodes == 1 or settings["zero_hpz_partition_size"] > 1,
    )


@dataclass(frozen=True)
class Moved:
    """In one step: into each GPU over its node's links, and into each node over the network."""

    inside_per_gpu: float
    between_per_node: float


def moved(found: Traffic, micro_batches: int, world: World) -> Moved:
    """By ring collectives: of b bytes over r ranks each receives b (r-1)/r, and of a ring through
    several nodes that is also what enters each node. hpZ's rings stay inside a node."""
    ring = (world.num_ranks - 1) / world.num_ranks
    inner = (world.ranks_per_node - 1) / world.ranks_per_node
    base = micro_batches * found.base_per_micro_step
    small = found.adapter_per_step + micro_batches * (
        found.adapter_per_micro_step + found.gradients_per_micro_step
    )
    if world.num_nodes == 1:
        return Moved((base + small) * ring, 0.0)
    if found.is_base_inside_nodes:
        return Moved(base * inner + small * ring, small * ring)
    return Moved((base + small) * ring, (base + small) * ring)


# --- Time -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Time:
    """Seconds of one step; links work beside the GPU at best, and after it at worst."""

    compute: float
    links: float

    @property
    def best(self) -> float:
        return max(self.compute, self.links)

    @property
    def worst(self) -> float:
        return self.compute + self.links


def step_time(config: RunConfig, shape: Shape, world: World) -> Time:
    """At plan.*'s rates. The optimizer's update of the adapter is left out."""
    work = work_of(config, world.num_ranks)
    compute = work.micro_batches * micro_step_flops(config, shape, work) / _flops_rate(config)
    found = traffic(config, shape, world)
    return Time(compute, _link_time(config, world, found, work.micro_batches))


def caching_time(config: RunConfig, shape: Shape, world: World) -> Time:
    """Of the teacher's distributions of all passages: the base is gathered once for each call,
    and a passage read once, or again where its answers do not fit into one call."""
    if not config.is_teacher_cached:
        return Time(0.0, 0.0)
    answers = config.plan.answers_per_passage
    calls = math.ceil(answers / largest_call(config).answers)
    turns = math.ceil(config.plan.passages * calls / world.num_ranks)
    compute = micro_step_flops(
        config, shape, passage_work(config, math.ceil(answers / calls))
    ) / _flops_rate(config)
    found = traffic(config, shape, world)
    base = shape.sizes.total * bytes_of(config) if found.base_per_micro_step else 0
    once = replace(
        found,
        base_per_micro_step=base,
        adapter_per_micro_step=0,
        adapter_per_step=0,
        gradients_per_micro_step=0,
    )
    links = _link_time(config, world, once, 1)
    return Time(turns * compute, turns * links)


def micro_step_flops(config: RunConfig, shape: Shape, work: Work) -> float:
    """Matrix products of a rank, what checkpointing computes again included."""
    passage, (branch, _) = config.corpus.max_passage_tokens, per_answer(config)
    weights = weights_of(config, shape)
    taught = Reading(work.teacher, work.teacher * (passage / 2 + branch))
    learnt = Reading(work.student, work.student * branch / 2)
    again = config.train.gradient_checkpointing
    teacher_rows, student_rows = (work.rows * (n > 0) for n in (work.teacher, work.student))
    return (
        flops.teacher(weights, taught)
        + flops.student(weights, learnt, again=again)
        + weights.head * (2 * teacher_rows + 4 * student_rows)
    )


def _link_time(config: RunConfig, world: World, found: Traffic, micro_batches: int) -> float:
    """The slowest of three links, which work side by side."""
    plan, there = config.plan, moved(found, micro_batches, world)
    times = [
        there.inside_per_gpu / (plan.node_gb_per_second * 1e9),
        there.between_per_node / (plan.network_gb_per_second * 1e9),
    ]
    if config.engine.offload_base:  # each rank's own part comes from the CPU at every gather
        hpz = zero.hpz_ranks(config, world)
        own = found.base_per_micro_step * micro_batches / (hpz if hpz > 1 else world.num_ranks)
        times.append(own / (plan.host_gb_per_second * 1e9))
    return max(times) / plan.links_reached


def _flops_rate(config: RunConfig) -> float:
    return config.plan.gpu_tflops * 1e12 * config.plan.compute_reached
