"""Check that an error on one rank ends all of them at once, with its traceback."""

import socket
import subprocess
import sys
import time

import pytest

# What NCCL does and gloo does not: tearing a group down waits for the other ranks.
RANK = """
import sys, time
import torch.distributed as dist
from pdtrain import api, cli
from pdtrain.config import EngineConfig
from pdtrain.distributed.process_group import connected
from pdtrain.distributed.world import find_world
from pdtrain.progress import Stopped
from pdtrain.schema import require

def waits_for_peers():
    time.sleep({teardown})
    print("gave up waiting", flush=True)

def stage(config):
    world = find_world()
    with connected(EngineConfig(kind="deepspeed"), world):
        dist.barrier()
        dist.destroy_process_group = waits_for_peers
        if world.rank == 1:
            {error}
        dist.barrier()

api.stage_function = lambda name: stage
sys.argv = ["pdtrain", "train", sys.argv[1]]
cli.run()
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(f"out_dir: {tmp_path / 'run'}\n")
    return path


def start(config, error, clean_environment, teardown=60):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = []
    for rank in ("0", "1"):
        env = clean_environment | {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "CUDA_VISIBLE_DEVICES": "",
            "DS_ACCELERATOR": "cpu",
        }
        command = [sys.executable, "-c", RANK.format(error=error, teardown=teardown), str(config)]
        ranks.append(
            subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    return ranks


@pytest.fixture
def clean_environment():
    import os

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER", "SLURM", "OMPI", "PMI")
    return {k: v for k, v in os.environ.items() if not k.startswith(names)}


@pytest.mark.parametrize(
    "error, said",
    [
        ("raise RuntimeError('boom on rank 1')", "RuntimeError: boom on rank 1"),
        ("require(False, 'bad input on rank 1')", "pdtrain train: bad input on rank 1"),
    ],
)
def test_an_error_on_one_rank_ends_all_at_once(config, error, said, clean_environment):
    ranks = start(config, error, clean_environment)
    try:
        out, err = ranks[1].communicate(timeout=55)  # most of it is the import of torch
        ended = time.monotonic()
        first_out, first_err = ranks[0].communicate(timeout=20)
    finally:
        for rank in ranks:
            rank.kill()
    assert said in err and ranks[1].returncode == 1, err
    assert "gave up waiting" not in out + first_out, "teardown waited for a rank that had left"
    assert ranks[0].returncode == 1 and time.monotonic() - ended < 10, first_err


def test_a_stop_on_all_ranks_is_an_orderly_end(config, clean_environment):
    """Every rank leaves, so that the group can be taken down."""
    code = "raise Stopped('saved')"
    ranks = start(config, code, clean_environment, teardown=1)
    try:
        out, err = ranks[1].communicate(timeout=55)
    finally:
        for rank in ranks:
            rank.kill()
    assert "pdtrain train: saved" in err and ranks[1].returncode == 75, err
    assert "gave up waiting" in out, "the group was not taken down"
