"""Write files whole or not at all (JSON and sharded JSONL), hash them, and lock a run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from pdtrain.files.durable import make_folder, write_atomically
from pdtrain.files.shapes import MANIFEST, misplaced
from pdtrain.files.trust import leads_out, own_file, refuse_links
from pdtrain.progress import warn

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # as PEFT names them
CHECK = "check"  # the key of a JSON object's own hash
_told: set[str] = set()  # paths whose damage was said


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hexadecimal."""
    return sha256_bytes(text.encode())


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return sha256_text(json.dumps(value, sort_keys=True, ensure_ascii=False))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, indented, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        ValueError: it is no JSON or no UTF-8; the message names the file, never its content.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not UTF-8"
        raise ValueError(
            f"{path} is damaged: it is no JSON ({where}); move it away, and run the command that "
            "wrote it again"
        ) from None


def write_checked(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with a hash of itself, by which `read_checked` finds damage."""
    value = json.loads(json.dumps({k: v for k, v in value.items() if k != CHECK}))
    write_json(path, value | {CHECK: hash_json(value)})


def read_checked(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where there is none, or a damaged one, which is said once.

    Objects that an earlier version wrote without a hash of themselves are taken as they are.
    """
    if not (path.is_symlink() or path.exists()):
        return None
    if fault := fault_of(path):
        warn_of_damage(path, fault)
        return None
    found: dict[str, Any] = read_json(path)
    found.pop(CHECK, None)
    return found


def fault_of(path: Path) -> str:
    """Return what is wrong with a JSON object's file; empty where nothing is."""
    if not path.is_file():
        return "it is no file"
    try:
        found = read_json(path)
    except ValueError:
        return "it is no JSON"
    if not isinstance(found, dict):
        return "it is no JSON object"
    check = found.pop(CHECK, None)
    if check is not None and check != hash_json(found):
        return "its content does not fit its hash"
    place = misplaced(found, MANIFEST) if path.name == "manifest.json" else None
    return "" if place is None else f"{place} has another form than a stage writes"


def warn_of_damage(path: Path, fault: str, remedy: str = "it counts as not there") -> None:
    """Tell the user once that a file is damaged, and what is done about it."""
    if str(path) not in _told:
        _told.add(str(path))
        warn(f"{path} is damaged ({fault}): {remedy}")


def sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files in a folder by name, for a manifest that vouches for them."""
    return {name: sha256_file(folder / name) for name in names}


def misfits(folder: Path, known: dict[str, str]) -> dict[str, str]:
    """Return what is wrong with files that a manifest vouches for, by name.

    Args:
        known: SHA-256 by name, relative to the folder.
    """
    found = {}
    for name, digest in known.items():
        path = folder / name
        if leads_out(folder, name):
            found[name] = "it is a link, or a name that leads out of the folder"
        elif not path.is_file():
            found[name] = "it is no file" if path.exists() else "it is missing"
        elif sha256_file(path) != digest:
            found[name] = "its content does not fit its hash"
    return found


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


def json_lines(file: Iterable[bytes], name: str, first: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the records of lines as `read_jsonl` does; messages call their file `name`."""
    for number, line in enumerate(file, first):
        if not line.strip():
            continue
        try:
            yield json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number} is not UTF-8 text (byte {error.start} of it is "
                f"0x{error.object[error.start]:02x}); save the file as UTF-8 in the program that "
                "wrote it"
            ) from None
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: expected one JSON object a line ({error.msg} at "
                f"column {error.colno})"
            ) from None


def write_headed(path: Path, about: dict[str, Any], lines: Iterable[dict[str, Any]]) -> None:
    """Write lines under a first one that says what they are of, and has their hash."""
    text = "".join(map(to_line, lines))
    write_atomically(path, to_line(about | {"sha256": sha256_text(text)}) + text)


def read_headed(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file that `write_headed` wrote, the first one too.

    Raises:
        ValueError: they do not fit their hash; files of earlier versions have none.
    """
    found = list(read_jsonl(path))
    known = found[0].get("sha256") if found else "missing"
    if known is not None and known != sha256_bytes(path.read_bytes().partition(b"\n")[2]):
        raise ValueError(
            f"{path} is damaged: its lines do not fit their hash; run `pdtrain evaluate CONFIG` "
            "again, which makes it again"
        )
    return found


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
    make_folder(folder)
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
        ValueError: the manifest or a shard is missing or damaged.
    """
    for shard in shards_of(folder):
        text = check_shard(folder, shard).read_text(encoding="utf-8")
        # splitlines() would also split at Unicode line separators inside a JSON text
        yield from (json.loads(line) for line in text.split("\n") if line)


def shards_of(folder: Path) -> list[dict[str, Any]]:
    """Return the names, counts and hashes of the shards of a finished stage.

    Raises:
        ValueError: the manifest is missing or damaged.
    """
    manifest = folder / "manifest.json"
    found = read_checked(manifest)
    if found is None or "shards" not in found:
        raise ValueError(
            f"{manifest} is missing or damaged; run `pdtrain run CONFIG` again, which does the "
            "stage again"
        )
    shards: list[dict[str, Any]] = found["shards"]
    return shards


def check_shard(folder: Path, shard: dict[str, Any]) -> Path:
    """Return the path of a shard's file.

    Raises:
        ValueError: it is missing, or not the one that the manifest names.
    """
    path = own_file(folder, shard["name"])
    if fault := misfits(folder, {shard["name"]: shard["sha256"]}):
        what = "missing" if "missing" in fault[shard["name"]] else "not what its manifest says"
        raise ValueError(
            f"{path} is {what}: it was changed after it was written; `pdtrain run CONFIG` finds "
            "that and has it made again: run the stage again"
        )
    return path


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Let one pdtrain work in a run folder; the lock goes with the process, however it ends.

    Raises:
        ValueError: another process holds the lock, the folder cannot be locked, or holds a link.
    """
    from filelock import FileLock, Timeout  # the commands' help does without

    make_folder(folder)
    refuse_links(folder)
    # the fallback, a file that marks the lock, would outlive a killed run on another machine
    lock = FileLock(folder / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"another pdtrain is working in {folder}; wait for it, or set out_dir=ANOTHER"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"{folder} cannot be locked for one pdtrain at a time ({folder / '.lock'}: {reason}); "
            "set out_dir to a folder that you may write to, on a file system with locks, or move "
            "away what stands in the place of that file"
        ) from None
    try:
        yield
    finally:
        lock.release()
