"""Hold a document, and what every reader needs: its name, a title, decoded and tidy text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pdtrain.config import CorpusConfig


@dataclass(frozen=True)
class Document:
    """Hold the plain text of a file, or of one record of a file."""

    id: str  # the path below the corpus folder; for one record, followed by its id or number
    title: str
    text: str  # one paragraph a line


def make_document(
    path: Path, config: CorpusConfig, text: str, title: str = "", record: object = None
) -> Document:
    """Make a document of a file's text, or of the text of one of its records.

    Args:
        path: the file, in the corpus folder.
        config: says where the corpus folder is.
        text: plain text whose paragraphs are separated by blank lines. A line break inside a
            paragraph becomes a blank.
        title: a title made of the file's name takes its place when it is empty.
        record: the id or number of the record within the file; None for the file as a whole.
    """
    name = document_name(path, config)
    return Document(
        id=name if record is None else f"{name}:{record}",
        title=title or title_from_name(path),
        text=join_wrapped_lines(text),
    )


def document_name(path: Path, config: CorpusConfig) -> str:
    """Return the path below the corpus folder, with slashes on every system."""
    corpus = Path(config.documents).expanduser()
    folder = corpus if corpus.is_dir() else corpus.parent
    return path.relative_to(folder).as_posix()


def title_from_name(path: Path) -> str:
    """Return a title made of a file's name: `old_harbour.txt` gives "Old Harbour"."""
    return re.sub(r"[_-]+", " ", path.stem).strip().title()


def join_wrapped_lines(text: str) -> str:
    """Return the paragraphs of a text on one line each, with single blanks between words."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def read_utf8(path: Path) -> str:
    """Return a file's text, without a byte order mark.

    Raises:
        ValueError: the file is not UTF-8 text, or it holds NUL bytes.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start} is 0x{bad:02x}); convert "
            "it, for example `iconv -f LATIN1 -t UTF-8`, or move it out of the corpus folder"
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{path} holds NUL bytes: it is a binary file whatever its name says; move it out of "
            "the corpus folder"
        )
    return text
