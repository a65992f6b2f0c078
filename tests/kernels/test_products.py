"""Test both libraries' products, and that the loss does not depend on which one there is."""

import pytest
import torch
from kernel_support import loss_and_gradient, make_rows, relative_error, truth

from pdkernels import teacher_topk
from pdkernels.chunked import products


@pytest.fixture(params=[True, False], ids=["onednn", "mkl"])
def library(request, monkeypatch):
    if request.param and not products.HAS_ONEDNN:
        pytest.skip("this PyTorch has no oneDNN product")
    monkeypatch.setattr(products, "ONEDNN", request.param)
    return request.param


@pytest.mark.parametrize("rows, words, hidden", [(1, 1, 1), (7, 33, 24), (130, 2048, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_match_float64(rows, words, hidden, dtype, library):
    left, weight = torch.randn(rows, hidden, dtype=dtype), torch.rand(rows, words, dtype=dtype)
    head = torch.randn(2 * words, hidden, dtype=dtype)
    bound = 2e-6 if dtype == torch.float32 else 1e-14
    for some in (head[:words], head[::2]):  # as slabs are, and with a stride
        logits = products.rows_times_words(left, some)
        sums = products.weights_times_words(weight, some)
        assert logits.dtype == sums.dtype == dtype
        assert relative_error(logits, left.double() @ some.double().T) < bound
        assert relative_error(sums, weight.double() @ some.double()) < bound
        room = products.room_for_logits(left, words + 3)
        again = products.rows_times_words(left, some, room)
        assert torch.equal(again, logits)
        assert (room is None) == (products.ONEDNN and dtype == torch.float32)
        assert room is None or again.data_ptr() == room.data_ptr()
        total = torch.ones(rows, hidden, dtype=dtype)
        products.add_weights_times_words(total, weight, some)
        assert relative_error(total, 1 + weight.double() @ some.double()) < bound


def test_no_rows_have_products(library):
    head = torch.randn(5, 3)
    assert products.rows_times_words(torch.empty(0, 3), head).shape == (0, 5)
    assert products.weights_times_words(torch.empty(0, 5), head).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_either_library_gives_the_loss(library, dtype):
    teacher, student, head = (x.to(dtype) for x in make_rows(33, 24, 4500))
    loss64, gradient64 = truth(teacher, student, head, 20)
    topk = teacher_topk(teacher, head, 20, impl="chunked")
    loss, gradient = loss_and_gradient(student, head, topk, impl="chunked")
    again, again_gradient = loss_and_gradient(student, head, topk, impl="chunked")
    assert torch.equal(loss, again) and torch.equal(gradient, again_gradient)
    assert relative_error(loss, loss64) < 1e-5
    bound = 1e-5 if dtype != torch.bfloat16 else torch.finfo(dtype).eps
    assert relative_error(gradient, gradient64) < bound


@pytest.mark.parametrize(
    "maker, has_mkl, is_quick",
    [("GenuineIntel", True, True), ("GenuineIntel", False, False), ("AuthenticAMD", True, False)],
)
def test_the_makers_of_cpu_and_library_decide(tmp_path, monkeypatch, maker, has_mkl, is_quick):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {maker}\n")
    assert products.is_quick_with_mkl(tmp_path / "cpuinfo") == is_quick
    assert not products.is_quick_with_mkl(tmp_path / "missing")


def test_the_libraries_are_really_chosen(monkeypatch):
    """Otherwise the other tests here would test one library twice."""
    called = []
    monkeypatch.setattr(products, "_linear", lambda left, right: called.append(1) or left @ right.T)
    for chosen, rows in [(True, torch.ones(2, 3)), (True, torch.ones(2, 3).double())]:
        monkeypatch.setattr(products, "ONEDNN", chosen)
        products.rows_times_words(rows, torch.ones(4, 3).to(rows))
    monkeypatch.setattr(products, "ONEDNN", False)
    products.rows_times_words(torch.ones(2, 3), torch.ones(4, 3))
    assert called == [1]
