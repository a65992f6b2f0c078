"""Look at a folder of documents: what is in it, in which languages, and about how much."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from pdtrain.config import CorpusConfig
from pdtrain.documents.archives import COMPRESSED
from pdtrain.documents.document import Source, Unreadable
from pdtrain.documents.encoding.characters import EAST_ASIAN
from pdtrain.documents.ingest.cleaning.filters import language_of
from pdtrain.documents.ingest.listing import CorpusFile, Listing, list_files, refuse_empty
from pdtrain.documents.library import read_documents
from pdtrain.documents.records.columns import Columns, columns_in

MOST_FILES = 20  # of one kind that are read
MOST_BYTES = 32 << 20  # of one kind, and of one file, that are read
MOST_DOCUMENTS = 2000  # of one file
SECONDS = 60.0  # after which no further file is begun
# characters a token, about, for a vocabulary that knows the language
LATIN, OTHER, IDEOGRAPH = 4.0, 3.0, 1.4
ADVICE = {  # by reason
    "scan": "make their text readable first, for example with `ocrmypdf IN.pdf OUT.pdf`",
    "locked": "save them without a password",
}


@dataclass
class KindFound:
    """Hold what there is of one kind of files, and what a sample of them holds."""

    files: int = 0
    bytes: int = 0
    files_read: int = 0
    bytes_read: int = 0
    documents: int = 0  # of the sample, as all that follows
    characters: int = 0
    tokens: float = 0
    passages: int = 0
    seconds: float = 0
    languages: Counter[str] = field(default_factory=Counter)

    def of_all(self, sample: float) -> int:
        """Return about how much all files have of what the sample has so much of."""
        return round(sample * self.bytes / self.bytes_read) if self.bytes_read else 0


@dataclass
class Survey:
    """Hold what was found in a folder."""

    folder: str
    listing: Listing
    kinds: dict[str, KindFound]
    faults: dict[str, list[str]]  # names of files of the sample, by reason
    columns: dict[str, Columns]  # of a file of records of each kind, by its name

    def total(self, name: str) -> int:
        """Return the estimated sum over all files of a number of the samples."""
        return sum(kind.of_all(getattr(kind, name)) for kind in self.kinds.values())

    @property
    def seconds(self) -> float:
        """Return about how long one core reads all files."""
        return float(
            sum(k.seconds * k.bytes / k.bytes_read for k in self.kinds.values() if k.bytes_read)
        )

    @property
    def languages(self) -> Counter[str]:
        """Return about how many documents are in each language; "" for those that are not clear."""
        found: Counter[str] = Counter()
        for kind in self.kinds.values():
            for language, count in kind.languages.items():
                found[language] += max(1, kind.of_all(count))
        return found


def look(folder: Path | str, max_passage_tokens: int) -> Survey:
    """Look at a folder and read a sample of each kind of its files.

    Raises:
        ValueError: there is no such folder, or no document in it.
    """
    config = CorpusConfig(documents=str(folder))
    listing = refuse_empty(list_files(config), config)
    survey = Survey(str(folder), listing, {}, defaultdict(list), {})
    by_kind: dict[str, list[CorpusFile]] = defaultdict(list)
    for file in listing.files:
        by_kind[kind_of(file.name)].append(file)
    deadline = time.monotonic() + SECONDS
    for kind in sorted(by_kind):
        files = by_kind[kind]
        found = survey.kinds[kind] = KindFound(len(files), sum(file.size for file in files))
        columns = columns_in(Path(files[0].path))
        if columns:
            survey.columns[files[0].name] = columns
        reading = columns.config(config) if columns else config
        for file in _sample(files):
            if time.monotonic() > deadline and found.files_read:
                break
            _read(file, reading, found, survey.faults, max_passage_tokens)
    return survey


def kind_of(name: str) -> str:
    """Return the suffix of a file's name, with the one before it where it is only compressed."""
    path = PurePath(name.lower())
    return path.suffix if path.suffix not in COMPRESSED else "".join(path.suffixes[-2:])


def _sample(files: Sequence[CorpusFile]) -> Iterator[CorpusFile]:
    """Yield files that lie evenly over a list, as many as are read of one kind."""
    step = max(1, len(files) / MOST_FILES)
    held = 0
    for number in range(min(len(files), MOST_FILES)):
        file = files[math.floor(number * step)]
        if number and held + file.size > MOST_BYTES:
            continue
        held += file.size
        yield file


def _read(
    file: CorpusFile,
    config: CorpusConfig,
    found: KindFound,
    faults: dict[str, list[str]],
    max_passage_tokens: int,
) -> None:
    """Read a file, or its first documents, into what is known of its kind."""
    begun = time.monotonic()
    documents = characters = 0
    try:
        for document in read_documents(Source(file.name, Path(file.path)), config):
            tokens = tokens_of(document.text)
            documents += 1
            characters += len(document.text)
            found.tokens += tokens
            found.passages += math.ceil(tokens / max_passage_tokens)
            found.languages[language_of(document.text)] += 1
            if documents >= MOST_DOCUMENTS or characters >= MOST_BYTES:
                break
    except Unreadable as error:
        faults[error.reason].append(file.name)
    except Exception as error:  # a library's own error, whatever it is, is a finding
        faults["broken"].append(
            f"{file.name} ({error})" if isinstance(error, ValueError) else file.name
        )
    is_whole = documents < MOST_DOCUMENTS and characters < MOST_BYTES
    found.files_read += 1
    # of a file that was not read to its end, so much of its bytes as it gave text
    found.bytes_read += file.size if is_whole else min(file.size, max(characters, 1))
    found.documents += documents
    found.characters += characters
    found.seconds += time.monotonic() - begun


def tokens_of(text: str) -> float:
    """Return about how many tokens a text has, from its scripts alone."""
    ideographs = len(EAST_ASIAN.findall(text))
    plain = sum(map(str.isascii, text))
    return plain / LATIN + ideographs / IDEOGRAPH + (len(text) - plain - ideographs) / OTHER
