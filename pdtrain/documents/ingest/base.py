"""Learn of the base what the stage needs: its fingerprint, and its tokenizer as a file.

transformers would stay in memory while documents are read. So a process of its own does it and
ends, unless it is there already, and it does without torch where that is possible. Its input is a
line of JSON, and so is its output: `python -P -m pdtrain.documents.ingest.base`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from pdtrain.config import ModelConfig
from pdtrain.documents.ingest.counting import fast_counter
from pdtrain.files.durable import make_folder, replacing
from pdtrain.models import embedded
from pdtrain.progress import set_level

FILE = "tokenizer.json"


class Base:
    """Hold what the stage needs of the base.

    Args:
        model: names it.
        folder: where its tokenizer is kept as a file.

    Raises:
        ValueError: the model cannot be loaded.
    """

    def __init__(self, model: ModelConfig, folder: Path) -> None:
        self._model, self._folder = model, folder
        self._written: tuple[str, list[str]] | None = None
        if "transformers" in sys.modules:
            self.fingerprint: dict[str, Any] = _models().fingerprint(model)
        else:
            found = _ask(model, folder)
            self.fingerprint = found["fingerprint"]
            self._written = found["file"], found["control"]

    @property
    def _tokenizer(self) -> tuple[str, list[str]]:
        if self._written is None:
            self._written = _write(self._model, self._folder)
        return self._written

    @property
    def tokenizer_file(self) -> str:
        """Return the path of the tokenizer; empty where transformers alone can run it.

        No text can spell a control token of it: what a document spells is text.
        """
        return self._tokenizer[0]

    @property
    def control_names(self) -> list[str]:
        """Return what a text spells where the model's own tokenizer makes it a control token."""
        return self._tokenizer[1]

    def counter(self) -> Callable[[str], int]:
        """Return a function that counts the tokens of a text."""
        return counter_of(self.tokenizer_file, self._model)


def counter_of(file: str, model: ModelConfig) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text.

    Args:
        file: `Base.tokenizer_file`.
        model: the base, whose tokenizer is loaded where there is no file.
    """
    if not file:
        count: Callable[[str], int] = _control_tokens(model).count
        return count
    from tokenizers import Tokenizer

    return fast_counter(Tokenizer.from_file(file))


def _models() -> Any:
    return import_module("pdtrain.models.tokenizer")


def _control_tokens(model: ModelConfig) -> Any:
    module = import_module("pdtrain.models.chat.control_tokens")
    return module.ControlTokens(_models().load_tokenizer(model))


def _write(model: ModelConfig, folder: Path) -> tuple[str, list[str]]:
    """Write the tokenizer into a folder, and return its path and what control tokens are spelt.

    The path is empty where the tokenizer is no file.
    """
    control = _control_tokens(model)
    if control.renamed is None:
        return "", [*control.names]
    path = folder / FILE
    make_folder(folder)
    with replacing(path) as temporary:  # another rank may be reading it
        control.renamed.save(str(temporary))
    return str(path), [*control.names]


def _ask(model: ModelConfig, folder: Path) -> dict[str, Any]:
    """Ask a process of its own, which does without torch if it can.

    Raises:
        ValueError: it says that the model cannot be loaded, or it failed.
        OSError: the tokenizer cannot be written, or a file of the model cannot be read.
    """
    found = _ask_once(model, folder, with_torch=_needs_torch(model))
    if found.get("needs_torch"):
        found = _ask_once(model, folder, with_torch=True)
    if "error" in found:
        raise ValueError(found["error"])
    if "machine" in found:
        number, path = found["machine"]
        raise OSError(number, os.strerror(number), path)
    return found


def _needs_torch(model: ModelConfig) -> bool:
    """Return whether the tokenizer can surely not be loaded without torch, which takes 400 MB."""
    return model.trust_remote_code or (model.name == "embedded" and not embedded.is_prepared())


def _ask_once(model: ModelConfig, folder: Path, *, with_torch: bool) -> dict[str, Any]:
    level = logging.getLogger("pdtrain").level
    request = {"model": asdict(model), "folder": str(folder), "level": level, "torch": with_torch}
    # -P keeps the working folder off sys.path: a file there could pass for a package
    command = [sys.executable, "-P", "-m", "pdtrain.documents.ingest.base"]
    done = subprocess.run(command, input=json.dumps(request).encode(), stdout=subprocess.PIPE)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ValueError(
            f"the process that loads the tokenizer of model.name={model.name!r} ended with status "
            f"{done.returncode} and no answer; what it said stands above"
        ) from None
    return found


def main() -> None:
    """Answer one request."""
    for number in (signal.SIGINT, signal.SIGUSR1):  # SIGTERM ends this without a word
        signal.signal(number, signal.SIG_IGN)  # they reach the parent too, which ends this
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # or a library's print would pass for an answer
    request = json.loads(sys.stdin.read())
    set_level(request["level"] or logging.INFO)
    model = ModelConfig(**request["model"])
    if not request["torch"]:
        sys.modules["torch"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        file, names = _write(model, Path(request["folder"]))
        answer = {"fingerprint": _models().fingerprint(model), "file": file, "control": names}
    except ImportError:
        if request["torch"]:
            raise
        answer = {"needs_torch": True}
    except ValueError as error:
        answer = {"error": str(error)}
    except OSError as error:
        if error.errno is None:  # a library's, which has no words for it
            raise
        path = error.filename or request["folder"]
        answer = {"machine": [error.errno, os.fsdecode(path)]}
    print(json.dumps(answer), file=output, flush=True)


if __name__ == "__main__":
    main()
