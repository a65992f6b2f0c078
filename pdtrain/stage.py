"""Run a stage: skip it if it is up to date, go on after a kill, and redo only what has changed.

A stage works unit by unit (a document, a passage). Finished units go to `journal.jsonl`, one line
each, flushed to disk; when all are there they become sharded JSONL and, last, `manifest.json`. A
unit's key is the hash of its content, so a changed corpus costs only its changed units.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
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

RECORDS_PER_SHARD = 10_000
Unit = TypeVar("Unit")


def is_current(folder: Path, inputs: str) -> bool:
    """Tell whether a stage finished with exactly these inputs.

    Args:
        folder: the stage's folder.
        inputs: the hash of everything that decides its output.
    """
    manifest = folder / "manifest.json"
    return manifest.exists() and read_json(manifest)["inputs"] == inputs


def say_current(name: str, folder: Path) -> None:
    """Tell the user that a stage is up to date."""
    manifest = read_json(folder / "manifest.json")
    count = f", {manifest['num_records']} {name}" if "num_records" in manifest else ""
    say(f"{name}: up to date{count} ({folder})")


def output_hash(folder: Path) -> str:
    """Return the hash of a finished stage's output, an input of the stages after it.

    Raises:
        ValueError: the stage has not finished.
    """
    manifest = folder / "manifest.json"
    if not manifest.exists():
        raise ValueError(
            f"{folder} is not there or not finished; run `pdtrain {folder.name} CONFIG` first, or "
            "`pdtrain run CONFIG` for the whole line"
        )
    return read_json(manifest)["output"]


@dataclass(frozen=True)
class Span:
    """Hold where the records of a unit are in a file; they are read when they are needed."""

    path: Path
    start: int  # bytes from the beginning of the file
    num_bytes: int

    def records(self) -> list[dict[str, Any]]:
        """Read the records."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            text = file.read(self.num_bytes).decode()
        lines = [json.loads(line) for line in text.split("\n") if line]
        return lines[0]["records"] if self.path.name == "journal.jsonl" else lines


def run_units(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    units: Mapping[str, Unit],
    work: Callable[[str, Unit], list[dict[str, Any]]],
    unit_name: str,
    *,
    records_per_shard: int = RECORDS_PER_SHARD,
) -> bool:
    """Bring the output of a stage up to date, and work only on units that are new or changed.

    Args:
        folder: where the output goes.
        name: the stage's name, for messages.
        settings: everything but the units that decides the output, as JSON.
        units: the units by the hash of their content, in the order of the output.
        work: makes the records of a unit, as JSON; it is called with the unit's key and the unit.
        unit_name: what the units are called in messages, in the plural.
        records_per_shard: how many records a file holds.

    Returns:
        False if the output was up to date already, which the user is then told.

    Raises:
        ValueError: a shard of the earlier output was changed.
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
            line = to_line({"unit": unit, "records": work(unit, units[unit])}).encode()
            spans[unit] = Span(folder / "journal.jsonl", journal.tell(), len(line))
            journal.write(line)
            journal.flush()
            os.fsync(journal.fileno())
            advance()
    ordered = [(unit, spans[unit]) for unit in units]
    manifest = {"inputs": inputs, "settings": settings_hash}
    _finish(folder, name, manifest, ordered, records_per_shard)
    return True


def mark_finished(folder: Path, inputs: str, **more: Any) -> None:
    """Write the manifest of a stage that has no units; call it when all its files are in place."""
    write_json(folder / "manifest.json", {"inputs": inputs, "output": inputs, **more})


def output_of(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a manifest says about the shards."""
    return {
        "output": hash_json([shard["sha256"] for shard in shards]),
        "num_records": sum(shard["num_records"] for shard in shards),
        "shards": shards,
    }


def _finish(
    folder: Path,
    name: str,
    manifest: dict[str, Any],
    spans: list[tuple[str, Span]],
    records_per_shard: int,
) -> None:
    """Write shards, the list of units and, last, the manifest; then remove the journal."""
    counts: list[dict[str, Any]] = []

    def records() -> Iterator[dict[str, Any]]:
        for unit, span in spans:
            found = span.records()
            counts.append({"unit": unit, "num_records": len(found)})
            yield from found

    shards = write_shards(folder, records(), records_per_shard)
    units = "".join(map(to_line, counts))
    write_atomically(folder / "units.jsonl", units)
    output = output_of(shards)
    about = {"num_units": len(spans), "units": sha256_text(units)}
    write_json(folder / "manifest.json", {**manifest, **about, **output})
    remove_stale_shards(folder, shards)
    (folder / "journal.jsonl").unlink()
    say(f"{name}: {output['num_records']} {name} ({folder})")


def _finished_spans(folder: Path, settings_hash: str) -> Iterator[tuple[str, Span]]:
    """Yield the units of an earlier output with the same settings, without parsing their records.

    Raises:
        ValueError: a shard is not what the manifest says.
    """
    manifest = folder / "manifest.json"
    if not manifest.exists() or read_json(manifest).get("settings") != settings_hash:
        return
    if read_json(manifest).get("units") != sha256_file(folder / "units.jsonl"):
        return  # a kill came between the two files, so the list is not of these shards
    shards = [check_shard(folder, shard) for shard in read_json(manifest)["shards"]]
    lines = _lines_of(shards)
    for unit in read_jsonl(folder / "units.jsonl"):
        found = [next(lines) for _ in range(unit["num_records"])]
        if not found:
            yield unit["unit"], Span(folder / "units.jsonl", 0, 0)
        elif len({path for path, _, _ in found}) == 1:  # a unit that lies in two shards is redone
            path, start, _ = found[0]
            yield unit["unit"], Span(path, start, sum(length for _, _, length in found))


def _lines_of(paths: list[Path]) -> Iterator[tuple[Path, int, int]]:
    """Yield path, first byte and length in bytes of every line."""
    for path in paths:
        start = 0
        with path.open("rb") as file:
            for line in file:
                yield path, start, len(line)
                start += len(line)


def _open_journal(folder: Path, settings_hash: str) -> dict[str, Span]:
    """Return the units that a killed run had finished; drop a line that the kill cut short."""
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
