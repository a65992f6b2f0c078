"""Count the tokens that our backend writes in a second, beside transformers' own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from gpu_hour import measure, model
from gpu_hour.report import Column, Report, Task
from gpu_hour.training import TOY

from pdtrain.config import SamplingConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.generation.sampling import pad
from pdtrain.models.attention import prefix

BATCHES, TOY_BATCHES = (1, 32, 128), (1, 4)
NEW_TOKENS, TOY_NEW_TOKENS = 64, 4
ROUNDS = 3


class Endless:
    """Stand in for a chat template: no token ends an answer, so that all are equally long."""

    stop_ids: tuple[int, ...] = ()

    def text(self, token_ids: Sequence[int]) -> str:
        return ""


def run(task: Task, report: Report) -> None:
    """Time batches of prompts that share a passage."""
    shape = "toy" if task.is_dry else "1B"
    base = model.build(shape, task.device, task.dtype)
    new = TOY_NEW_TOKENS if task.is_dry else NEW_TOKENS
    lengths = TOY.lengths if task.is_dry else model.Lengths()
    report.about(
        f"A Llama of the {shape} shape with random weights; every prompt begins with the same "
        f"passage of {lengths.passage} tokens, and {new} tokens are written. One process, one GPU."
    )
    table = report.table(
        "Tokens a second",
        [
            Column("way", "way"),
            Column("batch", "prompts at once", "int"),
            Column("tokens_a_second", "tokens/s", "int"),
            Column("a_step", "ms a token step", "ms"),
            Column("seconds", "seconds", "seconds"),
            Column("extra_bytes", "extra MB", "mb"),
            Column("outcome", "not measured because"),
        ],
    )
    batches = TOY_BATCHES if task.is_dry else BATCHES
    best: dict[str, Any] = {}
    for batch in batches:
        examples = model.examples(shape, 1, batch, lengths)
        prompts = [list(example.teacher_prompt) for example in examples]
        works = ways(base, prompts, new)
        for number, (name, work) in enumerate(works.items()):
            if task.seconds_left() < 0:
                table.add(way=name, batch=batch, outcome="no time was left")
                continue
            line = timed(task, work, batch * new, new)
            table.add(way=name, batch=batch, **line)
            if number == 0 and line["outcome"]:
                report.problem(f"{batch} prompts at once: {line['outcome']}")
            elif number == 0:
                best = {"batch": batch, **line}
    if best:
        report.headline(f"{best['tokens_a_second']:,.0f} tokens/s with {best['batch']} prompts")


def ways(base: Any, prompts: list[list[int]], new: int) -> dict[str, Callable[[], Any]]:
    """Return our backend's usual sampling, that of rollouts, and transformers' generate."""
    backend = HuggingFaceBackend(base, Endless(), len(prompts))
    usual = SamplingConfig(temperature=1.0, top_k=50, max_new_tokens=new)
    whole = SamplingConfig(temperature=1.0, top_k=0, max_new_tokens=new)

    def ours(sampling: SamplingConfig) -> Any:
        base.set_attn_implementation(prefix.NAME)
        return backend.sample(prompts, sampling, seed=0)

    def theirs() -> Any:
        base.set_attn_implementation("sdpa")
        ids, mask = (part.to(base.device) for part in pad(prompts, left=True))
        options = {"do_sample": True, "top_k": 50, "max_new_tokens": new, "min_new_tokens": new}
        return base.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **options)

    return {
        "pdtrain, top_k 50": lambda: ours(usual),
        "pdtrain, all tokens (rollouts)": lambda: ours(whole),
        "transformers' generate, top_k 50": theirs,
    }


def timed(task: Task, work: Callable[[], Any], tokens: int, steps: int) -> dict[str, Any]:
    """Return the record of one way: memory of its first call, median time of some more."""
    extra, outcome = measure.attempt(lambda: measure.peak_bytes(work, task.device))
    if outcome:
        return {"outcome": outcome}
    found: list[float] = []
    rounds = 1 if task.is_dry else ROUNDS
    deadline = time.monotonic() + max(1.0, task.seconds_left() / 4)
    while len(found) < rounds and (not found or time.monotonic() < deadline):
        found.append(measure.seconds_of(work, task.device))
    line = measure.spread(found)
    seconds = line["seconds"]
    return {
        **line,
        "outcome": "",
        "extra_bytes": extra,
        "tokens_a_second": tokens / seconds,
        "a_step": seconds / steps,
    }
