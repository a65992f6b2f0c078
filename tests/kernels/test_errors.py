"""Test what the public operations refuse, and what they say."""

from dataclasses import replace

import pytest
import torch
from kernel_support import make_rows

from pdkernels import TopK, teacher_topk, topk_kl


def a_call(**changes):
    teacher, student, head = make_rows(6, 8, 300)
    topk = teacher_topk(teacher, head, 20)
    call = {"student": student, "head": head, "topk": topk} | changes
    return topk_kl(**call)


HEAD = torch.randn(300, 8)
ERRORS = [
    ({"head": torch.randn(300, 9)}, "hidden size 8 but the head expects 9"),
    ({"head": torch.empty(0)}, r"no elements \(shape \(0,\)\): a ZeRO-3 placeholder"),
    ({"head": torch.randn(15, 8)}, "k = 20 tokens but the head has a vocabulary of 15"),
    ({"head": torch.randn(21, 8)}, r"names token \d+ but the head has a vocabulary of 21"),
    ({"head": HEAD.clone().requires_grad_()}, "the head requires grad"),
    ({"head": HEAD.to(torch.int8)}, "the head must be bf16, fp16, fp32 or fp64, got torch.int8"),
    ({"head": HEAD.to(torch.float8_e4m3fn)}, "got torch.float8_e4m3fn; dequantise it first"),
    ({"head": HEAD.to("meta")}, "on cpu but the head is on meta"),
    ({"student": torch.randn(2, 3, 8)}, r"must be \(N, D\).* got \(2, 3, 8\)"),
    ({"student": torch.randn(5, 8)}, "5 rows but the teacher has 6"),
    ({"row_weight": torch.ones(5)}, r"shape \(6,\), one factor a row, got \(5,\)"),
    ({"row_weight": torch.ones(6, requires_grad=True)}, "row_weight requires grad"),
    ({"row_filter": -1.0}, "row_filter must be >= 0, got -1.0"),
    ({"divergence": "kl"}, "divergence must be one of forward_kl, reverse_kl, jsd, got 'kl'"),
    ({"tail": "drop"}, "tail must be one of bucket, renormalise, got 'drop'"),
    ({"impl": "cuda"}, "impl must be one of auto, reference, chunked, triton, got 'cuda'"),
    ({"divergence": "jsd", "beta": 1.0}, "jsd needs 0 < beta < 1, got 1.0"),
]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ids_NK": torch.tensor([[-100, 3]])}, "names token -100 but the head has a vocabulary"),
        ({"log_p_NK": torch.zeros(1, 3)}, r"of shape \(N, K\).* got \(1, 3\), \(1, 2\), \(1,\)"),
        ({"lse_N": torch.zeros(2)}, r"of shape \(N,\), got"),
        ({"temperature": 0.0}, "temperature of topk must be > 0 and finite, got 0.0"),
    ],
)
def test_a_teacher_that_does_not_fit_itself_is_refused(changes, message):
    half, zero = torch.tensor([[0.5, 0.25]]).log(), torch.zeros(1)
    topk = TopK(half, torch.tensor([[1, 3]]), zero, zero + torch.tensor(0.25).log(), 1.0)
    with pytest.raises(ValueError, match=message):
        topk_kl(torch.zeros(1, 8), HEAD, replace(topk, **changes))


@pytest.mark.parametrize("changes, message", ERRORS)
def test_errors_say_what_was_expected_and_what_came(changes, message):
    with pytest.raises(ValueError, match=message):
        a_call(**changes)


def test_a_teacher_that_requires_grad_is_refused():
    teacher, student, head = make_rows(6, 8, 300)
    topk = teacher_topk(teacher.requires_grad_(), head, 20)
    assert not topk.log_p_NK.requires_grad, "teacher_topk never asks for a gradient"
    trained = TopK(topk.log_p_NK.requires_grad_(), topk.ids_NK, topk.lse_N, topk.log_p_tail_N, 1.0)
    with pytest.raises(ValueError, match="the teacher requires grad"):
        topk_kl(student, head, trained)


@pytest.mark.parametrize(
    "k, temperature, message",
    [
        (301, 1.0, "between 1 and the head's vocabulary of 300 words, got 301"),
        (0, 1.0, "between 1 and the head's vocabulary of 300 words, got 0"),
        (5, 0.0, "temperature must be > 0 and finite, got 0.0"),
        (5, float("inf"), "temperature must be > 0 and finite, got inf"),
    ],
)
def test_teacher_errors(k, temperature, message):
    with pytest.raises(ValueError, match=message):
        teacher_topk(torch.randn(6, 8), HEAD, k, temperature)


def test_parts_of_different_kinds_do_not_join():
    parts = [teacher_topk(torch.randn(2, 8), HEAD, 5, t) for t in (1.0, 2.0)]
    with pytest.raises(ValueError, match="one k and one temperature"):
        TopK.cat(parts)
    with pytest.raises(ValueError, match="at least one part"):
        TopK.cat([])
