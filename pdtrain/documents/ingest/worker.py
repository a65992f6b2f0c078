"""Read files of the corpus in a process of its own: `python -P -m pdtrain.documents.ingest.worker`.

The process that starts it writes a line of JSON with the settings, then one line a file to standard
input. It answers each with a line on standard output, and ends with its input. Nothing here
imports torch: a tokenizer that is a file is read by the tokenizers library alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pdtrain.config import CorpusConfig, ModelConfig
from pdtrain.documents.ingest.base import counter_of
from pdtrain.documents.ingest.listing import CorpusFile
from pdtrain.documents.ingest.parts import CannotWrite, PartWriter
from pdtrain.documents.ingest.reading import FileReader


def main() -> None:
    """Answer requests until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # they reach the parent too, which ends this
    os.environ.setdefault("OMP_THREAD_LIMIT", "1")  # of tesseract, which takes four cores otherwise
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # or a library's print would pass for an answer
    setup = json.loads(sys.stdin.readline())
    part = PartWriter(Path(setup["folder"]), setup["writer"], setup["settings"])
    model = ModelConfig(**setup["model"])
    reader = FileReader(
        CorpusConfig(**setup["corpus"]), part, counter_of(setup["tokenizer"], model)
    )
    for line in sys.stdin:
        print(json.dumps(_answer(reader, json.loads(line))), file=answers, flush=True)
    part.close()


def _answer(reader: FileReader, request: dict[str, Any]) -> dict[str, Any]:
    file = CorpusFile(*request["file"])
    try:
        found = reader.read(file, request["known"])
    except CannotWrite as error:
        return {"error": [error.number, error.path]}
    return {"found": found and [*found[:4], str(found.part), found.start, found.num_bytes]}


if __name__ == "__main__":
    main()
