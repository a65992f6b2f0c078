"""Kill, lose, damage and interrupt whole tiny runs: a sample; `make faults` does all of it."""

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")


def examine(folder, *arguments, seconds=600):
    done = subprocess.run(
        [sys.executable, str(HARNESS), str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    return done.stdout


def test_a_kill_and_a_loss_of_power_change_nothing(tmp_path):
    said = examine(tmp_path, "kill", "power", "--most", "1")
    rows = [line for line in said.splitlines() if line.startswith("| ") and "outcomes" not in line]
    assert len(rows) == 3 and all(row.split("|")[3].strip() == "1 identical" for row in rows), said


@pytest.mark.slow
def test_a_sample_of_kills_losses_damages_signals_and_full_disks(tmp_path):
    said = examine(tmp_path, "kill", "power", "damage", "signals", "full", "--most", "2")
    rows = [line for line in said.splitlines() if line.startswith("| ") and "outcomes" not in line]
    kinds = {row.split("|")[1].strip() for row in rows}
    assert {"kill", "power, lost all", "power, lost content", "signals", "full disk"} <= kinds
    assert not any(bad in said for bad in ("silent", "traceback", "not killed", "FAIL"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "power", "damage", "signals", "full", "ranks"])
def test_every_operation_of_a_whole_run(kind, tmp_path):
    print(examine(tmp_path, kind, seconds=3 * 3600))
