"""Find the documents of a corpus and choose the reader of each.

To add a format, write its reader in a module of this folder and name it in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, Source, source_of
from pdtrain.documents.readers.html import read_html
from pdtrain.documents.readers.pdf import read_pdf
from pdtrain.documents.readers.rst import read_rst
from pdtrain.documents.readers.subtitles import read_subtitles
from pdtrain.documents.readers.text import read_markdown, read_txt
from pdtrain.documents.tables import read_arrow, read_json_lines, read_parquet
from pdtrain.progress import say

Reader = Callable[[Source, CorpusConfig], Iterator[Document]]

READERS: dict[str, Reader] = {  # by the suffix of a file's name, in lower case
    ".txt": read_txt,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".rst": read_rst,
    ".html": read_html,
    ".htm": read_html,
    ".jsonl": read_json_lines,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".pdf": read_pdf,
    ".srt": read_subtitles,
    ".vtt": read_subtitles,
}


def read_documents(source: Source | Path, config: CorpusConfig) -> Iterator[Document]:
    """Read the documents of one file with the reader of its suffix, which must be in `READERS`.

    Raises:
        Unreadable: the file gives no document; the reason says which kind of fault it is.
    """
    if isinstance(source, Path):
        source = source_of(source, config)
    return READERS[source.suffix](source, config)


def document_paths(config: CorpusConfig) -> list[Path]:
    """Return the files of the corpus that have a reader, sorted.

    Hidden files and folders are passed over in silence; other files without a reader are named
    in a message.

    Raises:
        ValueError: `corpus.documents` is not set, does not exist, or holds no document.
    """
    if not config.documents:
        raise ValueError("corpus.documents is not set; give a folder of documents, or one file")
    root = Path(config.documents).expanduser()
    if not root.exists():
        raise ValueError(
            f"corpus.documents={str(root)!r} does not exist; expected a folder with "
            f"{' '.join(READERS)} files, or one such file"
        )
    found = [root] if root.is_file() else _visible_files(root)
    paths = [path for path in found if path.suffix.lower() in READERS]
    if left_out := sorted({path.suffix or path.name for path in found} - {p.suffix for p in paths}):
        say(f"passages: left out files that are not documents: {' '.join(left_out)}")
    if not paths:
        raise ValueError(
            f"corpus.documents={str(root)!r} holds no document; expected files ending in "
            f"{' '.join(READERS)}"
        )
    return paths


def _visible_files(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted, without those that are hidden inside it."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
