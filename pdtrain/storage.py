"""Write files whole or not at all (JSON and sharded JSONL), hash them, and lock a run folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # as PEFT names them


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return sha256_text(json.dumps(value, sort_keys=True, ensure_ascii=False))


def flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    """Write under a temporary name, flush and rename: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, indented, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def to_line(record: Any) -> str:
    """Return a record as a line of a JSONL file."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSONL file; empty lines are skipped.

    Raises:
        ValueError: a line is no JSON or no UTF-8; the message names the line, never its content.
    """
    with path.open("rb") as file:
        yield from json_lines(file, str(path))


def json_lines(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of an open JSONL file as `read_jsonl` does; messages call it `name`."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number} is not UTF-8 text (byte {error.start} of it is "
                f"0x{error.object[error.start]:02x}); convert the file, for example "
                "`iconv -f LATIN1 -t UTF-8`"
            ) from None
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: expected one JSON object a line ({error.msg} at "
                f"column {error.colno})"
            ) from None


def write_shards(
    folder: Path, records: Iterable[dict[str, Any]], records_per_shard: int
) -> list[dict[str, Any]]:
    """Write records as numbered JSONL shards, and return their names, counts and hashes.

    Shards of an earlier, longer output stay until `remove_stale_shards` is called, after a manifest
    that no longer names them is in place.
    """
    return write_line_shards(folder, map(to_line, records), records_per_shard)


def write_line_shards(
    folder: Path, lines: Iterable[str], lines_per_shard: int
) -> list[dict[str, Any]]:
    """Write the lines of records as shards; see `write_shards`."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Any]] = []
    remaining = iter(lines)
    while shard := list(islice(remaining, lines_per_shard)):
        text = "".join(shard)
        name = f"{len(shards):05d}-{sha256_text(text)[:8]}.jsonl"
        write_atomically(folder / name, text)
        shards.append({"name": name, "num_records": len(shard), "sha256": sha256_text(text)})
    return shards


def remove_stale_shards(folder: Path, shards: list[dict[str, Any]]) -> None:
    """Remove the shards in a folder that are not among those given."""
    keep = {shard["name"] for shard in shards}
    for path in folder.glob("[0-9]*.jsonl"):
        if path.name not in keep:
            path.unlink()


def read_shards(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a finished stage, checked against the manifest's hashes.

    Raises:
        ValueError: a shard is missing, or not the one that the manifest names.
    """
    for shard in read_json(folder / "manifest.json")["shards"]:
        text = check_shard(folder, shard).read_text(encoding="utf-8")
        # splitlines() would also split at Unicode line separators inside a JSON text
        yield from (json.loads(line) for line in text.split("\n") if line)


def check_shard(folder: Path, shard: dict[str, Any]) -> Path:
    """Return the path of a shard's file.

    Raises:
        ValueError: it is missing, or not the one that the manifest names.
    """
    path: Path = folder / shard["name"]
    if not path.exists() or sha256_file(path) != shard["sha256"]:
        raise ValueError(
            f"{path} is {'not what its manifest says' if path.exists() else 'missing'}: it was "
            f"changed after it was written; delete the folder {folder} and run the stage again"
        )
    return path


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Let one pdtrain work in a run folder; the lock goes with the process, however it ends.

    Raises:
        ValueError: another process holds the lock, or the folder cannot be locked.
    """
    from filelock import FileLock, Timeout  # the commands' help does without

    folder.mkdir(parents=True, exist_ok=True)
    # the fallback, a file that marks the lock, would outlive a killed run on another machine
    lock = FileLock(folder / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"another pdtrain is working in {folder}; wait for it, or set out_dir=ANOTHER"
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{folder} cannot be locked for one pdtrain at a time ({reason}); set out_dir to a "
            "folder that you may write to, on a file system with locks"
        ) from None
    try:
        yield
    finally:
        lock.release()
