"""Run teacher and student through one base in one call, and compute the loss.

The teacher is the base with the adapter switched off and the passage in its prompt; the student
is the same base with the adapter on and without the passage. Packed sequences go through the model
together, layer by layer: each decoder layer runs on the teacher's hidden states (no gradient,
adapter off) and then on the student's, so that under ZeRO-3 its weights are gathered once for both.
Where a layer may do what packed sequences do not allow, padded rows go through the model's own
decoder instead, the teacher's and then the student's (`padded_pass`). The head is frozen and runs
on answer rows alone. The loss runs inside the head's own forward, where ZeRO-3 has gathered its
weight.

T tokens of a packed sequence · N answer rows · D hidden size · V vocabulary: suffixes name
dimensions.
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
from pdtrain.distillation import padded_pass
from pdtrain.distillation.batch import Side, TwinBatch
from pdtrain.models import architectures, head
from pdtrain.models.adapters.lora import dropout_on, switched_off, tuners_of
from pdtrain.models.attention import packed, prefix
from pdtrain.models.attention.packed import Attend
from pdtrain.models.head import HeadRule, called
from pdtrain.timing import Clock


class Loss(Protocol):
    """Compare the two sides; `losses.TopKLoss` is one way."""

    @property
    def temperature(self) -> float: ...

    def teacher(
        self, hidden_ND: Tensor, head_VD: Tensor, rule: HeadRule, bias_V: Tensor | None
    ) -> TopK: ...

    def student(
        self,
        hidden_ND: Tensor,
        head_VD: Tensor,
        topk: TopK,
        targets_N: Tensor,
        rule: HeadRule,
        bias_V: Tensor | None,
        label_shares_N: Tensor | None,
    ) -> Tensor: ...


class Twin(nn.Module):
    """Run both sides of a micro-batch through every layer, then the loss, in one call.

    Args:
        model: the base with its adapter.
        loss: compares the two sides.
        checkpointing: let each layer keep only the student's input and compute the rest again in
            backward, inside the layer, where its weights are gathered anyway.
        attend: the attention over packed sequences.
        compiled: compile each layer's forward with torch.compile, but for the attention, for which
            every layout would be another program.

    Raises:
        ValueError: `compiled` with a model that takes padded rows; or the model's logits are more
            than head times hidden state, with a scale, a bias and a soft cap, which the loss would
            silently leave out.
    """

    def __init__(
        self,
        model: PeftModel,
        loss: Loss,
        *,
        checkpointing: bool = False,
        attend: Attend = packed.attention,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.checkpointing = checkpointing
        self.attend = attend
        # this clock is never started; an engine puts its own in its place
        self.clock = Clock(torch.device("cpu"))
        base: Any = model.get_base_model()
        self._layers = (
            architectures.layers_of(architectures.decoder_of(base)),
        )  # no second set of names
        self.head_rule = head.find(base)
        self.is_packed = prefix.is_packed(architectures.decoder_of(base))
        self.tuners_of = [tuners_of(layer) for layer in self.layers]
        self._longest = architectures.longest(base.config)
        self._forwards = [layer.forward for layer in self.layers]
        if compiled:
            if not self.is_packed:
                raise ValueError(
                    "engine.compile=true needs packed rows, and this model takes padded ones; set "
                    "engine.compile=false"
                )
            prefix.keep_out_of_graphs()
            self._forwards = [torch.compile(f, dynamic=True) for f in self._forwards]

    @property
    def decoder(self) -> Any:
        """Return the base without its head."""
        base: Any = self.model.get_base_model()
        return architectures.decoder_of(base)

    @property
    def layers(self) -> nn.ModuleList:
        """Return the decoder layers, in order."""
        return self._layers[0]

    @property
    def head(self) -> Any:
        """Return the output head, a linear layer."""
        base: Any = self.model.get_base_model()
        return base.get_output_embeddings()

    def forward(self, batch: TwinBatch) -> tuple[Tensor, ...]:
        """Return the weighted sums of the row losses and of the mass of the teacher's top-k.

        Both are scalars, the losses in nats. A batch without a student gives the tensors of its
        teacher's top-k, for `as_topk`, because DeepSpeed's hooks look into tuples only.
        """
        teacher = batch.teacher if batch.topk is None else None
        rows = self.hidden_rows(teacher, batch.student)

        with called(self.head, partial(self._compare, batch)):
            return self.head(*rows)

    def _compare(self, batch: TwinBatch, *rows_ND: Tensor) -> tuple[Tensor, ...]:
        with self.clock("loss"):
            head_VD, rule, bias_V = self.head.weight, self.head_rule, self.head.bias
            topk = batch.topk or self.loss.teacher(rows_ND[0], head_VD, rule, bias_V)
            if batch.student is None:
                return topk.log_p_NK, topk.ids_NK, topk.lse_N, topk.log_p_tail_N
            # regularization has no labels: nothing that the base says is a right answer
            shares_N = None if batch.is_regularization else batch.label_shares
            loss_N = self.loss.student(
                rows_ND[-1], head_VD, topk, batch.targets, rule, bias_V, shares_N
            )
            weights_N = batch.weights.to(loss_N)
            mass_N = topk.log_p_NK.exp().sum(-1)
            return (loss_N * weights_N).sum(), (mass_N * weights_N).sum()

    def as_topk(self, tensors: Sequence[Tensor]) -> TopK:
        """Return the top-k that `forward` gave for a batch without a student."""
        log_p_NK, ids_NK, lse_N, log_p_tail_N = tensors
        return TopK(log_p_NK, ids_NK, lse_N, log_p_tail_N, self.loss.temperature)

    def hidden_rows(self, teacher: Side | None, student: Side | None) -> list[Tensor]:
        """Return the last hidden states (N, D) at the rows of each side given, the teacher first.

        Gradients reach the adapter through the student's rows alone.

        Raises:
            ValueError: a prompt and its answer are longer than the rotary embedding allows.
        """
        sides = [side for side in (teacher, student) if side is not None]
        for side in sides:
            packed.refuse_longer(side.layout, self._longest)
        if not self.is_packed:
            return self._padded_rows(teacher, student)
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

    def _padded_rows(self, teacher: Side | None, student: Side | None) -> list[Tensor]:
        found = []
        if teacher is not None:
            with self.clock("teacher"):
                found.append(padded_pass.teacher_rows(self.decoder, teacher))
        if student is not None:
            with self.clock("student"):
                found.append(
                    padded_pass.student_rows(
                        self.decoder,
                        self.layers,
                        self.tuners_of,
                        student,
                        checkpointing=self.checkpointing,
                    )
                )
        return found

    @contextmanager
    def _pairs(self, teacher: Side | None, student: Side | None) -> Iterator[None]:
        """Let every layer run on the teacher's tokens and then on the student's."""
        with ExitStack() as stack:
            for layer, forward, tuners in zip(
                self.layers, self._forwards, self.tuners_of, strict=True
            ):
                pair = partial(self._pair, forward, tuners, teacher, student)
                stack.enter_context(called(layer, pair))
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
        """Run a layer's forward on a sequence of both sides, the teacher's tokens first."""
        border = 0 if teacher is None else len(teacher.ids)
        outputs = []
        if teacher is not None:
            with (
                self.clock("teacher"),
                torch.no_grad(),
                switched_off(tuners),
                packed.in_view(teacher.layout, self.attend),
            ):
                part = _part(options, slice(None, border))
                outputs.append(forward(hidden_1TD[:, :border].detach(), **part))
        if student is not None:
            part = _part(options, slice(border, None))

            def run(student_1TD: Tensor) -> Tensor:
                with dropout_on(tuners), packed.in_view(student.layout, self.attend):
                    return forward(student_1TD, **part)

            own_1TD = hidden_1TD[:, border:]
            if teacher is not None:  # a view would keep the teacher's tokens alive until backward
                own_1TD = own_1TD.clone()
            with self.clock("student"):
                if self.checkpointing and torch.is_grad_enabled():
                    outputs.append(checkpoint(run, own_1TD, use_reentrant=False))
                else:
                    outputs.append(run(own_1TD))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def _part(options: dict[str, Any], tokens: slice) -> dict[str, Any]:
    """Return a layer's arguments for some of the sequence's tokens."""
    cos_sin = options.get("position_embeddings")
    chosen = {"position_ids": options["position_ids"][:, tokens]}
    if cos_sin is not None:
        chosen["position_embeddings"] = tuple(x[:, tokens] for x in cos_sin)
    return {**options, **chosen, "attention_mask": None}
