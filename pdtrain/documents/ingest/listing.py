"""List the files of a corpus: folders, files and globs, with what is left out and why."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from pdtrain.config import CorpusConfig
from pdtrain.documents.ingest.remote import files_at, is_address, shown_address
from pdtrain.documents.library import NAMED, is_readable
from pdtrain.documents.records.streams import is_stream, streams_of

MAGIC = "*?["
SUFFIXES_SHOWN = 12
MOST_FOLDERS = 200  # inside one another
CONFIG = "config.yaml"  # in a run folder
OF_A_RUN = re.compile(r"^(corpus|answers|out_dir):", re.MULTILINE)  # some keys of such a config
LEAVES = "a link that leaves the folder; corpus.links_outside=true follows it"


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """Hold a file of the corpus and what tells whether it has changed since it was read."""

    name: str  # the path below the corpus folder, with slashes
    path: str
    size: int  # bytes
    mtime_ns: int


@dataclass
class Listing:
    """Hold the files of a corpus in order, and by name why others are left out."""

    files: list[CorpusFile] = field(default_factory=list)
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)  # reason and detail


def list_files(config: CorpusConfig, own: Sequence[str] = ()) -> Listing:
    """Return the files of the corpus that have a reader, sorted by their names' parts.

    Hidden files and folders are passed over in silence, and run folders are left out.

    Args:
        config: the knobs.
        own: paths of the run's own files, which are no documents wherever they lie.

    Raises:
        ValueError: `corpus.documents` is not set, one of its entries does not exist, or is a run
            folder.
    """
    entries = entries_of(config)
    if not entries:
        raise ValueError("corpus.documents is not set; give a folder of documents, or one file")
    root = root_of(config)
    listing = Listing()
    paths = [entry for entry in entries if not is_address(entry)]
    real = [os.path.realpath(base) for base in map(_base, paths)]
    found: dict[str, CorpusFile] = {}
    mine = {os.path.realpath(os.path.expanduser(path)) for path in own if path}
    for entry in entries:
        walk = _Walk(root, real, config, listing, mine)
        if is_address(entry):
            for file in _at_address(entry, walk, len(entries) > 1):
                found[file.name] = file
            continue
        if walk.is_run(entry):
            raise ValueError(
                f"corpus.documents={entry!r} is a run folder by its {CONFIG}, and what a run wrote "
                "is no document; give the folder of the documents, and set out_dir to another one "
                "(delete that file if documents lie there)"
            )
        for path in _expand(entry):
            if path != entry and not _stays_inside(path, _base(entry), walk):
                continue
            for file in _walk(path, walk):
                before = found.get(file.name)
                if before and before.path != file.path:  # they differ in bytes that are no text
                    file = replace(file, name=walk.name(file.path, "backslashreplace"))
                found[file.name] = file
    listing.files = [found[name] for name in sorted(found, key=lambda name: name.split("/"))]
    return listing


def _at_address(entry: str, walk: _Walk, is_one_of_many: bool) -> Iterator[CorpusFile]:
    """Yield the files at an address; of several entries, the names begin with their folder's."""
    if is_stream(entry):
        for file in streams_of(entry):
            yield CorpusFile(*file)
        return
    folder = shown_address(entry).partition("://")[2].rstrip("/").replace("*", "_")
    for below, address, size, version in files_at(entry):
        name = f"{folder}/{below}" if is_one_of_many else below
        if any(part.startswith(".") for part in below.split("/")):
            continue
        if walk.excludes(name):
            walk.listing.left_out[name] = ("excluded", "a pattern of corpus.exclude fits it")
        elif not is_readable(name):
            walk.listing.left_out[name] = ("no reader", "a file of another kind")
        else:
            yield CorpusFile(name, address, size, version)


def document_paths(config: CorpusConfig) -> list[Path]:
    """Return the paths of the corpus's files that have a reader, in order.

    Raises:
        ValueError: as `list_files`, or there is no document.
    """
    return [Path(file.path) for file in refuse_empty(list_files(config), config).files]


def refuse_empty(listing: Listing, config: CorpusConfig) -> Listing:
    """Return the listing.

    Raises:
        ValueError: it has no file; the message names what was left out.
    """
    if listing.files:
        return listing
    named = "".join(f"; {name}: {why[1]}" for name, why in sorted(listing.left_out.items())[:20])
    raise ValueError(
        f"corpus.documents={shown(config)} holds no document; expected files ending in "
        f"{NAMED} and others{named}"
    )


def shown(config: CorpusConfig) -> str:
    """Return the words that name the corpus in a message."""
    return ", ".join(repr(shown_address(entry)) for entry in entries_of(config))


def entries_of(config: CorpusConfig) -> list[str]:
    """Return the entries of `corpus.documents`, which is a text or a list of texts."""
    given = config.documents
    entries = [given] if isinstance(given, str) else list(given)
    return [e if is_address(e) else os.path.expanduser(e) for e in entries if e]


def root_of(config: CorpusConfig) -> str:
    """Return the folder that names are relative to: the one above all paths of the corpus."""
    paths = [entry for entry in entries_of(config) if not is_address(entry)]
    return os.path.commonpath([os.path.abspath(_base(path)) for path in paths]) if paths else ""


def _base(entry: str) -> str:
    """Return the folder that an entry is, or that its file or glob stands in."""
    if not os.path.exists(entry) and any(sign in entry for sign in MAGIC):
        parts = Path(entry).parts
        first = next(i for i, part in enumerate(parts) if any(sign in part for sign in MAGIC))
        return str(Path(*parts[:first])) if first else "."
    return entry if os.path.isdir(entry) else os.path.dirname(entry) or "."


def _expand(entry: str) -> list[str]:
    """Return the paths that an entry stands for; what a pattern finds is walked to by its folders.

    Raises:
        ValueError: there are none.
    """
    if os.path.exists(entry):
        return [entry]
    found = sorted(glob.glob(entry, recursive=True)) if any(s in entry for s in MAGIC) else []
    if not found:
        raise ValueError(
            f"corpus.documents={entry!r} does not exist; expected a folder with "
            f"{NAMED} and other files, one such file, a pattern such as docs/**/*.md, or a list"
        )
    return found


@dataclass(frozen=True)
class _Walk:
    """Hold what is the same in every folder of a walk."""

    root: str  # names are relative to it
    real: list[str]  # resolved folders that links may lead to
    config: CorpusConfig
    listing: Listing
    own: set[str]  # resolved paths of the run's own files
    runs: dict[str, bool] = field(default_factory=dict)  # whether a folder is a run's

    def name(self, path: str, errors: str = "replace") -> str:
        """Return the path below the root, with what is no text in it replaced."""
        name = Path(os.path.relpath(os.path.abspath(path), self.root)).as_posix()
        return os.fsencode(name).decode("utf-8", errors)  # a name need not be text

    def leave_out(self, path: str, reason: str, detail: str) -> None:
        self.listing.left_out[self.name(path)] = (reason, detail)

    def is_run(self, folder: str) -> bool:
        """Tell whether a folder is a run's; each is looked at once, as patterns find many files."""
        if folder not in self.runs:
            self.runs[folder] = _is_run_folder(folder)
        return self.runs[folder]

    def is_excluded(self, path: str) -> bool:
        """Tell whether a pattern of `corpus.exclude` fits the name or a folder above it."""
        return self.excludes(self.name(path))

    def excludes(self, name: str) -> bool:
        """Tell it of a name below the corpus folder."""
        parts = name.split("/")
        heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        return any(
            fnmatchcase(text, pattern.rstrip("/"))
            for pattern in self.config.exclude
            for text in [*heads, *parts]
        )


def _walk(path: str, walk: _Walk, above: tuple[str, ...] = ()) -> Iterator[CorpusFile]:
    """Yield the files at or below a path.

    Args:
        above: the resolved folders that the walk has come through, to notice a circle of links.
    """
    if walk.is_excluded(path):
        walk.leave_out(path, "excluded", "a pattern of corpus.exclude fits it")
        return
    real = os.path.realpath(path)
    if os.path.islink(path) and above and not _may_follow(path, real, walk, above):
        return
    if real in walk.own:
        walk.leave_out(path, "excluded", "the run's own config or held-out questions")
        return
    if os.path.isdir(path):
        if walk.is_run(path):
            walk.leave_out(path, "excluded", "the folder of a run")
            return
        if len(above) >= MOST_FOLDERS:
            walk.leave_out(path, "broken", f"a folder inside more than {MOST_FOLDERS} others")
            return
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            walk.leave_out(path, "broken", f"the folder cannot be listed ({error.strerror})")
            return
        for name in names:
            if not name.startswith("."):
                yield from _walk(os.path.join(path, name), walk, (*above, real))
        return
    try:
        stat = os.stat(path)
    except OSError as error:
        walk.leave_out(path, "broken", f"the file cannot be looked at ({error.strerror})")
        return
    if not os.path.isfile(path):  # to open a pipe would wait for whoever writes to it
        walk.leave_out(path, "no reader", "a device, socket or pipe")
        return
    if not is_readable(path):
        walk.leave_out(path, "no reader", "a file of another kind")
        return
    yield CorpusFile(walk.name(path), path, stat.st_size, stat.st_mtime_ns)


def _is_run_folder(path: str) -> bool:
    """Tell whether a folder is one that runs write into, by its config."""
    try:
        text = Path(path, CONFIG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return len(set(OF_A_RUN.findall(text))) == 3


def _stays_inside(path: str, base: str, walk: _Walk) -> bool:
    """Tell whether what a pattern found is used, and note why not.

    A link may lead to it, or it may lie in a run folder.
    """
    for folder in Path(path).parents:
        if Path(base) not in folder.parents:
            break
        if walk.is_run(str(folder)):
            walk.leave_out(str(folder), "excluded", "the folder of a run")
            return False
    real, inside = os.path.realpath(path), os.path.realpath(base)
    is_inside = any(os.path.commonpath([real, one]) == one for one in (inside, *walk.real))
    if not is_inside and not walk.config.links_outside:
        walk.leave_out(path, "link", LEAVES)
        return False
    return True


def _may_follow(path: str, real: str, walk: _Walk, above: tuple[str, ...]) -> bool:
    """Tell whether a link is followed, and note why not."""
    if not os.path.exists(real):
        walk.leave_out(path, "broken", "a link that leads nowhere")
    elif real in above:
        walk.leave_out(path, "link", "a link to a folder that it stands in")
    elif not walk.config.links_outside and not any(
        os.path.commonpath([real, folder]) == folder for folder in walk.real
    ):
        walk.leave_out(path, "link", LEAVES)
    else:
        return True
    return False


def left_out_line(listing: Listing) -> str:
    """Return one line that names the kinds of files without a reader; empty if there are none."""
    names = [name for name, (reason, _) in listing.left_out.items() if reason == "no reader"]
    kinds = sorted({Path(name).suffix or Path(name).name for name in names})
    if not kinds:
        return ""
    more = f" and {len(kinds) - SUFFIXES_SHOWN} more" if len(kinds) > SUFFIXES_SHOWN else ""
    return (
        f"passages: left out {len(names)} files that are not documents: "
        f"{' '.join(kinds[:SUFFIXES_SHOWN])}{more}"
    )
