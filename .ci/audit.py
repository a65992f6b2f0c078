"""Look up the known flaws of every installed package; skip with a reason where nobody answers.

    make audit

pip-audit is installed into a folder of its own, so that it changes nothing of what it looks at.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

SECONDS = 300


def main() -> int:
    """Return 1 where a package has a known flaw, else 0."""
    folder = Path(sys.prefix) / "audit"
    tool = folder / "bin" / "pip-audit"
    if not tool.exists():
        venv.create(folder, with_pip=True)
        if reason := failed([str(folder / "bin" / "pip"), "install", "-q", "pip-audit"]):
            return skip(f"pip-audit cannot be installed ({reason})")
    command = [str(tool), "--path", sysconfig.get_path("purelib"), "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return skip(f"no answer within {SECONDS} s")
    except (json.JSONDecodeError, KeyError, TypeError):
        return skip(last_line(done.stderr) or f"it ended with status {done.returncode}")
    return tell(found)


def tell(found: list[dict[str, Any]]) -> int:
    """Print what was found, and return the exit status."""
    known = [one for one in found if "skip_reason" not in one]
    flawed = [one for one in known if one["vulns"]]
    if not known:
        return skip(f"the index knows none of the {len(found)} packages")
    for one in flawed:
        for flaw in one["vulns"]:
            mended = ", ".join(flaw.get("fix_versions") or []) or "no version"
            print(f"audit: {one['name']} {one['version']}: {flaw['id']}, mended in {mended}")
    unknown = len(found) - len(known)
    print(f"audit: {len(known)} packages looked up, {unknown} unknown, {len(flawed)} with a flaw")
    return int(bool(flawed))


def failed(command: list[str]) -> str:
    """Run a command, and return why it failed; empty where it did not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    return last_line(done.stderr) or "no reason given" if done.returncode else ""


def last_line(text: str) -> str:
    return next(iter(text.strip().splitlines()[::-1]), "")


def skip(reason: str) -> int:
    print(f"audit: skipped, {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
