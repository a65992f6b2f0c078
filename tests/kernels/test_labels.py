"""Test divergence and cross-entropy of labels in one sweep, against float64 and two calls."""

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error
from torch.nn import functional

from pdkernels import TopK, report_row_filter, teacher_topk, topk_kl
from pdkernels.chunked import passes as chunked

BOTH = pytest.mark.parametrize("impl", ["reference", "chunked"])
VOCAB = 4099


def problem(num_rows=12, words=VOCAB, k=20, **options):
    """Return rows whose labels are, in turn, the likeliest, one of the top-k, and any word."""
    teacher, student, head = make_rows(num_rows, 16, words, apart=0.3)
    topk = teacher_topk(teacher.double(), head.double(), k, impl="reference", **options)
    anything = torch.randint(words, (num_rows,), generator=torch.Generator().manual_seed(4))
    best = (teacher @ head.T).argmax(-1)
    third = torch.arange(num_rows) % 3
    labels = torch.where(third == 0, best, torch.where(third == 1, topk.ids_NK[:, 7], anything))
    return teacher, student, head, topk, labels


def exact(student, head, topk, labels, weight, upstream, **options):
    """Return value and gradient of the two losses, each by itself, in float64."""
    rows = student.double().requires_grad_()
    divergence = topk_kl(rows, head.double(), topk, impl="reference", **options)
    logits = rows @ head.double().T
    if "bias" in options:
        logits = (logits + options["bias"].double()) * options["logit_scale"]
        logits = options["softcap"] * torch.tanh(logits / options["softcap"])
    entropy = functional.cross_entropy(logits, labels, reduction="none")
    loss = (1 - weight) * divergence + weight * entropy
    (gradient,) = torch.autograd.grad(loss, rows, upstream.double())
    return loss.detach(), gradient


@BOTH
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_both_losses_in_one_sweep(impl, weight, tail, divergence):
    teacher, student, head, topk64, labels = problem()
    upstream = torch.randn(12)
    options = {"divergence": divergence, "tail": tail, "beta": 0.3}
    wanted = exact(student, head, topk64, labels, weight, upstream, **options)
    topk = teacher_topk(teacher, head, 20, impl=impl)
    options |= {"labels": labels, "label_weight": weight, "impl": impl}
    loss, gradient = loss_and_gradient(student, head, topk, upstream, **options)
    assert relative_error(loss, wanted[0]) < 1e-5
    assert relative_error(gradient, wanted[1]) < 1e-5
    loss, gradient = loss_and_gradient(
        student.double(), head.double(), topk64, upstream.double(), **options
    )
    assert relative_error(loss, wanted[0]) < 1e-11
    assert relative_error(gradient, wanted[1]) < 1e-11


@BOTH
def test_with_scale_soft_cap_and_bias(impl):
    bias = torch.randn(VOCAB, generator=torch.Generator().manual_seed(5))
    given = {"logit_scale": 0.75, "softcap": 20.0, "bias": bias}
    in_double = given | {"bias": bias.double()}
    teacher, student, head, topk64, labels = problem(**in_double)
    wanted = exact(student, head, topk64, labels, 0.4, torch.ones(12), **in_double)
    topk = teacher_topk(teacher, head, 20, impl=impl, **given)
    options = {"labels": labels, "label_weight": 0.4, "impl": impl} | given
    loss, gradient = loss_and_gradient(student, head, topk, **options)
    assert relative_error(loss, wanted[0]) < 1e-5
    assert relative_error(gradient, wanted[1]) < 1e-5


@BOTH
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_k_of_all_words(impl, divergence):
    _, student, head, topk, labels = problem(words=50, k=50)
    wanted = exact(student, head, topk, labels, 0.3, torch.ones(12), divergence=divergence)
    options = {"divergence": divergence, "labels": labels, "label_weight": 0.3, "impl": impl}
    loss, gradient = loss_and_gradient(student.double(), head.double(), topk, **options)
    assert relative_error(loss, wanted[0]) < 1e-11
    assert relative_error(gradient, wanted[1]) < 1e-11


def test_one_sweep_is_all_it_takes(monkeypatch):
    _, student, head, topk, labels = problem()
    calls, sweep = [], chunked.sweep
    monkeypatch.setattr(chunked, "sweep", lambda *args: calls.append(args) or sweep(*args))
    loss_and_gradient(student.double(), head.double(), topk, labels=labels, label_weight=0.5)
    assert len(calls) == 1


def test_a_weight_of_zero_only_says_which_rows_count():
    teacher, student, head, _, labels = problem()
    topk = teacher_topk(teacher, head, 20)
    labels[::4] = -100
    loss, gradient = loss_and_gradient(student, head, topk, labels=labels, label_weight=0)
    wanted, wanted_gradient = loss_and_gradient(student, head, topk)
    counts = labels != -100
    assert relative_error(loss, wanted * counts) < 1e-5
    assert relative_error(gradient, wanted_gradient * counts[:, None]) < 1e-5


def test_labels_alone_are_the_cross_entropy_of_one_hot():
    _, student, head, topk, labels = problem()
    found = loss_and_gradient(
        student.double(), head.double(), topk, labels=labels, label_weight=1.0
    )
    wanted = loss_and_gradient(student.double(), head.double(), TopK.one_hot(labels))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-9, atol=1e-11)


def test_a_student_that_is_sure_and_right_keeps_its_digits():
    head, ids = torch.eye(4), torch.zeros(3, dtype=torch.int64)
    rows = torch.tensor([[k, 0.0, 0.0, 0.0] for k in (5.0, 10.0, 15.0)])
    topk = teacher_topk(rows, head, 2)
    loss, gradient = loss_and_gradient(rows, head, topk, labels=ids, label_weight=1.0)
    rows64 = rows.double().requires_grad_()
    wanted = functional.cross_entropy(rows64, ids, reduction="none")
    (gradient64,) = torch.autograd.grad(wanted.sum(), rows64)
    assert float(wanted.min()) < 1e-6
    torch.testing.assert_close(loss.double(), wanted.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), gradient64, rtol=1e-5, atol=0)


def test_row_filter_keeps_its_bound():
    teacher, student, head, _, labels = problem(64)
    topk = teacher_topk(teacher, head, 20)
    options = {"labels": labels, "label_weight": 0.3}
    _, gradient = loss_and_gradient(student, head, topk, **options)
    with report_row_filter() as report:
        _, filtered = loss_and_gradient(student, head, topk, row_filter=0.05, **options)
    assert 0 < report.skipped_fraction < 1
    off = (filtered - gradient).norm(dim=-1)
    assert off.max() > 1e-4 and (off <= 0.05 * head.norm(dim=-1).max()).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"labels": torch.zeros(12).long()}, "labels need a label_weight"),
        ({"label_weight": 0.5}, r"label_weight=0\.5 needs labels"),
        ({"labels": torch.zeros(11).long(), "label_weight": 0.5}, r"shape \(12,\).* got \(11,\)"),
        ({"labels": torch.zeros(12), "label_weight": 0.5}, "int64 or int32, got .* torch.float32"),
        ({"labels": torch.zeros(12).long(), "label_weight": 1.5}, r"in \[0, 1\], got 1.5"),
    ],
)
def test_labels_that_do_not_fit_are_refused(options, message):
    teacher, student, head, _, _ = problem()
    with pytest.raises(ValueError, match=message):
        topk_kl(student, head, teacher_topk(teacher, head, 20), **options)


def test_labels_need_temperature_one():
    teacher, student, head, _, labels = problem()
    topk = teacher_topk(teacher, head, 20, 2.0)
    with pytest.raises(ValueError, match=r"needs a teacher at temperature 1, got 2\.0"):
        topk_kl(student, head, topk, labels=labels, label_weight=0.5)
    topk_kl(student, head, topk, labels=labels, label_weight=0.0)
