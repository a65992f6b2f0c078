"""Define what every reader takes and gives: a source of bytes, a document, and why none came."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, get_args
from urllib.parse import unquote

from pdtrain.config import CorpusConfig

Reason = Literal["empty", "scan", "locked", "broken", "binary", "too large"]
REASONS: tuple[str, ...] = get_args(Reason)
Kind = Literal["prose", "heading", "code", "table"]

MAX_BYTES = 256 << 20  # of a file that must be in memory as a whole to be read


# titles that stand for none, as programs and people write them
NOTHING = frozenset("nan none null <na> nat n/a #n/a #na na undefined".split()) | {"no title"}
# names that any file or page may have
ANY_FILE = re.compile(
    r"(?:contents|default|doc|document|documentation|file|home|home ?page|index|main|main page|"
    r"noname|page|read ?me|start|table of contents|text|title|(?:new )?text document|"
    r"un(?:titled|named|known)(?: (?:document|page|text))?|"
    r"no title (?:available|given)|ohne titel|sans titre|senza titolo|sin título|"
    r"sem título|zonder titel|bez nazwy|bez tytułu|без названия|无标题|無標題|無題|제목 없음|"
    r"neues textdokument|nouveau document texte|unbenannt|"
    r"(?:document|doc|dokument|documento|file|page|scan|img|image|dsc|text|untitled|unnamed chunk|"
    r"new text document) ?\d+|"
    # parts of a data set, as programs divide it
    r"(?:shard|chunk|batch|part|split|data|train|test|validation|dev) ?(?:0\d{4}|\d{5} of \d{5})"
    r"(?: (?:jsonl?|parquet|arrow|csv|txt))?)"
)
# that machines give, beside numbers that may be years: hashes and UUIDs
HASH = re.compile(
    r"(?=.*\d)(?=.*[a-f])(?:[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
    re.IGNORECASE,
)
FILE_NAME = re.compile(r"\S+\.(?:docx?|dvi|html?|indd|od[pst]|pdf|pptx?|tex|xlsx?)", re.IGNORECASE)
ANY_FOLDER = frozenset(
    "content contents data doc docs documentation documents files html pages src text texts".split()
)
# names that machines give: numbers, hashes, UUIDs
IDENTIFIER = re.compile(r"\d+|(?=.*\d)[0-9a-fA-F]{8,}")
ENDINGS = re.compile(r"(?:\.(?:tar|zip|gz|bz2|xz|zst|tgz))+$", re.IGNORECASE)  # of archives


class Unreadable(ValueError):  # noqa: N818
    """Say why a file gave no document: one of `REASONS`, and a sentence with the details."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def fault_of(error: Exception) -> tuple[str, str]:
    """Return the reason and the details of a file that could not be read.

    Raises:
        OSError: it was one, which may be of the disk and not of the file.
    """
    if isinstance(error, Unreadable):
        return error.reason, error.detail
    if isinstance(error, OSError):
        raise error
    if isinstance(error, ValueError):  # says what is wrong with the file or with the config
        return "broken", str(error)
    if isinstance(error, RecursionError):
        return "broken", "it is nested too deeply"
    # a library's own error: its text may hold the file's words
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return "broken", f"the library that reads it failed ({kind})"


@dataclass(frozen=True)
class Source:
    """Name a file, or a member of an archive, and give its bytes.

    A reader looks at `name`, and takes the bytes from `open` or `read`, never from the name.
    """

    name: str  # the path below the corpus folder, with slashes; an archive's members come below it
    path: Path | None = None  # where the bytes lie on the disk,
    data: bytes | None = None  # or the bytes themselves
    shown: str = ""  # names it in messages in the place of its path, which may be a passing copy's

    @property
    def suffix(self) -> str:
        """Return the last suffix of the name, in lower case."""
        return Path(self.name).suffix.lower()

    @property
    def where(self) -> str:
        """Return the words that name the file in a message."""
        return self.shown or str(self.path or self.name)

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.path.stat().st_size if self.path is not None else len(self.data or b"")

    def open(self) -> BinaryIO:
        """Return a binary stream that can seek, at its start."""
        if self.path is not None:
            return self.path.open("rb")
        return io.BytesIO(self.data or b"")

    def read(self) -> bytes:
        """Return all bytes.

        Raises:
            Unreadable: there are more than `MAX_BYTES`.
        """
        with self.open() as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise Unreadable("too large", f"more than {MAX_BYTES >> 20} MiB; split the file")
        return data


def source_of(path: Path, config: CorpusConfig) -> Source:
    """Return the source of a file of the corpus folder."""
    return Source(document_name(path, config), path)


@dataclass(frozen=True)
class Block:
    """Hold a part of a document's text that is split in its own way.

    Prose is split between sentences, code between its lines only, and a table between its rows,
    with its header repeated.
    """

    start: int  # characters of the document's text
    end: int
    kind: Kind = "prose"
    section: tuple[str, ...] = ()  # the headings that it stands under, the outermost first
    header: int = 0  # of a table: so many of its first lines name the columns


@dataclass(frozen=True)
class Document:
    """Hold the plain text of a file, or of one record of a file."""

    id: str  # the path below the corpus folder; for one record, followed by its id or number
    title: str
    text: str  # one block after the other, each on lines of its own
    # in order, with nothing but blanks between them; without any, each line is a block of prose
    blocks: tuple[Block, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)  # author, date, language and such
    warnings: tuple[str, ...] = ()  # what was left out or changed, in short phrases


def document_name(path: Path, config: CorpusConfig) -> str:
    """Return the path below the corpus folder, with slashes on every system."""
    corpus = Path(config.documents).expanduser()
    folder = corpus if corpus.is_dir() else corpus.parent
    return path.relative_to(folder).as_posix()


def says_nothing(text: str) -> bool:
    """Return whether a text stands for none, as programs and people write it: "NaN", "-"."""
    bare = text.strip()
    return bare.casefold() in NOTHING or bare in ("", "-", "--", "–", "—")


def is_no_title(words: str) -> bool:
    """Return whether a title says nothing: it stands for none, or programs give it to any file."""
    plain = " ".join(re.sub(r"[\W_]+", " ", words).casefold().split())
    is_of_any = ANY_FILE.fullmatch(plain) or FILE_NAME.fullmatch(words.strip())
    is_nothing = not NOTHING.isdisjoint((plain, words.strip().casefold()))
    is_hash = HASH.fullmatch(words.strip().replace(" ", "-"))
    return not plain or is_nothing or is_of_any is not None or is_hash is not None


def _unescaped(part: str) -> str:
    """Return a name without the escapes of an address, with which programs save pages.

    Those of a slash, a line break or another control character stay.
    """
    with suppress(UnicodeDecodeError):
        plain = unquote(part, errors="strict")
        if not re.search(r"[/\x00-\x1f\x7f]", plain):
            return plain
    return part


def title_from_name(name: str) -> str:
    """Return a title made of a file's name: `old_harbour.txt` gives "Old Harbour".

    That of a file with a name as `index` or `README` is made of the nearest folder with a name
    that says something. It is empty where there is none.
    """
    parts = tuple(map(_unescaped, PurePosixPath(name).parts))
    for number, part in enumerate(reversed(parts)):
        if number and part.casefold() in ANY_FOLDER:
            continue
        words = re.sub(r"[_-]+", " ", ENDINGS.sub("", part) if number else Path(part).stem).strip()
        if not is_no_title(words) and not IDENTIFIER.fullmatch(words.replace(" ", "")):
            return words.title()
    return ""
