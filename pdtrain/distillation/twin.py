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
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pdkernels import TopK
from pdtrain.distillation.batch import Side, TwinBatch
from pdtrain.models import architectures
from pdtrain.models.architectures import refuse_other_heads
from pdtrain.models.attention import packed
from pdtrain.models.attention.packed import Attend
from pdtrain.models.lora import dropout_on, switched_off, tuners_of
from pdtrain.timing import Clock


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
        if reason := architectures.obstacle(base.config):
            raise ValueError(
                f"{base.config.name_or_path or 'the model'} cannot be trained: {reason}"
            )
        self.tuners_of = [tuners_of(layer) for layer in self.layers]
        self._longest = architectures.longest(base.config)

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
            targets_N = None if batch.is_regularization else batch.targets
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
            for layer, tuners in zip(self.layers, self.tuners_of, strict=True):
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
                switched_off(tuners),
                packed.in_view(teacher.layout, self.attend),
            ):
                part = _part(options, slice(None, between))
                done.append(forward(hidden_1TD[:, :between].detach(), **part))
        if student is not None:
            part = _part(options, slice(between, None))

            def run(student_1TD: Tensor) -> Tensor:
                with dropout_on(tuners), packed.in_view(student.layout, self.attend):
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
