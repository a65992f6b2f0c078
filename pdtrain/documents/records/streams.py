"""Read data sets by their names as Hugging Face datasets does, as streams that are never copied.

An address is `datasets://NAME?split=train&config=CONFIG&revision=COMMIT`, where NAME is that of a
data set on the hub, or the path of a folder of data files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, Source
from pdtrain.documents.records.tables import documents_of_records, pick

SCHEME = "datasets://"
KNOWN = ("split", "config", "revision", "shard")


def is_stream(entry: str) -> bool:
    """Return whether an entry of `corpus.documents` names a data set."""
    return entry.startswith(SCHEME)


def streams_of(entry: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield the shards of a data set: name, address, 0 bytes, and what a change changes.

    Raises:
        ValueError: there is no such data set, or the address is wrong.
    """
    name, options = _parts(entry)
    version = _version(entry, name, options)
    shards = _load(name, options).num_shards
    split = options.get("split", "train")
    for shard in range(shards):
        number = f":{shard}" if shards > 1 else ""
        mark = "&" if options else "?"
        address = f"{entry}{mark}shard={shard}" if shards > 1 else entry
        yield f"{os.path.basename(name.rstrip('/'))}:{split}{number}", address, 0, version


def read_stream(name: str, address: str, config: CorpusConfig) -> Iterator[Document]:
    """Read the documents of a data set, or of one of its shards.

    Args:
        name: as `streams_of` gives it; it begins the ids of the documents.
        address: the one beside it.
    """
    of, options = _parts(address)
    stream = _load(of, options)
    if "shard" in options:
        stream = stream.shard(stream.num_shards, int(options["shard"]))
    source = Source(name)
    if stream.column_names:
        stream = stream.select_columns(pick(source, config)(stream.column_names))
    yield from documents_of_records(iter(stream), source, config)


def version_of(address: str) -> str:
    """Return a hash that another revision of the data set, or a change of its files, changes."""
    name, options = _parts(address)
    return f"{_version(address, name, options):016x}"


def _parts(address: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    name = f"{parts.netloc}{parts.path}"
    wrong = [key for key in options if key not in KNOWN]
    if wrong or not name:
        raise ValueError(
            f"corpus.documents={address!r}: expected {SCHEME}NAME?split=train&config=…&revision=…"
        )
    return os.path.expanduser(name), options


def _load(name: str, options: dict[str, str]) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset(
            name,
            options.get("config"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
            streaming=True,
        )
    except Exception as error:  # of many kinds: no such name, split, access, network
        raise ValueError(
            f"corpus.documents: the data set {name!r} cannot be read ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'})"
        ) from None


def _version(address: str, name: str, options: dict[str, str]) -> int:
    """Return a number made of what datasets knows of the files: dates, tags or the commit."""
    from datasets import load_dataset_builder

    try:
        builder = load_dataset_builder(
            name, options.get("config"), revision=options.get("revision")
        )
        files = builder.config.data_files or {}
        known = [[split, [*map(str, files[split].origin_metadata)]] for split in sorted(files)]
    except Exception:  # `_load` says what is wrong
        known = []
    text = repr([name, sorted(options.items()), known])
    return int(hashlib.sha256(text.encode()).hexdigest()[:14], 16)
