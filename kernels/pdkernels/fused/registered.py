"""Register both operations with PyTorch, so that a compiler holds each as one node of its graph.

`torch.compile(fullgraph=True)`, fake tensors and meta tensors see shapes and dtypes; the work is
that of `pdkernels.fused.eager`. What was chosen, warned of or checked by value is so when it runs.

N rows · D hidden size · V vocabulary · K top-k · P parts: suffixes name dimensions.
"""

from typing import Any

import torch
from torch import Tensor

from pdkernels.chunked.slabs import compute_dtype
from pdkernels.fused.eager import run_student, run_teacher
from pdkernels.fused.operator import shapes
from pdkernels.logits import Logits
from pdkernels.sharded.vocab_shard import VocabShard, shard_of
from pdkernels.topk import TopK


def is_traced(rows: Tensor) -> bool:
    """Return whether the rows hold no data: inside a compiler, on meta, or fake."""
    return torch.compiler.is_compiling() or rows.is_meta or _is_fake(rows)


def _is_fake(rows: Tensor) -> bool:
    return type(rows).__name__ in ("FakeTensor", "FunctionalTensor")


@torch.library.custom_op("pdkernels::teacher_topk", mutates_args=())
def _teacher(
    hidden: Tensor,
    head: Tensor,
    bias: Tensor | None,
    k: int,
    temperature: float,
    scale: float,
    softcap: float | None,
    impl: str,
    shard: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = Logits(temperature, scale, softcap, bias)
    topk = run_teacher(hidden, head, k, logits, impl, shard_of(shard))
    return topk.log_p_NK, topk.ids_NK, topk.lse_N, topk.log_p_tail_N


@_teacher.register_fake
def _teacher_shapes(hidden, head, bias, k, temperature, scale, softcap, impl, shard):
    num_rows, dtype = hidden.shape[0], compute_dtype(hidden)
    return (
        hidden.new_empty(num_rows, k, dtype=dtype),
        hidden.new_empty(num_rows, k, dtype=torch.int64),
        hidden.new_empty(num_rows, dtype=dtype),
        hidden.new_empty(num_rows, dtype=dtype),
    )


@torch.library.custom_op("pdkernels::topk_kl", mutates_args=())
def _student(
    student: Tensor,
    head: Tensor,
    log_p: Tensor,
    ids: Tensor,
    lse: Tensor,
    log_p_tail: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    row_weight: Tensor | None,
    temperature: float,
    scale: float,
    softcap: float | None,
    divergence: str,
    beta: float,
    tail: str,
    row_filter: float,
    label_weight: float,
    ignore_index: int,
    impl: str,
    shard: int,
    wants_gradient: bool,
    wants_parts: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    topk = TopK.unchecked(log_p, ids, lse, log_p_tail, temperature)
    logits = Logits(temperature, scale, softcap, bias)
    options = {
        "divergence": divergence, "beta": beta, "tail": tail, "row_filter": row_filter,
        "label_weight": label_weight, "ignore_index": ignore_index, "impl": impl,
    }  # fmt: skip
    student = student.detach().requires_grad_(wants_gradient)
    with torch.enable_grad() if wants_gradient else torch.no_grad():
        loss_N, parts_NP = run_student(
            student, head, topk, logits, labels, row_weight, options, shard_of(shard), wants_parts
        )
    nothing = loss_N.new_empty(0)
    if not wants_gradient:
        return loss_N.detach(), nothing, parts_NP.detach() if wants_parts else nothing.clone()
    ones_N = torch.ones_like(loss_N)
    d_student_ND = torch.autograd.grad(loss_N, student, ones_N)[0].to(loss_N.dtype)
    return loss_N.detach(), d_student_ND, parts_NP.detach() if wants_parts else nothing


@_student.register_fake
def _student_shapes(student, *rest):
    return shapes(student, *rest[-2:])


def _keep_gradient(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(output[1])
    ctx.dtype = inputs[0].dtype
    ctx.num_inputs = len(inputs)
    ctx.set_materialize_grads(False)


def _times_upstream(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    (d_student_ND,) = ctx.saved_tensors
    nothing = (None,) * (ctx.num_inputs - 1)
    if upstream[0] is None:
        return None, *nothing
    return _multiply(d_student_ND, upstream[0], ctx.dtype), *nothing


@torch.library.custom_op("pdkernels::times_upstream", mutates_args=())
def _multiply(d_student: Tensor, d_loss: Tensor, dtype: torch.dtype) -> Tensor:
    return (d_student * d_loss[:, None]).to(dtype, copy=True)


@_multiply.register_fake
def _multiply_shapes(d_student, d_loss, dtype):
    return d_student.new_empty(d_student.shape, dtype=dtype)


def _refuse(ctx: Any, *upstream: Tensor | None) -> None:
    raise RuntimeError(
        "topk_kl has no second derivative: its gradient is made in forward and is a constant"
    )


_student.register_autograd(_times_upstream, setup_context=_keep_gradient)
_multiply.register_autograd(_refuse)


def teacher(
    hidden_ND: Tensor,
    head_VD: Tensor,
    k: int,
    logits: Logits,
    impl: str,
    shard: VocabShard | None,
) -> TopK:
    """Return what `run_teacher` does, through the registered operator."""
    parts = _teacher(
        hidden_ND, head_VD, logits.bias_V, k, logits.temperature, logits.scale, logits.softcap,
        impl, -1 if shard is None else shard.handle,
    )  # fmt: skip
    return TopK.unchecked(*parts, logits.temperature)


def student(
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    logits: Logits,
    labels_N: Tensor | None,
    row_weight: Tensor | None,
    options: dict[str, Any],
    shard: VocabShard | None,
    wants_parts: bool,
) -> tuple[Tensor, Tensor]:
    """Return what `run_student` does, through the registered operator."""
    loss_N, _, parts_NP = _student(
        student_ND, head_VD, topk.log_p_NK, topk.ids_NK, topk.lse_N, topk.log_p_tail_N,
        logits.bias_V, labels_N, row_weight, logits.temperature, logits.scale, logits.softcap,
        options["divergence"], options["beta"], options["tail"], options["row_filter"],
        options["label_weight"] or 0.0, options["ignore_index"], options["impl"],
        -1 if shard is None else shard.handle,
        torch.is_grad_enabled() and student_ND.requires_grad, wants_parts,
    )  # fmt: skip
    return loss_N, parts_NP
