"""Set up the tests: markers, their environment, and a switch that makes a missing GPU an error."""

import os
import random

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="fail instead of skipping the GPU tests where no GPU is visible",
    )


def pytest_configure(config):
    import torch

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may need a download
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # workers of pytest-xdist share the cores; threads beyond them wait for each other in busy loops
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        threads = max(1, torch.get_num_threads() // workers)
        torch.set_num_threads(threads)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the processes that tests start


def pytest_collection_modifyitems(config, items):
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.getoption("--require-gpu") and not num_gpus:
        raise pytest.UsageError("--require-gpu was given but no GPU is visible")
    for item in items:
        if item.get_closest_marker("gpu") and num_gpus < 1:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
        if item.get_closest_marker("multi_gpu") and num_gpus < 2:
            item.add_marker(pytest.mark.skip(reason=f"needs two GPUs, {num_gpus} visible"))


@pytest.fixture(autouse=True)
def same_random_numbers_every_time():
    """Seed every test, so that one without a seed of its own fails always or never."""
    import torch

    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def what_is_said_is_printed_and_recorded(monkeypatch):
    """Show each test its own lines by `capsys` and `caplog`, whatever ran before it."""
    import logging

    from pdtrain.progress import LOGGER, _printer

    monkeypatch.setattr(LOGGER, "handlers", [_printer])
    monkeypatch.setattr(LOGGER, "propagate", True)
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    yield
    LOGGER.setLevel(before)
