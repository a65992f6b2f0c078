"""Test that the ranks of a launcher share the parts of a stage, one part after the other."""

import json
import threading
import time

import pytest
from rank_processes import fork, join
from support import tiny_config

from pdtrain.files.notes import read_note
from pdtrain.processes.leading import Follower, Leader
from pdtrain.processes.shares import ALONE
from pdtrain.progress import Stopped
from pdtrain.stage import run_units
from pdtrain.training.rounds.crew import ONE_PROCESS, Crew

UNITS = {str(number): number for number in range(7)}


def parts_of(folder, crew):
    """Work on two parts, and write down which share this process had of each."""
    config, shares = tiny_config(folder, "none"), []

    def work(part):
        def do(mine, share):
            assert mine.model.device == config.model.device
            shares.append([share.rank, share.size])
            run_units(
                folder / part, part, {}, UNITS, lambda _, n: [{"n": n}], "numbers", share=share
            )

        return do

    for part in ("first", "second"):
        crew.work_on(config, part, work(part))
    (folder / f"shares-{getattr(crew.place, 'rank', 0)}.json").write_text(json.dumps(shares))


def run_rank(folder, rank, size):
    if rank:
        with Follower(folder, rank, patience_seconds=20, return_seconds=0.3) as follower:
            parts_of(folder, Crew(follower, size, size, rank))
        return
    with Leader(folder, size, goodbye_seconds=20) as leader:
        parts_of(folder, Crew(leader, size, size, 0))


@pytest.mark.parametrize("size", [2, 3])
def test_each_part_is_shared_by_all(tmp_path, size):
    ranks = {
        rank: fork.Process(target=run_rank, args=(tmp_path, rank, size)) for rank in range(size)
    }
    for process in ranks.values():
        process.start()
    join(ranks, 60)
    for rank in range(size):
        said = json.loads((tmp_path / f"shares-{rank}.json").read_text())
        assert said == [[rank, size]] * 2
    alone = tmp_path / "alone"
    alone.mkdir()
    parts_of(alone, ONE_PROCESS)
    for part in ("first", "second"):
        (mine,), (theirs,) = ((f / part).glob("0*.jsonl") for f in (tmp_path, alone))
        assert mine.read_bytes() == theirs.read_bytes()


def test_ranks_that_wait_hear_at_once_that_the_first_was_stopped(tmp_path):
    """Connected ranks leave together: the first would wait for them before it ends."""

    def stopped(*_):
        raise Stopped("stopped at part: 1 of 2 units")

    with Leader(tmp_path, 1, goodbye_seconds=0) as leader:
        with pytest.raises(Stopped):
            Crew(leader, 1, 1, 0).work_on(tiny_config(tmp_path, "none"), "part", stopped)
        said = read_note(tmp_path / "ranks" / "leader.json")
    assert said["has_ended"] and said["is_stopped"]


def test_one_process_does_all_by_itself(tmp_path):
    found = []
    config = tiny_config(tmp_path, "none")
    ONE_PROCESS.work_on(config, "part", lambda mine, share: found.append((mine, share)))
    assert found == [(config, ALONE)] and ONE_PROCESS.leads


def test_a_follower_waits_for_files_that_a_shared_file_system_shows_it_later(tmp_path):
    late, follower = tmp_path / "adapter", Crew(Follower(tmp_path, 1), 2, 2, 1)
    timer = threading.Timer(0.3, late.touch)
    timer.start()
    follower.wait_for([late], 20)
    assert late.exists()
    started = time.monotonic()
    follower.wait_for([tmp_path / "never"], 0.1)  # who reads it then says that it is not there
    ONE_PROCESS.wait_for([tmp_path / "never"], 20)  # none but this process could write it
    assert time.monotonic() - started < 10
