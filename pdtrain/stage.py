"""What makes a stage a stage: up to date or not, continued after a kill, redone only where needed.

A stage works unit by unit (a document, a passage). Finished units go to `journal.jsonl`, one line
each, flushed to disk; when all are there they become sharded JSONL and, last, `manifest.json`. A
unit is known by the hash of its content, so a changed corpus costs only its changed units.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pdtrain.progress import progress, say
from pdtrain.storage import (
    check_shard,
    hash_json,
    read_json,
    read_jsonl,
    remove_stale_shards,
    sha256_file,
    sha256_text,
    to_line,
    write_atomically,
    write_json,
    write_shards,
)

ROWS_PER_SHARD = 10_000
Unit = TypeVar("Unit")


def is_current(folder: Path, inputs: str) -> bool:
    """Whether the stage finished with exactly these inputs."""
    manifest = folder / "manifest.json"
    return manifest.exists() and read_json(manifest)["inputs"] == inputs


def say_current(name: str, folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    rows = f", {manifest['num_rows']} {name}" if "num_rows" in manifest else ""
    say(f"{name}: up to date{rows} ({folder})")


def output_hash(folder: Path) -> str:
    """What a finished stage wrote, as one hash: part of the inputs of the stages after it."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        raise ValueError(
            f"{folder} is not there or not finished; run `pdtrain {folder.name} CONFIG` first, or "
            "`pdtrain run CONFIG` for the whole line"
        )
    return read_json(manifest)["output"]


@dataclass(frozen=True)
class Span:
    """Where a unit's rows stand: bytes of one file. Texts are read when they are needed."""

    path: Path
    start: int
    num_bytes: int

    def rows(self) -> list[dict[str, Any]]:
        with self.path.open("rb") as file:
            file.seek(self.start)
            text = file.read(self.num_bytes).decode()
        rows = [json.loads(line) for line in text.split("\n") if line]
        return rows[0]["rows"] if self.path.name == "journal.jsonl" else rows


def run_units(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    units: Mapping[str, Unit],
    work: Callable[[str, Unit], list[dict[str, Any]]],
    unit_name: str,
) -> bool:
    """Bring `folder` up to date: `work(id, unit)` makes the JSON rows of one unit.

    Args:
        settings: everything but the units that decides the output, as JSON.
        units: by the hash of their content, in the order of the output.

    Returns:
        False when there was nothing to do, which is then said.
    """
    inputs = hash_json([settings, list(units)])
    if is_current(folder, inputs):
        say_current(name, folder)
        return False
    settings_hash = hash_json(settings)
    folder.mkdir(parents=True, exist_ok=True)
    spans = dict(_finished_spans(folder, settings_hash))
    spans |= _open_journal(folder, settings_hash)
    spans = {unit: span for unit, span in spans.items() if unit in units}
    missing = [unit for unit in units if unit not in spans]
    say(f"{name}: {len(missing)} of {len(units)} {unit_name} to do")
    with (
        progress(name, len(units), unit_name, done=len(spans)) as advance,
        (folder / "journal.jsonl").open("ab") as journal,
    ):
        for unit in missing:
            line = to_line({"unit": unit, "rows": work(unit, units[unit])}).encode()
            spans[unit] = Span(folder / "journal.jsonl", journal.tell(), len(line))
            journal.write(line)
            journal.flush()
            os.fsync(journal.fileno())
            advance()
    _finish(folder, name, inputs, settings_hash, [(unit, spans[unit]) for unit in units])
    return True


def mark_finished(folder: Path, inputs: str, **more: Any) -> None:
    """The manifest of a stage that is not made of units, written when all else is in place."""
    write_json(folder / "manifest.json", {"inputs": inputs, "output": inputs, **more})


def write_rows(folder: Path, inputs: str, rows: Iterable[dict[str, Any]]) -> None:
    """The output of a stage that is made in one go: its shards and, last, its manifest."""
    shards = write_shards(folder, rows, ROWS_PER_SHARD)
    output = hash_json([shard["sha256"] for shard in shards])
    num_rows = sum(shard["num_rows"] for shard in shards)
    about = {"inputs": inputs, "output": output, "num_rows": num_rows, "shards": shards}
    write_json(folder / "manifest.json", about)
    remove_stale_shards(folder, shards)


def _finish(
    folder: Path, name: str, inputs: str, settings_hash: str, spans: list[tuple[str, Span]]
) -> None:
    counts: list[dict[str, Any]] = []

    def rows() -> Iterator[dict[str, Any]]:
        for unit, span in spans:
            found = span.rows()
            counts.append({"unit": unit, "num_rows": len(found)})
            yield from found

    shards = write_shards(folder, rows(), ROWS_PER_SHARD)
    units = "".join(map(to_line, counts))
    write_atomically(folder / "units.jsonl", units)
    num_rows = sum(shard["num_rows"] for shard in shards)
    write_json(
        folder / "manifest.json",
        {
            "inputs": inputs,
            "settings": settings_hash,
            "output": hash_json([shard["sha256"] for shard in shards]),
            "num_units": len(spans),
            "units": sha256_text(units),
            "num_rows": num_rows,
            "shards": shards,
        },
    )
    remove_stale_shards(folder, shards)
    (folder / "journal.jsonl").unlink()
    say(f"{name}: {num_rows} {name} ({folder})")


def _finished_spans(folder: Path, settings_hash: str) -> Iterator[tuple[str, Span]]:
    """Units of an earlier output made with the same settings, found without parsing their rows.

    Raises:
        ValueError: a shard is not what the manifest says.
    """
    manifest = folder / "manifest.json"
    if not manifest.exists() or read_json(manifest)["settings"] != settings_hash:
        return
    if read_json(manifest).get("units") != sha256_file(folder / "units.jsonl"):
        return  # a kill between the two: their rows cannot be told apart
    shards = [check_shard(folder, shard) for shard in read_json(manifest)["shards"]]
    lines = _lines_of(shards)
    for unit in read_jsonl(folder / "units.jsonl"):
        found = [next(lines) for _ in range(unit["num_rows"])]
        if not found:
            yield unit["unit"], Span(folder / "units.jsonl", 0, 0)
        elif len({path for path, _, _ in found}) == 1:  # a unit cut by a shard border is redone
            path, start, _ = found[0]
            yield unit["unit"], Span(path, start, sum(length for _, _, length in found))


def _lines_of(paths: list[Path]) -> Iterator[tuple[Path, int, int]]:
    for path in paths:
        start = 0
        with path.open("rb") as file:
            for line in file:
                yield path, start, len(line)
                start += len(line)


def _open_journal(folder: Path, settings_hash: str) -> dict[str, Span]:
    """Units that a killed run had finished. A line cut by the kill is dropped from the file."""
    path = folder / "journal.jsonl"
    header = to_line({"settings": settings_hash}).encode()
    spans: dict[str, Span] = {}
    end = 0
    if path.exists():
        for _, start, length in _lines_of([path]):
            with path.open("rb") as file:
                file.seek(start)
                line = file.read(length)
            if not line.endswith(b"\n") or (start == 0 and line != header):
                break
            end = start + length
            if start:
                spans[json.loads(line)["unit"]] = Span(path, start, length)
    with path.open("ab") as file:
        file.truncate(end)
        if end == 0:
            file.write(header)
    return spans
