"""Test the benchmark of a training's start at toy size, on one plain process."""

import subprocess
import sys

import pytest
import startup
from house import ROOT
from support import tiny_model

from pdtrain.distillation.tokens import source


@pytest.mark.slow
def test_it_writes_a_table_of_what_a_start_takes():
    command = [sys.executable, str(ROOT / "benchmarks" / "startup.py"), "--answers", "40"]
    done = subprocess.run(
        [*command, "--times", "1", "--ranks", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()
        if line.startswith("| now")
    ]
    assert [row[:3] for row in rows] == [["now", "40", "1"]]
    assert all(float(cell) > 0 for cell in rows[0][3:6]), "seconds, and memory"


def test_its_records_are_what_training_reads(tmp_path):
    config = startup.write_run(tmp_path / "run", tiny_model(tmp_path / "model"), 50)
    source.prepare(config)
    assert len(list(config.run.answers())) == 60, "whole passages"
    assert (config.run.tokens_folder / "answers" / "manifest.json").exists()


def test_a_rank_that_fails_ends_the_others():
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    failing = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(RuntimeError, match="a process of the benchmark failed"):
        startup.finish([sleeping, failing])
    assert sleeping.wait(timeout=10) != 0


def test_what_grows_is_counted_for_each_answer():
    few = {"answers": 1000, "ranks": 2, "tokenised": 1, "seconds": 5, "own": 10e6, "mapped": 1e6}
    many = few | {"answers": 3000, "seconds": 6, "own": 10.1e6}
    lines = list(startup.page({"now": [few, many]}))
    assert lines[-1] == "| now | 2 | 50.0 | 50 |"
    assert not any(line.startswith("| now | 2") for line in startup.page({"now": [few]}))
