"""Test how much the chunked top-k KL holds at once, beyond its inputs."""

from collections.abc import Callable

import pytest
import torch
from kernel_support import make_rows

import pdkernels.chunked.slabs
from pdkernels import teacher_topk, topk_kl

HIDDEN, VOCAB, K = 64, 6000, 32
FP32, INT64 = 4, 8


def peak_held(work: Callable[[], object]) -> int:
    """Return the most bytes held at once while `work` runs, as PyTorch records its allocations."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


@pytest.fixture(autouse=True)
def one_thread():
    """Let all blocks be done here: the account sees the calling thread alone."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture
def slabs_of_512_rows(monkeypatch):
    """Make slabs small, so that 512 rows fill one and thousands are cheap."""
    monkeypatch.setattr(pdkernels.chunked.slabs, "SLAB_WIDTH", 512)
    monkeypatch.setattr(pdkernels.chunked.slabs, "SLAB_ELEMENTS", 512 * (512 + 8 * K))


@pytest.mark.parametrize("options", [{}, {"row_filter": 0.01}, {"tail": "renormalise"}])
def test_only_the_results_grow_with_the_rows(options, slabs_of_512_rows):
    """Only loss and gradient grow with the rows; logits, top-k in fp64 and mean words do not."""
    peaks = {}
    for num_rows in (512, 1024, 2048):
        teacher, student, head = make_rows(num_rows, HIDDEN, VOCAB)
        topk = teacher_topk(teacher, head, K)
        student.requires_grad_()
        peaks[num_rows] = peak_held(lambda s=student, h=head, t=topk: topk_kl(s, h, t, **options))
    results = FP32 * (HIDDEN + 1)
    for num_rows in (1024, 2048):
        more = peaks[num_rows] - peaks[num_rows // 2]
        assert more <= 1.01 * results * num_rows / 2
    assert peaks[512] < 512 * VOCAB * FP32  # one of eager's several (N, V) tensors


def test_only_the_top_k_grows_with_the_rows(slabs_of_512_rows):
    peaks = {}
    for num_rows in (512, 1024, 2048):
        teacher, _, head = make_rows(num_rows, HIDDEN, VOCAB)
        peaks[num_rows] = peak_held(lambda h=teacher, w=head: teacher_topk(h, w, K))
    results = K * (FP32 + INT64) + 2 * FP32
    for num_rows in (1024, 2048):
        more = peaks[num_rows] - peaks[num_rows // 2]
        assert more <= 1.01 * results * num_rows / 2


def test_the_account_counts_what_is_held_together():
    assert peak_held(lambda: [torch.ones(10**6) for _ in range(2)]) >= 2 * 10**6 * FP32
    assert peak_held(lambda: [float(torch.ones(10**6)[0]) for _ in range(2)]) < 2 * 10**6 * FP32
