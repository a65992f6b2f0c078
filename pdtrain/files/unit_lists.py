"""Keep which units a finished stage has done, and how many records each of them made, twice.

No shard says where the records of one unit end and those of the next begin. Without this list a
changed corpus would cost all units, so it is written twice, and either file restores the other.
Earlier versions wrote it once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pdtrain.files.durable import replacing
from pdtrain.storage import sha256_file, to_line, warn_of_damage

NAME, COPY = "units.jsonl", "units-copy.jsonl"


def write(folder: Path, counts: Iterable[tuple[str, int]]) -> str:
    """Write both files, and return the SHA-256 that either has.

    Args:
        folder: the stage's.
        counts: yields units in the order of the output, each with the number of its records.
    """
    with replacing(folder / NAME) as path, path.open("w", encoding="utf-8") as file:
        for unit, number in counts:
            file.write(to_line({"unit": unit, "num_records": number}))
    _copy(folder / NAME, folder / COPY)
    return sha256_file(folder / NAME)


def whole(folder: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Return the file that the manifest vouches for, the first of both or its copy.

    None where neither fits. Nothing is said and nothing changed.
    """
    paths = (folder / NAME, folder / COPY)
    return next((path for path in paths if _fits(path, manifest)), None)


def restore(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write again what is damaged or missing of the list of an output that is up to date.

    Damage is said. A missing copy is not: earlier versions wrote none.

    Raises:
        IsADirectoryError: a folder is in the place of one of the files.
    """
    if "units" not in manifest:
        return
    paths = (folder / NAME, folder / COPY)
    damaged = [path for path in paths if not _fits(path, manifest)]
    if len(damaged) == len(paths):
        remedy = "the output is up to date, but once an input changes all units are done again"
        warn_of_damage(folder / NAME, "it does not fit its manifest, nor does its copy", remedy)
        return
    for path in damaged:
        other = paths[1 - paths.index(path)]
        if path.name == NAME or path.exists():
            warn_of_damage(path, "it does not fit its manifest", f"restored from {other.name}")
        _copy(other, path)


def _fits(path: Path, manifest: Mapping[str, Any]) -> bool:
    return path.is_file() and sha256_file(path) == manifest.get("units")


def _copy(source: Path, path: Path) -> None:
    """Copy a file, so that the copy is whole or not there."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)
