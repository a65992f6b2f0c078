"""Test what other parts of PyTorch do with the loss: compilers, transforms, checkpoints, meta."""

import pytest
import torch
from kernel_support import loss_and_gradient, make_rows
from torch.utils.checkpoint import checkpoint

from pdkernels import TopK, teacher_topk, topk_kl

LABELS = torch.tensor([3, 29, -100, 0, 7, 11])


def problem():
    teacher, student, head = make_rows(6, 8, 30)
    return teacher, student, head, teacher_topk(teacher, head, 5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"divergence": "jsd", "tail": "renormalise"},
        {"labels": LABELS, "label_weight": 0.3, "row_weight": torch.arange(6.0), "softcap": 20.0},
    ],
    ids=["default", "renormalised", "everything"],
)
def test_a_compiled_step_is_one_graph_with_the_same_numbers(options):
    teacher, student, head, _ = problem()
    given = {"softcap": options["softcap"]} if "softcap" in options else {}

    def step(teacher, student, head):
        topk = teacher_topk(teacher, head, 5, **given)
        return topk_kl(student * 1.5, head, topk, reduction="sum", **options)

    whole = torch.compile(step, fullgraph=True, backend="aot_eager")
    results = []
    for run in (step, whole):
        rows = student.clone().requires_grad_()
        loss = run(teacher, rows, head)
        (gradient,) = torch.autograd.grad(loss, rows)
        results.append((loss.detach(), gradient))
    assert results[0][1].abs().max() > 1e-3
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-8)


def test_the_operators_keep_pytorchs_rules():
    """Schema, fake results and autograd, by PyTorch's own check of registered operators."""
    teacher, student, head, topk = problem()
    operators, checks = torch.ops.pdkernels, ("test_schema", "test_faketensor")
    find = (teacher, head, None, 5, 1.0, 1.0, None, "chunked", -1)
    torch.library.opcheck(operators.teacher_topk.default, find, test_utils=checks)
    parts = (topk.log_p_NK, topk.ids_NK, topk.lse_N, topk.log_p_tail_N)
    kinds = ("forward_kl", 0.5, "bucket", 0.0, 0.3, -100, "chunked", -1)
    rows = student.requires_grad_()
    for wants in ((True, True), (False, False)):
        given = (rows, head, *parts, None, LABELS, None, 1.0, 1.0, None, *kinds, *wants)
        torch.library.opcheck(operators.topk_kl.default, given, test_utils=checks)
    multiply = (torch.ones(6, 8), torch.ones(6), torch.bfloat16)
    torch.library.opcheck(operators.times_upstream.default, multiply, test_utils=checks)


def test_a_function_transform_differentiates_it():
    _, student, head, topk = problem()
    wanted = loss_and_gradient(student, head, topk)[1]
    found = torch.func.grad(lambda rows: topk_kl(rows, head, topk).sum())(student)
    assert torch.equal(found, wanted)
    once = torch.func.grad(lambda rows: topk_kl(rows, head, topk).sum())
    with pytest.raises(RuntimeError, match="topk_kl has no second derivative"):
        torch.func.grad(lambda rows: once(rows).sum())(student)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(lambda rows: topk_kl(rows[None], head, topk[:1]))(student)


def test_forward_mode_is_refused():
    """By PyTorch, as for any operator that is differentiated in reverse alone: not silently 0."""
    _, student, head, topk = problem()
    with pytest.raises(NotImplementedError, match="to use it with forward mode AD"):
        torch.func.jvp(lambda rows: topk_kl(rows, head, topk), (student,), (student,))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant):
    _, student, head, topk = problem()
    wanted = loss_and_gradient(student, head, topk)
    rows = student.clone().requires_grad_()
    loss = checkpoint(lambda r: topk_kl(r, head, topk), rows, use_reentrant=reentrant)
    loss.sum().backward()
    assert torch.equal(loss.detach(), wanted[0]) and torch.equal(rows.grad, wanted[1])


def test_meta_and_fake_tensors_have_shapes():
    from torch._subclasses.fake_tensor import FakeTensorMode

    student = torch.empty(6, 8, dtype=torch.bfloat16, device="meta", requires_grad=True)
    head = torch.empty(30, 8, dtype=torch.bfloat16, device="meta")
    topk = teacher_topk(student, head, 5)
    loss = topk_kl(student, head, topk, row_weight=torch.empty(6, device="meta"))
    assert topk.ids_NK.shape == (6, 5) and topk.ids_NK.dtype == torch.int64
    assert loss.shape == (6,) and loss.dtype == torch.float32 and loss.is_meta
    loss.sum().backward()
    assert student.grad.shape == (6, 8) and student.grad.dtype == torch.bfloat16
    with FakeTensorMode():
        rows, head = torch.randn(6, 8, requires_grad=True), torch.randn(30, 8)
        topk = teacher_topk(rows, head, 5)
        topk_kl(rows, head, topk).sum().backward()
        assert rows.grad.shape == (6, 8)


def test_gradients_accumulate_and_other_graphs_are_left_alone():
    _, student, head, topk = problem()
    wanted = loss_and_gradient(student, head, topk)[1]
    rows = student.clone().requires_grad_()
    (topk_kl(rows, head, topk).sum() + rows.square().sum()).backward()
    topk_kl(rows, head, topk).sum().backward()
    torch.testing.assert_close(rows.grad, 2 * wanted + 2 * student)
    with torch.inference_mode():
        assert torch.equal(
            topk_kl(student, head, topk), topk_kl(student, head, TopK.cat([topk[:3], topk[3:]]))
        )
