"""Write small files by which processes on a shared folder tell one another something."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_note(path: Path, value: dict[str, Any]) -> None:
    """Write a small file whole or not at all; it need not outlive a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(path)


def read_note(path: Path) -> dict[str, Any]:
    """Return what a file says, and nothing where it is not there or just being replaced."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
