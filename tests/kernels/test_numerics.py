"""Test where rounding would show: small differences and tails, large and impossible logits."""

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth

from pdkernels import teacher_topk, topk_kl


@pytest.mark.parametrize("logit_std", [5.0, 30.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradient_keeps_five_digits_near_the_teacher(logit_std, divergence):
    """The KL is 1e-3 to 1, where fp32 logits alone leave 1e-4 of the gradient wrong."""
    for apart in (0.01, 0.03, 0.1) if logit_std == 5 else (0.004, 0.01, 0.1):
        teacher, student, head = make_rows(32, 64, 6000, logit_std=logit_std, apart=apart)
        loss64, gradient64 = truth(teacher, student, head, 64, divergence=divergence)
        topk = teacher_topk(teacher, head, 64, impl="chunked")
        loss, gradient = loss_and_gradient(
            student, head, topk, divergence=divergence, impl="chunked"
        )
        assert 1e-4 < loss64.mean() < 1  # a JSD is a quarter of the KL
        assert relative_error(loss, loss64) < 1e-5
        assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("logit_std", [5.0, 30.0])
@pytest.mark.parametrize("apart", [0.01, 0.1, 0.3])
def test_is_no_worse_than_eager_fp32_near_the_teacher(logit_std, apart):
    """Logits of 100 carry 4e-6 of rounding, and the gradient is a small difference of them."""
    teacher, student, head = make_rows(32, 64, 6000, logit_std=logit_std, apart=apart)
    for divergence in DIVERGENCES:
        loss64, gradient64 = truth(teacher, student, head, 64, divergence=divergence)
        errors = {}
        for impl in ("reference", "chunked"):
            topk = teacher_topk(teacher, head, 64, impl=impl)
            loss, gradient = loss_and_gradient(
                student, head, topk, divergence=divergence, impl=impl
            )
            errors[impl] = relative_error(loss, loss64), relative_error(gradient, gradient64)
        assert errors["chunked"][0] <= 1.5 * errors["reference"][0] + 1e-6
        assert errors["chunked"][1] <= 1.5 * errors["reference"][1] + 1e-6


@pytest.mark.parametrize("tail, row_filter", [("bucket", 0), ("bucket", 0.02), ("renormalise", 0)])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_equal_sides_give_nothing(divergence, tail, row_filter):
    teacher, _, head = make_rows(40, 32, 4500, logit_std=10)
    topk = teacher_topk(teacher, head, 64, impl="chunked")
    options = {"divergence": divergence, "tail": tail, "row_filter": row_filter}
    loss, gradient = loss_and_gradient(teacher, head, topk, impl="chunked", **options)
    assert (loss >= 0).all() and loss.max() < 1e-9
    # a renormalised log p is as good as its fp32 storage
    assert gradient.norm(dim=-1).max() < (1e-6 if tail == "bucket" else 1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("apart", [1e-7, 1e-6, 1e-5, 1e-3])
def test_is_never_negative_without_a_clamp(divergence, apart):
    teacher, student, head = make_rows(200, 32, 2500, apart=apart)
    topk = teacher_topk(teacher, head, 20, impl="chunked")
    assert (topk_kl(student, head, topk, divergence=divergence, impl="chunked") >= -1e-12).all()


def test_a_constant_on_all_logits_changes_nothing():
    teacher, student, head = make_rows(6, 16, 2100)
    options = {"divergence": "jsd", "impl": "chunked"}
    loss, gradient = loss_and_gradient(student, head, teacher_topk(teacher, head, 20), **options)
    head = torch.cat([head, torch.ones(2100, 1)], 1)
    teacher = torch.cat([teacher, torch.full((6, 1), 64.0)], 1)
    student = torch.cat([student, torch.full((6, 1), -64.0)], 1)
    topk = teacher_topk(teacher, head, 20, impl="chunked")
    moved, moved_gradient = loss_and_gradient(student, head, topk, **options)
    assert relative_error(moved, loss) < 1e-4  # logits near 64 carry 4e-6 of rounding
    assert relative_error(moved_gradient[:, :16], gradient) < 1e-4
    assert moved_gradient[:, 16].abs().max() < 1e-5, "the gradient over all logits sums to 0"


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_ties_at_the_last_place_give_the_loss_of_either_choice(divergence):
    _, _, head = make_rows(1, 8, 3000)
    head[5] = head[2500] = head[77]
    teacher = head[77][None] * 8 / head[77].norm()
    student = teacher.roll(1) + teacher / 2
    for k in (1, 2, 3):
        loss64, gradient64 = truth(teacher, student, head, k, divergence=divergence)
        topk = teacher_topk(teacher, head, k, impl="chunked")
        loss, gradient = loss_and_gradient(student, head, topk, divergence=divergence)
        assert relative_error(loss, loss64) < 1e-5
        assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("k", [16, 40])  # fewer than, and exactly, the words that can happen
def test_padded_words_never_happen(divergence, k):
    """After 40 real words comes padding with logits of -1e30, as some checkpoints mask it."""
    teacher, student, head = make_rows(5, 8, 2100)
    head[40:] = 0
    head[40:, 0] = -1e30
    teacher[:, 0] = student[:, 0] = 1
    topk = teacher_topk(teacher, head, k, impl="chunked")
    assert (topk.ids_NK < 40).all()
    loss, gradient = loss_and_gradient(student, head, topk, divergence=divergence, impl="chunked")
    loss64, gradient64 = truth(teacher, student, head[:40], k, divergence=divergence)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5
    if k == 40:
        assert (topk.log_p_tail_N.exp() == 0).all()


def test_infinitely_unlikely_words_leave_the_loss_finite():
    teacher, student, head = make_rows(5, 8, 2100)
    teacher[:, 0] = student[:, 0] = 1
    head[40:], head[40:, 0] = 0, -torch.inf
    topk = teacher_topk(teacher, head, 60, impl="chunked")  # 20 of them have p = 0
    loss64, _ = truth(teacher, student, head[:40], 40)
    assert (topk.log_p_tail_N == -torch.inf).all()
    assert relative_error(topk_kl(student, head, topk, impl="chunked"), loss64) < 1e-5


def test_large_logits_stay_finite():
    teacher, student, head = make_rows(8, 16, 2100, logit_std=1e4, apart=0.5)
    topk = teacher_topk(teacher, head, 20, impl="chunked")
    for divergence in DIVERGENCES:
        loss64, gradient64 = truth(teacher, student, head, 20, divergence=divergence)
        loss, gradient = loss_and_gradient(
            student, head, topk, divergence=divergence, impl="chunked"
        )
        assert gradient.isfinite().all()
        assert relative_error(loss, loss64) < 1e-5
        assert relative_error(gradient, gradient64) < 1e-5


def rows_with_tail(log_tail: float, vocab: int = 4100, hidden: int = 8):
    """Return one row: ten likely words, and others that share a mass of exp(log_tail) unevenly."""
    head = torch.zeros(vocab, hidden)
    head[:10, 0] = torch.linspace(0, -2, 10)
    level = log_tail - torch.tensor(float(vocab - 10)).log() + head[:10, 0].logsumexp(0)
    head[10:, 0] = level + 0.5 * torch.randn(vocab - 10)
    head[:, 1:] = torch.randn(vocab, hidden - 1)
    teacher, student = torch.zeros(1, hidden), torch.zeros(1, hidden)
    teacher[:, 0] = student[:, 0] = 1
    student[:, 1:] = 0.2 * torch.randn(1, hidden - 1)
    return teacher, student, head


@pytest.mark.parametrize("mass", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_small_tails_keep_their_digits(mass, divergence):
    """1 - sum p would be off by a quarter at 1e-6 and by everything at 1e-8."""
    teacher, student, head = rows_with_tail(torch.tensor(mass).log().item())
    topk = teacher_topk(teacher, head, 10, impl="chunked")
    truth64 = teacher_topk(teacher.double(), head.double(), 10, impl="reference")
    assert abs(topk.log_p_tail_N.double() - truth64.log_p_tail_N) < 1e-5
    loss64, gradient64 = truth(teacher, student, head, 10, divergence=divergence)
    loss, gradient = loss_and_gradient(student, head, topk, divergence=divergence, impl="chunked")
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("gap", [60.0, -60.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_sides_sixty_nats_apart(gap, divergence):
    teacher, student, head = make_rows(4, 8, 2100)
    head[1000, 0] += 5
    teacher[:, 0], student[:, 0] = (1, gap) if gap > 0 else (-gap, -1)
    loss64, gradient64 = truth(teacher, student, head, 20, divergence=divergence)
    topk = teacher_topk(teacher, head, 20, impl="chunked")
    loss, gradient = loss_and_gradient(student, head, topk, divergence=divergence, impl="chunked")
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_get_fp32_logits(dtype):
    """The truth has the same rounded inputs in float64: only the output is rounded to the dtype."""
    teacher, student, head = (x.to(dtype) for x in make_rows(16, 64, 3000, apart=0.05))
    loss64, gradient64 = truth(teacher, student, head, 64)
    topk = teacher_topk(teacher, head, 64, impl="chunked")
    loss, gradient = loss_and_gradient(student, head, topk, impl="chunked")
    assert loss.dtype == torch.float32 and gradient.dtype == dtype
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < torch.finfo(dtype).eps


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_equal_rows_get_equal_losses(divergence):
    """Duplicates, in the batch and in the vocabulary, are nothing special."""
    teacher, student, head = make_rows(6, 16, 2100)
    head[100:200] = head[:100]  # every one of these words is there twice
    teacher[3], student[3] = teacher[0], student[0]
    loss64, gradient64 = truth(teacher, student, head, 20, divergence=divergence)
    topk = teacher_topk(teacher, head, 20, impl="chunked")
    loss, gradient = loss_and_gradient(student, head, topk, divergence=divergence, impl="chunked")
    assert relative_error(loss[0], loss[3]) < 1e-6
    assert relative_error(gradient[0], gradient[3]) < 1e-6
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("impl", ["reference", "chunked"])
def test_a_row_that_is_all_masked_is_not_passed_off_as_a_number(impl):
    """Where no word can happen there is no distribution: NaN in that row, and in no other."""
    teacher, student, head = make_rows(4, 8, 300)
    topk = teacher_topk(teacher, head, 20, impl=impl)
    wanted, wanted_gradient = loss_and_gradient(student, head, topk, impl=impl)
    student[2] = torch.nan
    loss, gradient = loss_and_gradient(student, head, topk, impl=impl)
    others = [0, 1, 3]
    assert loss[2].isnan() and gradient[2].isnan().all()
    assert relative_error(loss[others], wanted[others]) < 1e-6
    assert relative_error(gradient[others], wanted_gradient[others]) < 1e-6
