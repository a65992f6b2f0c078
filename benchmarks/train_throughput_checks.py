"""Parts that compare numbers, not seconds: they fail when the numbers are not as they should be."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from train_throughput_data import Workload
from train_throughput_variants import CPU, Ours, make, steps_of, with_loss

from pdkernels import TopK
from pdtrain.distillation import micro_batches, packing, teacher_cache
from pdtrain.distillation.examples import Example

NUM_EQUAL_STEPS = 20
LOSS_OFF, GRADIENT_OFF = 1e-4, 1e-3  # relative


def equal_losses(workload: Workload, folder: Path, kinds: Sequence[str]) -> None:
    """The objective is equal with k = V: so are the losses of the same steps in the same order."""
    config = with_loss(workload.config, top_k=0)
    per_epoch = len(steps_of(workload, 0))
    num_epochs = -(-NUM_EQUAL_STEPS // per_epoch)
    steps = [step for epoch in range(num_epochs) for step in steps_of(workload, epoch)]
    steps = steps[:NUM_EQUAL_STEPS]
    losses = {
        kind: make(kind, config, NUM_EQUAL_STEPS, folder).epoch(steps)[1]
        for kind in kinds
        if kind != "cached"
    }
    first = losses["official"]
    print(f"\n## Losses of {len(steps)} steps of {len(steps[0])} answers, k = V\n")
    print("| step | " + " | ".join(losses) + " |\n|---|" + "---|" * len(losses))
    for number in range(len(steps)):
        shown = " | ".join(f"{found[number]:.6f}" for found in losses.values())
        print(f"| {number + 1} | {shown} |")
    for kind, found in losses.items():
        off = max(abs(a - b) / b for a, b in zip(found, first, strict=True))
        print(f"\n{kind}: at most {off:.1e} relative from the official recipe's")
        assert off <= LOSS_OFF, f"{kind} is off by {off:.1e}, more than {LOSS_OFF:.0e}"


def cached_equals_online(workload: Workload, folder: Path) -> None:
    """Loss and gradients of one step: the teacher's top-k from disk against the same forward."""
    print("\n## Cached against online\n")
    print("| answers | k | bytes a token | loss, relative | gradient, relative |")
    print("|---|---|---|---|---|")
    step = steps_of(workload, 0)[0]
    online, cached = Ours(workload.config, 9), Ours(workload.config, 9, folder / "teacher")
    online.epoch([step])  # a fresh adapter has no gradient in half of its weights
    cached.engine.load_state(online.engine.adapter_state(), online.engine.optimizer_state())
    cached.fill_cache(step)
    loss, gradient = online.gradients(step)
    other_loss, other = cached.gradients(step)
    off, gradient_off = abs(other_loss - loss) / loss, relative(other, gradient)
    k = workload.config.loss.top_k
    size = sum(path.stat().st_size for path in (folder / "teacher").glob("*.safetensors"))
    per_token = size / sum(len(e.answer) for e in step)
    print(f"| a step's {len(step)} | {k} | {per_token:.1f} | {off:.1e} | {gradient_off:.1e} |")
    assert off <= LOSS_OFF and gradient_off <= GRADIENT_OFF
    # of one passage the cache is written from the very rows that training makes: nothing may differ
    one = workload.groups[0][: workload.config.train.answers_per_micro_batch]
    cached.fill_cache(one)
    loss, gradient = online.gradients(one)
    other_loss, other = cached.gradients(one)
    off, gradient_off = abs(other_loss - loss) / loss, relative(other, gradient)
    print(f"| {len(one)} of one passage | {k} | | {off:.1e} | {gradient_off:.1e} |")
    assert other_loss == loss and gradient_off == 0, "stored in fp32, yet not exactly equal"
    assert_stored_exactly(online, one, folder)
    print("\nThe files give back every log-probability, id and tail that was written, bit by bit.")


def assert_stored_exactly(online: Ours, examples: Sequence[Example], folder: Path) -> None:
    batch = packing.twin_batch(examples, online.config.loss, CPU, with_teacher=True)
    taught: TopK = online.engine.teach(batch)
    path = folder / "exact"
    shutil.rmtree(path, ignore_errors=True)
    teacher_cache.open_folder(path, "exact")
    in_order = packing.in_order(examples)
    parts = by_answer(taught, in_order)
    given = {e.answer_id: part for e, part in zip(in_order, parts, strict=True)}
    calls = micro_batches.teacher_calls(examples, online.schedule.limits.tokens)
    teacher_cache.fill(
        path, online.vocab, calls, lambda group: TopK.cat([given[e.answer_id] for e in group])
    )
    found = teacher_cache.read(path, "exact", taught.temperature, in_order).topk(in_order, CPU)
    for name in ("log_p_NK", "lse_N", "log_p_tail_N"):
        assert torch.equal(getattr(found, name), getattr(taught, name).float()), name
    assert torch.equal(found.ids_NK.long(), taught.ids_NK.long())


def by_answer(topk: TopK, examples: Sequence[Example]) -> list[TopK]:
    ends = torch.tensor([len(e.answer) for e in examples]).cumsum(0).tolist()
    return [topk[end - len(e.answer) : end] for e, end in zip(examples, ends, strict=True)]


def relative(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Of the whole gradient, in L2."""
    assert found.keys() == truth.keys() and truth
    off = sum(float((found[n].double() - g.double()).square().sum()) for n, g in truth.items())
    return (off / sum(float(g.double().square().sum()) for g in truth.values())) ** 0.5


def teacher_tokens(workload: Workload, sizes: Sequence[int]) -> None:
    """How many tokens the teacher reads for a question, by how many of a passage go together."""
    print("\n## Teacher tokens a question\n")
    print(
        "Mean over passages; the branch is what is left of prompt and answer behind the prefix.\n"
    )
    print("| group | of the prefix | of the branch | together | official, unpadded |")
    print("|---|---|---|---|---|")
    for size in sizes:
        groups = [group[:size] for group in workload.groups]
        sides = [packing.teacher_side(packing.in_order(group), CPU) for group in groups]
        count = sum(map(len, groups))
        prefix = sum(group.prefix for side in sides for group in side.layout) / count
        together = sum(len(side.ids) for side in sides) / count
        plain = sum(len(e.teacher_prompt) + len(e.answer) for group in groups for e in group)
        print(
            f"| {size} | {prefix:.1f} | {together - prefix:.1f} | {together:.1f} "
            f"| {plain / count:.1f} |"
        )


def of_steps(workload: Workload, answers_per_step: int) -> Workload:
    """The same answers in steps of another size."""
    train = replace(
        workload.config.train,
        answers_per_step=answers_per_step,
        answers_per_micro_batch=min(
            answers_per_step, workload.config.train.answers_per_micro_batch
        ),
    )
    return replace(workload, config=replace(workload.config, train=train))
