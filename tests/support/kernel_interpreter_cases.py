"""Test the Triton passes in Triton's interpreter; `tests/kernels/test_triton.py` runs this file.

The interpreter must be chosen before Triton is imported, and lasts for the process: that is why
these run in a process of their own. Slabs and buffers are small, so that a few hundred words make
many slabs of two chunks, several compactions and several groups of slabs.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

from dataclasses import replace

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth
from torch.nn import functional

from pdkernels import (
    TopK,
    choose,
    report_row_filter,
    roofline,
    teacher_topk,
    topk_kl,
)
from pdkernels.chunked import passes as topk_kl_chunked
from pdkernels.fused.passes import Objective
from pdkernels.fused.student import Wanted, compute
from pdkernels.logits import Logits
from pdkernels.triton import passes as topk_kl_triton
from pdkernels.triton import plan as plans

TAIL = 5e-6  # the tail is summed from fp32 logits, and one near 20 is off by 1e-6 before any sum


def take_slabs(monkeypatch, width: int) -> None:
    """Let four rows' slabs have so many words."""
    monkeypatch.setattr(plans, "CACHE_BYTES", width * 4 * 4 * 3 // 2)
    monkeypatch.setattr(plans, "WIDEST", width)


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    for name, value in {"ROWS": 4, "CHUNK": 32, "TILE": 16, "EXP_BYTES": 4 * 4 * 128}.items():
        monkeypatch.setattr(plans, name, value)
    for name, value in {"CAPACITY": 64, "MAX_K": 32, "LIBRARY_PRODUCTS": False}.items():
        monkeypatch.setattr(topk_kl_triton, name, value)
    take_slabs(monkeypatch, 64)


CASES = [  # N, D, V, k
    pytest.param(1, 8, 33, 1, id="one_token"),
    pytest.param(5, 24, 171, 20, id="divides_nothing"),
    pytest.param(5, 16, 32, 32, id="k_is_all_of_one_slab"),
]


@pytest.mark.parametrize("library", [False, True])
@pytest.mark.parametrize("num_rows, hidden, vocab, k", CASES)
def test_matches_the_definition(num_rows, hidden, vocab, k, library, monkeypatch):
    monkeypatch.setattr(topk_kl_triton, "LIBRARY_PRODUCTS", library)
    teacher, student, head = make_rows(num_rows, hidden, vocab)
    upstream = torch.randn(num_rows, generator=torch.Generator().manual_seed(1))
    topk = teacher_topk(teacher, head, k, 1.7, impl="triton")
    wanted = teacher_topk(teacher.double(), head.double(), k, 1.7, impl="reference")
    assert torch.equal(topk.ids_NK, wanted.ids_NK)
    torch.testing.assert_close(topk.log_p_NK.double(), wanted.log_p_NK, rtol=0, atol=2e-6)
    torch.testing.assert_close(topk.log_p_tail_N.double(), wanted.log_p_tail_N, rtol=0, atol=TAIL)
    for divergence in DIVERGENCES:
        options = {"divergence": divergence, "beta": 0.3}
        loss64, gradient64 = truth(
            teacher, student, head, k, 1.7, upstream_N=upstream.double(), **options
        )
        loss, gradient = loss_and_gradient(student, head, topk, upstream, impl="triton", **options)
        assert relative_error(loss, loss64) < 1e-5
        assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("width", [16, 32, 96, 256], ids=lambda width: f"{width}_words")
def test_slabs_of_any_width(width, monkeypatch):
    """Half a chunk, one, three, and more words than there are; chunks stay the same, and sums."""
    teacher, student, head = make_rows(2, 8, 171)
    take_slabs(monkeypatch, width)
    launches = plans.plan(4, 171, 4, plans.CACHE_BYTES)
    assert launches.slab == min(width, 192) and launches.group % launches.slab == 0
    topk = teacher_topk(teacher, head, 20, 1.7, impl="triton")
    wanted = teacher_topk(teacher.double(), head.double(), 20, 1.7, impl="reference")
    assert torch.equal(topk.ids_NK, wanted.ids_NK)
    torch.testing.assert_close(topk.log_p_NK.double(), wanted.log_p_NK, rtol=0, atol=2e-6)
    torch.testing.assert_close(topk.log_p_tail_N.double(), wanted.log_p_tail_N, rtol=0, atol=TAIL)
    loss64, gradient64 = truth(teacher, student, head, 20, 1.7)
    loss, gradient = loss_and_gradient(student, head, topk, impl="triton")
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_top_ks_own_logits_lose_nothing_to_fp32(dtype):
    """Products of halves are exact in fp32; what their sum loses is added up beside it.

    The bound is (n 2**-24)**2 of the magnitudes' sum, n the additions of a lane.
    """
    hidden = 3000
    rows, _, head = (x.to(dtype) for x in make_rows(3, hidden, 40, logit_std=30.0))
    ids = torch.stack([torch.randperm(40)[:20] for _ in range(3)])
    found = topk_kl_triton.logits_at(rows, head, ids, Logits(1.0))
    words = head.double()[ids]
    exact = (rows.double()[:, None] * words).sum(-1)
    size = (rows.double()[:, None] * words).abs().sum(-1)
    additions = -(-hidden // topk_kl_triton.GATHER["BLOCK"])
    assert ((found - exact).abs() <= (additions * 2.0**-24) ** 2 * size + 1e-15 * size).all()
    plain = (rows.float()[:, None] * head.float()[ids]).sum(-1).double()
    assert (plain - exact).abs().max() > 100 * (found - exact).abs().max()


def test_an_impossible_word_has_no_logit_in_half_precision():
    rows, _, head = (x.half() for x in make_rows(2, 16, 40))
    rows[:, 0], head[3], head[3, 0] = 1, 0, -torch.inf
    found = topk_kl_triton.logits_at(rows, head, torch.tensor([[3, 4], [5, 3]]), Logits(1.0))
    assert found.isinf().tolist() == [[True, False], [False, True]]


def test_every_pass_matches_the_chunked_one():
    """Some ids are outside the head, as in a vocabulary shard."""
    _, student, head = make_rows(5, 16, 100)
    ids = torch.stack([torch.randperm(140)[:20] - 20 for _ in range(5)])
    weight = torch.randn(5, 20)
    for passes in (topk_kl_triton, topk_kl_chunked):
        logits, words = passes.logits_at(student, head, ids, Logits(0.7)), passes.sum_of_words
        tail, mean = passes.sweep(student, head, ids, Logits(0.7), True)
        alone, nothing = passes.sweep(student, head, ids, Logits(0.7), False)
        found = (logits, words(weight, ids, head), tail, mean, alone)
        assert nothing is None
        if passes is topk_kl_triton:
            wanted = found
    for ours, chunked in zip(wanted, found, strict=True):
        assert relative_error(ours, chunked) < 1e-6


@pytest.mark.parametrize(
    "dtype, bound",
    [
        (torch.float16, 1e-3),  # it rounds by up to 4.9e-4
        (torch.bfloat16, 8e-3),  # by up to 3.9e-3
    ],
)
def test_half_precision_rows(dtype, bound):
    """The products are of operands cast up first: the interpreter would multiply bf16's bits."""
    teacher, student, head = (x.to(dtype) for x in make_rows(2, 16, 150, apart=0.3))
    topk = teacher_topk(teacher, head, 20, impl="triton")
    loss, gradient = loss_and_gradient(student, head, topk, impl="triton")
    loss64, gradient64 = truth(teacher, student, head, 20)
    assert relative_error(loss, loss64) < 1e-5
    assert gradient.dtype == dtype
    assert relative_error(gradient, gradient64) < bound


def test_ties_go_to_the_lowest_id_and_repeat():
    _, _, head = make_rows(1, 8, 200)
    head[5] = head[150] = head[77]
    teacher = head[77][None] * 8 / head[77].norm()
    for k in (1, 2):
        topk = teacher_topk(teacher, head, k, impl="triton")
        assert set(topk.ids_NK[0].tolist()) <= {5, 77}
        again = teacher_topk(teacher, head, k, impl="triton")
        assert torch.equal(topk.log_p_tail_N, again.log_p_tail_N)


def test_rising_logits_fill_the_buffer_every_slab():
    head = torch.linspace(-3, 3, 200)[:, None].repeat(1, 8)
    topk = teacher_topk(torch.ones(2, 8), head, 20, impl="triton")
    assert topk.ids_NK.tolist() == [list(range(180, 200))] * 2
    wanted = teacher_topk(torch.ones(2, 8).double(), head.double(), 20, impl="reference")
    torch.testing.assert_close(topk.log_p_tail_N.double(), wanted.log_p_tail_N, rtol=0, atol=TAIL)


@pytest.mark.parametrize("k", [16, 32])
def test_impossible_words(k):
    """20 real words, then padding at -inf: fewer than k can happen, whole slabs cannot."""
    teacher, student, head = make_rows(3, 8, 130)
    teacher[:, 0] = student[:, 0] = 1
    head[20:], head[20:, 0] = 0, -torch.inf
    topk = teacher_topk(teacher, head, k, impl="triton")
    assert all(len(set(row)) == k for row in topk.ids_NK.tolist())
    loss = topk_kl(student, head, topk, impl="triton")
    loss64, _ = truth(teacher, student, head[:20], min(k, 20))
    assert relative_error(loss, loss64) < 1e-5
    head[20:, 0] = -1e30  # finite padding keeps the gradient finite too
    topk = teacher_topk(teacher, head, k, impl="triton")
    _, gradient = loss_and_gradient(student, head, topk, impl="triton")
    _, gradient64 = truth(teacher, student, head[:20], min(k, 20))
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("mass", [1e-1, 1e-4, 1e-8])
def test_small_tails_keep_their_digits(mass):
    vocab, hidden = 150, 8
    _, _, head = make_rows(1, hidden, vocab)
    head[:, 0] = torch.tensor(mass / vocab).log()
    head[:10, 0] = torch.linspace(-2, -3, 10)
    teacher, student = torch.zeros(1, hidden), torch.full((1, hidden), 0.1)
    teacher[:, 0] = student[:, 0] = 1
    topk = teacher_topk(teacher, head, 10, impl="triton")
    loss64, gradient64 = truth(teacher, student, head, 10)
    loss, gradient = loss_and_gradient(student, head, topk, impl="triton")
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


def test_equal_sides_give_nothing():
    teacher, _, head = make_rows(2, 16, 150, logit_std=10)
    topk = teacher_topk(teacher, head, 20, impl="triton")
    loss, gradient = loss_and_gradient(teacher, head, topk, impl="triton")
    assert (loss >= 0).all() and loss.max() < 1e-9
    assert gradient.norm(dim=-1).max() < 1e-6


def test_no_rows_and_renormalised_tail():
    teacher, student, head = make_rows(3, 8, 100)
    topk = teacher_topk(teacher[:0], head, 20, impl="triton")
    loss, gradient = loss_and_gradient(student[:0], head, topk, impl="triton")
    assert loss.shape == (0,) and gradient.shape == (0, 8)
    topk = teacher_topk(teacher, head, 20, impl="triton")
    loss, gradient = loss_and_gradient(student, head, topk, tail="renormalise", impl="triton")
    loss64, gradient64 = truth(teacher, student, head, 20, tail="renormalise")
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


def test_a_teacher_sure_of_one_token_is_cross_entropy():
    _, student, head = make_rows(5, 8, 171)
    ids = torch.tensor([0, 31, 32, 170, 99])
    rows64 = student.double().requires_grad_()
    wanted = functional.cross_entropy(rows64 @ head.double().T, ids, reduction="none")
    (gradient64,) = torch.autograd.grad(wanted.sum(), rows64)
    loss, gradient = loss_and_gradient(student, head, TopK.one_hot(ids), impl="triton")
    assert relative_error(loss, wanted.detach()) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


def test_row_filter_keeps_its_bound():
    teacher, student, head = make_rows(6, 8, 70, apart=0.3)
    topk = teacher_topk(teacher, head, 20, impl="triton")
    _, gradient = loss_and_gradient(student, head, topk, impl="triton")
    with report_row_filter() as report:
        _, filtered = loss_and_gradient(student, head, topk, impl="triton", row_filter=0.002)
    assert 0 < report.skipped_fraction < 1
    off = (filtered - gradient).norm(dim=-1)
    assert (off <= 0.002 * head.norm(dim=-1).max()).all() and off.max() > 1e-5


def test_refuses_what_it_cannot_do():
    teacher, student, head = make_rows(3, 8, 100)
    with pytest.raises(ValueError, match=r"supports k up to 32, got 33; use impl='chunked'"):
        teacher_topk(teacher, head, 33, impl="triton")
    topk = teacher_topk(teacher, head, 20)
    with pytest.raises(ValueError, match=r"bf16, fp16 and fp32, got torch.float64"):
        topk_kl(student.double(), head.double(), topk, impl="triton")
    with pytest.raises(ValueError, match="a head whose rows are contiguous"):
        topk_kl(student, head.T.contiguous().T, topk, impl="triton")


CAPPED = {"logit_scale": 1.5, "softcap": 10.0}


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("capped", [{}, CAPPED], ids=["plain", "capped"])
@pytest.mark.parametrize("library", [False, True])
def test_scale_soft_cap_and_bias(has_bias, capped, library, monkeypatch):
    """Logits reach beyond the cap, on both sides of where the kernels change their formula."""
    monkeypatch.setattr(topk_kl_triton, "LIBRARY_PRODUCTS", library)
    teacher, student, head = make_rows(5, 24, 171, logit_std=8.0, apart=0.5)
    bias = torch.randn(171, generator=torch.Generator().manual_seed(5)) if has_bias else None
    options = capped | {"bias": bias}
    exact = capped | {"bias": None if bias is None else bias.double()}
    wanted = teacher_topk(teacher.double(), head.double(), 20, 1.7, impl="reference", **exact)
    topk = teacher_topk(teacher, head, 20, 1.7, impl="triton", **options)
    assert torch.equal(topk.ids_NK, wanted.ids_NK)
    torch.testing.assert_close(topk.log_p_NK.double(), wanted.log_p_NK, rtol=0, atol=2e-6)
    torch.testing.assert_close(topk.log_p_tail_N.double(), wanted.log_p_tail_N, rtol=0, atol=TAIL)
    for divergence in DIVERGENCES:
        for tail in ("bucket", "renormalise"):
            kinds = {"divergence": divergence, "tail": tail}
            loss64, gradient64 = loss_and_gradient(
                student.double(), head.double(), wanted, impl="reference", **kinds, **exact
            )
            loss, gradient = loss_and_gradient(
                student, head, topk, impl="triton", **kinds, **options
            )
            assert relative_error(loss, loss64) < 1e-5
            assert relative_error(gradient, gradient64) < 1e-5


def test_logits_that_are_nearly_all_at_the_cap():
    teacher, student, head = make_rows(5, 16, 171, logit_std=16.0, apart=0.5)
    wanted = teacher_topk(teacher.double(), head.double(), 20, 0.5, impl="reference", softcap=10.0)
    loss64, gradient64 = loss_and_gradient(
        student.double(), head.double(), wanted, impl="reference", softcap=10.0
    )
    topk = teacher_topk(teacher, head, 20, 0.5, impl="triton", softcap=10.0)
    assert torch.equal(topk.ids_NK, wanted.ids_NK), "fp32 logits at the cap are all alike"
    loss, gradient = loss_and_gradient(student, head, topk, impl="triton", softcap=10.0)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("softcap", [None, 10.0])
def test_a_bias_of_minus_infinity_takes_words_out(softcap):
    teacher, student, head = make_rows(3, 8, 130)
    bias = torch.zeros(130)
    bias[20:] = -torch.inf
    options = {"impl": "triton", "bias": bias, "softcap": softcap}
    topk = teacher_topk(teacher, head, 16, **options)
    assert (topk.ids_NK < 20).all()
    loss, gradient = loss_and_gradient(student, head, topk, **options)
    few64 = teacher_topk(teacher.double(), head[:20].double(), 16, softcap=softcap)
    loss64, gradient64 = loss_and_gradient(
        student.double(), head[:20].double(), few64, impl="reference", softcap=softcap
    )
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize(
    "rows_dtype, head_dtype", [("float32", "bfloat16"), ("float16", "float32")]
)
def test_rows_and_head_of_two_dtypes_meet_in_the_wider(rows_dtype, head_dtype):
    sides = make_rows(3, 16, 150, apart=0.3)
    teacher, student = (side.to(getattr(torch, rows_dtype)) for side in sides[:2])
    head = sides[2].to(getattr(torch, head_dtype))
    choose._said.clear()
    with pytest.warns(RuntimeWarning, match="products are made in fp32"):
        topk = teacher_topk(teacher, head, 20, impl="triton")
    loss, gradient = loss_and_gradient(student, head, topk, impl="triton")
    loss64, gradient64 = truth(teacher, student, head, 20)
    assert relative_error(loss, loss64) < 1e-5
    assert gradient.dtype == student.dtype
    bound = 1e-5 if rows_dtype == "float32" else 1e-3  # fp16 rounds the gradient by 4.9e-4
    assert relative_error(gradient, gradient64) < bound


def test_autocast_gives_the_products_of_its_dtype():
    """As any linear layer's: of operands rounded to bf16; the top-k's own logits are exact."""
    teacher, student, head = make_rows(3, 16, 150, apart=0.3)
    teacher, student = teacher.bfloat16().float(), student.bfloat16().float()
    head = head.bfloat16().float()
    topk = teacher_topk(teacher, head.bfloat16(), 20, impl="chunked")
    wanted = loss_and_gradient(student.bfloat16(), head.bfloat16(), topk, impl="triton")
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_and_gradient(student, head, topk, impl="triton")
    assert torch.equal(found[0], wanted[0])
    assert found[1].dtype == torch.float32 and torch.equal(found[1].bfloat16(), wanted[1])


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_labels_in_the_same_sweep(tail):
    teacher, student, head = make_rows(6, 8, 171, apart=0.3)
    topk64 = teacher_topk(teacher.double(), head.double(), 20, impl="reference")
    topk = teacher_topk(teacher, head, 20, impl="triton")
    labels = torch.tensor([int(topk.ids_NK[0, 3]), 170, -100, 0, int(topk.ids_NK[4, 19]), 99])
    options = {"labels": labels, "label_weight": 0.3, "tail": tail}
    loss64, gradient64 = loss_and_gradient(
        student.double(), head.double(), topk64, impl="reference", **options
    )
    student[2] = torch.nan
    loss, gradient = loss_and_gradient(student, head, topk, impl="triton", **options)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


def test_ties_across_slabs_take_the_lowest_ids():
    levels = torch.randint(3, (200,), generator=torch.Generator().manual_seed(1)).float()
    head = torch.stack([levels, torch.zeros(200)], 1)
    for k in (5, 32):
        topk = teacher_topk(torch.tensor([[1.0, 0], [0, 0]]), head, k, impl="triton")
        assert topk.ids_NK[0].tolist() == (levels == 2).nonzero()[:, 0].tolist()[:k]
        assert topk.ids_NK[1].tolist() == list(range(k))


def test_tied_words_that_differ_give_the_loss_of_the_lowest_id():
    head = torch.tensor([[0.0, 0], [2, 0], [1, 3], [1, -3]])
    topk = teacher_topk(torch.tensor([[1.0, 0]]), head, 2, impl="triton")
    assert topk.ids_NK.tolist() == [[1, 2]]
    loss = topk_kl(torch.tensor([[1.0, 1]]), head, topk, impl="triton")
    assert abs(float(loss) - 1.2478) < 1e-4


def test_an_id_that_is_no_word_is_never_a_number():
    teacher, student, head = make_rows(3, 8, 100)
    topk = teacher_topk(teacher, head, 20)
    topk.ids_NK[1, 4] = 100
    objective = Objective(Logits(1.0), "forward_kl", 0.5, "bucket", 0.0, 0.0, None)
    given = (student, head, topk, None, objective, Wanted(True, True), None)
    outcome = compute(topk_kl_triton, *given)
    assert outcome.loss_N.isnan().tolist() == [False, True, False]
    assert outcome.d_student_ND.isnan().any(1).tolist() == [False, True, False]


class CountedBytes:
    """Count the bytes that interpreted kernels load and store, masked elements left out."""

    def __init__(self, monkeypatch):
        from triton.runtime.interpreter import InterpreterBuilder

        self.num_bytes = 0
        load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

        def counted_load(builder, ptrs, mask, *rest):
            self.add(ptrs, mask)
            return load(builder, ptrs, mask, *rest)

        def counted_store(builder, ptrs, value, mask, *rest):
            self.add(ptrs, mask)
            return store(builder, ptrs, value, mask, *rest)

        monkeypatch.setattr(InterpreterBuilder, "create_masked_load", counted_load)
        monkeypatch.setattr(InterpreterBuilder, "create_masked_store", counted_store)

    def add(self, ptrs, mask):
        self.num_bytes += int(mask.data.sum()) * ptrs.get_element_ty().primitive_bitwidth // 8

    def of(self, work) -> int:
        """Return the bytes of one piece of work."""
        self.num_bytes = 0
        work()
        return self.num_bytes


def test_the_roofline_counts_the_bytes_that_the_kernels_move(monkeypatch):
    counted = CountedBytes(monkeypatch)
    rows, shape = 3, roofline.Shape(3, 200, 100, 20)
    _, student, head = (x.half() for x in make_rows(3, 200, 100))
    ids = torch.stack([torch.randperm(100)[:20] for _ in range(3)])
    weight = torch.randn(3, 20)

    def moved(launch):
        return launch.memory + launch.cache

    found = counted.of(lambda: topk_kl_triton.sum_of_words(weight, ids, head))
    assert found == moved(roofline.sum_words(rows, shape))
    found = counted.of(lambda: topk_kl_triton.logits_at(student, head, ids, Logits(1.0)))
    assert found == moved(roofline.logits_at_ids(rows, shape))

    slab, state = torch.randn(3, 64), torch.zeros(3, 3)
    state[:, 2] = 0.5  # the threshold
    hits = int((slab > 0.5).sum())
    buffer, count = torch.empty(3, 128, dtype=torch.int64), torch.full((3,), 5, dtype=torch.int32)
    buffer[:] = topk_kl_triton.CAPACITY  # any keys
    flags = {"HAS_BIAS": False, "CAPPED": False}

    def select(num_words):
        topk_kl_triton.select_slab[(3,)](
            slab, slab, buffer, state.clone(), count.clone(), ids.clone(), 64, 0, 64, num_words, 4,
            1.0, 1.0, K_POW2=16, CAPACITY=128, CHUNK=32, **flags,
        )  # fmt: skip

    wanted = roofline.select_slab(rows, 64, 4, hits / rows, 0, 0, 0)
    assert counted.of(lambda: select(1000)) == moved(wanted)
    wanted = roofline.select_slab(rows, 64, 4, hits / rows, 5 + hits / rows, 1, 1)
    assert counted.of(lambda: select(64)) == moved(wanted)
    inside = int((ids < 64).sum()) / rows
    for with_words in (False, True):
        peaks, exp = torch.zeros(3, 3), torch.empty(3, 64).half()

        def sweep(with_words=with_words, peaks=peaks, exp=exp):
            topk_kl_triton.sweep_slab[(3,)](
                slab, ids, slab, state[:, :2].contiguous(), peaks, exp, 64, 64, 0, 64, 20, 1.0, 1.0,
                0, 3, 0.0, WITH_WORDS=with_words, K_BLOCK=128, CHUNK=32, **flags,
            )  # fmt: skip

        wanted = moved(roofline.sweep_slab(rows, 64, 20, inside, 2, with_words))
        assert counted.of(sweep) == wanted


class CountedLaunches:
    """Stand for a kernel, and count how often it is launched."""

    def __init__(self, kernel, name, counts):
        self.kernel, self.name, self.counts = kernel, name, counts

    def __getitem__(self, grid):
        self.counts[self.name] = self.counts.get(self.name, 0) + 1
        return self.kernel[grid]


def test_the_roofline_counts_the_launches_of_a_call(monkeypatch):
    counts: dict[str, int] = {}
    names = {
        "select_slab": "select_slab",
        "sweep_slab": "sweep_slab", "align_peaks": "align_peaks", "sum_words": "sum_words",
        "logits_at_ids": "logits_at_ids", "rows_times_words": "product of a slab",
        "add_exp_times_words": "product of exponentials",
    }  # fmt: skip
    for kernel, name in names.items():
        real = getattr(topk_kl_triton, kernel)
        if kernel not in ("rows_times_words", "add_exp_times_words"):
            monkeypatch.setattr(topk_kl_triton, kernel, CountedLaunches(real, name, counts))
    for work, name in (
        ("_logits", "product of a slab"),
        ("_add_product", "product of exponentials"),
    ):
        real = getattr(topk_kl_triton, work)

        def counted(*args, real=real, name=name):
            counts[name] = counts.get(name, 0) + 1
            return real(*args)

        monkeypatch.setattr(topk_kl_triton, work, counted)
    teacher, student, head = (x.half() for x in make_rows(6, 8, 171))
    topk = teacher_topk(teacher, head, 20, impl="triton")
    loss_and_gradient(student, head, topk, impl="triton")
    shape = roofline.Shape(6, 8, 171, 20)
    rates = replace(roofline.RATES["sm_90"], cache_bytes=plans.CACHE_BYTES)
    launches = roofline.teacher(shape, rates) + roofline.student(shape, rates)
    found = roofline.by_name(launches, rates).items()
    wanted = {name: count for name, (count, _, _) in found if name in names.values()}
    # logits and words of the top-k are made for all rows of a call at once
    for name in ("logits_at_ids", "sum_words"):
        assert 0 < counts.pop(name) <= wanted.pop(name)
    assert counts == wanted
