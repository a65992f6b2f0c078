"""Test that a head divided along the vocabulary over gloo ranks gives what one rank gives."""

import pytest
import torch
import torch.distributed as dist
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth
from support import run_ranks

from pdkernels import TopK, VocabShard, report_row_filter, teacher_topk, topk_kl

K = 20


def problem():
    """203 words divide by neither 2 nor 4; of 4 ranks the last holds no likely word."""
    teacher, student, head = make_rows(9, 16, 203, apart=0.3)
    head[160:] = 0
    head[160:, 0] = -1e30
    teacher[:, 0] = student[:, 0] = 1
    return teacher, student, head


OPTIONS = [
    {"divergence": divergence, "tail": tail, "beta": 0.3}
    for divergence in DIVERGENCES
    for tail in ("bucket", "renormalise")
] + [{"row_filter": 0.01}]


def each_rank(rank: int) -> None:
    num_ranks = dist.get_world_size()
    teacher, student, head = problem()
    shard = VocabShard.even(dist.group.WORLD, len(head))
    end = (rank + 1) * len(head) // num_ranks
    mine = head[shard.first_word : end].clone()
    found = {}
    for k in (K, len(head)):  # the second is more than any rank has
        topk = teacher_topk(teacher, mine, k, 1.3, shard=shard)
        found[k] = [topk.log_p_NK, topk.ids_NK, topk.lse_N, topk.log_p_tail_N]
        for number, options in enumerate(OPTIONS):
            found[k, number] = loss_and_gradient(student, mine, topk, shard=shard, **options)
    gathered = [None] * num_ranks
    dist.all_gather_object(gathered, found)
    for other in gathered[1:]:
        for key, tensors in gathered[0].items():
            assert all(torch.equal(a, b) for a, b in zip(tensors, other[key], strict=True))
    compare_with_one_rank(found)


def compare_with_one_rank(found: dict) -> None:
    teacher, student, head = problem()
    for k in (K, len(head)):
        whole = teacher_topk(teacher, head, k, 1.3)
        sharded = TopK(*found[k], 1.3)
        if k == K:  # with k = V the order within ties differs
            assert torch.equal(sharded.ids_NK, whole.ids_NK)
            torch.testing.assert_close(sharded.log_p_tail_N, whole.log_p_tail_N)
        p, whole_p = (
            torch.zeros(9, len(head)).scatter(1, t.ids_NK, t.log_p_NK.exp())
            for t in (sharded, whole)
        )
        torch.testing.assert_close(p, whole_p)
        torch.testing.assert_close(sharded.lse_N, whole.lse_N)
        for number, options in enumerate(OPTIONS):
            loss, gradient = found[k, number]
            whole_loss, whole_gradient = loss_and_gradient(student, head, whole, **options)
            assert relative_error(loss, whole_loss) < 1e-5, options
            assert relative_error(gradient, whole_gradient) < 1e-5, options
            if "row_filter" not in options:
                loss64, gradient64 = truth(teacher, student, head, k, 1.3, **options)
                assert relative_error(loss, loss64) < 1e-5, options
                assert relative_error(gradient, gradient64) < 1e-5, options


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_shards_give_what_the_whole_head_gives(num_ranks, tmp_path):
    run_ranks(each_rank, num_ranks, tmp_path)


def test_the_filtered_case_filters_something():
    teacher, student, head = problem()
    with report_row_filter() as report:
        loss_and_gradient(student, head, teacher_topk(teacher, head, K, 1.3), row_filter=0.01)
    assert 0 < report.skipped_fraction < 1


def counts_collectives(rank: int) -> None:
    teacher, student, head = problem()
    shard = VocabShard.even(dist.group.WORLD, len(head))
    mine = head[shard.first_word : (rank + 1) * len(head) // dist.get_world_size()]
    calls: list[tuple[str, int]] = []
    gather, reduce = dist.all_gather, dist.all_reduce

    def counted_gather(out, given, **kinds):
        calls.append(("gather", given.numel()))
        return gather(out, given, **kinds)

    def counted_reduce(given, **kinds):
        calls.append(("reduce", given.numel()))
        return reduce(given, **kinds)

    dist.all_gather, dist.all_reduce = counted_gather, counted_reduce
    topk = teacher_topk(teacher, mine, K, shard=shard)
    loss_and_gradient(student, mine, topk, shard=shard)
    rows, hidden = student.shape
    assert calls == [
        ("gather", rows * (1 + 2 * K)), ("reduce", rows * (1 + K)), ("reduce", rows * hidden)
    ]  # fmt: skip


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_one_gather_and_two_reductions(num_ranks, tmp_path):
    run_ranks(counts_collectives, num_ranks, tmp_path)


def refuses(rank: int) -> None:
    teacher, student, head = problem()
    shard = VocabShard(dist.group.WORLD, 150, len(head))
    with pytest.raises(ValueError, match="words 150 to 353 of a vocabulary of 203"):
        teacher_topk(teacher, head, K, shard=shard)
    with pytest.raises(ValueError, match="needs the whole head"):
        teacher_topk(teacher, head[150:], K, shard=shard, impl="reference")
    topk = teacher_topk(teacher, head, K)
    with pytest.raises(ValueError, match="words 150 to 353"):
        topk_kl(student, head, topk, shard=shard)


def test_a_shard_that_does_not_fit_is_refused(tmp_path):
    run_ranks(refuses, 1, tmp_path)
