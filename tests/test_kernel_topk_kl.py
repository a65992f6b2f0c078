"""The chunked top-k KL against the float64 definition, its properties, and its errors."""

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth
from torch import Tensor

import pdkernels.slabs
from pdkernels import TopK, report_row_filter, teacher_topk, topk_kl

SHAPES = [  # N, D, V, k
    pytest.param(1, 16, 64, 1, id="one_row_one_token"),
    pytest.param(7, 24, 507, 20, id="divides_nothing"),
    pytest.param(129, 16, 4099, 33, id="three_slabs_and_a_rest"),
    pytest.param(5, 8, 50, 50, id="k_is_all"),
    pytest.param(4, 8, 2049, 2049, id="k_is_all_over_two_slabs"),
    pytest.param(3, 32, 5000, 256, id="wide_k"),
]


@pytest.mark.parametrize("num_rows, hidden, vocab, k", SHAPES)
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_value_and_gradient_match_the_definition(num_rows, hidden, vocab, k, tail, divergence):
    teacher, student, head = make_rows(num_rows, hidden, vocab)
    options = {"tail": tail, "divergence": divergence, "beta": 0.3}
    upstream = torch.randn(num_rows, dtype=torch.float64)
    loss64, gradient64 = truth(
        teacher, student, head, k, temperature=1.7, upstream_N=upstream, **options
    )
    topk = teacher_topk(teacher, head, k, 1.7, impl="chunked")
    loss, gradient = loss_and_gradient(
        student, head, topk, upstream.float(), impl="chunked", **options
    )
    if k == 1 and tail == "renormalise":  # one token holds everything on both sides
        assert loss.abs().max() == 0 and gradient.abs().max() == 0
        return
    assert loss.dtype == torch.float32 and loss.shape == (num_rows,)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("num_rows, hidden, vocab, k", SHAPES)
def test_teacher_matches_the_definition(num_rows, hidden, vocab, k):
    teacher, _, head = make_rows(num_rows, hidden, vocab)
    wanted = teacher_topk(teacher.double(), head.double(), k, 0.7, impl="reference")
    found = teacher_topk(teacher, head, k, 0.7, impl="chunked")
    assert torch.equal(found.ids_NK, wanted.ids_NK)
    assert found.temperature == 0.7 and found.k == k and len(found) == num_rows
    torch.testing.assert_close(found.log_p_NK.double(), wanted.log_p_NK, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.lse_N.double(), wanted.lse_N, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found.log_p_tail_N.double(), wanted.log_p_tail_N, rtol=0, atol=2e-5)


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("k", [6, 50])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradient_matches_central_differences(impl, k, divergence):
    teacher, student, head = (x.double() for x in make_rows(2, 5, 50, apart=0.5))
    for temperature, tail in [(0.5, "bucket"), (2.0, "bucket"), (1.7, "renormalise")]:
        topk = teacher_topk(teacher, head, k, temperature)
        options = {"tail": tail, "divergence": divergence, "beta": 0.7, "impl": impl}
        _, gradient = loss_and_gradient(student, head, topk, **options)
        step = 1e-6
        for row, column in [(0, 0), (1, 4), (0, 2)]:
            nudge = torch.zeros_like(student)
            nudge[row, column] = step
            up = topk_kl(student + nudge, head, topk, **options)[row]
            down = topk_kl(student - nudge, head, topk, **options)[row]
            assert abs((up - down) / (2 * step) - gradient[row, column]) < 1e-8


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


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_k_of_all_words_is_the_full_divergence(impl, divergence):
    teacher, student, head = make_rows(9, 16, 3000, apart=0.3)
    log_p = (teacher.double() @ head.double().T).log_softmax(-1)
    log_q = (student.double() @ head.double().T).log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - torch.tensor(2.0).log()

    def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
        return (log_a.exp() * (log_a - log_b)).sum(-1)

    full = {
        "forward_kl": kl(log_p, log_q),
        "reverse_kl": kl(log_q, log_p),
        "jsd": (kl(log_p, log_m) + kl(log_q, log_m)) / 2,
    }[divergence]
    topk = teacher_topk(teacher, head, 3000, impl=impl)
    loss = topk_kl(student, head, topk, divergence=divergence, impl=impl)
    assert (topk.log_p_tail_N == -torch.inf).all()
    assert relative_error(loss, full) < 1e-5
    fewer = topk_kl(student, head, teacher_topk(teacher, head, 20), divergence=divergence)
    assert (fewer.double() < full).all(), "fewer buckets can only hide differences"


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_equal_sides_give_nothing(divergence, tail):
    teacher, _, head = make_rows(40, 32, 4500, logit_std=10)
    topk = teacher_topk(teacher, head, 64, impl="chunked")
    loss, gradient = loss_and_gradient(
        teacher, head, topk, divergence=divergence, tail=tail, impl="chunked"
    )
    assert (loss >= 0).all() and loss.max() < 1e-6
    assert gradient.norm(dim=-1).max() < 1e-5


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


def test_halves_sum_to_the_whole_and_rows_are_independent():
    teacher, student, head = make_rows(10, 16, 2100)
    topk = teacher_topk(teacher, head, 20)
    loss, gradient = loss_and_gradient(student, head, topk)
    first, first_gradient = loss_and_gradient(student[:4], head, topk[:4])
    last, last_gradient = loss_and_gradient(student[4:], head, topk[torch.arange(4, 10)])
    torch.testing.assert_close(torch.cat([first, last]), loss, rtol=1e-5, atol=1e-7)
    both = torch.cat([first_gradient, last_gradient])
    torch.testing.assert_close(both, gradient, rtol=1e-5, atol=1e-6)
    joined = TopK.cat([topk[:4], topk[4:]])
    assert torch.equal(topk_kl(student, head, joined), loss)


def test_the_cut_into_slabs_and_blocks_changes_nothing(monkeypatch):
    teacher, student, head = make_rows(23, 16, 1500)
    topk = teacher_topk(teacher, head, 64, impl="chunked")
    loss, gradient = loss_and_gradient(student, head, topk, impl="chunked")
    monkeypatch.setattr(pdkernels.slabs, "SLAB_WIDTH", 37)
    monkeypatch.setattr(pdkernels.slabs, "SLAB_ELEMENTS", 700)
    cut = teacher_topk(teacher, head, 64, impl="chunked")
    assert torch.equal(cut.ids_NK, topk.ids_NK)
    torch.testing.assert_close(cut.log_p_NK, topk.log_p_NK, rtol=0, atol=1e-5)
    torch.testing.assert_close(cut.log_p_tail_N, topk.log_p_tail_N, rtol=0, atol=1e-5)
    cut_loss, cut_gradient = loss_and_gradient(student, head, cut, impl="chunked")
    assert relative_error(cut_loss, loss) < 1e-5
    assert relative_error(cut_gradient, gradient) < 1e-5


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_no_rows_give_an_empty_result(impl, tail):
    head = torch.randn(100, 8)
    topk = teacher_topk(torch.empty(0, 8), head, 5, impl=impl)
    loss, gradient = loss_and_gradient(torch.empty(0, 8), head, topk, impl=impl, tail=tail)
    assert loss.shape == (0,) and gradient.shape == (0, 8) and topk.ids_NK.shape == (0, 5)


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


def test_order_and_width_of_ids_do_not_matter():
    teacher, student, head = make_rows(6, 16, 5000)
    topk = teacher_topk(teacher, head, 20)
    order = topk.log_p_NK.argsort(-1, descending=True)
    shuffled = TopK(
        topk.log_p_NK.gather(-1, order),
        topk.ids_NK.gather(-1, order).int(),
        topk.lse_N,
        topk.log_p_tail_N,
        1.0,
    )
    loss, gradient = loss_and_gradient(student, head, topk, impl="chunked")
    other, other_gradient = loss_and_gradient(student, head, shuffled, impl="chunked")
    assert relative_error(other, loss) < 1e-6
    assert relative_error(other_gradient, gradient) < 1e-6


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("k", [16, 40])  # fewer than, and exactly, the words that can happen
def test_padded_words_never_happen(divergence, k):
    """40 real words, then padding whose logits are -1e30, as some checkpoints mask it."""
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
    """One row: ten likely words, and the rest sharing a mass of exp(log_tail), unevenly."""
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
    """Against the same rounded inputs in float64: only the output is rounded to the dtype."""
    teacher, student, head = (x.to(dtype) for x in make_rows(16, 64, 3000, apart=0.05))
    loss64, gradient64 = truth(teacher, student, head, 64)
    topk = teacher_topk(teacher, head, 64, impl="chunked")
    loss, gradient = loss_and_gradient(student, head, topk, impl="chunked")
    assert loss.dtype == torch.float32 and gradient.dtype == dtype
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < torch.finfo(dtype).eps


def test_row_weight_scales_loss_and_gradient():
    teacher, student, head = make_rows(6, 8, 300)
    topk = teacher_topk(teacher, head, 20)
    weight = torch.tensor([0.0, 0.5, 1.0, 2.0, -1.0, 3.0])
    loss, gradient = loss_and_gradient(student, head, topk)
    for impl in ("reference", "chunked"):
        weighted, weighted_gradient = loss_and_gradient(
            student, head, topk, row_weight=weight, impl=impl
        )
        torch.testing.assert_close(weighted, loss * weight)
        torch.testing.assert_close(
            weighted_gradient, gradient * weight[:, None], rtol=1e-4, atol=1e-6
        )


def test_rows_that_are_not_contiguous():
    teacher, student, head = make_rows(12, 16, 300)
    topk = teacher_topk(teacher[::2], head, 20)
    again = teacher_topk(teacher[::2].contiguous(), head, 20)
    assert torch.equal(topk.ids_NK, again.ids_NK)
    found = topk_kl(student.T.contiguous().T[::2], head, topk)
    torch.testing.assert_close(found, topk_kl(student[::2].contiguous(), head, topk))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_row_filter_keeps_its_bound_and_counts(divergence):
    teacher, student, head = make_rows(64, 16, 2500, apart=0.2)
    temperature, allowed = 1.3, 0.02
    topk = teacher_topk(teacher, head, 64, temperature)
    options = {"divergence": divergence, "impl": "chunked"}
    loss, gradient = loss_and_gradient(student, head, topk, **options)
    with report_row_filter() as report:
        filtered_loss, filtered = loss_and_gradient(
            student, head, topk, row_filter=allowed, **options
        )
    off = (filtered - gradient).norm(dim=-1)
    bound = allowed * head.norm(dim=-1).max() / temperature
    assert (off <= bound).all()
    changed = int((off > 1e-5 * gradient.norm(dim=-1)).sum())
    assert report.num_rows == 64 and 0 < report.skipped_fraction < 1
    assert changed == round(64 * report.skipped_fraction)
    torch.testing.assert_close(filtered_loss, loss)
    _, everything = loss_and_gradient(student, head, topk, row_filter=1e-30, **options)
    assert relative_error(everything, gradient) < 1e-5


def test_backward_needs_no_head_and_repeats():
    teacher, student, head = make_rows(6, 8, 300)
    student.requires_grad_()
    topk = teacher_topk(teacher, head, 20)
    loss = topk_kl(student, head, topk, impl="chunked").sum()
    head.fill_(torch.nan)  # what ZeRO-3 may do to a gathered head after its forward
    (first,) = torch.autograd.grad(loss, student, retain_graph=True)
    (second,) = torch.autograd.grad(loss, student)
    assert first.isfinite().all() and torch.equal(first, second)


def test_no_gradient_is_made_when_none_is_wanted(monkeypatch):
    teacher, student, head = make_rows(6, 8, 300)
    topk = teacher_topk(teacher, head, 20)
    wanted = topk_kl(student, head, topk, impl="chunked")

    def fail(*_):
        raise AssertionError("the gradient was computed")

    monkeypatch.setattr("pdkernels.topk_kl_chunked.sum_of_words", fail)
    assert torch.equal(topk_kl(student, head, topk, impl="chunked"), wanted)


def a_call(**changes):
    teacher, student, head = make_rows(6, 8, 300)
    topk = teacher_topk(teacher, head, 20)
    call = {"student_ND": student, "head_VD": head, "topk": topk} | changes
    return topk_kl(**call)


HEAD = torch.randn(300, 8)
ERRORS = [
    ({"head_VD": torch.randn(300, 9)}, "hidden size 8 but the head expects 9"),
    ({"head_VD": torch.empty(0)}, r"no elements \(shape \(0,\)\): a ZeRO-3 placeholder"),
    ({"head_VD": torch.randn(15, 8)}, "k = 20 tokens but the head has a vocabulary of 15"),
    ({"head_VD": torch.randn(21, 8)}, r"names token \d+ but the head has a vocabulary of 21"),
    ({"head_VD": HEAD.clone().requires_grad_()}, "the head requires grad"),
    ({"head_VD": HEAD.to(torch.int8)}, "the head must be bf16, fp16, fp32 or fp64, got torch.int8"),
    ({"head_VD": HEAD.to("meta")}, "on cpu but the head is on meta"),
    ({"student_ND": torch.randn(2, 3, 8)}, r"must be \(N, D\).* got \(2, 3, 8\)"),
    ({"student_ND": torch.randn(5, 8)}, "5 rows but the teacher has 6"),
    ({"row_weight": torch.ones(5)}, r"shape \(6,\), one factor a row, got \(5,\)"),
    ({"row_weight": torch.ones(6, requires_grad=True)}, "row_weight requires grad"),
    ({"row_filter": -1.0}, "row_filter must be >= 0, got -1.0"),
    ({"divergence": "kl"}, "divergence must be one of forward_kl, reverse_kl, jsd, got 'kl'"),
    ({"tail": "drop"}, "tail must be one of bucket, renormalise, got 'drop'"),
    ({"impl": "cuda"}, "impl must be one of auto, reference, chunked, triton, got 'cuda'"),
    ({"divergence": "jsd", "beta": 1.0}, "jsd needs 0 < beta < 1, got 1.0"),
]


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
        (5, 0.0, "temperature must be > 0, got 0.0"),
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
