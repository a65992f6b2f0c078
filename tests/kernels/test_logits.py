"""Test logits with a scale, a soft cap and a bias of the head, against float64 and PyTorch."""

import pytest
import torch
import torch.distributed as dist
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error
from support import run_ranks
from torch.nn import functional

from pdkernels import TopK, VocabShard, report_row_filter, teacher_topk, topk_kl

NUM_WORDS = 4099  # three slabs of the chunked implementation and a rest
BIAS = torch.randn(NUM_WORDS, generator=torch.Generator().manual_seed(5))
KINDS = {
    "scale": {"logit_scale": 0.25},
    "softcap": {"softcap": 12.0},
    "bias": {"bias": BIAS},
    "all": {"logit_scale": 0.75, "softcap": 20.0, "bias": BIAS},
}
kinds = pytest.mark.parametrize("kind", KINDS)
BOTH = pytest.mark.parametrize("impl", ["reference", "chunked"])


def problem(num_rows: int = 9, hidden: int = 16, words: int = NUM_WORDS, apart: float = 0.5):
    """Return rows whose logits reach beyond the caps: their standard deviation is 8.

    They are so far apart that the KL is 1e-3 or more: below, fp32 tails have fewer digits.
    """
    return make_rows(num_rows, hidden, words, logit_std=8.0, apart=apart)


def eager_logits(rows, head, logit_scale=1.0, softcap=None, bias=None):
    """Return the logits (N, V) as a model's own code makes them."""
    logits = rows @ head.T if bias is None else functional.linear(rows, head, bias.to(rows))
    logits = logits * logit_scale
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def in_double(kind: str) -> dict:
    return {n: v.double() if isinstance(v, torch.Tensor) else v for n, v in KINDS[kind].items()}


@kinds
@BOTH
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_the_teacher_is_the_softmax_of_the_models_logits(kind, impl, temperature):
    teacher, _, head = problem()
    log_p = (
        eager_logits(teacher.double(), head.double(), **in_double(kind)) / temperature
    ).double()
    lse, log_p = log_p.logsumexp(-1), log_p.log_softmax(-1)
    topk = teacher_topk(teacher, head, 20, temperature, impl=impl, **KINDS[kind])
    assert topk.ids_NK.tolist() == log_p.topk(20).indices.sort(-1).values.tolist()
    torch.testing.assert_close(
        topk.log_p_NK.double(), log_p.gather(1, topk.ids_NK), rtol=0, atol=2e-5
    )
    tail = log_p.scatter(1, topk.ids_NK, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(topk.log_p_tail_N.double(), tail, rtol=0, atol=2e-5)
    torch.testing.assert_close(topk.lse_N.double(), lse, rtol=1e-6, atol=1e-5)


@kinds
@BOTH
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_k_of_all_words_is_the_full_divergence_of_the_models_logits(kind, impl, divergence):
    """Value and gradient, from autograd through plain PyTorch in float64."""
    teacher, student, head = problem()
    rows = student.double().requires_grad_()
    log_p, log_q = (
        (eager_logits(side, head.double(), **in_double(kind)) / 1.3).log_softmax(-1)
        for side in (teacher.double(), rows)
    )
    if divergence == "jsd":
        log_m = torch.logaddexp(log_p, log_q) - torch.tensor(2.0).log()
        full = (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(-1) / 2
    else:
        one, other = (log_p, log_q) if divergence == "forward_kl" else (log_q, log_p)
        full = (one.exp() * (one - other)).sum(-1)
    (gradient64,) = torch.autograd.grad(full.sum(), rows)
    topk = teacher_topk(teacher, head, NUM_WORDS, 1.3, impl=impl, **KINDS[kind])
    loss, gradient = loss_and_gradient(
        student, head, topk, divergence=divergence, impl=impl, **KINDS[kind]
    )
    assert relative_error(loss, full.detach()) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@kinds
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_value_and_gradient_match_the_definition(kind, tail, divergence):
    """The definition's own gradient is autograd's, in float64."""
    teacher, student, head = problem()
    options = {"divergence": divergence, "tail": tail, "beta": 0.3} | KINDS[kind]
    exact = {"divergence": divergence, "tail": tail, "beta": 0.3} | in_double(kind)
    topk64 = teacher_topk(
        teacher.double(), head.double(), 20, 1.7, impl="reference", **in_double(kind)
    )
    loss64, gradient64 = loss_and_gradient(
        student.double(), head.double(), topk64, impl="reference", **exact
    )
    assert divergence == "jsd" or loss64.mean() > 1e-3 or tail == "renormalise"
    topk = teacher_topk(teacher, head, 20, 1.7, impl="chunked", **KINDS[kind])
    loss, gradient = loss_and_gradient(student, head, topk, impl="chunked", **options)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5
    again, gradient = loss_and_gradient(
        student.double(), head.double(), topk64, impl="chunked", **exact
    )
    assert relative_error(again, loss64) < 1e-11
    assert relative_error(gradient, gradient64) < 1e-11


@kinds
@BOTH
def test_gradient_matches_central_differences(kind, impl):
    teacher, student, head = (x.double() for x in problem(2, 5, apart=0.5))
    topk = teacher_topk(teacher, head, 6, 1.4, impl=impl, **in_double(kind))
    options = {"impl": impl} | in_double(kind)
    _, gradient = loss_and_gradient(student, head, topk, **options)
    for row, column in [(0, 0), (1, 4), (0, 2)]:
        nudge = torch.zeros_like(student)
        nudge[row, column] = 1e-6
        up = topk_kl(student + nudge, head, topk, **options)[row]
        down = topk_kl(student - nudge, head, topk, **options)[row]
        assert abs((up - down) / 2e-6 - gradient[row, column]) < 1e-7


@BOTH
def test_nothing_asked_for_changes_nothing(impl):
    teacher, student, head = problem()
    topk = teacher_topk(teacher, head, 20, impl=impl)
    wanted = loss_and_gradient(student, head, topk, impl=impl)
    options = {"logit_scale": 1.0, "softcap": None, "bias": None, "impl": impl}
    again = teacher_topk(teacher, head, 20, **options)
    assert torch.equal(again.log_p_tail_N, topk.log_p_tail_N)
    found = loss_and_gradient(student, head, topk, **options)
    assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])


def test_a_high_cap_and_a_bias_of_zero_are_nearly_nothing():
    """A wrong cap would show: at 1e4 it moves logits of 30 by 1e-4."""
    teacher, student, head = problem()
    topk = teacher_topk(teacher, head, 20)
    wanted = loss_and_gradient(student, head, topk)
    options = {"softcap": 1e5, "bias": torch.zeros(NUM_WORDS)}
    found = loss_and_gradient(student, head, teacher_topk(teacher, head, 20, **options), **options)
    assert relative_error(found[0], wanted[0]) < 1e-5
    assert relative_error(found[1], wanted[1]) < 1e-5


@pytest.mark.parametrize(
    "gain, cap, temperature", [(1, 4, 0.3), (2, 10, 0.5), (2, 20, 1.0), (3, 20, 1.0)]
)
def test_is_better_than_the_definition_where_most_logits_are_at_the_cap(gain, cap, temperature):
    """There fp32 logits are all alike, and 0.8 to 0.97 of the mass is in the tail."""
    teacher, student, head = problem()
    teacher, student = teacher * gain, student * gain
    loss64, gradient64 = truth_of(teacher, student, head, {"softcap": cap}, temperature)
    errors = {}
    for impl in ("reference", "chunked"):
        topk = teacher_topk(teacher, head, 20, temperature, impl=impl, softcap=cap)
        loss, gradient = loss_and_gradient(student, head, topk, impl=impl, softcap=cap)
        errors[impl] = relative_error(loss, loss64), relative_error(gradient, gradient64)
    assert max(errors["chunked"]) < 1e-5
    assert errors["chunked"][0] < errors["reference"][0]
    assert errors["chunked"][1] < errors["reference"][1] + 1e-6


def truth_of(teacher, student, head, options, temperature=1.0):
    sides = teacher.double(), head.double()
    topk = teacher_topk(*sides, 20, temperature, impl="reference", **options)
    return loss_and_gradient(student.double(), head.double(), topk, impl="reference", **options)


@pytest.mark.parametrize("kind", ["softcap", "all"])
def test_row_filter_keeps_its_bound(kind):
    teacher, student, head = problem(64, apart=0.2)
    options, allowed = KINDS[kind], 0.02
    topk = teacher_topk(teacher, head, 64, 1.3, **options)
    _, exact = loss_and_gradient(student, head, topk, **options)
    with report_row_filter() as report:
        _, gradient = loss_and_gradient(student, head, topk, row_filter=allowed, **options)
    assert 0 < report.skipped_fraction < 1
    off = (gradient - exact).norm(dim=-1)
    bound = allowed * head.norm(dim=-1).max() * options.get("logit_scale", 1.0) / 1.3
    assert off.max() > 1e-4 and (off <= bound).all()
    _, everything = loss_and_gradient(student, head, topk, row_filter=1e-30, **options)
    assert relative_error(everything, exact) < 1e-5


@kinds
@BOTH
def test_a_teacher_sure_of_one_token_is_cross_entropy(kind, impl):
    _, student, head = problem()
    ids = torch.randint(NUM_WORDS, (9,), generator=torch.Generator().manual_seed(2))
    rows = student.double().requires_grad_()
    logits = eager_logits(rows, head.double(), **in_double(kind))
    wanted = functional.cross_entropy(logits, ids, reduction="none")
    (gradient64,) = torch.autograd.grad(wanted.sum(), rows)
    loss, gradient = loss_and_gradient(student, head, TopK.one_hot(ids), impl=impl, **KINDS[kind])
    assert relative_error(loss, wanted.detach()) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@BOTH
@pytest.mark.parametrize("softcap", [None, 10.0])
def test_a_bias_of_minus_infinity_takes_words_out(softcap, impl):
    """The words that remain have the loss of a head without the others, gradient included."""
    teacher, student, head = problem()
    bias = torch.zeros(NUM_WORDS)
    bias[40:] = -torch.inf
    few64 = teacher_topk(teacher.double(), head[:40].double(), 16, softcap=softcap)
    loss64, gradient64 = loss_and_gradient(
        student.double(), head[:40].double(), few64, impl="reference", softcap=softcap
    )
    options = {"bias": bias, "softcap": softcap, "impl": impl}
    topk = teacher_topk(teacher, head, 16, **options)
    assert (topk.ids_NK < 40).all()
    loss, gradient = loss_and_gradient(student, head, topk, **options)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rows(dtype):
    """Teacher and student are compared with float64 of the same rounded inputs."""
    teacher, student, head = (x.to(dtype) for x in problem(words=500))
    options = {"logit_scale": 1.5, "softcap": 10.0, "bias": BIAS[:500].to(dtype)}
    exact = options | {"bias": options["bias"].double()}
    loss64, gradient64 = truth_of(teacher, student, head, exact)
    topk = teacher_topk(teacher, head, 20, impl="chunked", **options)
    loss, gradient = loss_and_gradient(student, head, topk, impl="chunked", **options)
    assert relative_error(loss, loss64) < 1e-5
    assert relative_error(gradient, gradient64) < torch.finfo(dtype).eps


@pytest.mark.parametrize(
    "options, message",
    [
        ({"logit_scale": 0.0}, "logit_scale must be > 0 and finite, got 0.0"),
        ({"logit_scale": float("nan")}, "logit_scale must be > 0 and finite, got nan"),
        ({"softcap": -30.0}, "softcap must be > 0 and finite, got -30.0"),
        ({"softcap": float("inf")}, "softcap must be > 0 and finite, got inf"),
        ({"bias": torch.zeros(7)}, r"bias must have shape \(300,\).* got \(7,\)"),
        ({"bias": torch.zeros(300, dtype=torch.int64)}, "got .*torch.int64"),
        ({"bias": torch.zeros(300, requires_grad=True)}, "the bias requires grad"),
        ({"bias": torch.zeros(300, device="meta")}, "the bias is on meta but the head is on cpu"),
    ],
)
def test_what_gives_no_logits_is_refused(options, message):
    teacher, student, head = make_rows(3, 8, 300)
    with pytest.raises(ValueError, match=message):
        teacher_topk(teacher, head, 5, **options)
    topk = teacher_topk(teacher, head, 5)
    with pytest.raises(ValueError, match=message):
        topk_kl(student, head, topk, **options)


SHARD_OPTIONS = [
    {"divergence": divergence, "tail": tail, "row_filter": row_filter}
    for divergence in DIVERGENCES
    for tail, row_filter in (("bucket", 0.0), ("renormalise", 0.0), ("bucket", 0.01))
]


def each_rank(rank: int) -> None:
    teacher, student, head = problem(words=203)
    shard = VocabShard.even(dist.group.WORLD, len(head))
    mine = slice(shard.first_word, (rank + 1) * len(head) // dist.get_world_size())
    for kind, given in KINDS.items():
        whole_options = {n: v[:203] if n == "bias" else v for n, v in given.items()}
        options = {n: v[mine] if n == "bias" else v for n, v in whole_options.items()}
        for k in (20, 203):
            whole = teacher_topk(teacher, head, k, 1.3, **whole_options)
            topk = teacher_topk(teacher, head[mine], k, 1.3, shard=shard, **options)
            assert torch.equal(topk.ids_NK, whole.ids_NK), kind
            torch.testing.assert_close(topk.log_p_NK, whole.log_p_NK)
            torch.testing.assert_close(topk.log_p_tail_N, whole.log_p_tail_N)
            for asked in SHARD_OPTIONS:
                wanted = loss_and_gradient(student, head, whole, **asked, **whole_options)
                found = loss_and_gradient(
                    student, head[mine], topk, shard=shard, **asked, **options
                )
                assert relative_error(found[0], wanted[0]) < 1e-5, (kind, asked)
                assert relative_error(found[1], wanted[1]) < 1e-5, (kind, asked)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_shards_give_what_the_whole_head_gives(num_ranks, tmp_path):
    run_ranks(each_rank, num_ranks, tmp_path)
