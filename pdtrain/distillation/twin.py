"""base + adapter; the hidden rows of teacher and student, and the loss, from one call.

The teacher is the base with the adapter switched off and the passage in its prompt; the student
is the same base with the adapter on and without the passage. Both go through the model together,
layer by layer: each decoder layer runs on the teacher's hidden states (no gradient, adapter off)
and then on the student's, so that under ZeRO-3 its weights are gathered once for both. The head
is frozen and runs on answer rows alone, and the loss runs inside the head's own forward, where
its weight is at hand.

T tokens of a packed row · N answer rows · D hidden size · V vocabulary: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from pdkernels import TopK
from pdtrain.config import AdapterConfig
from pdtrain.models.attention import packed
from pdtrain.models.attention.packed import Attend
from pdtrain.models.base import refuse_other_heads
from pdtrain.records import Side, TwinBatch
from pdtrain.timing import Clock

DROPOUT = "lora_dropout"  # PEFT's name of the part of a layer that drops units


def add_adapter(
    base: PreTrainedModel, config: AdapterConfig, seed: int, *, in_fp32: bool = True
) -> PeftModel:
    """The base with a LoRA adapter of zero initial effect.

    Its weights are fp32, or with `in_fp32=False` in the base's dtype, for an engine that keeps
    fp32 masters of its own.
    """
    names = [name.strip() for name in config.target_modules.split(",")]
    targets = names[0] if names == ["all-linear"] else names
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            base,
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=targets,
                task_type="CAUSAL_LM",
            ),
            autocast_adapter_dtype=in_fp32,
        )
    return model.eval()


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The base alone. A flag on each layer; unlike PEFT's own switch it leaves requires_grad be."""
    with _off(_tuners(model)):
        yield


def _tuners(module: nn.Module) -> list[BaseTunerLayer]:
    return [part for part in module.modules() if isinstance(part, BaseTunerLayer)]


@contextmanager
def _off(tuners: Sequence[BaseTunerLayer]) -> Iterator[None]:
    before = [tuner._disable_adapters for tuner in tuners]
    for tuner in tuners:
        tuner._disable_adapters = True
    try:
        yield
    finally:
        for tuner, was in zip(tuners, before, strict=True):
            tuner._disable_adapters = was


@contextmanager
def _dropout_on(tuners: Sequence[BaseTunerLayer]) -> Iterator[None]:
    """The adapter's dropout alone: the base stays as it is when it teaches."""
    drops: list[nn.Module] = [getattr(tuner, DROPOUT) for tuner in tuners]
    for drop in drops:
        drop.train()
    try:
        yield
    finally:
        for drop in drops:
            drop.eval()


class Loss(Protocol):
    """How the two sides are compared; `losses.TopKLoss` is one."""

    @property
    def temperature(self) -> float: ...

    def teacher(self, hidden_ND: Tensor, head_VD: Tensor) -> TopK: ...

    def student(
        self, hidden_ND: Tensor, head_VD: Tensor, topk: TopK, targets_N: Tensor | None
    ) -> Tensor: ...


class Twin(nn.Module):
    """One call a micro-batch: both sides through every layer, then the loss.

    With `checkpointing` each layer keeps the student's input alone and computes the rest again in
    backward, inside the layer, where its weights are gathered anyway.

    Raises:
        ValueError: the model's logits are more than head times hidden state (a soft cap, a
            scale or a bias), which the loss would silently leave out; or its layers do something
            that packed rows do not know.
    """

    def __init__(
        self,
        model: PeftModel,
        loss: Loss,
        *,
        checkpointing: bool = False,
        attend: Attend = packed.attention,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.checkpointing = checkpointing
        self.attend = attend
        self.clock = Clock(torch.device("cpu"))  # stands still; an engine puts its own in its place
        base: Any = model.get_base_model()
        refuse_other_heads(base)
        if reason := packed.obstacle(base.config):
            raise ValueError(
                f"{base.config.name_or_path or 'the model'} cannot be trained: {reason}"
            )
        self._tuners = [_tuners(layer) for layer in self.layers]
        self._longest = packed.longest(base.config)

    @property
    def decoder(self) -> Any:
        base: Any = self.model.get_base_model()
        return base.get_decoder()

    @property
    def layers(self) -> Sequence[nn.Module]:
        return self.decoder.layers

    @property
    def head(self) -> Any:
        base: Any = self.model.get_base_model()
        return base.get_output_embeddings()

    def forward(self, batch: TwinBatch) -> tuple[Tensor, ...]:
        """The weighted sum of row losses, and of the teacher's captured mass, both scalars.

        A batch without a student gives the tensors of its teacher's top-k, for `as_topk`:
        DeepSpeed's hooks look through tuples alone.
        """
        teacher = batch.teacher if batch.topk is None else None
        rows = self.hidden_rows(teacher, batch.student)

        with _forward_as(self.head, partial(self._compare, batch)):
            return self.head(*rows)

    def _compare(self, batch: TwinBatch, *rows_ND: Tensor) -> tuple[Tensor, ...]:
        with self.clock("loss"):
            head_VD = self.head.weight
            topk = batch.topk or self.loss.teacher(rows_ND[0], head_VD)
            if batch.student is None:
                return topk.log_p_NK, topk.ids_NK, topk.lse_N, topk.log_p_tail_N
            # what holds the adapter to its base has no answer that was asked for
            targets_N = None if batch.is_retained else batch.targets
            loss_N = self.loss.student(rows_ND[-1], head_VD, topk, targets_N)
            weights_N = batch.weights.to(loss_N)
            mass_N = topk.log_p_NK.exp().sum(-1)
            return (loss_N * weights_N).sum(), (mass_N * weights_N).sum()

    def as_topk(self, tensors: Sequence[Tensor]) -> TopK:
        """What `forward` gave for a batch without a student."""
        log_p_NK, ids_NK, lse_N, log_p_tail_N = tensors
        return TopK(log_p_NK, ids_NK, lse_N, log_p_tail_N, self.loss.temperature)

    def hidden_rows(self, teacher: Side | None, student: Side | None) -> list[Tensor]:
        """(N, D) last hidden states at the rows of each side that is given, the teacher first.

        Gradients reach the adapter through the student's alone.
        """
        sides = [side for side in (teacher, student) if side is not None]
        for side in sides:
            packed.refuse_longer(side.layout, self._longest)
        ids_T = torch.cat([side.ids for side in sides])
        embedded_1TD = self.decoder.get_input_embeddings()(ids_T[None]).detach()
        if student is not None and torch.is_grad_enabled():
            # the first layer's hooks fire when its input's gradient is known: it must have one
            embedded_1TD.requires_grad_()
        with self._pairs(teacher, student):
            hidden_1TD = self.decoder(
                inputs_embeds=embedded_1TD,
                position_ids=torch.cat([side.positions for side in sides])[None],
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids_T.device),
                use_cache=False,
            ).last_hidden_state
        parts = hidden_1TD[0].split([len(side.ids) for side in sides])
        found = [part[side.rows] for part, side in zip(parts, sides, strict=True)]
        return found if teacher is None else [found[0].detach(), *found[1:]]

    @contextmanager
    def _pairs(self, teacher: Side | None, student: Side | None) -> Iterator[None]:
        """Every layer runs its teacher's part of the row and then its student's."""
        with ExitStack() as stack:
            for layer, tuners in zip(self.layers, self._tuners, strict=True):
                pair = partial(self._pair, layer.forward, tuners, teacher, student)
                stack.enter_context(_forward_as(layer, pair))
            yield

    def _pair(
        self,
        forward: Callable[..., Tensor],
        tuners: Sequence[BaseTunerLayer],
        teacher: Side | None,
        student: Side | None,
        hidden_1TD: Tensor,
        **options: Any,
    ) -> Tensor:
        """A layer's forward on a row of both sides, the teacher's tokens first."""
        between = 0 if teacher is None else len(teacher.ids)
        done = []
        if teacher is not None:
            with (
                self.clock("teacher"),
                torch.no_grad(),
                _off(tuners),
                packed.in_view(teacher.layout, self.attend),
            ):
                part = _part(options, slice(None, between))
                done.append(forward(hidden_1TD[:, :between].detach(), **part))
        if student is not None:
            part = _part(options, slice(between, None))

            def run(student_1TD: Tensor) -> Tensor:
                with _dropout_on(tuners), packed.in_view(student.layout, self.attend):
                    return forward(student_1TD, **part)

            own_1TD = hidden_1TD[:, between:]
            if teacher is not None:  # a view would keep the teacher's tokens alive until backward
                own_1TD = own_1TD.clone()
            with self.clock("student"):
                if self.checkpointing and torch.is_grad_enabled():
                    done.append(checkpoint(run, own_1TD, use_reentrant=False))
                else:
                    done.append(run(own_1TD))
        return done[0] if len(done) == 1 else torch.cat(done, 1)


def _part(options: dict[str, Any], tokens: slice) -> dict[str, Any]:
    """A layer's arguments for some of the row's tokens."""
    cos_sin = options.get("position_embeddings")
    chosen = {"position_ids": options["position_ids"][:, tokens]}
    if cos_sin is not None:
        chosen["position_embeddings"] = tuple(x[:, tokens] for x in cos_sin)
    return {**options, **chosen, "attention_mask": None}


@contextmanager
def _forward_as(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Calling the module calls `forward`, between the module's own hooks."""
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward
