"""Examine if this machine is ready, and say what to do where it is not: `pdtrain doctor`.

Under a launcher all machines are examined, and whether they fit one another. Nothing is left behind
but the cache of the embedded model, which every run shares.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

from pdtrain.config import RunConfig, load, load_run
from pdtrain.distributed.world import find_world
from pdtrain.planning.checks import preflight
from pdtrain.planning.checks.machine import (
    Finding,
    Findings,
    devices,
    disk,
    embedded,
    one_line,
    optional_packages,
    packages,
    python,
    shadowing,
)
from pdtrain.planning.checks.run_checks import base_model, corpus, held_out, model_files
from pdtrain.progress import show_line

Tell = Callable[[Finding], None]


def examine(config_path: str | None, overrides: list[str]) -> int:
    """Print each finding on a line, and return 1 when any is a FAIL, else 0.

    Under a launcher all ranks call this, and the first alone prints.

    Args:
        config_path: a YAML file or the folder of a run; None examines the machine alone.
    """
    world = find_world()
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if world.is_first:
            show_line(f"{finding.status:<4}  {finding.text}")

    config = _read(config_path, overrides, tell)
    if world.local_rank == 0:  # once a machine
        _machine(config, tell)
    if world.num_ranks == 1:
        return int(any(finding.status == "FAIL" for finding in found))
    try:
        return int(preflight.together(config, world, found, tell))
    except (ValueError, OSError, RuntimeError) as error:  # out of touch: it speaks for itself
        show_line(f"FAIL  rank {world.rank} on {platform.node()}: {one_line(error)}")
        return 1


def _read(path: str | None, overrides: list[str], tell: Tell) -> RunConfig | None:
    if path is None:
        return None
    try:
        config = load_run(path, overrides) if Path(path).is_dir() else load(path, overrides)
    except ValueError as error:
        tell(Finding("FAIL", one_line(error)))
        return None
    tell(Finding("ok", f"config {path}: every key is known"))
    return config


def _machine(config: RunConfig | None, tell: Tell) -> None:
    for check in (python, packages, optional_packages, devices, shadowing):
        _run(check, tell)
    _run(lambda: disk(config.folder if config else Path("runs")), tell)
    usable = _run(lambda: embedded(config.model if config else None), tell)
    if config:
        _run(lambda: corpus(config), tell)
        _run(lambda: held_out(config), tell)
        if usable and _run(lambda: model_files(config), tell):
            _run(lambda: base_model(config), tell)


def _run(check: Callable[[], Findings], tell: Tell) -> bool:
    """Run a check and return if nothing failed; an error that it raises is a finding, too."""
    failed = False
    try:
        for finding in check():
            failed |= finding.status == "FAIL"
            tell(finding)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        tell(Finding("FAIL", one_line(error)))
        return False
    return not failed
