"""What is compared: one optimizer step on some answers, by the baselines and by pdtrain."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from baselines.official import Official
from baselines.trl_sdft import Sdft
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop
from train_throughput_data import Workload

from pdtrain.config import RunConfig
from pdtrain.distillation import micro_batches, packing, schedule, teacher_cache
from pdtrain.distillation.examples import Example
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.teacher_cache import TeacherCache
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.training.step import train_step

CPU = torch.device("cpu")
ADAPTER_SEED = 1  # the same first weights for all


NAMES = {
    "official": "(a) official recipe",
    "trl": "(b) TRL's SDFTTrainer",
    "online": "pdtrain, teacher online",
    "cached": "pdtrain, teacher cached",
}


class Variant(Protocol):
    """A training that has begun; both methods give what the loss is before the step."""

    def epoch(self, steps: Sequence[Sequence[Example]]) -> tuple[float, list[float]]:
        """Seconds, and the loss of every step."""
        ...

    def num_tokens(self, examples: Sequence[Example]) -> tuple[int, int]:
        """Read by teacher and student in a step."""
        ...


class Plain(Official):
    """The official recipe, epoch by epoch."""

    def epoch(self, steps: Sequence[Sequence[Example]]) -> tuple[float, list[float]]:
        started = time.perf_counter()
        losses = [self.step(examples)[0] for examples in steps]
        return time.perf_counter() - started, losses


class Ours:
    """pdtrain's own step, with the teacher in the same forward pass or its answers from a cache."""

    def __init__(self, config: RunConfig, num_steps: int, folder: Path | None = None) -> None:
        self.config, self.folder = config, folder
        base = load_model(config.model)
        self.vocab = base.get_output_embeddings().weight.shape[0]
        twin = Twin(add_adapter(base, config.adapter, ADAPTER_SEED), TopKLoss(config.loss))
        self.engine = PlainEngine(twin, config.train, num_steps)
        self.schedule = Schedule(config, "", [])
        self.costs = replace(self.schedule.costs, teacher=0.0) if folder else self.schedule.costs
        self.cache: TeacherCache | None = None

    def fill_cache(self, examples: Sequence[Example]) -> None:
        """Ask the teacher once about all answers; a cache that was there is written again."""
        assert self.folder, "this variant runs its teacher online"
        shutil.rmtree(self.folder, ignore_errors=True)
        teacher_cache.open_folder(self.folder, "benchmark")
        missing = teacher_cache.missing(self.folder, examples)
        calls = micro_batches.teacher_calls(missing, self.schedule.limits.tokens)
        teacher_cache.fill(self.folder, self.vocab, calls, self._teach)
        temperature = self.config.loss.temperature
        self.cache = teacher_cache.read(self.folder, "benchmark", temperature, list(examples))

    def _teach(self, group: list[Example]) -> Any:
        return self.engine.teach(self._batch(group, with_teacher=True))

    def _batch(self, chosen: Sequence[Example], *, with_teacher: bool) -> Any:
        return packing.twin_batch(chosen, self.config.loss, CPU, with_teacher=with_teacher)

    def batches(self, examples: Sequence[Example]) -> list[Any]:
        found = []
        for one in micro_batches.micro_batches(examples, self.costs, self.schedule.limits):
            batch = self._batch(one.examples, with_teacher=self.folder is None)
            if self.cache:
                batch = replace(batch, topk=self.cache.topk(packing.in_order(one.examples), CPU))
            found.append(batch)
        return found

    def epoch(self, steps: Sequence[Sequence[Example]]) -> tuple[float, list[float]]:
        started = time.perf_counter()
        losses = [train_step(self.engine, self.batches(examples)).loss for examples in steps]
        return time.perf_counter() - started, losses

    def gradients(self, examples: Sequence[Example]) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients by weight of one step that is not taken."""
        loss = 0.0
        batches = self.batches(examples)
        total = sum(batch.total_weight for batch in batches)
        for batch in batches:
            share = self.engine(batch)[0] / total
            share.backward()
            loss += float(share.detach())
        found = {n: w.grad.clone() for n, w in self.engine.weights.items() if w.grad is not None}
        self.engine.optimizer.zero_grad(set_to_none=True)
        return loss, found

    def num_tokens(self, examples: Sequence[Example]) -> tuple[int, int]:
        batches = self.batches(examples)
        teacher = sum(len(batch.teacher.ids) for batch in batches if batch.teacher)
        return teacher, sum(len(batch.student.ids) for batch in batches)


def make(kind: str, config: RunConfig, num_steps: int, folder: Path) -> Variant:
    """One of NAMES. Baselines run plain transformers: its SDPA, none of pdtrain's attention.

    The cached one keeps its files in `folder`, and has none yet.
    """
    if kind == "online":
        return Ours(config, num_steps)
    if kind == "cached":
        return Ours(config, num_steps, folder / "teacher")
    base = load_model(config.model)
    base.set_attn_implementation("sdpa")
    model = add_adapter(base, config.adapter, ADAPTER_SEED)
    if kind == "trl":
        return Sdft(model, load_tokenizer(config.model), config.loss, config.train, num_steps)
    return Plain(model, config.loss, config.train, num_steps)


def with_loss(config: RunConfig, **changes: Any) -> RunConfig:
    return replace(config, loss=replace(config.loss, **changes))


def steps_of(workload: Workload, epoch: int) -> list[list[Example]]:
    """An epoch's steps, in the order in which `pdtrain train` takes them with an online teacher."""
    examples, per_step = workload.examples, workload.config.train.answers_per_step
    passages, group = [e.passage_id for e in examples], workload.config.answers_per_group
    order = schedule.epoch_order(passages, workload.config.seed, epoch, group)
    num_steps = schedule.steps_per_epoch(len(examples), per_step)
    return [[examples[i] for i in some] for some in schedule.split_evenly(order, num_steps)]


class Flops(TorchDispatchMode):
    """Counts those of matrix products and attention inside, backward included.

    By the formulas of torch's own FlopCounterMode, which on this model spends minutes on finding
    out which module a product belongs to, and knows neither attention on CPUs nor `addmm_`.
    Attention counts whole, causal or not.
    """

    def __init__(self) -> None:
        super().__init__()
        aten, self.total = torch.ops.aten, 0
        self.formulas = flop_registry | {
            aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
            aten.addmm_: flop_registry[aten.addmm],
        }

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        out = function(*args, **(kwargs or {}))
        formula = self.formulas.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def flops(work: Callable[[], object]) -> int:
    with Flops() as counter:
        work()
    return counter.total
