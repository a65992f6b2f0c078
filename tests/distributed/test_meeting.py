"""Test that a rank that waits says for whom, and that a failure before connecting reaches all."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from pdtrain.distributed import meeting
from pdtrain.distributed.world import World

# Ranks that nobody watches together. What fails or freezes is said in the command.
RANK = """
import os, signal, sys, time
from datetime import timedelta
from pdtrain.distributed import meeting
meeting.SECONDS_UNTIL_SAID, meeting.SECONDS_BETWEEN_BEATS = 1.0, 0.2
from pdtrain import api, cli
from pdtrain.distributed.process_group import connected
from pdtrain.config import EngineConfig
from pdtrain.distributed.world import find_world
from pdtrain.schema import require

def stage(config):
    world = find_world()
    {before}
    with connected(EngineConfig(), world, timedelta(seconds={patience})):
        print("connected", flush=True)
        {inside}

def passages(config):
    {first}

api.STAGES = {{"passages": "x", "train": "y"}}
api.stage_function = lambda name: stage if name == "train" else passages
api.WITHOUT_MODEL, api.ASK_THE_BASE, api.TOKENISED = {{"passages", "train"}}, set(), ()
api.SHARED = set()  # the first rank does its stages alone
sys.argv = ["pdtrain", "run", sys.argv[1]]
cli.run()
"""


@pytest.fixture
def ranks(tmp_path):
    """Start ranks, and end by their handles those that are left."""
    config = tmp_path / "tiny.yaml"
    settings = {"engine": {"zero_stage": 3}, "train": {"gradient_checkpointing": False}}
    settings |= {"out_dir": str(tmp_path / "run"), "corpus": {"documents": "."}}
    config.write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER", "SLURM", "OMPI", "PMI", "TORCHELASTIC")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    started = []

    def start(
        rank, num_ranks=2, before="pass", inside="pass", first="pass", patience=60, of=RANK, **more
    ):
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks}
        world |= {"LOCAL_WORLD_SIZE": num_ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        code = of.format(before=before, inside=inside, first=first, patience=patience)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(config)],
            env=clean | {k: str(v) for k, v in world.items()} | {"DS_ACCELERATOR": "cpu"} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    start.environment = clean | {"DS_ACCELERATOR": "cpu"}
    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until_said(process, words):
    """Read a process's errors up to a line that holds the words."""
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"{words} was not said")


def ended(process, seconds=100):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


FAILS = "require(False, 'docs/bad.txt cannot be read')"


@pytest.mark.slow
def test_a_first_rank_that_fails_in_its_own_stage_tells_the_other(ranks):
    first, other = ranks(0, first=FAILS), ranks(1)
    status, _, said = ended(first)
    assert status == 1 and "bad.txt cannot be read" in said
    at = time.monotonic()
    status, _, said = ended(other)
    assert time.monotonic() - at < 20
    assert status == 1 and "rank 0 failed: docs/bad.txt cannot be read" in said
    assert "Traceback" not in said


# The first of two ranks that share a stage through the run folder, and one without a config.
SHARING = """
import sys, time
from functools import partial
from pdtrain import api, cli

def passages(config, share, ranks_here):
    print("waiting", file=sys.stderr, flush=True)
    while True:
        share.reported(config.run.passages_folder)
        time.sleep(0.1)

api.Leader = partial(api.Leader, return_seconds=1.0)
api.stage_function = lambda name: passages
sys.argv = ["pdtrain", "passages", sys.argv[1]]
cli.run()
"""
LOST = """
import sys
from pdtrain import cli
sys.argv = ["pdtrain", "passages", "missing.yaml"]
cli.run()
"""


@pytest.mark.slow
def test_a_rank_that_fails_before_it_follows_is_not_waited_for(ranks):
    first = ranks(0, of=SHARING)
    wait_until_said(first, "waiting")
    assert ended(ranks(1, of=LOST))[0] == 1
    status, _, said = ended(first)
    assert status == 1 and "rank 1 has failed: config missing.yaml is not a file" in said


def test_a_stage_that_is_shared_needs_no_address(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setattr(meeting, "_met", [])
    assert meeting.listen(World(0, 2, 0, 1, "an indexed job"))() == ""


@pytest.mark.slow
def test_a_rank_that_comes_late_hears_why_the_first_one_failed(ranks):
    first = ranks(0, first=FAILS)
    wait_until_said(first, "bad.txt cannot be read")
    time.sleep(12)  # more than ranks that are here are stayed for
    other = ranks(1)
    status, _, said = ended(other)
    assert status == 1 and "rank 0 failed: docs/bad.txt cannot be read" in said
    assert ended(first)[0] == 1


# Two ranks in one process: the second comes when the first has failed.
LATE = """
import threading, time
from datetime import timedelta
from pdtrain.distributed import meeting
from pdtrain.distributed.world import World
meeting.SECONDS_BETWEEN_BEATS = 0.1
meeting.SECONDS_TO_BE_HEARD, meeting.SECONDS_FOR_LATE_RANKS = 0.2, {seconds}
soon = timedelta(seconds=5)
first = meeting.Meeting(World(0, 2, 0, 2), soon)
first._gave_up = {gave_up}
at = time.monotonic()
telling = threading.Thread(target=first.tell_failure, args=("no space",), daemon=True)
telling.start()
if {comes}:
    time.sleep(1)
    other = meeting.Meeting(World(1, 2, 0, 2), soon)
    while not other.heard:
        time.sleep(0.05)
    print(other.heard)
telling.join(20)
print("over", telling.is_alive(), time.monotonic() - at < 5)
"""


@pytest.mark.parametrize(
    "comes, seconds, gave_up, heard",
    [(True, 60, False, True), (False, 1, False, False), (False, 60, True, False)],
    ids=["late", "never", "given_up"],
)
def test_a_first_rank_that_failed_stays_for_a_late_one_and_not_without_end(
    ranks, comes, seconds, gave_up, heard
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = subprocess.run(
        [sys.executable, "-c", LATE.format(comes=comes, seconds=seconds, gave_up=gave_up)],
        env=ranks.environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    said = ["rank 0 failed: no space"] if heard else []
    assert done.stdout.splitlines() == [*said, "over False True"]
    assert ("staying a minute to tell rank 1" in done.stderr) == (not gave_up)


def test_another_rank_that_fails_before_connecting_tells_the_first(ranks):
    first, other = ranks(0, first="time.sleep(3)"), ranks(1, before=FAILS)
    assert ended(other)[0] == 1
    status, _, said = ended(first)
    assert status == 1 and "rank 1 failed: docs/bad.txt cannot be read" in said


@pytest.mark.slow
def test_a_rank_that_does_not_come_is_named_and_not_waited_for_without_end(ranks):
    status, _, said = ended(ranks(0, 3, patience=4))
    assert status == 1
    assert "waiting for ranks 1, 2" in said and "for ranks 1, 2, which did not come" in said


@pytest.mark.slow
def test_a_first_rank_that_is_killed_in_a_stage_is_noticed(ranks):
    first, other = ranks(0, first="print('busy', flush=True); time.sleep(60)"), ranks(1)
    assert first.stdout.readline() == "busy\n"
    time.sleep(8)  # the other one has come
    first.kill()
    at = time.monotonic()
    status, _, said = ended(other)
    assert time.monotonic() - at < 10 and status == 1
    assert "rank 0, which the others meet at, has gone" in said or "cannot reach rank 0" in said


@pytest.mark.slow
def test_a_rank_that_is_stopped_before_connecting_stops_the_other(ranks):
    first, other = ranks(0, first="print('busy', flush=True); time.sleep(60)"), ranks(1)
    assert first.stdout.readline() == "busy\n"
    first.send_signal(signal.SIGTERM)
    status, _, said = ended(first)
    assert status == 75 and "stopped by SIGTERM" in said
    status, _, said = ended(other)
    assert status == 75 and "rank 0 failed: stopped by SIGTERM" in said


@pytest.mark.parametrize("frozen", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_frozen_rank_is_named(ranks, frozen):
    """It stands still in the middle of a step, and the other in a collective.

    The first one holds the store, which then stands still too.
    """
    inside = ["import torch.distributed as d; time.sleep(2); d.barrier()"] * 2
    inside[frozen] = "time.sleep(60)"
    pair = [ranks(rank, inside=inside[rank], PDTRAIN_SILENCE_SECONDS="4") for rank in (0, 1)]
    assert pair[frozen].stdout.readline() == "connected\n"
    time.sleep(1)
    pair[frozen].send_signal(signal.SIGSTOP)
    status, _, said = ended(pair[1 - frozen])
    assert status == 1
    assert f"rank {frozen}" in said and "gave no sign of life for" in said


@pytest.mark.slow
def test_torchrun_starts_ranks_anew(ranks, tmp_path):
    """Its agent keeps the store in which the first try said that a rank failed."""
    inside = "import torch.distributed as d; d.barrier()\n        if world.rank == 1 and "
    inside += "os.environ['TORCHELASTIC_RESTART_COUNT'] == '0': raise RuntimeError('once')\n"
    inside += "        d.barrier()"
    code = RANK.format(before="pass", inside=inside, first="pass", patience=60)
    (tmp_path / "rank.py").write_text(code)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node=2", "--max-restarts=1"]
    done = subprocess.run(
        [*torchrun, str(tmp_path / "rank.py"), str(tmp_path / "tiny.yaml")],
        env=ranks.environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "RuntimeError: once" in done.stderr
    assert done.stdout.count("connected") == 4


def test_nobody_stays_for_a_rank_that_was_killed(ranks):
    first = ranks(0, inside="import torch.distributed as d; d.barrier()")
    other = ranks(1, inside="import time; time.sleep(100)")
    assert other.stdout.readline() == "connected\n"
    other.kill()
    killed = time.monotonic()
    assert ended(first)[0] != 0
    assert time.monotonic() - killed < 9, "less than the ten seconds for ranks that are here"


def test_ranks_that_do_their_work_end_well(ranks):
    work = "import torch.distributed as d; d.barrier()"
    usual = "meeting.SECONDS_UNTIL_SAID = 60.0"  # after a second a busy machine waits
    pair = [ranks(rank, before=usual, inside=work) for rank in range(2)]
    found = [ended(process) for process in pair]
    assert [status for status, _, _ in found] == [0, 0]
    assert not any("waiting" in said or "sign of life" in said for _, _, said in found)
