"""Check that a start waits for no lock whose maker was killed, and takes none that is held."""

import os
import subprocess
import sys
import time

import pytest

from pdtrain.distributed import extension_locks
from pdtrain.distributed.extension_locks import swept_locks

COMPILES = """
import sys, time
from torch.utils.file_baton import FileBaton
baton = FileBaton(sys.argv[1])
assert baton.try_acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(extension_locks, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(extension_locks, "_sees_all_users", lambda path: True)


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "py311_cpu" / "deepspeed_shm_comm" / "lock"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def compiling(lock):
    """Start a process that holds the lock as PyTorch does."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMPILES, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def waited_for(path, seconds):
    until = time.monotonic() + seconds
    while path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    return not path.exists()


def test_a_lock_whose_maker_was_killed_is_removed_before_the_start(
    tmp_path, lock, compiling, capfd
):
    compiling.kill()
    compiling.wait()
    assert lock.exists()
    with swept_locks(tmp_path):
        assert not lock.exists()
    said = capfd.readouterr()
    assert f"removed {lock}" in said.out + said.err


def test_a_lock_that_is_held_stays_until_its_maker_is_killed(
    tmp_path, lock, compiling, monkeypatch, capfd
):
    monkeypatch.setattr(extension_locks, "SECONDS_UNTIL_SAID", 0.1)
    with swept_locks(tmp_path):
        time.sleep(0.5)
        assert lock.exists()
        said = capfd.readouterr()
        assert f"process {compiling.pid} compiles an extension and holds {lock}" in (
            said.out + said.err
        )
        compiling.kill()
        compiling.wait()
        assert waited_for(lock, 10)


def test_where_others_may_hold_it_a_lock_stays_until_its_folder_is_quiet(
    tmp_path, lock, monkeypatch, capfd
):
    """Another machine or container may compile there, whose processes are not seen."""
    monkeypatch.setattr(extension_locks, "_sees_all_users", lambda path: False)
    monkeypatch.setattr(extension_locks, "SECONDS_UNTIL_SAID", 0.1)
    lock.touch()
    with swept_locks(tmp_path):
        time.sleep(0.5)
        assert lock.exists()
        said = capfd.readouterr()
        assert f"waiting for {lock}" in said.out + said.err
        long_ago = time.time() - extension_locks.SECONDS_OF_NO_CHANGE - 1
        for path in (lock, lock.parent):
            os.utime(path, (long_ago, long_ago))
        assert waited_for(lock, 10)


def test_no_lock_costs_no_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(extension_locks, "SECONDS_BETWEEN_LOOKS", 60.0)
    started = time.monotonic()
    with swept_locks(tmp_path / "nothing"):
        pass
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "kind, namespace, sees",
    [("overlay", 1, True), ("ext4", 1, False), ("nfs4", extension_locks.FIRST_NAMESPACE, False)],
)
def test_which_file_systems_are_seen_whole(tmp_path, monkeypatch, kind, namespace, sees):
    monkeypatch.undo()
    processes = tmp_path / "proc"
    (processes / "self/ns").mkdir(parents=True)
    (processes / "self/ns/pid").touch()
    (processes / "self/mounts").write_text(
        f"root / tmpfs rw 0 0\nhome {tmp_path} {kind} rw 0 0\nother {tmp_path}x nfs4 rw 0 0\n"
    )
    monkeypatch.setattr(extension_locks, "PROCESSES", processes)
    if namespace == extension_locks.FIRST_NAMESPACE:
        number = (processes / "self/ns/pid").stat().st_ino
        monkeypatch.setattr(extension_locks, "FIRST_NAMESPACE", number)
    assert extension_locks._sees_all_users(tmp_path / "lock") is sees
