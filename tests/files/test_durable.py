"""Test that files are on the disk before they are vouched for, and that nothing is left over."""

import errno
import os
from pathlib import Path

import pytest

from pdtrain.files import durable


@pytest.fixture
def calls(monkeypatch):
    """Collect what is flushed and renamed, in order, by the names of files."""
    found, fsync, replace = [], os.fsync, os.replace

    def flushed(handle):
        found.append(("flush", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def renamed(source, target, **options):
        found.append(("rename", os.path.basename(target)))
        replace(source, target, **options)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    return found


def test_a_file_is_flushed_then_renamed_then_its_folder_is_flushed(tmp_path, calls):
    durable.write_atomically(tmp_path / "file", "text")
    assert calls == [
        ("flush", f".file.{os.getpid()}.tmp"),
        ("rename", "file"),
        ("flush", tmp_path.name),
    ]


def test_a_new_folder_is_on_the_disk_before_what_it_holds(tmp_path, calls):
    durable.write_atomically(tmp_path / "one" / "two" / "file", "text")
    assert calls[:2] == [("flush", tmp_path.name), ("flush", "one")]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), durable.replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["python", "rust"],
)
def test_an_error_of_the_machine_names_the_file_whoever_wrote(tmp_path, error):
    path = tmp_path / "file"
    with pytest.raises(OSError) as found, durable.replacing(path):
        raise error
    assert found.value.errno == errno.ENOSPC and found.value.filename == str(path)


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
    for name in ("new", "final"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / name).write_text(name)
    durable.put_folder_in_place(tmp_path / "new", tmp_path / "final")
    assert os.listdir(tmp_path) == ["final"]
    assert os.listdir(tmp_path / "final" / "deep") == ["new"]


def test_a_file_in_the_place_of_a_folder_is_not_removed(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "final").write_text("somebody's")
    with pytest.raises(NotADirectoryError):
        durable.put_folder_in_place(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final").read_text() == "somebody's"


def test_a_kill_before_a_folder_is_in_its_place_leaves_the_one_before(tmp_path, monkeypatch):
    for name in (".export.tmp", "export"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    rename = Path.rename

    def killed(path, target):
        if path.name == ".export.tmp":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        durable.put_folder_in_place(tmp_path / ".export.tmp", tmp_path / "export")
    assert not (tmp_path / "export").exists()
    assert durable.sweep(tmp_path) == [tmp_path / ".export.tmp"]
    assert os.listdir(tmp_path) == ["export"]
    assert (tmp_path / "export" / "file").read_text() == "export"


def test_a_replaced_folder_gives_way_to_its_successor(tmp_path):
    for name in (".export.7.old", "export"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert durable.sweep(tmp_path) == [tmp_path / ".export.7.old"]
    assert (tmp_path / "export" / "file").read_text() == "export"


def test_what_killed_runs_left_is_swept_and_nothing_else(tmp_path):
    left = [".scores.json.123.tmp", "deep/.export.77.old", ".export.tmp", "c/.tmp-step-000004-ab12"]
    kept = ["scores.json", ".lock", "notes.tmp", "deep/.hidden", "step-000004-ab12"]
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "t" / ".shard.9.tmp").mkdir(parents=True)
    assert len(durable.sweep(tmp_path)) == len(left) + 1
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {*kept}
    assert not (tmp_path / "t" / ".shard.9.tmp").exists()
