"""Test what an outside user meets first: masks, labels of -100, ties, teachers made by hand."""

import io
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth
from torch.nn import functional

from pdkernels import TopK, choose, teacher_topk, topk_kl, topk_kl_and_metrics
from pdkernels.chunked import passes as chunked
from pdkernels.fused.passes import Objective
from pdkernels.fused.student import Wanted, compute
from pdkernels.logits import Logits

BOTH = pytest.mark.parametrize("impl", ["reference", "chunked"])


def problem(num_rows=6, words=300):
    teacher, student, head = make_rows(num_rows, 8, words)
    return teacher, student, head, teacher_topk(teacher, head, 20)


# --- Rows that do not count -------------------------------------------------------------------


@BOTH
def test_rows_of_weight_zero_are_not_read(impl):
    _, student, head, topk = problem()
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0, -1.0, 1.0])
    wanted = loss_and_gradient(student, head, topk, row_weight=weight, impl=impl)
    student[1], student[3] = torch.nan, torch.inf
    found = loss_and_gradient(student, head, topk, row_weight=weight, impl=impl)
    assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])
    assert found[0][[1, 3]].tolist() == [0, 0] and found[1][[1, 3]].abs().max() == 0
    summed = topk_kl(student, head, topk, row_weight=weight, impl=impl, reduction="sum")
    assert summed.isfinite() and torch.equal(summed, wanted[0].sum())


def test_rows_that_do_not_count_cost_nothing(monkeypatch):
    """Count the rows that the passes see."""
    _, student, head, topk = problem()
    seen, sweep = [], chunked.sweep

    def counted(rows, *rest):
        seen.append(len(rows))
        return sweep(rows, *rest)

    monkeypatch.setattr(
        chunked, "sweep", lambda rows, *a: seen.append(len(rows)) or sweep(rows, *a)
    )
    labels = torch.tensor([5, -100, 7, -100, 9, 11])
    loss_and_gradient(student, head, topk, row_weight=torch.tensor([1.0, 1, 0, 1, 1, 1]))
    loss_and_gradient(student, head, topk, labels=labels, label_weight=0.5)
    loss_and_gradient(student, head, topk, labels=torch.full((6,), -100), label_weight=0.5)
    assert seen == [5, 4]


@BOTH
def test_labels_of_minus_100_are_left_out(impl):
    """Supervised fine-tuning through `one_hot` meets them, and so do rows padded by `pad`."""
    _, student, head, topk = problem()
    labels = torch.tensor([5, -100, 7, -100, 299, 0])
    rows64 = student.double().requires_grad_()
    wanted = functional.cross_entropy(rows64 @ head.double().T, labels, reduction="none")
    (gradient64,) = torch.autograd.grad(wanted.sum(), rows64)
    student[1] = torch.nan
    loss, gradient = loss_and_gradient(student, head, TopK.one_hot(labels), impl=impl)
    assert relative_error(loss, wanted.detach()) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5
    mean = topk_kl(student, head, TopK.one_hot(labels), impl=impl, reduction="mean")
    torch.testing.assert_close(mean.double(), wanted[labels != -100].mean().detach())
    padded = topk[:2].pad(6)
    student[1:] = torch.nan
    assert topk_kl(student, head, padded[[0, 2, 3, 4, 5, 5]], impl=impl)[1:].tolist() == [0] * 5
    nothing = TopK.one_hot(torch.full((6,), -100))
    none = loss_and_gradient(student, head, nothing, impl=impl)
    assert none[0].tolist() == [0] * 6 and none[1].abs().max() == 0
    assert topk_kl(student, head, nothing, impl=impl, reduction="mean") == 0


def test_another_ignore_index():
    _, student, head, _ = problem()
    labels = torch.tensor([5, -1, 7, 8, 299, 0])
    loss = topk_kl(student, head, TopK.one_hot(labels), ignore_index=-1)
    assert loss[1] == 0 and (loss[[0, 2, 3, 4, 5]] > 0).all()
    with pytest.raises(ValueError, match="names token -1"):
        topk_kl(student, head, TopK.one_hot(labels))


def test_an_id_that_is_no_word_is_never_a_number():
    """A GPU's ids are not looked at first: its passes must give NaN, in that row alone."""
    _, student, head, topk = problem()
    ids = topk.ids_NK.clone()
    ids[1, 3], ids[4, 0] = 300, -7
    strange = replace(topk, ids_NK=ids)
    objective = Objective(Logits(1.0), "forward_kl", 0.5, "bucket", 0.0, 0.0, None)
    for options in ({}, {"tail": "renormalise"}, {"row_filter": 0.01}, {"divergence": "jsd"}):
        asked = replace(objective, **options)
        outcome = compute(chunked, student, head, strange, None, asked, Wanted(True, False), None)
        assert outcome.loss_N.isnan().tolist() == [False, True, False, False, True, False]
        assert outcome.d_student_ND.isnan().any(1).tolist() == outcome.loss_N.isnan().tolist()
        with pytest.raises(ValueError, match=r"names token (-7|300)"):
            topk_kl(student, head, strange, **options)
    labels = torch.tensor([5, 6, 300, 7, 8, 9])
    asked = replace(objective, label_weight=0.5)
    outcome = compute(chunked, student, head, topk, labels, asked, Wanted(True, False), None)
    assert outcome.loss_N.isnan().tolist() == [False, False, True, False, False, False]
    with pytest.raises(ValueError, match="a label names token 300"):
        topk_kl(student, head, topk, labels=labels, label_weight=0.5)


# --- Ties -------------------------------------------------------------------------------------

TIED = torch.tensor([[0.0, 0], [2, 0], [1, 3], [1, -3]])


@BOTH
def test_of_tied_words_the_lowest_id_is_taken(impl):
    """Words 2 and 3 are tied for the teacher and differ for the student: 1.2478 or 1.3809."""
    teacher, student = torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 1]])
    topk = teacher_topk(teacher, TIED, 2, impl=impl)
    assert topk.ids_NK.tolist() == [[1, 2]]
    assert abs(float(topk_kl(student, TIED, topk, impl=impl)) - 1.2478) < 1e-4


@BOTH
@pytest.mark.parametrize("k", [1, 7, 40, 3000])
def test_all_tied_rows_take_the_first_words(impl, k):
    teacher, _, head = make_rows(3, 8, 6500)
    teacher[1] = 0
    topk = teacher_topk(teacher, head, k, impl=impl)
    assert topk.ids_NK[1].tolist() == list(range(k))


@BOTH
def test_ties_across_slabs_take_the_lowest_ids(impl):
    """Integers, whose logits are exact: three values, each thousands of times, shuffled."""
    order = torch.Generator().manual_seed(1)
    levels = torch.randint(3, (6500,), generator=order).float()
    head = torch.stack([levels, torch.randn(6500, generator=order)], 1)
    teacher = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    for k in (5, 1000, 3000):
        topk = teacher_topk(teacher, head, k, impl=impl)
        wanted = sorted((levels == 2).nonzero()[:, 0].tolist()[:k])
        if len(wanted) < k:
            wanted = sorted(wanted + (levels == 1).nonzero()[:, 0].tolist()[: k - len(wanted)])
        assert topk.ids_NK.tolist() == [wanted, wanted]


def test_impossible_words_fill_a_top_k_once_each():
    """Fewer words than k can happen: the others are the lowest ids, none of them twice."""
    teacher, _, head = make_rows(4, 8, 5000)
    bias = torch.full((5000,), -torch.inf)
    bias[2100:2110] = 0
    for impl in ("reference", "chunked"):
        topk = teacher_topk(teacher, head, 20, bias=bias, impl=impl)
        assert topk.ids_NK.tolist() == [[*range(10), *range(2100, 2110)]] * 4


def test_padding_rows_of_a_head_are_left_out_by_a_slice():
    """Zeros and -1e30 can enter a top-k; `head[:V]` shares the head's memory and cannot."""
    teacher, student, head = make_rows(5, 8, 300)
    padded = torch.cat([head, torch.zeros(20, 8)])
    lowered = teacher - 30 * head.mean(0) / head.mean(0).norm()  # so that zeros would be likely
    assert padded[:300].data_ptr() == padded.data_ptr()
    assert (teacher_topk(lowered, padded[:300], 40).ids_NK < 300).all()
    loss64, _ = truth(lowered, student, head, 40)
    loss = topk_kl(student, padded[:300], teacher_topk(lowered, padded[:300], 40))
    assert relative_error(loss, loss64) < 1e-5


# --- Teachers made by hand --------------------------------------------------------------------


def whole_log_p(teacher, head, temperature=1.0):
    return (teacher.double() @ head.double().T / temperature).log_softmax(-1)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: {"log_p_NK": t.log_p_NK.bfloat16()}, "must be fp32 or fp64, got torch.bfloat16"),
        (
            lambda t: {"log_p_tail_N": t.log_p_tail_N * 0 - torch.inf},
            r"sum to 0\.\d+ with the tail, not to 1",
        ),
        (lambda t: {"log_p_NK": t.log_p_NK + 0.5}, r"row 0 sum to 1\.\d+ with the tail"),
        (lambda t: {"ids_NK": t.ids_NK > 5}, "must be int64 or int32, got torch.bool"),
        (lambda t: {"ids_NK": t.ids_NK.float()}, "must be int64 or int32, got torch.float32"),
        (lambda t: {"ids_NK": t.ids_NK * 0 + 7}, "row 0 holds a token id twice"),
        (lambda t: {"lse_N": t.lse_N[:3]}, r"of shape \(N,\), got"),
        (lambda t: {"temperature": float("inf")}, "> 0 and finite, got inf"),
    ],
)
def test_a_teacher_that_is_none_is_refused_when_it_is_made(change, message):
    teacher, _, head = make_rows(6, 8, 300, logit_std=2.0)
    topk = teacher_topk(teacher, head, 20)
    assert 0.1 < 1 - float(topk.log_p_tail_N[0].exp()) < 0.9
    with pytest.raises(ValueError, match=message):
        replace(topk, **change(topk))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_log_probabilities_of_a_server_are_a_teacher(temperature):
    """In any order; the tail is what they leave."""
    teacher, student, head, _ = problem()
    log_p = whole_log_p(teacher, head, temperature)
    values, ids = log_p.float().topk(20)
    topk = TopK.from_logprobs(ids, values, temperature)
    loss64, gradient64 = truth(teacher, student, head, 20, temperature)
    loss, gradient = loss_and_gradient(student, head, topk)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5
    values[1], ids[1] = 0, -100  # a row without a teacher
    assert topk_kl(student, head, TopK.from_logprobs(ids, values, temperature))[1] == 0
    with pytest.raises(ValueError, match="natural logarithms over the full vocabulary"):
        TopK.from_logprobs(ids, values + 3)
    whole = TopK.from_logprobs(torch.arange(300).expand(6, 300), log_p.float(), num_words=300)
    assert (whole.log_p_tail_N == -torch.inf).all()


def test_logits_that_are_there_already_are_a_teacher():
    teacher, _, head, _ = problem()
    for k in (20, 300):
        wanted = teacher_topk(teacher, head, k, 1.5)
        found = TopK.from_logits(teacher @ head.T, k, 1.5)
        assert torch.equal(found.ids_NK, wanted.ids_NK)
        torch.testing.assert_close(found.log_p_NK, wanted.log_p_NK, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.log_p_tail_N, wanted.log_p_tail_N, rtol=0, atol=1e-5)
    assert TopK.from_logits(torch.zeros(1, 9), 3).ids_NK.tolist() == [[0, 1, 2]]


def test_one_row_is_a_topk_of_one_row():
    _, student, head, topk = problem()
    assert torch.equal(topk_kl(student[2:3], head, topk[2]), topk_kl(student[2:3], head, topk[2:3]))
    assert len(topk[-1]) == 1 and torch.equal(topk[-1].ids_NK[0], topk.ids_NK[-1])


def test_a_teacher_is_saved_without_what_weights_only_loading_refuses():
    """`get_unsafe_globals_in_checkpoint` names what `weights_only=True` would refuse to read."""
    _, _, _, topk = problem()
    for thing in (topk.state_dict(), topk):
        file = io.BytesIO()
        torch.save(thing, file)
        file.seek(0)
        assert torch.serialization.get_unsafe_globals_in_checkpoint(file) == []
    again = TopK.from_state_dict(topk.state_dict())
    assert again.temperature == 1.0
    for found, wanted in zip(again.tensors(), topk.tensors(), strict=True):
        assert torch.equal(found, wanted)


def test_padded_rows_collate():
    _, student, head, topk = problem()
    batch = TopK.cat([topk[:2].pad(4), topk[2:6].pad(4)])
    rows = torch.cat([student[:2], torch.full((2, 8), torch.nan), student[2:]])
    loss = topk_kl(rows, head, batch)
    assert loss[2:4].tolist() == [0, 0]
    torch.testing.assert_close(loss[[0, 1, 4, 5, 6, 7]], topk_kl(student, head, topk))
    with pytest.raises(ValueError, match="cannot pad 6 rows to 4"):
        topk.pad(4)


# --- Slow paths, autocast, derivatives --------------------------------------------------------


@pytest.fixture
def nothing_said(monkeypatch):
    monkeypatch.setattr(choose, "_said", set())


def test_a_slow_path_on_a_gpu_is_warned_of_once(nothing_said, monkeypatch):
    rows = SimpleNamespace(is_cuda=True)
    kernels = SimpleNamespace(obstacle=lambda rows, head, k: f"supports k up to 1024, got {k}")
    monkeypatch.setattr(choose, "import_module", lambda name: kernels)
    monkeypatch.setattr(choose, "find_spec", lambda name: name)
    with pytest.warns(RuntimeWarning, match="chunked' is used on the GPU, because .* got 2000"):
        assert choose.choose_passes("auto", rows, None, 2000, None) is chunked
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose.choose_passes("auto", rows, None, 2000, None)
    with pytest.warns(RuntimeWarning, match="got 3000"):
        choose.choose_passes("auto", rows, None, 3000, None)
    with pytest.raises(ValueError, match="got 2000; use impl='chunked'"):
        choose.choose_passes("triton", rows, None, 2000, None)


def test_products_of_two_dtypes_are_made_in_the_wider_and_warned_of(nothing_said):
    rows, head, gpu = torch.ones(2, 3).bfloat16(), torch.ones(4, 3), SimpleNamespace()
    with pytest.warns(RuntimeWarning, match="bfloat16 and the head is torch.float32.* in fp32"):
        assert choose.rows_for_products(rows, head, gpu).dtype == torch.float32
    assert choose.rows_for_products(rows, head.bfloat16(), gpu).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert choose.rows_for_products(rows.float(), head, gpu).dtype == torch.bfloat16
        assert choose.rows_for_products(rows.float(), head, chunked).dtype == torch.float32


@BOTH
def test_a_second_derivative_is_refused(impl):
    _, student, head, topk = problem()
    student.requires_grad_()
    loss = topk_kl(student, head, topk, impl=impl).sum()
    (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
    if impl == "reference":  # which is plain PyTorch
        assert torch.autograd.grad(gradient.square().sum(), student)[0].isfinite().all()
        return
    with pytest.raises(RuntimeError, match="topk_kl has no second derivative"):
        torch.autograd.grad(gradient.square().sum(), student)


def test_k_and_temperature_say_what_they_are():
    with pytest.raises(ValueError, match=r"k must be an int, got 8\.0"):
        teacher_topk(torch.ones(2, 8), torch.ones(30, 8), 8.0)
    with pytest.raises(ValueError, match="temperature must be > 0 and finite, got inf"):
        teacher_topk(torch.ones(2, 8), torch.ones(30, 8), 8, torch.inf)


def test_no_module_has_the_name_of_a_function():
    import pdkernels.operations as operations

    assert callable(operations.topk_kl) and operations.topk_kl is topk_kl


def test_a_common_offset_costs_no_more_than_it_costs_eager():
    """1e4 on all logits leaves fp32 three digits behind the point."""
    teacher, student, head = make_rows(6, 16, 2100)
    wide = torch.cat([head, torch.ones(2100, 1)], 1)
    rows = [torch.cat([side, torch.full((6, 1), 1e4)], 1) for side in (teacher, student)]
    _, gradient64 = truth(*rows, wide, 20)
    errors = {}
    for impl in ("reference", "chunked"):
        topk = teacher_topk(rows[0], wide, 20, impl=impl)
        _, gradient = loss_and_gradient(rows[1], wide, topk, impl=impl)
        errors[impl] = relative_error(gradient[:, :16], gradient64[:, :16])
    assert errors["chunked"] < 5e-2, errors


# --- Reductions and metrics -------------------------------------------------------------------


@BOTH
def test_reductions(impl):
    _, student, head, topk = problem()
    weight = torch.tensor([0.0, 0.5, 1.0, 2.0, 1.0, 3.0])
    rows = topk_kl(student, head, topk, row_weight=weight, impl=impl)
    for reduction, wanted in (("sum", rows.sum()), ("mean", rows.sum() / weight.sum())):
        found = topk_kl(student, head, topk, row_weight=weight, impl=impl, reduction=reduction)
        torch.testing.assert_close(found, wanted)
    plain = topk_kl(student, head, topk, impl=impl)
    mean = topk_kl(student, head, topk, impl=impl, reduction="mean")
    torch.testing.assert_close(mean, plain.mean())
    with pytest.raises(ValueError, match="reduction must be one of none, sum, mean, got 'avg'"):
        topk_kl(student, head, topk, reduction="avg")


@BOTH
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("k", [20, 300])
def test_metrics_are_what_they_say(impl, divergence, k):
    teacher, student, head, _ = problem()
    topk = teacher_topk(teacher, head, k, impl=impl)
    labels = torch.tensor([5, 7, -100, 9, 299, 0])
    options = {"divergence": divergence, "labels": labels, "label_weight": 0.25, "impl": impl}
    loss, found = topk_kl_and_metrics(student, head, topk, **options)
    assert torch.equal(loss, topk_kl(student, head, topk, **options))
    counts = labels != -100
    log_p, log_q = whole_log_p(teacher, head), whole_log_p(student, head)
    ids = topk.ids_NK
    entropy = functional.nll_loss(log_q, labels, reduction="none")
    torch.testing.assert_close(found.cross_entropy.double(), entropy, rtol=1e-5, atol=1e-6)
    divergence_alone = topk_kl(student, head, topk, divergence=divergence) * counts
    torch.testing.assert_close(found.divergence, divergence_alone, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        loss, 0.75 * found.divergence + 0.25 * found.cross_entropy, rtol=1e-5, atol=1e-7
    )
    for tail, log in ((found.student_tail, log_q), (found.teacher_tail, log_p)):
        mass = 1 - log.gather(1, ids).exp().sum(1)
        torch.testing.assert_close(tail.double()[counts], mass[counts], rtol=1e-4, atol=1e-6)
    buckets = torch.cat([topk.log_p_NK, topk.log_p_tail_N[:, None]], 1).double()
    surprise = torch.where(buckets.isinf(), 0, -buckets * buckets.exp()).sum(1)
    torch.testing.assert_close(found.teacher_entropy.double(), surprise)
    same = log_q.gather(1, ids).argmax(1) == log_p.gather(1, ids).argmax(1)
    assert found.agrees[counts].tolist() == same[counts].tolist()
    with pytest.raises(TypeError, match="no option sharp"):
        topk_kl_and_metrics(student, head, topk, sharp=1)
