"""What a run trains on: its answers, the order of every epoch, each rank's batches and teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from pdtrain.config import RunConfig
from pdtrain.distillation import examples as rows
from pdtrain.distillation import micro_batches as cuts
from pdtrain.distillation import teacher_cache
from pdtrain.distillation.examples import Example
from pdtrain.distillation.losses import sure_of
from pdtrain.distillation.micro_batches import Costs, Cut, Limits
from pdtrain.distillation.rollout import Rollout
from pdtrain.distillation.teacher_cache import TeacherCache
from pdtrain.distributed.engine import Engine
from pdtrain.distributed.process_group import from_first, on_every_rank
from pdtrain.interrupt import STOP, IsAskedToStop
from pdtrain.models.base import fingerprint, skeleton
from pdtrain.models.flops import Weights
from pdtrain.planning import estimate
from pdtrain.planning.estimate import Shape
from pdtrain.progress import Stopped
from pdtrain.records import TwinBatch, seed_for
from pdtrain.storage import hash_json

MakeBatch = Callable[[Cut], TwinBatch]


@dataclass(frozen=True)
class Plan:
    """What is trained on, and in how many steps."""

    config: RunConfig
    inputs: str  # hash of all that decides the adapter
    examples: list[Example]
    retained: Sequence[Example] = ()  # they hold the adapter to its base
    rollout: Rollout | None = None  # writes some of a step's answers anew

    @property
    def steps_per_epoch(self) -> int:
        return rows.steps_per_epoch(len(self.examples), self.config.train.answers_per_step)

    @property
    def num_steps(self) -> int:
        return self.steps_per_epoch * self.config.train.epochs

    @cached_property
    def shape(self) -> Shape:
        """From the model's config alone: under ZeRO-3 no rank sees a weight whole."""
        return estimate.shape_of(skeleton(self.config.model), self.config.adapter.target_modules)

    @cached_property
    def weights(self) -> Weights:
        return estimate.weights_of(self.config, self.shape)

    @cached_property
    def taught(self) -> list[Example]:
        """What the teacher is asked about."""
        distils = self.config.train.objective == "distill"
        return [*(self.examples if distils else []), *self.retained]

    @cached_property
    def costs(self) -> Costs:
        """Of the answers."""
        return self._costs(online=self.config.is_teacher_online)

    def _costs(self, *, online: bool) -> Costs:
        """FLOPs of a token and of a row; attention, small beside the rest, is left out."""
        weights, passes = self.weights, 3 if self.config.train.gradient_checkpointing else 2
        return Costs(
            teacher=2 * weights.matmuls * online,
            student=2 * weights.matmuls * passes,
            row=weights.head * (4 + 2 * online),
        )

    @property
    def limits(self) -> Limits:
        train = self.config.train
        return Limits(train.answers_per_micro_batch, train.tokens_per_micro_batch)

    def refuse_oversized(self) -> None:
        """Raise ValueError for an answer that no micro-batch may hold."""
        longest = self.config.rollout.sampling.max_new_tokens * bool(self.config.rollout.share)
        cuts.refuse_oversized(self.examples, self.costs, self.limits, answer_tokens=longest)
        if self.retained:
            cuts.refuse_oversized(self.retained, self._retained_costs, self.limits)

    @property
    def _retained_costs(self) -> Costs:
        return self._costs(online=not self.config.is_teacher_cached)

    def micro_batches(self, step: int, rank: int = 0, num_ranks: int = 1) -> list[Cut]:
        """The rank's part of a step (from 1 on), which is the same for any number of ranks."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        chosen = [self.examples[i] for i in self._steps(epoch)[position]]
        if self.rollout:
            chosen = self.rollout(step, chosen)
        found = cuts.micro_batches(chosen, self.costs, self.limits, rank=rank, num_ranks=num_ranks)
        if not self.retained:
            return found
        beside, weight = self._retained(step, chosen)
        more = cuts.micro_batches(
            beside, self._retained_costs, self.limits, rank=rank, num_ranks=num_ranks
        )
        return [*found, *(replace(cut, is_retained=True, weight=weight) for cut in more)]

    def _retained(self, step: int, chosen: list[Example]) -> tuple[list[Example], float]:
        """Those of a step, and the weight of each of their rows with which their mean counts
        `retain.weight` times the mean of the answers beside them."""
        settings, loss = self.config.retain, self.config.loss
        seed = seed_for(self.config.seed, "retain")
        taken = rows.taken_in_turn(len(self.retained), settings.per_step, step, seed)
        found = [self.retained[i] for i in taken]
        share = rows.total_weight(chosen, loss) / rows.total_weight(found, loss)
        return found, settings.weight * share

    def _steps(self, epoch: int) -> list[Sequence[int]]:
        """The answers of every step of an epoch, by number; shuffled once an epoch."""
        if epoch not in self._kept:
            passages = [example.passage_id for example in self.examples]
            group = self.config.answers_per_group
            order = rows.epoch_order(passages, self.config.seed, epoch, group)
            self._kept.clear()
            self._kept[epoch] = rows.split_evenly(order, self.steps_per_epoch)
        return self._kept[epoch]

    @cached_property
    def _kept(self) -> dict[int, list[Sequence[int]]]:
        return {}


def batch_maker(plan: Plan, engine: Engine, is_asked_to_stop: IsAskedToStop) -> MakeBatch:
    """How a micro-batch gets its teacher: from the cache, online inside the forward, or none but
    its own answers."""
    config, device = plan.config, engine.device
    distils = config.train.objective == "distill"
    cache = None
    if plan.taught and config.is_teacher_cached:
        cache = filled_cache(plan, engine, is_asked_to_stop)

    def make(cut: Cut) -> TwinBatch:
        has_teacher = distils or cut.is_retained
        made = rows.twin_batch(
            cut.examples,
            config.loss,
            device,
            with_teacher=has_teacher and cache is None,
            is_filler=cut.is_filler,
        )
        if not has_teacher:
            made = replace(made, topk=sure_of(made.targets))
        elif cache is not None:
            made = replace(made, topk=cache.topk(rows.in_order(cut.examples), device))
        return replace(made, weights=made.weights * cut.weight, is_retained=cut.is_retained)

    return make


def filled_cache(plan: Plan, engine: Engine, is_asked_to_stop: IsAskedToStop) -> TeacherCache:
    """The teacher's distributions on all it is asked about; what is missing is asked for first.

    All ranks take part.

    Raises:
        Stopped: asked to, on any rank; what the teacher had said by then is kept.
    """
    config, examples = plan.config, plan.taught
    decides = {
        "model": fingerprint(config.model),
        "prompts": asdict(config.prompts),
        "loss": [config.loss.top_k, config.loss.temperature],
    }
    inputs = from_first(hash_json(decides))
    parts = {name: hash_json(value) for name, value in decides.items()}
    folder = config.folder / "teacher" / inputs[:12]  # another teacher gets another folder
    lacking = from_first(on_every_rank(lambda: _lacking(folder, inputs, parts, examples, engine)))
    # calls are those of an undisturbed run: in others a row's last bits could be other ones
    calls = [
        call
        for call in cuts.calls(examples, plan.limits.tokens)
        if any(teacher_cache.key(example) in lacking for example in call)
    ]
    is_filled = teacher_cache.fill(
        folder,
        plan.shape.sizes.vocab,
        calls,
        lambda chosen: engine.teach(
            rows.twin_batch(chosen, config.loss, engine.device, with_teacher=True)
        ),
        rank=engine.rank,
        num_ranks=engine.num_ranks,
        is_to_stop=lambda: engine.sum_over_ranks(is_asked_to_stop()) > 0,
    )
    engine.sum_over_ranks(0)
    if not is_filled:
        raise Stopped(
            "stopped before the first step; what the teacher has said is kept, and the same "
            f"command goes on from there (remove {config.folder / STOP} first if it is there)"
        )
    return on_every_rank(
        lambda: teacher_cache.read(
            folder,
            inputs,
            config.loss.temperature,
            examples,
            patience_seconds=0 if engine.num_ranks == 1 else 60,
            checked=engine.rank == 0,
        )
    )


def _lacking(
    folder: Path, inputs: str, parts: dict[str, str], examples: list[Example], engine: Engine
) -> set[str]:
    """Keys of the answers that no complete shard holds; looked up by the first rank alone."""
    if engine.rank:
        return set()
    teacher_cache.open_folder(folder, inputs, parts)
    return {teacher_cache.key(example) for example in teacher_cache.missing(folder, examples)}
