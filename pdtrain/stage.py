"""Run a stage: skip it if it is up to date, go on after a kill, and redo only what has changed.

A stage works unit by unit (a document, a passage), several at the same time where they wait for a
server. Finished units go to a journal, one line each, flushed to disk; when all are there they
become sharded JSONL and, last, `manifest.json`. A unit's key is the hash of its content, so a
changed corpus costs only its changed units.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pdtrain.files import unit_lists
from pdtrain.files.durable import make_folder, remove
from pdtrain.files.journal import Reader, finished_spans, paths_of
from pdtrain.files.manifests import damaged_files, manifest_of
from pdtrain.files.spans import Spans, index_of
from pdtrain.processes.interrupt import end_if_asked
from pdtrain.processes.shares import ALONE, POLL_SECONDS, Share
from pdtrain.processes.workers import Unit, Work, Worker
from pdtrain.progress import say, warn
from pdtrain.storage import (
    hash_json,
    remove_stale_shards,
    sums,
    warn_of_damage,
    write_checked,
    write_json,
    write_shards,
)

RECORDS_PER_SHARD = 10_000
SECONDS_BETWEEN_LINES = 60.0
SCRATCH = "requests"  # folder of what a unit may keep while it is worked on; it goes at the end

STAGES = {  # in the order of `pdtrain run`; a stage's module is imported when it runs
    "passages": "documents.passages.split",
    "questions": "synthesis.questions.ask",
    "answers": "synthesis.answers.collect",
    "retain": "synthesis.retention.regularization.collect",
    "train": "training.train.run",
    "rounds": "training.rounds.rounds.run",
    "evaluate": "evaluation.evaluate.score",
    "export": "reporting.exporting.export.write",
    "report": "reporting.report.write",
}
TOKENISED = ("answers", "retain")  # stages whose records are tokenised as soon as they are there
# stages that the base answers in: whether it thinks is found out before the first of them
ASK_THE_BASE = {"questions", "answers", "retain", "rounds", "evaluate"}
# stages whose files or units the ranks share
SHARED = {"passages", "questions", "answers", "retain", "evaluate"}
WITHOUT_MODEL = {"passages", "report"}  # stages that load none
ON_ALL_RANKS = {"train": "training.train.run", "teach": "training.teacher.teach"}


def is_current(folder: Path, inputs: str) -> bool:
    """Tell whether a stage finished with exactly these inputs, and what it wrote is still whole.

    Damage is said, for the caller makes the output again.

    Args:
        folder: the stage's folder.
        inputs: the hash of everything that decides its output.
    """
    manifest = manifest_of(folder)
    if manifest is None or manifest.get("inputs") != inputs:
        return False
    faults = damaged_files(folder, manifest)
    for path, fault in faults.items():
        warn_of_damage(path, fault, "it is made again")
    return not faults


def say_current(name: str, folder: Path) -> None:
    """Tell the user that a stage is up to date."""
    manifest = manifest_of(folder) or {}
    count = f", {manifest['num_records']} {name}" if "num_records" in manifest else ""
    say(f"{name}: up to date{count} ({folder})")


def output_hash(folder: Path) -> str:
    """Return the hash of a finished stage's output, an input of the stages after it.

    Raises:
        ValueError: the stage has not finished.
    """
    manifest = manifest_of(folder)
    if manifest is None or "output" not in manifest:
        raise ValueError(
            f"{folder} is not there or not finished; run `pdtrain {folder.name} CONFIG` first, or "
            "`pdtrain run CONFIG` for the whole line"
        )
    output: str = manifest["output"]
    return output


def run_units(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    units: Mapping[str, Unit],
    work: Work[Unit],
    unit_name: str,
    *,
    records_per_shard: int = RECORDS_PER_SHARD,
    made_name: str = "",
    share: Share = ALONE,
    at_once: int = 1,
    on_done: Callable[[str], object] = lambda _: None,
    about: Callable[[], dict[str, Any]] = dict,
    stop_file: Path | None = None,
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
        made_name: what the records are called in messages; like the stage by default.
        share: this process's part of the units; the first process writes the output, once all
            processes have done theirs, and the others return before it is there.
        at_once: units that are worked on at the same time, in threads.
        on_done: called with the key of a unit whose records are on the disk.
        about: returns what else the manifest is to say, once all units are done.
        stop_file: the run's, which is looked for after each unit.

    Returns:
        False if the output was up to date already, which the user is then told.

    Raises:
        Stopped: the stop file is there; what is done is kept.
        ValueError: a shard of the earlier output was changed, or units could not be done
            (`UnitFailed`); what is done is kept.
    """
    if share.take:
        share.take(units, work)
        return False
    inputs, settings_hash = _inputs_hash(settings, units), hash_json(settings)
    if share.size > 1:
        agreed = share.agree(folder, settings_hash, _inputs_hash(None, units))
        if agreed is None:
            return False
        settings_hash = agreed
    if is_current(folder, inputs):
        if share.leads:
            manifest = manifest_of(folder) or {}
            unit_lists.restore(folder, manifest)
            _tidy(folder, manifest["shards"])  # a kill or a loss of power may have left something
        say_current(name, folder)
        return False
    make_folder(folder)
    journals = Reader(folder, settings_hash)
    spans = Spans(index_of(units))
    spans.add(journals.new())
    spans.add(finished_spans(folder, settings_hash))
    if not share.leads and is_current(folder, inputs):
        return True  # the first process has finished, and removed journals while they were read
    worker = Worker(work, at_once, on_done, stop_file)
    failed = worker.do_share(folder, name, units, unit_name, spans, settings_hash, share)
    share.report(folder, failed)
    if not share.leads:
        return True
    if share.size > 1:
        failed |= _wait_for_others(folder, name, units, spans, failed, journals, share, stop_file)
    _refuse_holes(folder, name, failed, len(units), unit_name)
    manifest = {"inputs": inputs, "settings": settings_hash, **about()}
    shards = _finish(folder, manifest, spans, records_per_shard)
    num_records = sum(shard["num_records"] for shard in shards)
    say(f"{name}: {num_records} {made_name or name} ({folder})")
    return True


def _wait_for_others(
    folder: Path,
    name: str,
    units: Mapping[str, Any],
    spans: Spans,
    failed: Mapping[str, str],
    journals: Reader,
    share: Share,
    stop_file: Path | None,
) -> dict[str, str]:
    """Add the units of the other processes to the spans; return those that they could not do.

    Raises:
        Stopped: the stop file is there, which the others look for as well.
    """
    told_at = time.monotonic()
    while True:
        # a failure is reported after all units that were done, so it is looked for first
        reported = {u: why for u, why in share.reported(folder).items() if u in units}
        spans.add(journals.new())
        reported = {unit: why for unit, why in reported.items() if unit not in spans}
        left = len(units) - len(spans) - len(failed.keys() | reported.keys())
        if left == 0:
            return reported
        end_if_asked(stop_file, f"{name}: {left} of {len(units)} units left to other processes")
        if time.monotonic() - told_at > SECONDS_BETWEEN_LINES:
            told_at = time.monotonic()
            say(f"{name}: waiting for {left} units of {share.size - 1} other processes")
        time.sleep(POLL_SECONDS)


def _refuse_holes(
    folder: Path, name: str, failed: dict[str, str], num_units: int, unit_name: str
) -> None:
    """Raise ValueError where units are missing, and write down which."""
    path = folder / "failed.json"
    if not failed:
        path.unlink(missing_ok=True)
        return
    write_json(path, failed)
    first = next(iter(failed))
    warn(f"{name}: missing {', '.join(list(failed)[:5])}{', …' if len(failed) > 5 else ''}")
    raise ValueError(
        f"{len(failed)} of {num_units} {unit_name} are missing, which {path} lists; the first, "
        f"{first}: {failed[first]}. What is done is kept: the same command tries these again"
    )


def _inputs_hash(settings: Mapping[str, Any] | None, units: Iterable[str]) -> str:
    """Return `hash_json([settings, units])`, or that of the units alone, bit by bit."""
    digest, begun = hashlib.sha256(), False
    if settings is not None:
        digest.update(f"[{json.dumps(settings, sort_keys=True, ensure_ascii=False)}, ".encode())
    for unit in units:
        digest.update((", " if begun else "[").encode())
        digest.update(json.dumps(unit, ensure_ascii=False).encode())
        begun = True
    digest.update(("]" if begun else "[]").encode())
    digest.update(("" if settings is None else "]").encode())
    return digest.hexdigest()


def mark_finished(folder: Path, inputs: str, files: Iterable[str] = (), **more: Any) -> None:
    """Write the manifest of a stage that has no units; call it when all its files are on the disk.

    Args:
        files: names of the files that the manifest vouches for, relative to `folder`.
    """
    vouched = {"sha256": sums(folder, files)} if files else {}
    manifest = {"inputs": inputs, "output": inputs, **vouched, **more}
    write_checked(folder / "manifest.json", manifest)


def output_of(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a manifest says about the shards."""
    return {
        "output": hash_json([shard["sha256"] for shard in shards]),
        "num_records": sum(shard["num_records"] for shard in shards),
        "shards": shards,
    }


def _finish(
    folder: Path,
    manifest: dict[str, Any],
    spans: Spans,
    records_per_shard: int,
) -> list[dict[str, Any]]:
    """Write shards, the list of units and, last, the manifest; then remove the journals."""
    counts = array("q")

    def records() -> Iterator[dict[str, Any]]:
        for span in spans.values():
            found = span.records()
            counts.append(len(found))
            yield from found

    shards = write_shards(folder, records(), records_per_shard)
    about = {
        "num_units": len(spans),
        "units": unit_lists.write(folder, zip(spans, counts, strict=True)),
    }
    write_checked(folder / "manifest.json", {**manifest, **about, **output_of(shards)})
    _tidy(folder, shards)
    return shards


def _tidy(folder: Path, shards: list[dict[str, Any]]) -> None:
    """Remove what is needed only until a stage has finished, and shards of an earlier output."""
    remove_stale_shards(folder, shards)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    # that of the first process last: what stands in the others must not be looked for in it alone
    for path in [*folder.glob("failed-*.json"), *reversed(paths_of(folder))]:
        remove(path)
