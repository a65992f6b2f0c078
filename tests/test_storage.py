"""Test that files are whole or absent, shards are checked, and one process works in a run."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from pdtrain import storage

ODD_TEXTS = [
    pytest.param("two\nlines\r\nand a tab\t", id="line_breaks"),
    pytest.param('"quoted" \\ and {braced}', id="quotes"),
    pytest.param("Zürich, Ελλάδα, 东京, 🦆", id="scripts"),
    pytest.param("separators \u2028 \u2029, next line \x85", id="unicode_line_breaks"),
    pytest.param("nul \x00, form feed \x0c, separator \x1e", id="control"),
]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_shards_read_back(tmp_path, text):
    records = [{"number": number, "text": text} for number in range(7)]
    shards = storage.write_shards(tmp_path, iter(records), records_per_shard=3)
    storage.write_json(tmp_path / "manifest.json", {"shards": shards})
    assert [shard["num_records"] for shard in shards] == [3, 3, 1]
    assert list(storage.read_shards(tmp_path)) == records
    assert [
        record for s in shards for record in storage.read_jsonl(tmp_path / s["name"])
    ] == records


def finished(folder, num_records=7):
    shards = storage.write_shards(
        folder, [{"n": n} for n in range(num_records)], records_per_shard=3
    )
    storage.write_json(folder / "manifest.json", {"shards": shards})
    return [folder / shard["name"] for shard in shards]


def test_a_shard_that_was_changed_is_refused(tmp_path):
    path = finished(tmp_path)[1]
    path.write_text(path.read_text().replace("4", "5"))
    with pytest.raises(ValueError, match=r"not what its manifest says: .* run the stage again"):
        list(storage.read_shards(tmp_path))


def test_a_shard_that_is_gone_is_named(tmp_path):
    path = finished(tmp_path)[2]
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name} is missing"):
        list(storage.read_shards(tmp_path))


def test_shards_of_an_earlier_output_go_and_nothing_else_does(tmp_path):
    finished(tmp_path, 9)
    (tmp_path / "units.jsonl").write_text("kept")
    kept = finished(tmp_path, 4)
    shards = storage.read_json(tmp_path / "manifest.json")["shards"]
    storage.remove_stale_shards(tmp_path, shards)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in kept} | {
        "units.jsonl",
        "manifest.json",
    }


def test_no_records_make_no_shard(tmp_path):
    assert storage.write_shards(tmp_path, [], records_per_shard=3) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.txt"
    storage.write_atomically(path, "old")
    assert path.read_text() == "old"

    def full(fd):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        storage.write_atomically(path, "new")
    assert path.read_text() == "old"


def test_nothing_temporary_is_left_after_a_write(tmp_path):
    storage.write_atomically(tmp_path / "file.txt", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_hash_does_not_depend_on_the_order_of_keys():
    one, other = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert storage.hash_json(one) == storage.hash_json(other)
    assert storage.hash_json([1, 2]) != storage.hash_json([2, 1])


def test_file_and_text_hash_alike(tmp_path):
    (tmp_path / "file").write_text("Zürich", encoding="utf-8")
    assert storage.sha256_file(tmp_path / "file") == storage.sha256_text("Zürich")


def test_a_broken_line_is_named_and_not_quoted(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "a secret passage"\n')
    with pytest.raises(
        ValueError, match=r"records.jsonl, line 3: expected one JSON object"
    ) as error:
        list(storage.read_jsonl(path))
    assert "secret" not in str(error.value)


def test_records_of_another_encoding_are_named_with_the_cure(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes('{"a": 1}\n{"a": "secret Müll"}\n'.encode("latin1"))
    with pytest.raises(
        ValueError,
        match=r"records.jsonl, line 2 is not UTF-8 text \(byte 15 of it is 0xfc\); save the file",
    ) as error:
        list(storage.read_jsonl(path))
    assert "secret" not in str(error.value)
    path.write_bytes(b'\xef\xbb\xbf{"a": "M\xfcll"}\n')
    with pytest.raises(ValueError, match=r"line 1 is not UTF-8 text \(byte 8 of it is 0xfc\)"):
        list(storage.read_jsonl(path))
    path.write_bytes(b"\xef\xbb\xbf" + '{"a": "Müll"}\n'.encode())
    assert list(storage.read_jsonl(path)) == [{"a": "Müll"}]


def test_a_second_process_is_told_to_wait(tmp_path):
    code = (
        "import sys, pathlib; from pdtrain.storage import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])): print('in')"
    )

    def other():
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")],
            capture_output=True,
            text=True,
            timeout=60,
        )

    with storage.run_lock(tmp_path / "run"):
        refused = other()
    assert "another pdtrain is working in" in refused.stderr and not refused.stdout
    assert other().stdout == "in\n"


def test_taking_the_lock_leaves_its_file_as_it_is(tmp_path):
    (tmp_path / ".lock").write_text("a note")
    with storage.run_lock(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "a note"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_in_words(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(ValueError, match=r"cannot be locked .*; set out_dir to a folder"),
        storage.run_lock(tmp_path / "run"),
    ):
        pass


def test_a_folder_in_the_place_of_the_lock_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(ValueError, match=r"\.lock: Is a directory.*move away what stands"),
        storage.run_lock(tmp_path),
    ):
        pass


def test_the_lock_goes_with_the_work_however_it_ends(tmp_path):
    with pytest.raises(KeyError), storage.run_lock(tmp_path):
        raise KeyError
    with storage.run_lock(tmp_path):
        pass
