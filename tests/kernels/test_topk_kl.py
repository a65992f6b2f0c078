"""Test the chunked top-k KL against the float64 definition, and what must not change it."""

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import pdkernels.chunked.slabs
from pdkernels import TopK, report_row_filter, teacher_topk, topk_kl
from pdkernels.logits import Logits

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


@pytest.mark.parametrize("row_filter", [0.0, 0.01])
def test_halves_sum_to_the_whole_and_rows_are_independent(row_filter):
    teacher, student, head = make_rows(10, 16, 2100)
    topk = teacher_topk(teacher, head, 20)
    options = {"row_filter": row_filter, "impl": "chunked"}
    with report_row_filter() as report:
        loss, gradient = loss_and_gradient(student, head, topk, **options)
    assert 0 < report.skipped_fraction < 1 or not row_filter
    first, first_gradient = loss_and_gradient(student[:4], head, topk[:4], **options)
    rest = torch.arange(4, 10)
    last, last_gradient = loss_and_gradient(student[4:], head, topk[rest], **options)
    torch.testing.assert_close(torch.cat([first, last]), loss, rtol=1e-5, atol=1e-7)
    both = torch.cat([first_gradient, last_gradient])
    torch.testing.assert_close(both, gradient, rtol=1e-5, atol=1e-6)
    joined = TopK.cat([topk[:4], topk[4:]])
    assert torch.equal(topk_kl(student, head, joined), loss)


@pytest.mark.parametrize("row_filter", [0.0, 0.01])
def test_the_cut_into_slabs_and_blocks_changes_nothing(row_filter, monkeypatch):
    teacher, student, head = make_rows(23, 16, 1500)
    topk = teacher_topk(teacher, head, 64, impl="chunked")
    options = {"row_filter": row_filter, "impl": "chunked"}
    with report_row_filter() as report:
        loss, gradient = loss_and_gradient(student, head, topk, **options)
    assert 0 < report.skipped_fraction < 1 or not row_filter
    monkeypatch.setattr(pdkernels.chunked.slabs, "SLAB_WIDTH", 37)
    monkeypatch.setattr(pdkernels.chunked.slabs, "SLAB_ELEMENTS", 700)
    cut = teacher_topk(teacher, head, 64, impl="chunked")
    assert torch.equal(cut.ids_NK, topk.ids_NK)
    torch.testing.assert_close(cut.log_p_NK, topk.log_p_NK, rtol=0, atol=1e-5)
    torch.testing.assert_close(cut.log_p_tail_N, topk.log_p_tail_N, rtol=0, atol=1e-5)
    cut_loss, cut_gradient = loss_and_gradient(student, head, cut, **options)
    assert relative_error(cut_loss, loss) < 1e-5
    assert relative_error(cut_gradient, gradient) < 1e-5


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_order_of_the_words_changes_nothing(divergence):
    teacher, student, head = make_rows(9, 16, 5000)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(3))
    results = []
    for words in (head, head[order]):
        topk = teacher_topk(teacher, words, 20, impl="chunked")
        results.append(
            loss_and_gradient(student, words, topk, divergence=divergence, impl="chunked")
        )
    assert relative_error(results[1][0], results[0][0]) < 1e-5
    assert relative_error(results[1][1], results[0][1]) < 1e-5


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_no_rows_give_an_empty_result(impl, tail):
    head = torch.randn(100, 8)
    topk = teacher_topk(torch.empty(0, 8), head, 5, impl=impl)
    loss, gradient = loss_and_gradient(torch.empty(0, 8), head, topk, impl=impl, tail=tail)
    assert loss.shape == (0,) and gradient.shape == (0, 8) and topk.ids_NK.shape == (0, 5)


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
    loss64, gradient64 = truth(teacher, student, head, 64, temperature, divergence=divergence)
    with report_row_filter() as report:
        loss, gradient = loss_and_gradient(student, head, topk, row_filter=allowed, **options)
    off = (gradient - gradient64).norm(dim=-1)
    rounding = 1e-5 * gradient64.norm(dim=-1)
    bound = allowed * head.norm(dim=-1).max() / temperature
    assert (off <= bound + rounding).all()
    assert report.num_rows == 64 and 0 < report.skipped_fraction < 1
    assert int((off > rounding).sum()) == round(64 * report.skipped_fraction)
    assert relative_error(loss, loss64) < 1e-5
    _, everything = loss_and_gradient(student, head, topk, row_filter=1e-30, **options)
    assert relative_error(everything, gradient64) < 1e-5


def test_backward_needs_no_head_and_repeats():
    teacher, student, head = make_rows(6, 8, 300)
    student.requires_grad_()
    topk = teacher_topk(teacher, head, 20)
    loss = topk_kl(student, head, topk, impl="chunked").sum()
    head.fill_(torch.nan)  # what ZeRO-3 may do to a gathered head after its forward
    (first,) = torch.autograd.grad(loss, student, retain_graph=True)
    (second,) = torch.autograd.grad(loss, student)
    assert first.isfinite().all() and torch.equal(first, second)


@pytest.mark.parametrize("impl", ["reference", "chunked"])
def test_autocast_around_it_changes_nothing(impl):
    teacher, student, head = make_rows(6, 16, 2500)
    topk = teacher_topk(teacher, head, 20, impl=impl)
    loss, gradient = loss_and_gradient(student, head, topk, impl=impl)
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        again = teacher_topk(teacher, head, 20, impl=impl)
        cast_loss = topk_kl(student, head, again, impl=impl)
    assert torch.equal(again.log_p_tail_N, topk.log_p_tail_N)
    assert torch.equal(cast_loss.detach(), loss)
    assert torch.equal(torch.autograd.grad(cast_loss.sum(), student)[0], gradient)


def forbid(monkeypatch, name):
    """From here on the chunked implementation must not call one of its passes."""

    def fail(*_):
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(f"pdkernels.chunked.passes.{name}", fail)


def test_all_words_need_no_sweep(monkeypatch):
    teacher, student, head = make_rows(6, 8, 300)
    topk = teacher_topk(teacher, head, 300)
    wanted = loss_and_gradient(student, head, topk, impl="reference")
    forbid(monkeypatch, "sweep")
    found = loss_and_gradient(student, head, topk, impl="chunked")
    assert relative_error(found[0], wanted[0]) < 1e-5
    assert relative_error(found[1], wanted[1]) < 1e-5


def test_many_wide_words_are_gathered_in_parts(monkeypatch):
    """One row's k words alone may be more than a slab."""
    teacher, student, head = make_rows(3, 64, 4000)
    wanted = loss_and_gradient(student, head, teacher_topk(teacher, head, 400))
    for name in ("SLAB_ELEMENTS", "GATHER_ELEMENTS"):
        monkeypatch.setattr(pdkernels.chunked.slabs, name, 2048)
    half = head.bfloat16()  # whose words are not summed by embedding_bag
    with LargestTensor() as seen:
        logits = pdkernels.chunked.passes.logits_at(student, head, IDS_400, Logits(1.0))
        pdkernels.chunked.passes.sum_of_words(logits.float(), IDS_400, half)
    assert seen.num_bytes <= 8 * 2048
    found = loss_and_gradient(student, head, teacher_topk(teacher, head, 400))
    assert relative_error(found[0], wanted[0]) < 1e-5
    assert relative_error(found[1], wanted[1]) < 1e-5


def test_no_gradient_is_made_when_none_is_wanted(monkeypatch):
    teacher, student, head = make_rows(6, 8, 300)
    topk = teacher_topk(teacher, head, 20)
    wanted = topk_kl(student, head, topk, impl="chunked")

    forbid(monkeypatch, "sum_of_words")  # the gradient's
    assert torch.equal(topk_kl(student, head, topk, impl="chunked"), wanted)
    with torch.no_grad():  # an evaluation of rows that would be trained
        assert torch.equal(topk_kl(student.requires_grad_(), head, topk, impl="chunked"), wanted)


IDS_400 = torch.arange(400).repeat(3, 1)


class LargestTensor(TorchDispatchMode):
    """Record the bytes of the largest tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.num_bytes = max(self.num_bytes, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("num_rows", [1024, 2048, 4096])
@pytest.mark.parametrize("row_filter", [0.0, 0.01])
def test_no_tensor_grows_with_rows_times_words(row_filter, num_rows, monkeypatch):
    """4096 x 20000 logits would be 328 MB; the same 16 MiB bound a slab of any number of rows."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # the mode sees this thread alone
    teacher, student, head = make_rows(num_rows, 16, 20_000)
    student.requires_grad_()
    with LargestTensor() as seen:
        topk = teacher_topk(teacher, head, 20)
        topk_kl(student, head, topk, row_filter=row_filter).sum().backward()
    assert seen.num_bytes <= 1.02 * 4 * pdkernels.chunked.slabs.SLAB_ELEMENTS


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("row_filter", [0.0, 1e-9])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_teacher_sure_of_one_token_is_cross_entropy(impl, row_filter, temperature):
    """Rows from sure and right to sure and wrong, over three slabs and a rest."""
    _, student, head = make_rows(60, 16, 4099, logit_std=20.0)
    sure = (student @ head.T).argmax(-1)
    ids = torch.where(torch.arange(60) % 3 == 0, sure, torch.randint(4099, (60,)))
    rows64 = student.double().requires_grad_()
    wanted = F.cross_entropy(rows64 @ head.double().T / temperature, ids, reduction="none")
    upstream = torch.randn(60, dtype=torch.float64)
    (gradient64,) = torch.autograd.grad(wanted, rows64, upstream)
    topk = TopK.one_hot(ids, temperature)
    loss, gradient = loss_and_gradient(
        student, head, topk, upstream.float(), impl=impl, row_filter=row_filter
    )
    assert wanted.min() < 1e-2 and wanted.max() > 10, "both ends are there"
    assert relative_error(loss, wanted.detach()) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5
    in_double, _ = loss_and_gradient(student.double(), head.double(), topk, impl=impl)
    torch.testing.assert_close(in_double, wanted.detach(), rtol=1e-9, atol=1e-12)


def test_the_loss_of_a_sure_and_right_student_is_as_small_as_it_is():
    """-log q near q = 1, where 1 - q - log q would cancel."""
    head = torch.eye(4, 4)
    rows = torch.tensor([[k, 0.0, 0.0, 0.0] for k in (5.0, 10.0, 15.0)])
    ids = torch.zeros(3, dtype=torch.int64)
    wanted = F.cross_entropy(rows.double(), ids, reduction="none")
    loss, _ = loss_and_gradient(rows, head, TopK.one_hot(ids), impl="chunked")
    assert float(wanted.min()) < 1e-6
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=0)
