"""Find the files of the repository and what they import, for the tests of its rules."""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "pdtrain").rglob("*.py"))
KERNELS = sorted((ROOT / "kernels" / "pdkernels").rglob("*.py"))


@cache
def tracked() -> list[Path]:
    """Return the files that git knows or would add; all files where this is no git checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def imported_names(path: Path) -> set[str]:
    """Return the dotted names that a file imports, at the top, inside functions and for types."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}, line {node.lineno}: imports are absolute"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def python(code: str, cwd: Path) -> str:
    """Return the output of a new interpreter without a GPU, in a folder without our sources."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr, f"printed: {result.stderr}"
    return result.stdout
