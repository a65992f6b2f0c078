"""Read the manifests of finished stages, and compare files with what they vouch for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdtrain.storage import misfits, read_checked


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished stage.

    None where it has not finished, or where the manifest is damaged, which is said once.
    """
    return read_checked(folder / "manifest.json")


def is_finished(folder: Path) -> bool:
    """Tell whether a stage has finished, whatever its inputs were."""
    return manifest_of(folder) is not None


def damaged_files(folder: Path, manifest: Mapping[str, Any]) -> dict[Path, str]:
    """Return what is wrong with the files that a stage's manifest vouches for, by path."""
    shards = {shard["name"]: shard["sha256"] for shard in manifest.get("shards", ())}
    return {
        folder / name: fault
        for name, fault in misfits(folder, shards | manifest.get("sha256", {})).items()
    }
