"""`pdtrain plan`: what fits and how fast, before a cluster is rented. Needs no GPU, no weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.distillation import teacher_cache
from pdtrain.distributed.world import World
from pdtrain.models import architectures
from pdtrain.models.base import skeleton
from pdtrain.models.shape import Shape, adapter_weights, shape_of
from pdtrain.planning import estimate
from pdtrain.planning.estimate import GIB, Memory, Time, Traffic

MEANINGS = {
    "base_shard": "base, this GPU's part",
    "second_shard": "base, second part (hpZ)",
    "adapter": "LoRA weights and gradients",
    "optimizer": "optimizer: fp32 masters, two moments",
    "layer_inputs": "activations kept for backward",
    "layer_at_work": "activations of the layer at work",
    "loss": "loss: slab, rows, gradient",
    "gathered": "gathered weights and their buffer",
    "reserve": "CUDA context and reserve (assumed)",
}
MOST_NODES = 64  # that are proposed


@dataclass(frozen=True)
class Estimate:
    """Everything said about one config on one cluster."""

    memory: Memory
    caching_bytes: int  # of one GPU while the teacher's cache is filled; 0 without
    limit_bytes: int
    host_bytes: int  # of one node's CPUs, for an offloaded base
    traffic: Traffic
    step: Time
    caching: Time
    num_steps: int
    world: World

    @property
    def peak_bytes(self) -> int:
        return max(self.memory.total, self.caching_bytes)

    @property
    def fits(self) -> bool:
        return self.peak_bytes <= self.limit_bytes


def report(
    config: RunConfig,
    nodes: int | None = None,
    gpus_per_node: int | None = None,
    shape: Shape | None = None,
) -> int:
    """Print the plan; 1 when it does not fit, with configurations that do.

    Args:
        shape: of the model, where it is known already; otherwise its config.json is read.
    """
    given = {"nodes": nodes, "gpus_per_node": gpus_per_node}
    named = {name: value for name, value in given.items() if value is not None}
    config = replace(config, plan=replace(config.plan, **named))
    shape = shape or _shape(config)
    made = evaluate(config, shape)
    for line in [*head(config, shape, made), *memory_table(made), *speed(config, shape, made)]:
        print(line)
    if made.fits:
        return 0
    for line in refusal(config, shape, made):
        print(line)
    return 1


def _shape(config: RunConfig) -> Shape:
    model = skeleton(config.model)
    if reason := architectures.obstacle(model.config):
        raise ValueError(f"{config.model.name} cannot be trained: {reason}")
    return shape_of(model, config.adapter.target_modules)


def world_of(config: RunConfig) -> World:
    nodes, each = config.plan.nodes, config.plan.gpus_per_node
    return World(num_ranks=nodes * each, ranks_per_node=each, launcher="plan")


def evaluate(config: RunConfig, shape: Shape) -> Estimate:
    """All the numbers of one plan.

    Raises:
        ValueError: the GPUs cannot share the work or the base as the config says.
    """
    world, train = world_of(config), config.train
    if config.engine.kind == "plain" and world.num_ranks > 1:
        raise ValueError(
            f"engine.kind=plain runs in one process, but the plan is for {world.num_ranks} GPUs; "
            "set engine.kind=auto, or --nodes 1 --gpus-per-node 1"
        )
    answers = estimate.num_answers(config) * train.epochs
    return Estimate(
        memory=estimate.memory(config, shape, world),
        caching_bytes=estimate.memory_caching(config, shape, world)
        if config.is_teacher_cached
        else 0,
        limit_bytes=int(config.plan.gpu_memory_gib * GIB),
        host_bytes=estimate.host_memory(config, shape, world),
        traffic=estimate.traffic(config, shape, world),
        step=estimate.step_time(config, shape, world),
        caching=estimate.caching_time(config, shape, world),
        num_steps=max(1, round(answers / train.answers_per_step)),
        world=world,
    )


# --- The page ---------------------------------------------------------------------------------


def head(config: RunConfig, shape: Shape, made: Estimate) -> Iterator[str]:
    plan, work = config.plan, estimate.work_of(config, made.world.num_ranks)
    base = shape.sizes.total * estimate.bytes_of(config)
    teacher = "cached" if config.is_teacher_cached else "online"
    yield (
        f"{config.model.name}: {shape.sizes.total / 1e9:.2f} B parameters, {base / 1e9:.1f} GB; "
        f"adapter of rank {config.adapter.rank}, "
        f"{adapter_weights(config, shape) / 1e6:.0f} M parameters"
    )
    yield (
        f"{plan.nodes} x {plan.gpus_per_node} GPUs of {plan.gpu_memory_gib:g} GiB, ZeRO stage "
        f"{config.engine.zero_stage}; a step is {work.micro_batches} x micro-batch a GPU, of "
        f"{work.answers} answers: {work.student} student and {work.teacher} teacher tokens; "
        f"the teacher is {teacher}"
    )
    yield "Estimates from the numbers under `plan:` and from arithmetic; never measured on a GPU."


def memory_table(made: Estimate) -> Iterator[str]:
    yield ""
    yield "memory of one GPU while training, GiB"
    for f in fields(made.memory):
        yield f"  {MEANINGS[f.name]:<38}{getattr(made.memory, f.name) / GIB:>9.2f}"
    yield f"  {'together':<38}{made.memory.total / GIB:>9.2f}"
    if made.caching_bytes:
        yield f"  {'while the teacher is cached':<38}{made.caching_bytes / GIB:>9.2f}"
    yield f"  {'of':<38}{made.limit_bytes / GIB:>9.2f}"
    if made.host_bytes:
        yield f"  {'CPU memory of each node, pinned':<38}{made.host_bytes / GIB:>9.2f}"


def speed(config: RunConfig, shape: Shape, made: Estimate) -> Iterator[str]:
    plan, world = config.plan, made.world
    work = estimate.work_of(config, world.num_ranks)
    found = estimate.moved(made.traffic, work.micro_batches, world)
    base = estimate.moved(replace(made.traffic, **SMALL), work.micro_batches, world)
    tokens = work.micro_batches * work.student * world.num_ranks
    step = made.step
    gathered = work.micro_batches * made.traffic.base_per_micro_step
    yield ""
    yield f"bytes of one step, {work.micro_batches} x micro-batch, GB"
    for text, size in (
        ("of the base, gathered by each GPU", gathered),
        ("inside the node, into each GPU", found.inside_per_gpu),
        ("between nodes, into each node", found.between_per_node),
        ("of these the base's", base.between_per_node),
    ):
        yield f"  {text:<38}{size / 1e9:>9.2f}"
    yield ""
    yield (
        f"time of one step, at {plan.compute_reached:.0%} of {plan.gpu_tflops:g} TFLOP/s and "
        f"{plan.links_reached:.0%} of {plan.node_gb_per_second:g} GB/s into a GPU and of "
        f"{plan.network_gb_per_second:g} GB/s into a node"
    )
    yield f"  {step.compute:.2f} s compute, {step.links:.2f} s links: {_span(step, 1)} s"
    yield f"  {tokens / step.worst:,.0f} to {tokens / step.best:,.0f} student tokens/s"
    yield from _whole_run(config, made)
    cached = teacher_cache.bytes_per_token(
        config.loss.top_k or shape.sizes.vocab, shape.sizes.vocab
    )
    if config.is_teacher_cached:
        size = cached * plan.answer_tokens * plan.answers_per_passage * plan.passages
        yield f"  teacher's cache: {cached} bytes an answer token, {size / 1e9:.1f} GB on disk"


SMALL: dict[str, Any] = dict.fromkeys(
    ("adapter_per_micro_step", "adapter_per_step", "gradients_per_micro_step"), 0
)


def _whole_run(config: RunConfig, made: Estimate) -> Iterator[str]:
    plan = config.plan
    train, caching = (made.step, made.num_steps), (made.caching, 1)
    best, worst = (
        sum(getattr(time, name) * count for time, count in (train, caching)) / 3600
        for name in ("best", "worst")
    )
    dear = plan.gpu_hour_price * made.world.num_ranks
    millions = plan.passages * config.corpus.max_passage_tokens / 1e6
    yield ""
    yield (
        f"{plan.passages:,} passages of {config.corpus.max_passage_tokens} tokens, "
        f"{plan.answers_per_passage} answers each, {config.train.epochs} epochs: "
        f"{made.num_steps:,} steps; questions and answers are not made here"
    )
    more = ("retain.weight", config.retain.weight), ("rounds.most", config.rounds.most)
    if beyond := [name for name, value in more if value]:
        yield f"  not counted: what {' and '.join(beyond)} add to it"
    yield (
        f"  {best:,.1f} to {worst:,.1f} hours, of them the teacher's cache "
        f"{_span(made.caching, 1 / 3600)}"
    )
    yield (
        f"  {best * dear / millions:,.0f} to {worst * dear / millions:,.0f} per million passage "
        f"tokens at {plan.gpu_hour_price:g} per GPU-hour"
    )


def _span(time: Time, scale: float) -> str:
    """Links beside the GPU, to links after it."""
    return f"{time.best * scale:,.2f} to {time.worst * scale:,.2f}"


# --- What does not fit ------------------------------------------------------------------------


def refusal(config: RunConfig, shape: Shape, made: Estimate) -> Iterator[str]:
    """What is too large, and configurations that fit: all were evaluated as this one was."""
    parts = {f.name: getattr(made.memory, f.name) for f in fields(made.memory)}
    largest = max(parts, key=lambda name: parts[name])
    over = (made.peak_bytes - made.limit_bytes) / GIB
    when = (
        f"the largest part is {MEANINGS[largest]}, {parts[largest] / GIB:.1f} GiB"
        if made.memory.total >= made.caching_bytes
        else "most of it while passages are put before the teacher, for its cache"
    )
    yield ""
    yield f"This does not fit: {over:.1f} GiB too much on every GPU; {when}."
    found = list(proposals(config, shape))
    if not found:
        yield (
            f"Nothing tried fits either, up to {MOST_NODES} nodes: take a smaller model, or GPUs "
            "with more memory."
        )
        return
    yield "These fit:"
    for changes, other in found:
        yield (
            f"  {' '.join(changes)}: {other.peak_bytes / GIB:.1f} GiB, "
            f"{_span(other.step, 1)} s a step"
        )


Changes = tuple[str, ...]


def proposals(config: RunConfig, shape: Shape) -> Iterator[tuple[Changes, Estimate]]:
    """Changes that make it fit, as the command line takes them; the smallest of each kind."""
    made = evaluate(config, shape)
    for family in _families(config, is_cache_too_large=made.caching_bytes > made.limit_bytes):
        for changes, changed in family:
            try:
                other = evaluate(changed, shape)
            except ValueError:
                continue
            if other.fits:
                yield changes, other
                break


Family = Iterator[tuple[Changes, RunConfig]]


def _families(config: RunConfig, *, is_cache_too_large: bool) -> Iterator[Family]:
    """Smaller micro-batches, fewer copies, more GPUs, the CPU's memory: each from mild to harsh."""
    yield _smaller_batches((), config)
    if is_cache_too_large:
        online = replace(config, teacher=replace(config.teacher, cache=False))
        yield _smaller_batches(("teacher.cache=false",), online)
    for changes, changed in _lighter(config):
        yield _smaller_batches(changes, changed)
    yield (step for more in _more_nodes(config) for step in _smaller_batches(*more))


def _smaller_batches(changes: Changes, config: RunConfig) -> Family:
    """As it is; then with checkpointing, with ever fewer answers in a micro-batch."""
    yield changes, config
    if not config.train.gradient_checkpointing:
        changes = (*changes, "train.gradient_checkpointing=true")
        config = replace(config, train=replace(config.train, gradient_checkpointing=True))
        yield changes, config
    size = config.train.answers_per_micro_batch
    while size > 1:
        size //= 2
        train = replace(config.train, answers_per_micro_batch=size)
        yield (*changes, f"train.answers_per_micro_batch={size}"), replace(config, train=train)


def _lighter(config: RunConfig) -> Family:
    """What gives up something else for memory."""
    engine = config.engine
    if engine.zero_stage < 3:
        yield ("engine.zero_stage=3",), replace(config, engine=replace(engine, zero_stage=3))
        return
    if engine.hpz and config.plan.nodes > 1:
        yield ("engine.hpz=false",), replace(config, engine=replace(engine, hpz=False))
    if not engine.offload_base:
        yield (
            ("engine.offload_base=true",),
            replace(config, engine=replace(engine, offload_base=True)),
        )


def _more_nodes(config: RunConfig) -> Family:
    nodes = config.plan.nodes
    while (nodes := nodes * 2) <= MOST_NODES:
        ranks = nodes * config.plan.gpus_per_node
        changes: Changes = (f"plan.nodes={nodes}",)
        train = config.train
        if train.answers_per_step < ranks:
            size = train.answers_per_micro_batch
            train = replace(train, answers_per_step=-(-ranks // size) * size)
            changes = (*changes, f"train.answers_per_step={train.answers_per_step}")
        yield changes, replace(config, plan=replace(config.plan, nodes=nodes), train=train)
