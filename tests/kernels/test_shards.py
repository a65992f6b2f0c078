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
    agree_on_one, agree_on_two = ("reduce", 3), ("reduce", 5)  # an error, checksums, their squares
    assert calls == [
        agree_on_one, ("gather", rows * (1 + 2 * K)),
        agree_on_two, ("reduce", rows * (1 + K)), ("reduce", rows * hidden),
    ]  # fmt: skip


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_one_gather_and_two_reductions(num_ranks, tmp_path):
    run_ranks(counts_collectives, num_ranks, tmp_path)


def refuses(rank: int) -> None:
    teacher, student, head = problem()
    with pytest.raises(ValueError, match="hold words 150 to 203 of a vocabulary of 203"):
        VocabShard(dist.group.WORLD, 150, len(head))
    shard = VocabShard(dist.group.WORLD, 0, len(head))
    with pytest.raises(ValueError, match=r"words 0 to 150 of .* 203, but .* 203 words"):
        teacher_topk(teacher, head[:150], K, shard=shard)
    with pytest.raises(ValueError, match="needs the whole head"):
        teacher_topk(teacher, head, K, shard=shard, impl="reference")
    topk = teacher_topk(teacher, head, K)
    with pytest.raises(ValueError, match="words 0 to 150"):
        topk_kl(student, head[:150], topk, shard=shard)


def test_a_shard_that_does_not_fit_is_refused(tmp_path):
    run_ranks(refuses, 1, tmp_path)


# Words of two ranks that are no division of 203 words, and how the error names them.
BAD_CUTS = [
    ([(0, 100), (120, 83)], "words 0 to 100, 120 to 203"),  # 20 are missing
    ([(0, 100), (0, 203)], "words 0 to 100, 0 to 203"),  # one first word twice
    ([(0, 120), (100, 103)], "words 0 to 120, 100 to 203"),  # an overlap
    ([(100, 103), (0, 100)], "words 100 to 203, 0 to 100"),  # out of order
]


def refuses_bad_cuts(rank: int) -> None:
    for cuts, message in BAD_CUTS:
        first, own = cuts[rank]
        with pytest.raises(ValueError, match=message):
            VocabShard(dist.group.WORLD, first, 203, own)
    with pytest.raises(ValueError, match="shards must follow the order"):
        VocabShard(dist.group.WORLD, rank * 100, 203 + rank)  # another vocabulary
    shard = VocabShard(dist.group.WORLD, rank * 100, 203)
    assert shard.own_words == (100, 103)[rank]


def errors_reach_all_ranks(rank: int) -> None:
    teacher, student, head = problem()
    shard = VocabShard.even(dist.group.WORLD, len(head))
    mine = head[shard.first_word : shard.first_word + shard.own_words]
    wrong = teacher[:, :15] if rank == 1 else teacher
    message = "inputs of another rank" if rank == 0 else "hidden size 15"
    with pytest.raises(ValueError, match=message):
        teacher_topk(wrong, mine, K, shard=shard)
    with pytest.raises(ValueError, match="must pass the same rows, but they differ"):
        teacher_topk(teacher.roll(rank, 0), mine, K, shard=shard)
    with pytest.raises(ValueError, match="must pass the same rows, but they differ"):
        teacher_topk(teacher[: 8 + rank], mine, K, shard=shard)
    topk = teacher_topk(teacher, mine, K, shard=shard)
    with pytest.raises(ValueError, match="must pass the same rows, but they differ"):
        topk_kl(student + rank, mine, topk, shard=shard)
    assert topk_kl(student, mine, topk, shard=shard).isfinite().all(), "the group still works"


def ties_go_to_the_lowest_id(rank: int) -> None:
    shard = VocabShard.even(dist.group.WORLD, 203)
    own = slice(shard.first_word, shard.first_word + shard.own_words)
    _, student, head = problem()
    zero = torch.zeros(9, 16)
    topk = teacher_topk(zero, head[own], K, shard=shard)
    assert topk.ids_NK.tolist() == [list(range(K))] * 9
    whole = teacher_topk(zero, head, K)
    assert torch.equal(topk.ids_NK, whole.ids_NK)
    loss = topk_kl(student, head[own], topk, shard=shard)
    torch.testing.assert_close(loss, topk_kl(student, head, whole))


def tied_words_that_differ(rank: int) -> None:
    """Words 2 and 3 are tied for the teacher, on one rank or on two, and differ for the student."""
    head = torch.tensor([[0.0, 0], [2, 0], [1, 3], [1, -3]])
    teacher, student = torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 1]])
    for cuts in ([(0, 2), (2, 2)], [(0, 3), (3, 1)]):
        first, own = cuts[rank]
        shard, mine = VocabShard(dist.group.WORLD, first, 4, own), head[first : first + own]
        topk = teacher_topk(teacher, mine, 2, shard=shard)
        assert topk.ids_NK.tolist() == [[1, 2]]
        assert abs(float(topk_kl(student, mine, topk, shard=shard)) - 1.2478) < 1e-4


LABELS = torch.tensor([3, 202, -100, 50, 150, 9, 77, -100, 0])


def labels_and_weights(rank: int) -> None:
    teacher, student, head = problem()
    shard = VocabShard.even(dist.group.WORLD, 203)
    own = slice(shard.first_word, shard.first_word + shard.own_words)
    student[2] = torch.nan
    whole, topk = teacher_topk(teacher, head, K), teacher_topk(teacher, head[own], K, shard=shard)
    for tail in ("bucket", "renormalise"):
        options = {"labels": LABELS, "label_weight": 0.3, "tail": tail}
        wanted = loss_and_gradient(student, head, whole, **options)
        found = loss_and_gradient(student, head[own], topk, shard=shard, **options)
        assert relative_error(found[0], wanted[0]) < 1e-5
        assert relative_error(found[1], wanted[1]) < 1e-5


@pytest.mark.parametrize(
    "work",
    [
        refuses_bad_cuts,
        errors_reach_all_ranks,
        ties_go_to_the_lowest_id,
        tied_words_that_differ,
        labels_and_weights,
    ],
    ids=lambda work: work.__name__,
)
def test_on_two_ranks(work, tmp_path):
    run_ranks(work, 2, tmp_path)


def spread_heads(rank: int) -> None:
    """Each rank has rows of its own number, as under FSDP2, and the head is a DTensor."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    teacher, student, head = problem()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    mine = slice(0, 4) if rank == 0 else slice(4, 9)
    bias = torch.randn(203, generator=torch.Generator().manual_seed(3))
    for placement in (Shard(0), Replicate()):
        spread = distribute_tensor(head.clone(), mesh, [placement])
        for given in ({}, {"softcap": 10.0, "bias": bias}):
            whole = teacher_topk(teacher, head, K, **given)
            topk = teacher_topk(teacher[mine], spread, K, **given)
            assert torch.equal(topk.ids_NK, whole.ids_NK[mine])
            weight = torch.tensor([1.0, 0, 2, 1, 1, 1, 0.5, 1, 1])
            options = {"labels": LABELS, "label_weight": 0.3, "row_weight": weight} | given
            own = options | {"labels": LABELS[mine], "row_weight": weight[mine]}
            wanted = loss_and_gradient(student, head, whole, **options)
            found = loss_and_gradient(student[mine], spread, topk, **own)
            assert relative_error(found[0], wanted[0][mine]) < 1e-5
            assert relative_error(found[1], wanted[1][mine]) < 1e-5
            # a row of weight 0 is not read, whatever it holds
            spoilt = student.clone()
            spoilt[weight == 0] = torch.nan
            again = loss_and_gradient(spoilt[mine], spread, topk, **own)
            assert torch.equal(again[0], found[0]) and torch.equal(again[1], found[1])
            for wrong in (weight[mine, None], weight[:1], weight[mine].clone().requires_grad_()):
                with pytest.raises(ValueError, match="row_weight"):
                    topk_kl(student[mine], spread, topk, **own | {"row_weight": wrong})
    with pytest.raises(ValueError, match="must be cut by its words"):
        teacher_topk(teacher, distribute_tensor(head.clone(), mesh, [Shard(1)]), K)


def test_a_dtensor_head_takes_each_ranks_own_rows(tmp_path):
    run_ranks(spread_heads, 2, tmp_path)
