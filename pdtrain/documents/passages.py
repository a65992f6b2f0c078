"""Run the stage that splits the documents of a corpus into passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.documents.document import document_name
from pdtrain.documents.library import document_paths, read_documents
from pdtrain.documents.splitting import split_document
from pdtrain.models.base import fingerprint, load_tokenizer
from pdtrain.records import content_id
from pdtrain.stage import run_units
from pdtrain.storage import read_shards, sha256_file

VERSION = 4  # part of the input hash: raise it when the same documents would be split differently


def split(config: RunConfig) -> None:
    """Run the stage `passages`: split every document of the corpus into passages.

    Raises:
        ValueError: the corpus has no documents, one of them cannot be read, or none holds text.
    """
    paths = document_paths(config.corpus)
    tokenizer = load_tokenizer(config.model)

    def count_tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def work(_: str, path: Path) -> list[dict[str, Any]]:
        return [
            passage.to_json()
            for document in read_documents(path, config.corpus)
            for passage in split_document(document, config.corpus.max_passage_tokens, count_tokens)
        ]

    units = {
        content_id(document_name(path, config.corpus), sha256_file(path)): path for path in paths
    }
    settings = {
        "version": VERSION,
        "knobs": config.hash_for("passages"),
        "model": fingerprint(config.model),
    }
    folder = config.run.passages_folder
    run_units(folder, "passages", settings, units, work, "documents")
    if next(read_shards(folder), None) is None:
        raise ValueError(
            f"no document in {config.corpus.documents} holds text (files read: {len(paths)}); "
            "expected at least one sentence"
        )
