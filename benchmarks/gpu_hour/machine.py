"""Say what machine this is: cards, driver, versions. Run in a process of its own, as a part is."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "peft",
    "deepspeed",
    "flash-attn",
    "liger-kernel",
    "trl",
    "omegaconf",
)
FIELDS = "name,driver_version,memory.total,memory.used,power.limit,clocks.max.sm"
BUSY_MIB = 1024  # of a card's memory that others hold before anything of ours has started


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide the figures; nothing is imported."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe(*, is_dry: bool) -> dict[str, Any]:
    """Return card, number of cards and all else that the page says of the machine."""
    import torch

    cards = [] if is_dry else _cards()
    count = torch.cuda.device_count() if not is_dry and torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_name(i) for i in range(count)]
    memory = [torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(count)]
    return {
        "card": names[0] if names else f"{os.cpu_count()}-core CPU",
        "num_gpus": count,
        "gpus": _list_of(names, memory) if names else "none",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, "
        f"{platform.system()} {platform.release()}",
        "driver": _driver(cards, is_dry=is_dry),
        "cuda": torch.version.cuda or "none",
        "versions": versions(),
        "notes": _notes(cards, names),
        "smi": cards,
    }


def _driver(cards: list[dict[str, str]], *, is_dry: bool) -> str:
    if is_dry:
        return "not asked for"
    return cards[0]["driver_version"] if cards else "unknown without nvidia-smi"


def _list_of(names: list[str], memory: list[float]) -> str:
    found = [f"{name} ({gib:.0f} GiB)" for name, gib in zip(names, memory, strict=True)]
    return found[0] if len(found) == 1 else f"{len(found)}: {', '.join(found)}"


def _notes(cards: list[dict[str, str]], names: list[str]) -> list[str]:
    notes = []
    for number, card in enumerate(cards):
        used = card["memory.used"].split()[0]
        if used.isdigit() and int(used) > BUSY_MIB:
            notes.append(
                f"GPU {number} held {used} MiB for others before the start: its figures may be low"
            )
    if len(set(names)) > 1:
        notes.append("the cards differ; all parts but `ranks` use the first")
    return notes


def _cards() -> list[dict[str, str]]:
    """What nvidia-smi says of every card, or nothing where it cannot be asked."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.split(", ") for line in asked.stdout.splitlines() if line]
    return [dict(zip(FIELDS.split(","), line, strict=False)) for line in lines]


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
