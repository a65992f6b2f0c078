"""Say what fits a cluster and how fast it trains, before it is rented: `pdtrain plan`.

It is arithmetic that needs no GPU and no weights, and has never been measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.distillation import teacher_cache
from pdtrain.models import head as heads
from pdtrain.models.base import skeleton
from pdtrain.models.shape import Shape, adapter_weights, shape_of
from pdtrain.planning import automatic, data_stages, memory_model, traffic, workload
from pdtrain.planning.estimate import Estimate, estimate_of, world_of
from pdtrain.planning.memory_model import GIB, MEANINGS
from pdtrain.planning.proposals import refusal
from pdtrain.progress import show_line


def report(
    config: RunConfig,
    nodes: int | None = None,
    gpus_per_node: int | None = None,
    shape: Shape | None = None,
) -> int:
    """Print the plan; return 0, or 1 when it does not fit, with configurations that do.

    Args:
        shape: of the model, where it is known already; otherwise its config.json is read.
    """
    given = {"nodes": nodes, "gpus_per_node": gpus_per_node}
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = replace(config, plan=replace(config.plan, **named))
    shape = shape or _shape(config)
    config = workload.with_batching(config, shape)
    choice = automatic.choose(config, config, shape, world_of(config))
    config = choice.config
    made = estimate_of(config, shape)
    for line in [
        *head(config, shape, made),
        *choice.reasons,
        *memory_table(config, made),
        *before_training(made),
        *speed(config, shape, made),
        *data_stages.table(config, shape, made.world),
    ]:
        show_line(line)
    if made.fits:
        return 0
    for line in refusal(config, shape, made):
        show_line(line)
    return 1


def _shape(config: RunConfig) -> Shape:
    model = skeleton(config.model)
    heads.find(model)  # raises where the loss would be wrong
    return shape_of(model, config.adapter.target_modules, config.adapter.target_parameters)


# --- The page ---------------------------------------------------------------------------------


def head(config: RunConfig, shape: Shape, made: Estimate) -> Iterator[str]:
    """Yield the lines that name model, adapter, cluster and step."""
    plan, work = config.plan, workload.work_of(config, made.world.num_ranks)
    base = memory_model.base_bytes(config, shape.sizes)
    kind = config.model.quantization
    held = "" if kind == "none" else f" in {kind}, {base / shape.sizes.total:.2f} bytes a parameter"
    teacher = "cached" if config.is_teacher_cached else "online"
    yield (
        f"{config.model.name}: {shape.sizes.total / 1e9:.2f} B parameters, {_active(shape)}"
        f"{base / 1e9:.1f} GB{held}; "
        f"adapter of rank {config.adapter.rank}, "
        f"{adapter_weights(config, shape) / 1e6:.0f} M parameters"
    )
    yield (
        f"{plan.nodes} x {plan.gpus_per_node} GPUs of {plan.gpu_memory_gib:g} GiB, ZeRO stage "
        f"{config.engine.stage}; a step is {work.micro_batches} x micro-batch a GPU, of "
        f"{work.answers} answers: {work.student} student and {work.teacher} teacher tokens; "
        f"the teacher is {teacher}, batches are {config.model.batching}"
    )
    yield "Estimates from the numbers under `plan:` and from arithmetic; never measured on a GPU."


def _active(shape: Shape) -> str:
    """Return how many parameters a token meets, where experts make that fewer than there are."""
    sizes = shape.sizes
    if sizes.active >= sizes.layer * sizes.num_layers:
        return ""
    return f"{(sizes.active + sizes.head) / 1e9:.2f} B of them active for a token, "


def memory_table(config: RunConfig, made: Estimate) -> Iterator[str]:
    """Yield the parts of one GPU's memory, in GiB, and what there is of it."""
    yield ""
    yield "memory of one GPU while training, GiB"
    for f in fields(made.memory):
        yield f"  {MEANINGS[f.name]:<38}{getattr(made.memory, f.name) / GIB:>9.2f}"
    yield f"  {'together':<38}{made.memory.total / GIB:>9.2f}"
    if made.caching_bytes:
        yield f"  {'while the teacher is cached':<38}{made.caching_bytes / GIB:>9.2f}"
    is_most_at_first = made.loading_bytes > made.memory.total
    if is_most_at_first:
        yield f"  {'while each rank holds the whole base':<38}{made.loading_bytes / GIB:>9.2f}"
    yield f"  {'of':<38}{made.limit_bytes / GIB:>9.2f}"
    if is_most_at_first:
        yield (
            "  Each rank loads the whole base before DeepSpeed spreads it, because "
            f"{memory_model.why_whole(config)}."
        )


def before_training(made: Estimate) -> Iterator[str]:
    """Yield the memory of a node's CPUs in GiB, and the minutes before the first step."""
    start = made.startup
    yield ""
    yield "memory of the first node's CPUs, GiB"
    for text, size in (
        ("pinned for the offloaded base", start.pinned),
        ("base's files, mapped while loading", start.base_files),
        ("its ranks' whole bases, while loading", start.whole_bases),
        ("token files, mapped", start.token_files),
    ):
        yield f"  {text:<38}{size / GIB:>9.2f}"
    yield ""
    yield "before the first step, minutes"
    for text, seconds in (
        ("tokenising the answers, once a run", start.tokenise_seconds),
        ("reading the base, at every start", start.load_seconds),
    ):
        yield f"  {text:<38}{seconds / 60:>9.2f}"


def speed(config: RunConfig, shape: Shape, made: Estimate) -> Iterator[str]:
    """Yield bytes and time of one step, then hours and price of the whole run."""
    plan, world = config.plan, made.world
    work = workload.work_of(config, world.num_ranks)
    found = traffic.moved(made.traffic, work.micro_batches, world)
    base = traffic.moved(replace(made.traffic, **SMALL), work.micro_batches, world)
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
    yield from _gathering(config, shape, made)
    yield ""
    yield (
        f"time of one step, at {plan.compute_reached:.0%} of {plan.gpu_tflops:g} TFLOP/s and "
        f"{plan.links_reached:.0%} of {plan.node_gb_per_second:g} GB/s into a GPU and of "
        f"{plan.network_gb_per_second:g} GB/s into a node"
    )
    yield f"  {step.compute:.2f} s compute, {step.links:.2f} s links: {step.span(1)} s"
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


def _gathering(config: RunConfig, shape: Shape, made: Estimate) -> Iterator[str]:
    """Yield why nothing is gathered, or how much less a quantized base is than a whole one."""
    world = made.world
    if world.num_ranks == 1:
        return
    steps = workload.work_of(config, world.num_ranks).micro_batches

    def at_stage_3(kind: str) -> float:
        model = replace(config.model, quantization=kind)  # type: ignore[arg-type]
        other = replace(config, model=model, engine=replace(config.engine, zero_stage=3))
        found = traffic.traffic_of(other, shape, world).base_per_micro_step
        return steps * found / 1e9

    kind = config.model.quantization
    if config.engine.stage < 3:
        yield (
            f"  at ZeRO stage {config.engine.stage} each GPU holds the whole base and gathers none;"
            f" engine.zero_stage=3 would gather {at_stage_3(kind):.2f}"
        )
    elif kind != "none":
        yield f"  packed in {kind}; without quantization it would be {at_stage_3('none'):.2f}"


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
        f"{made.num_steps:,} steps; what makes the data stands below"
    )
    more = ("retain.weight", config.retain.weight), ("rounds.most", config.rounds.most)
    if beyond := [name for name, value in more if value]:
        yield f"  not counted: what {' and '.join(beyond)} {'add' if beyond[1:] else 'adds'} to it"
    yield (
        f"  {best:,.1f} to {worst:,.1f} hours, of them the teacher's cache "
        f"{made.caching.span(1 / 3600)}"
    )
    yield (
        f"  {best * dear / millions:,.0f} to {worst * dear / millions:,.0f} per million passage "
        f"tokens at {plan.gpu_hour_price:g} per GPU-hour"
    )


# --- What does not fit ------------------------------------------------------------------------
