"""Find the documents of a corpus and choose the reader of each.

To add a format, write its reader in a module of this folder and name it in `READERS`.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from pdtrain.config import CorpusConfig
from pdtrain.documents.archives import COMPRESSED, expand, holds_members, is_archive
from pdtrain.documents.document import Document, Source, fault_of, source_of
from pdtrain.documents.encoding.characters import CONTROL
from pdtrain.documents.readers.code import SUFFIXES, read_code, read_notebook
from pdtrain.documents.readers.delimited import (
    read_delimited,
    read_json,
    read_lines_or_list,
)
from pdtrain.documents.readers.epub import read_epub
from pdtrain.documents.readers.html import is_page, read_html
from pdtrain.documents.readers.mail import read_mailbox, read_message
from pdtrain.documents.readers.office import read_docx, read_pptx, read_spreadsheet
from pdtrain.documents.readers.opendocument import read_odt
from pdtrain.documents.readers.pdf import read_pdf
from pdtrain.documents.readers.rst import read_rst
from pdtrain.documents.readers.subtitles import read_subtitles
from pdtrain.documents.readers.text import read_markdown, read_txt
from pdtrain.documents.records.tables import read_arrow, read_parquet

Reader = Callable[[Source, CorpusConfig], Iterator[Document]]
OnFault = Callable[[str, str, str], object]
NO_READER = "no reader"

READERS: dict[str, Reader] = {  # by the suffix of a file's name, in lower case
    ".txt": read_txt,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".mdx": read_markdown,
    ".rst": read_rst,
    ".html": read_html,
    ".htm": read_html,
    ".jsonl": read_lines_or_list,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".pdf": read_pdf,
    ".srt": read_subtitles,
    ".vtt": read_subtitles,
    **dict.fromkeys((".docx", ".docm", ".dotx"), read_docx),
    **dict.fromkeys((".pptx", ".pptm"), read_pptx),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), read_spreadsheet),
    ".odt": read_odt,
    ".odp": read_odt,
    ".epub": read_epub,
    ".eml": read_message,
    ".mbox": read_mailbox,
    ".ipynb": read_notebook,
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": read_json,
    ".xhtml": read_html,
    ".ndjson": read_lines_or_list,
    **dict.fromkeys((".text", ".log"), read_txt),
    **dict.fromkeys((".mdown", ".mkd", ".qmd", ".rmd"), read_markdown),
    **dict.fromkeys(SUFFIXES, read_code),
}
# files that are known by their names, in lower case, whatever stands behind the first dot of those
# whose suffix is one of KINDS
TEXTS = (
    "about authors bugs changelog changes contributing contributors copying copyright credits faq "
    "hacking history install license licence maintainers manifest news notice readme thanks todo"
).split()
CODES = (
    "brewfile build cmakelists containerfile dockerfile gemfile gnumakefile jenkinsfile justfile "
    "kconfig makefile procfile rakefile sconscript sconstruct vagrantfile workspace"
).split()
NAMES: dict[str, Reader] = {
    **dict.fromkeys(TEXTS, read_txt),
    **dict.fromkeys(CODES, read_code),
    **dict.fromkeys(
        "cmakelists.txt constraints.txt go.mod meson.build meson_options.txt requirements.txt "
        "robots.txt".split(),
        read_code,
    ),
}
KINDS = (
    "1st am apache base bsd build debian dev dist first gnu gpl in lgpl linux macos mit old orig "
    "prod source test unix upstream windows"
).split()
HEAD = 8192  # bytes that tell what a file without a suffix is
# what `save_to_disk` of Hugging Face datasets writes beside the records
BESIDE_ARROW = ("dataset_info.json", "dataset_dict.json", "state.json")
NAMED = " ".join(list(READERS)[:12])  # in messages, the rest would only take room


def read_documents(
    source: Source | Path, config: CorpusConfig, on_fault: OnFault | None = None
) -> Iterator[Document]:
    """Read the documents of one file with the reader that `is_readable` found for it.

    Args:
        source: the file.
        config: says how it is read.
        on_fault: called with name, reason and details of each member of an archive that could not
            be read, or for whose kind there is no reader; the others are read. By default the first
            such member is an error.

    Raises:
        Unreadable: the file gives no document; the reason says which kind of fault it is.
    """
    if isinstance(source, Path):
        source = source_of(source, config)
    if not is_archive(source.name):
        reader = _reader_of(source)
        if reader is None:
            raise ValueError(f"{source.where} is a file of another kind")
        yield from reader(source, config)
        return
    for member in expand(source, on_fault or (lambda *_: None)):
        reader = _reader_of(member)
        if reader is None:
            if on_fault:
                on_fault(member.name, NO_READER, "a file of another kind")
            continue
        try:
            yield from reader(member, config)
        except Exception as error:  # a library's own error, whatever it is, costs this member
            if on_fault is None or not holds_members(source.name):
                raise
            on_fault(member.name, *fault_of(error))


def is_readable(path: Path | str) -> bool:
    """Return whether there is a reader for a file of this name, or it is an archive.

    A file without a suffix that is not known by its name is looked into, if it is there.
    """
    name = PurePath(path)
    if name.name in BESIDE_ARROW:
        return False
    if name.suffix.lower() in COMPRESSED and not name.stem.lower().endswith(".tar"):
        return _named_reader(name.stem) is not None
    if is_archive(name.name) or _named_reader(name.name):
        return True
    if name.suffix or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as stream:
            return _sniffed_reader(stream.read(HEAD)) is not None
    except OSError:  # whoever reads it will say why it cannot be read
        return True


def _reader_of(source: Source) -> Reader | None:
    found = _named_reader(source.name)
    if found or PurePath(source.name).suffix:
        return found
    with source.open() as stream:
        return _sniffed_reader(stream.read(HEAD))


def _named_reader(name: str) -> Reader | None:
    """Return the reader for files of a name, or None."""
    path = PurePath(name.lower())
    known = NAMES.get(path.name) or READERS.get(path.suffix)
    if known or path.suffix.removeprefix(".") not in KINDS:
        return known
    return NAMES.get(path.name.partition(".")[0])


def _sniffed_reader(head: bytes) -> Reader | None:
    """Return the reader for a file without a suffix that begins so; None for what is no text."""
    if head.startswith(b"%PDF-"):
        return read_pdf
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    if CONTROL.search(text):
        return None
    if text.startswith("#!"):
        return read_code
    return read_html if is_page(text) else read_txt
