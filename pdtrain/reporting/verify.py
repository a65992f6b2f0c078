"""Check every file of a run folder against what vouches for it, and say what would be redone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdtrain.distillation.teacher_spans import damaged_shards
from pdtrain.documents.ingest import parts
from pdtrain.documents.ingest.cleaning import line_sum
from pdtrain.files import unit_lists
from pdtrain.files.checked_lines import lines_of, unchecked
from pdtrain.files.durable import LEFT_OVER
from pdtrain.files.manifests import damaged_files, manifest_of
from pdtrain.files.trust import strangers
from pdtrain.progress import show_line
from pdtrain.run_folder import RunFolder
from pdtrain.storage import fault_of, misfits, read_json, sha256_file

# what the manifest of a folder vouches for, and what a run does where it is damaged
STAGES = {
    "passages": "the passages are joined again from what was read",
    "questions": "the questions that it held are asked for again",
    "answers": "the answers that it held are sampled again",
    "retain": "what it held is sampled again",
    "tokens/answers": "the answers are tokenised again",
    "tokens/raw_text": "the texts are tokenised again",
    "tokens/retain": "the samples are tokenised again",
    "adapter": "training goes on from its last checkpoint",
    "scores": "the questions behind it are asked again",
    "rounds": "the rounds are gone through again; what is whole is kept",
    "rounds/quiz": "the quiz questions that it held are asked for again",
    "export": "the adapter is exported again",
    "report": "the report is written again",
}
OF_THE_RUN = "tables", "pages"  # keys of manifests that vouch for files of the run folder itself


@dataclass(frozen=True)
class Damage:
    """Say what is wrong with a file, and what a run does about it."""

    path: Path
    fault: str
    remedy: str


def verify(folder: Path) -> list[Damage]:
    """Return all damage in a run folder; nothing is changed, and nothing else is loaded.

    Raises:
        ValueError: the folder holds no run.
    """
    run = RunFolder(folder)
    if others := list(strangers(folder)):  # which are not read: a pipe would be waited for
        remedy = "a run refuses the folder until it is moved away"
        return [Damage(path, f"it is {what}", remedy) for path, what in others]
    if not run.config_file.is_file():
        raise ValueError(
            f"{folder} is not a run folder: it has no config.yaml; `pdtrain run CONFIG` makes one"
        )
    found = [damage for name, remedy in STAGES.items() for damage in _stage(folder, name, remedy)]
    for path in sorted(run.rounds_folder.glob("[0-9]*")):
        for name in ("questions", "answers", "adapter"):
            found += _stage(path, name, STAGES[name])
        found += _object(path / "quiz.json", "the quiz is taken again")
        found += _checkpoints(path / "checkpoints")
    found += _object(run.coverage_file, "it is counted again")
    found += _object(run.thinking_file, "the base is asked again whether it thinks")
    found += _object(run.rounds_file, STAGES["rounds"])
    found += _metrics(run)
    found += _read_files(run.passages_folder / "files")
    for teacher in sorted(run.teacher_folder.glob("*/")):
        found += _object(teacher / "inputs.json", "it is written again")
        remedy = "the teacher is asked again for what it held"
        found += [Damage(path, fault, remedy) for path, fault in damaged_shards(teacher)]
    found += _checkpoints(run.checkpoints_folder)
    found += [
        Damage(Path(above, name), "a killed run left it", "it is removed")
        for above, folders, files in os.walk(folder)  # of any depth, which rglob is not
        for name in sorted([*folders, *files])
        if LEFT_OVER.fullmatch(name)
    ]
    return found


def report(folder: Path) -> int:
    """Print the damage in a run folder; return 0 where there is none, and 1 otherwise."""
    found = verify(folder)
    for damage in found:
        show_line(f"{damage.path}: {damage.fault}; {damage.remedy}")
    if found:
        show_line(f"{len(found)} files are damaged; `pdtrain run CONFIG` makes them again")
    else:
        show_line(f"{folder}: whole")
    return int(bool(found))


def _stage(folder: Path, name: str, remedy: str) -> Iterator[Damage]:
    """Yield the damage of a stage: its manifest, what it vouches for, and its journal."""
    stage = folder / name
    yield from _object(stage / "manifest.json", f"the stage is done again: {remedy}")
    is_damaged = (stage / "manifest.json").exists() and fault_of(stage / "manifest.json")
    manifest = {} if is_damaged else manifest_of(stage) or {}
    faults: Mapping[Path, str] = damaged_files(stage, manifest)
    for key in OF_THE_RUN:
        more = misfits(folder, manifest.get(key, {}))
        faults = {**faults, **{folder / file: fault for file, fault in more.items()}}
    merged = misfits(stage, manifest.get("merged", {}))
    faults = {**faults, **{stage / file: fault for file, fault in merged.items()}}
    yield from (Damage(path, fault, remedy) for path, fault in faults.items())
    yield from _unit_lists(stage, manifest)
    journal = stage / "journal.jsonl"
    lines = [line for _, line in lines_of(journal)] if journal.is_file() else []
    must = bool(lines) and b'"check"' in lines[0]
    if bad := sum(unchecked(line, must=must) is None for line in lines):
        yield Damage(journal, f"{bad} lines are damaged or cut short", remedy)


def _unit_lists(stage: Path, manifest: Mapping[str, Any]) -> Iterator[Damage]:
    """Yield the damage in the list of a stage's units and in its copy."""
    if "units" not in manifest:
        return
    whole = unit_lists.whole(stage, manifest)
    remedy = f"it is restored from {whole.name}" if whole else "a changed corpus costs all units"
    for path in (stage / unit_lists.NAME, stage / unit_lists.COPY):
        is_missing = not (path.is_symlink() or path.exists())
        if is_missing and path.name == unit_lists.COPY:
            continue  # which earlier versions did not write
        if not path.is_file() or sha256_file(path) != manifest["units"]:
            yield Damage(path, "it does not fit its manifest", remedy)


def _object(path: Path, remedy: str) -> list[Damage]:
    if not (path.is_symlink() or path.exists()):
        return []
    fault = fault_of(path)
    return [Damage(path, fault, remedy)] if fault else []


def _metrics(run: RunFolder) -> list[Damage]:
    known = (manifest_of(run.adapter) or {}).get("metrics")
    if known is None or (run.metrics_file.is_file() and sha256_file(run.metrics_file) == known):
        return []
    remedy = "what is lost stays lost, and the report says so"
    return [Damage(run.metrics_file, "it is not what training logged", remedy)]


def _read_files(folder: Path) -> list[Damage]:
    """Return the damage in what was read of the documents."""
    remedy = "the files are read again when the passages change"
    found = _index(folder / "index.json")
    for path in sorted(folder.glob("*.part")):
        if not path.is_file():
            found.append(Damage(path, "it is no file", remedy))
        elif bad := line_sum.num_damaged(path):
            found.append(Damage(path, f"{bad} stretches do not fit their checksums", remedy))
    return found


def _index(path: Path) -> list[Damage]:
    if not path.exists() or parts.is_index_whole(path):
        return []
    return [Damage(path, "its content does not fit its hash", "the parts are read through")]


def _checkpoints(folder: Path) -> Iterator[Damage]:
    remedy = "the checkpoint before it is taken"
    for path in sorted(folder.glob("step-*")):
        manifest = path / "manifest.json"
        if not manifest.exists():
            yield Damage(manifest, "it is missing", remedy)
        elif fault := fault_of(manifest):
            yield Damage(manifest, fault, remedy)
        else:
            known = read_json(manifest).get("sha256", {})
            for name, fault in misfits(path, known).items():
                yield Damage(path / name, fault, remedy)
    latest = folder / "latest"
    if latest.exists() and not (
        latest.is_file() and (folder / latest.read_text(errors="replace").strip()).is_dir()
    ):
        yield Damage(latest, "it names no checkpoint", "the next checkpoint writes it again")
