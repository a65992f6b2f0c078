"""Say why files are no model that can be loaded, and what to name instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from json import JSONDecodeError
from pathlib import Path

from safetensors import SafetensorError

EXPECTED = "expected a Hugging Face model folder (config.json, *.safetensors, tokenizer.json)"
GGUF = (
    "holds weights in the format GGUF, which cannot be trained here; name the model that they were "
    "made from, with its config.json, *.safetensors and tokenizer.json"
)
PICKLED = (
    "its weights are pickled (*.bin), and what is pickled may hold a program; save them as "
    "*.safetensors, by transformers' save_pretrained, where you trust them."
)
LFS = b"version https://git-lfs"  # begins a file that git left in the place of a large one
CACHED = "models--"  # begins the name of a model's folder in the hub's cache
HASH = re.compile(r"[0-9a-f]{32,64}")  # of a snapshot or a commit
NUMBERED = re.compile(r"(?:checkpoint|epoch|step|iter)[-_]?[0-9]+", re.IGNORECASE)
# names of folders that say nothing about the model in them
COMMON = re.compile(
    r"snapshots?|main|master|final|best|latest|last|current|merged|exports?|outputs?|hf|models?"
    r"|weights|checkpoints?|transformers|pytorch|safetensors|default|v?[0-9]+"
    r"|data|mnt|srv|tmp|opt|var|work|workspace|inputs?|cache",
    re.IGNORECASE,
)
HOMES = ("home", "Users")  # folders that hold those of people


def no_model(folder: Path) -> str:
    """Return why a folder is not that of a model, and what to do; empty where it is one."""
    if (folder / "adapter_config.json").exists():
        # transformers would load the base that it names instead, and put the adapter on it
        return (
            "is a folder with an adapter (adapter_config.json); name the adapter's base, and set "
            "train.start to that folder to go on from it, or name a folder of merged weights alone"
        )
    if (folder / "config.json").exists():
        return ""
    inside = [*folder.glob("*/config.json"), *folder.glob("snapshots/*/config.json")]
    if inside:
        newest = max(inside, key=lambda path: path.stat().st_mtime)
        return f"is a folder without config.json; did you mean {newest.parent}?"
    if any(folder.glob("*.gguf")):
        return GGUF
    return f"is a folder without config.json; {EXPECTED}"


def fault(error: Exception, source: str) -> str:
    """Return why a model could not be loaded, in a sentence or two.

    Args:
        error: what transformers or another library raised.
        source: the model's folder, or its name on the hub.
    """
    for path in _pointers(Path(source)):
        return f"{path} is only git's note of a large file; fetch it by `git lfs pull`."
    if is_pickled(Path(source)):
        return PICKLED
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" .")
    if isinstance(error, SafetensorError | JSONDecodeError):
        return f"one of its files is damaged, or was not fetched to its end ({reason})."
    if "backend tokenizer" in reason:
        return "its tokenizer.json, or another file that a tokenizer is made of, is missing."
    return f"{reason}."


def is_pickled(folder: Path) -> bool:
    """Return whether the only weights in a folder are pickled."""
    return any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))


def _pointers(folder: Path) -> Iterator[Path]:
    for pattern in ("*.safetensors", "*.bin", "tokenizer.*"):
        for path in sorted(folder.glob(pattern)):
            with suppress(OSError), path.open("rb") as file:  # why a file cannot be read is said
                if file.read(len(LFS)) == LFS:
                    yield path


def name_of(folder: Path) -> str:
    """Return what a model in a folder is called, in signs that the hub takes.

    The hub's cache keeps `owner/model` in `models--owner--model/snapshots/HASH`, and ModelScope's
    writes `___` for a dot. Numbers, hashes and words such as `final` are no names; a checkpoint is
    named after the folder that it lies in, too. A home folder gives no name.
    """
    places = (folder, *folder.parents)
    if is_in_hub_cache(folder):
        cached = next(place.name for place in places if place.name.startswith(CACHED))
        return cached.removeprefix(CACHED).replace("--", "/")
    own = "" if HASH.fullmatch(folder.name) else _clean(folder.name)
    inside = takewhile(lambda place: place.parent.name not in HOMES, places)
    found = next(filter(_says_something, (_clean(place.name) for place in inside)), "")
    numbered = own if found and NUMBERED.fullmatch(own) else ""
    return "-".join(filter(None, (found or own, numbered))) or "unknown"


def _clean(name: str) -> str:
    """Return a folder's name in signs that the hub takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name.replace("___", ".")).strip("-.")


def _says_something(name: str) -> bool:
    return bool(name) and not any(one.fullmatch(name) for one in (HASH, NUMBERED, COMMON))


def is_in_hub_cache(path: Path) -> bool:
    """Return whether a path leads through a model's folder in the hub's cache."""
    return any(part.startswith(CACHED) for part in path.parts)
