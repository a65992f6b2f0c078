"""Test that threads share blocks of rows without changing a number or another thread's settings."""

import threading
import time

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth

from pdkernels import report_row_filter, teacher_topk, topk_kl, topk_kl_and_metrics
from pdkernels.chunked import passes, workers

CPU = torch.device("cpu")
ROWS = 300  # in four blocks


@pytest.fixture
def two_threads():
    former = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(former)


@pytest.fixture
def problem(two_threads):
    """5,000 words are three slabs, and rows enough for both threads."""
    teacher, student, head = make_rows(ROWS, 16, 5000, apart=0.3)
    assert workers.num_workers(ROWS, CPU) == 2
    return teacher, student, head, teacher_topk(teacher, head, 20)


def in_turn(work, items, num_threads):
    """Do the same blocks one after the other, each operation by one thread."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    for item in items:
        work(item)
    torch.set_num_threads(former)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_threads_give_bitwise_what_one_gives(divergence, dtype, problem, monkeypatch):
    teacher, student, head, _ = (x.to(dtype) if torch.is_tensor(x) else x for x in problem)
    results = []
    for run in (workers.for_each, in_turn):
        monkeypatch.setattr(workers, "for_each", run)
        topk = teacher_topk(teacher, head, 20)
        given = loss_and_gradient(student, head, topk, divergence=divergence)
        results.append([*topk.tensors(), *given])
    for shared, alone in zip(*results, strict=True):
        assert torch.equal(shared, alone)
    loss64, gradient64 = truth(teacher, student, head, 20, divergence=divergence)
    loss, gradient = results[0][-2:]
    assert relative_error(loss, loss64) < 1e-5
    bound = torch.finfo(dtype).eps if dtype == torch.bfloat16 else 1e-5
    assert relative_error(gradient, gradient64) < bound


def test_everything_that_a_call_returns_comes_from_every_block(problem):
    _, student, head, topk = problem
    labels = torch.arange(ROWS) * 7 % 5000
    labels[::3] = -100
    student = student.clone()
    student[::3] = torch.nan
    options = {"labels": labels, "label_weight": 0.3, "softcap": 30.0}
    loss, gradient = loss_and_gradient(student, head, topk, **options)
    _, metrics = topk_kl_and_metrics(student, head, topk, **options)
    kept = labels != -100
    few = {"labels": labels[kept], "label_weight": 0.3, "softcap": 30.0}
    wanted = loss_and_gradient(student[kept].double(), head.double(), topk[kept], **few)
    assert relative_error(loss[kept], wanted[0]) < 1e-5
    assert relative_error(gradient[kept], wanted[1]) < 1e-5
    assert (loss[~kept] == 0).all() and (gradient[~kept] == 0).all()
    _, alone = topk_kl_and_metrics(student[kept], head, topk[kept], impl="reference", **few)
    assert torch.equal(metrics.agrees[kept], alone.agrees) and 0 < alone.agrees.mean() < 1


def test_filtered_rows_are_counted_once(problem):
    _, student, head, topk = problem
    with report_row_filter() as report:
        loss_and_gradient(student, head, topk, row_filter=0.01)
    assert report.num_rows == ROWS and 0 < report.skipped_fraction < 1


def test_inference_mode_and_function_transforms_reach_the_threads(problem):
    teacher, student, head, topk = problem
    wanted = loss_and_gradient(student, head, topk)
    with torch.inference_mode():
        again = teacher_topk(teacher, head, 20)
        assert torch.equal(topk_kl(student, head, again), wanted[0])
    found = torch.func.grad(lambda rows: topk_kl(rows, head, topk).sum())(student)
    assert torch.equal(found, wanted[1])


def test_a_thread_of_the_pool_computes_alone_and_others_keep_their_number(two_threads):
    inside, later = [], []

    def work(item):
        inside.append((torch.get_num_threads(), threading.current_thread()))
        assert not torch.is_grad_enabled()
        time.sleep(0.01)

    workers.for_each(work, [slice(0, 1)] * 8, 2)
    assert {number for number, _ in inside} == {1}
    assert len({thread for _, thread in inside}) == 2 and len(inside) == 8
    assert torch.get_num_threads() == 2
    other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert later == [2]


def test_a_thread_that_is_slow_leaves_blocks_to_the_others(two_threads):
    done: dict[threading.Thread, int] = {}
    first = threading.Lock()

    def work(item):
        me = threading.current_thread()
        done[me] = done.get(me, 0) + 1
        if first.acquire(blocking=False):
            time.sleep(0.5)
        time.sleep(0.01)

    workers.for_each(work, [slice(0, 1)] * 8, 2)
    assert sorted(done.values()) == [1, 7]


def test_an_error_in_a_block_is_raised_and_nothing_more_is_begun(two_threads):
    begun = []

    def work(item):
        begun.append(item)
        if len(begun) == 2:
            raise ValueError("this block is wrong")
        time.sleep(0.05)

    with pytest.raises(ValueError, match="this block is wrong"):
        workers.for_each(work, [slice(i, i + 1) for i in range(100)], 2)
    assert len(begun) < 100
    again = []
    workers.for_each(again.append, [slice(0, 1)] * 4, 2)
    assert len(again) == 4, "the threads are still there"
    workers._forget()  # as in a forked process, where they are not
    workers.for_each(again.append, [slice(0, 1)] * 4, 2)
    assert len(again) == 8


def test_few_rows_are_left_to_pytorchs_threads(two_threads):
    blocks: list[slice] = []
    for rows in (0, 1, 127):
        assert workers.num_workers(rows, CPU) == 1
        blocks.clear()
        passes.each_block(blocks.append, rows, 5000, 20, CPU)
        assert len(blocks) == min(rows, 1)
    assert workers.num_workers(10**6, torch.device("cuda")) == 1


@pytest.mark.parametrize("num_rows, k", [(128, 20), (1024, 64), (1000, 3000), (4099, 64)])
def test_blocks_are_whole_even_and_two_a_thread(num_rows, k, two_threads):
    blocks: list[slice] = []
    passes.each_block(blocks.append, num_rows, 50_000, k, CPU)
    blocks.sort(key=lambda rows: rows.start)
    assert [rows.start for rows in blocks] == [0, *(rows.stop for rows in blocks[:-1])]
    assert blocks[-1].stop == num_rows
    sizes = [rows.stop - rows.start for rows in blocks]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= workers.MOST_ROWS
    assert len(blocks) >= min(4, num_rows // workers.LEAST_ROWS)
