"""Test that each moment counts under one name."""

import time

import pytest
import torch

from pdtrain.timing import NAMES, Clock

CPU = torch.device("cpu")


def test_each_moment_stands_under_one_name(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    clock = Clock(CPU)
    with clock("data"):  # not started: not counted
        wait(100)
    clock.start()
    wait(1)
    with clock("backward"):
        wait(2)
        with clock("communication"):
            wait(4)
        wait(8)
    with clock("communication"):
        wait(16)
    wait(32)
    found = clock.take()
    assert found == dict.fromkeys(NAMES, 0.0) | {
        "other": 33,
        "backward": 10,
        "communication": 20,
    }
    assert sum(found.values()) == 63
    wait(64)
    assert clock.take() == {}, "stopped"


def test_an_error_inside_leaves_the_outer_name_running():
    clock = Clock(CPU)
    clock.start()
    with pytest.raises(RuntimeError), clock("loss"):
        raise RuntimeError
    with clock("student"):
        pass
    assert set(clock.take()) == set(NAMES)


@pytest.mark.gpu
def test_a_gpu_s_own_time_is_counted():
    device = torch.device("cuda")
    clock = Clock(device)
    size = 4096
    left = torch.randn(size, size, device=device)
    left @ left
    torch.cuda.synchronize()
    clock.start()
    with clock("student"):
        for _ in range(20):
            left @ left
    found = clock.take()
    assert found["student"] > 10 * found["other"]
    assert found["student"] > 20 * 2 * size**3 / 2e15, "no GPU multiplies as fast"
