"""Count what questions, answers and evaluation ask of a model, and what that costs.

It is arithmetic from the numbers under `plan:`, and has never been measured on a GPU. A prompt is
read at the rate of matrix products. Tokens are written for many prompts at the same time, at the
rate of matrix products or at that of the memory, from which weights and keys are read for every
token, whichever is slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pdtrain.config import RunConfig
from pdtrain.distributed.world import World
from pdtrain.evaluation.systems import System, answering_systems
from pdtrain.models import flops
from pdtrain.models.flops import Reading
from pdtrain.models.shape import Shape, weights_of
from pdtrain.planning import memory_model
from pdtrain.planning.memory_model import bytes_of

TRANSFORMERS_BATCH = 128  # prompts that our own decoding holds at the same time


@dataclass(frozen=True)
class Demand:
    """Hold what one stage asks of a model.

    Args:
        tokens_in: of all prompts.
        tokens_new: of these, what is read where a beginning that prompts share is kept.
        tokens_out: of all completions.
        context: tokens that a completion looks back at, on average.
    """

    stage: str
    requests: float
    tokens_in: float
    tokens_new: float
    tokens_out: float
    context: float


@dataclass(frozen=True)
class Cost:
    """Hold GPU-hours with and without the reuse of shared beginnings, and two prices."""

    gpu_hours: float
    gpu_hours_unshared: float
    gpu_price: float
    server_price: float


def demands(config: RunConfig) -> list[Demand]:
    """Return what the stages of the data and the evaluation ask, for a corpus of the plan's size.

    Every question counts as written by the model, though requests for a whole sentence take none.
    """
    if config.train.objective == "raw_text":
        return [_evaluation(config)]
    plan, data = config.plan, config.plan.data
    kept = plan.passages * plan.answers_per_passage
    questions = kept / config.answers.per_question * data.attempts_per_question
    answers = kept * data.attempts_per_answer
    passage, branch = config.corpus.max_passage_tokens, plan.question_tokens
    return [
        Demand(
            "questions",
            questions,
            questions * data.ask_tokens,
            questions * data.ask_own_tokens,
            questions * data.question_text_tokens,
            data.ask_tokens + data.question_text_tokens / 2,
        ),
        Demand(
            "answers",
            answers,
            answers * (passage + branch),
            plan.passages * passage + answers * branch,
            answers * plan.answer_tokens,
            passage + branch + plan.answer_tokens / 2,
        ),
        _evaluation(config),
    ]


def _evaluation(config: RunConfig) -> Demand:
    """Return the demand of the held-out questions, each asked by every system.

    Each question has passages of its own, so a beginning is shared by chance alone.
    """
    plan, held_out = config.plan, config.plan.data.held_out
    systems = answering_systems(config.evaluate)
    tokens = sum(held_out * _prompt(config, system) for system in systems)
    asked = held_out * len(systems)
    out = asked * min(plan.answer_tokens, config.evaluate.max_new_tokens)
    return Demand("evaluate", asked, tokens, tokens, out, tokens / asked)


def _prompt(config: RunConfig, system: System) -> int:
    passages = 0 if system.context == "none" else system.num_passages
    return config.plan.question_tokens + passages * config.corpus.max_passage_tokens


def cost_of(config: RunConfig, shape: Shape, demand: Demand) -> Cost:
    """Return what a stage takes on the plan's GPUs, and what a server would ask for it."""
    data, plan = config.plan.data, config.plan
    shared = (_reading(config, shape, demand, demand.tokens_new)) + _writing(config, shape, demand)
    whole = _reading(config, shape, demand, demand.tokens_in) + _writing(config, shape, demand)
    again = demand.tokens_in - demand.tokens_new
    price = demand.tokens_new * data.price_in + again * data.price_in_again
    price += demand.tokens_out * data.price_out
    hours = shared / 3600
    return Cost(hours, whole / 3600, hours * plan.gpu_hour_price, price / 1e6)


def _reading(config: RunConfig, shape: Shape, demand: Demand, tokens: float) -> float:
    """Return the GPU-seconds in which so many tokens of prompts are read."""
    read = Reading(tokens, tokens * demand.context / 2)
    return flops.teacher(weights_of(config, shape), read) / _rate(config)


def _writing(config: RunConfig, shape: Shape, demand: Demand) -> float:
    """Return the GPU-seconds in which completions are written, in full batches.

    Weights are read once for all prompts of a batch, the keys and values of each prompt for it
    alone; each completion's token passes the head, too.
    """
    data, batch = config.plan.data, _batch(config)
    weights = weights_of(config, shape)
    read = Reading(batch, batch * demand.context)
    products = (flops.teacher(weights, read) + 2 * weights.head * batch) / _rate(config)
    keys = 2 * shape.keys * shape.sizes.num_layers * bytes_of(config) * demand.context
    moved = memory_model.base_bytes(config, shape.sizes) + batch * keys
    memory = moved / (data.memory_tb_per_second * 1e12 * data.memory_reached)
    return demand.tokens_out / batch * max(products, memory)


def _batch(config: RunConfig) -> int:
    is_ours = config.generation.backend == "huggingface"
    return min(TRANSFORMERS_BATCH, config.plan.data.batch) if is_ours else config.plan.data.batch


def _rate(config: RunConfig) -> float:
    return config.plan.gpu_tflops * 1e12 * config.plan.compute_reached


# --- The page ---------------------------------------------------------------------------------


def table(config: RunConfig, shape: Shape, world: World) -> Iterator[str]:
    """Yield the lines of `pdtrain plan` about the stages of the data and the evaluation."""
    plan, data = config.plan, config.plan.data
    found = demands(config)
    costs = [cost_of(config, shape, demand) for demand in found]
    yield ""
    yield (
        f"requests to the model, millions of tokens, and GPU-hours; batches of {_batch(config)}, "
        f"{data.memory_reached:.0%} of {data.memory_tb_per_second:g} TB/s"
    )
    titles = ("requests", "read", "of it new", "written", "GPU-hours", "unshared")
    yield "  " + f"{'':<10}" + "".join(f"{title:>13}" for title in titles)
    for demand, cost in zip(found, costs, strict=True):
        tokens = (demand.tokens_in, demand.tokens_new, demand.tokens_out)
        cells = [f"{demand.requests:,.0f}", *(f"{count / 1e6:,.1f}" for count in tokens)]
        cells += [f"{cost.gpu_hours:,.2f}", f"{cost.gpu_hours_unshared:,.2f}"]
        yield "  " + f"{demand.stage:<10}" + "".join(f"{cell:>13}" for cell in cells)
    hours, price = (sum(getattr(c, name) for c in costs) for name in ("gpu_hours", "gpu_price"))
    yield (
        f"  {hours:,.1f} GPU-hours, {hours / world.num_ranks:,.1f} hours on {world.num_ranks} "
        f"GPUs that share the passages, {price:,.0f} at {plan.gpu_hour_price:g} per GPU-hour"
    )
    if config.generation.backend in ("huggingface", "auto"):
        yield "  evaluate always uses transformers; vLLM's batches are not those"
    if data.price_in or data.price_out:
        yield (
            f"  {sum(cost.server_price for cost in costs):,.0f} behind a server that asks "
            f"{data.price_in:g} per million tokens read, {data.price_in_again:g} where it kept "
            f"them, and {data.price_out:g} per million written"
        )
