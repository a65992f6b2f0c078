"""What the doctor says of ranks and machines that do not fit one another."""

import json
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support import run_ranks, tiny_config

from pdtrain.config import EngineConfig
from pdtrain.distributed import meeting
from pdtrain.distributed.meeting import RanksLost
from pdtrain.distributed.process_group import connected
from pdtrain.distributed.world import World
from pdtrain.planning.checks import preflight
from pdtrain.planning.checks.machine import Finding
from pdtrain.planning.checks.preflight import Facts, compare, facts_here, together


def ranks(hosts: str, ranks_per_node: int) -> list[Facts]:
    """Of ranks on these machines, such as `aabb`."""
    return [
        Facts(
            host=host,
            world=World(n, len(hosts), n % ranks_per_node, ranks_per_node, "srun"),
            versions={"torch": "2.13.0"},
            config="c0ffee",
            num_gpus=0,
            clock=1000.0,
        )
        for n, host in enumerate(hosts)
    ]


def changed(facts: list[Facts], which: int, **values: object) -> list[Facts]:
    return [replace(fact, **values) if n == which else fact for n, fact in enumerate(facts)]


def said(facts: list[Facts], status: str) -> list[str]:
    return [finding.text for finding in compare(facts) if finding.status == status]


def test_ranks_that_fit_are_all_ok():
    facts = ranks("aabb", 2)
    assert {finding.status for finding in compare(facts)} == {"ok"}
    assert said(facts, "ok")[0] == "4 ranks by srun: 2 on a, 2 on b"


GOOD = ranks("aabb", 2)
MISFITS = [
    pytest.param(ranks("aaab", 2), "start the same number on all", id="uneven"),
    pytest.param(ranks("aaaa", 2), "a hostname of its own", id="one_name_for_two_machines"),
    pytest.param(ranks("abab", 2), "engine.hpz needs", id="dealt_like_cards"),
    pytest.param(
        changed(GOOD, 3, versions={"torch": "2.8.0"}),
        "torch differs: 2.8.0 on b, 2.13.0 on a",
        id="versions",
    ),
    pytest.param(changed(GOOD, 2, config="0ther"), "ranks [2] read another config", id="config"),
    pytest.param(changed(GOOD, 0, num_gpus=8), "numbers of GPUs differ", id="gpus"),
    pytest.param(
        [replace(fact, num_gpus=1) for fact in GOOD],
        "ranks [1, 3] see fewer GPUs",
        id="one_gpu_a_task",
    ),
    pytest.param(
        changed(GOOD, 2, problems=(Finding("FAIL", "no disk"),)), "b: no disk", id="elsewhere"
    ),
]


@pytest.mark.parametrize(("facts", "text"), MISFITS)
def test_a_misfit_is_named(facts, text):
    (failed,) = said(facts, "FAIL")
    assert text in failed


def test_clocks_that_differ_are_a_warning():
    (warned,) = said(changed(GOOD, 2, clock=1005.0), "warn")
    assert "clocks are 5.0 s apart" in warned


def test_what_the_first_rank_has_told_is_not_told_again():
    facts = changed(GOOD, 0, problems=(Finding("FAIL", "no disk"),))
    assert not said(facts, "FAIL")


# --- With two ranks ---------------------------------------------------------------------------


def examine(rank: int, folder: Path, elsewhere: bool) -> None:
    """Writes what this rank was told; each rank is given its own run folder where asked."""
    run = folder / (f"run-{rank}" if elsewhere else "run")
    if elsewhere:
        run.mkdir()
    config = tiny_config(run, folder / "model")
    preflight.REDUCED_BYTES["gloo"] = preflight.MIB
    found: list[Finding] = []
    failed = together(config, World(rank, 2, rank, 2, "torchrun"), found, found.append)
    told = [[finding.status, finding.text] for finding in found]
    (folder / f"told-{rank}.json").write_text(json.dumps([failed, told]))


def test_two_ranks_that_fit_pass_and_only_the_first_is_told(tmp_path):
    run_ranks(examine, 2, tmp_path, tmp_path, False)
    (first_failed, first), (second_failed, second) = (
        json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in (0, 1)
    )
    assert not first_failed and not second_failed and not second
    assert {status for status, _ in first} == {"ok"}
    texts = " | ".join(text for _, text in first)
    assert f"2 on {socket.gethostname()}" in texts and "all ranks see it" in texts
    assert "all-reduce of 1 MiB over gloo: " in texts and "GB/s" in texts
    assert not (tmp_path / "run").exists(), "the doctor leaves nothing behind"


def test_ranks_that_do_not_share_a_folder_fail_and_all_know(tmp_path):
    """Two folders here are what one name on two machines' own disks is."""
    run_ranks(examine, 2, tmp_path, tmp_path, True)
    for rank in (0, 1):
        failed, told = json.loads((tmp_path / f"told-{rank}.json").read_text())
        assert failed, "all ranks end with the same status"
        if rank == 0:
            (text,) = [text for status, text in told if status == "FAIL" and "does not see" in text]
            assert "set out_dir to a folder that all machines share" in text
    assert not list(tmp_path.glob("run-*/.doctor-*"))


def test_a_rank_that_nobody_joins_says_so(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        monkeypatch.setenv(name, "0")  # publish sets them; monkeypatch puts them back
    monkeypatch.setattr(meeting, "_met", [])
    alone = World(0, 2, 0, 2, "torchrun")
    waiting = connected(EngineConfig(), alone, timedelta(seconds=1))
    with pytest.raises(RanksLost, match=r"waited \d s for rank 1, which did not come"), waiting:
        pass
    meeting._met[0].heard = "the test is over"  # which ends its threads


def test_the_facts_of_a_rank_hold_no_path_and_no_text_of_the_config(tmp_path):
    config = tiny_config(tmp_path / "run", tmp_path / "model")
    facts = facts_here(config, World(), 0.0, [Finding("ok", "x"), Finding("warn", "y")])
    assert str(tmp_path) not in str(facts) and facts.problems == (Finding("warn", "y"),)
    assert {"Python", "torch", "pdtrain's files"} <= facts.versions.keys()
