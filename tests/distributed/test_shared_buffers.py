"""Test that the shared memory of DeepSpeed's ranks on CPUs does not stay behind."""

import os
import time

import pytest

from pdtrain.distributed import shared_buffers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    return tmp_path


def buffer(folder, rank, port=29500, user=None, age=0.0):
    """Make a file as DeepSpeed names it."""
    user = os.getuid() if user is None else user
    path = folder / f"deepspeed_allreduce_buffer_{user}_127.0.0.1_{port}_{rank}"
    path.write_bytes(b"\0")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_rank_removes_its_own_buffer_alone(folder):
    own, others = buffer(folder, 1), [buffer(folder, 0), buffer(folder, 1, port=29501)]
    shared_buffers.remove_own(1, folder)
    shared_buffers.remove_own(1, folder)  # there is none any more
    assert not own.exists() and all(path.exists() for path in others)


def test_what_killed_ranks_left_is_swept_and_what_begins_is_not(folder):
    old = [buffer(folder, rank, age=700.0) for rank in range(2)]
    kept = [
        buffer(folder, 0, port=29501),
        buffer(folder, 0, user=os.getuid() + 1, age=700.0),
        folder / "psm_other",
    ]
    kept[-1].write_bytes(b"\0")
    os.utime(kept[-1], (0, 0))
    assert shared_buffers.sweep(folder) == 2
    assert not any(path.exists() for path in old) and all(path.exists() for path in kept)
    assert shared_buffers.sweep(folder / "missing") == 0
