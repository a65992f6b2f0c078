"""Share the files of a corpus among the ranks of a launcher, which meet in the run folder alone.

Every rank reads, into parts of its own, the files of its share of which nothing was read before.
The first rank also looks into those that may have changed since, and waits until all are there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pdtrain.documents.ingest import parts
from pdtrain.documents.ingest.listing import CorpusFile
from pdtrain.documents.ingest.parts import Finished
from pdtrain.documents.ingest.workers import Crash, Request, Result
from pdtrain.processes.interrupt import end_if_asked
from pdtrain.processes.shares import POLL_SECONDS, Share
from pdtrain.progress import say
from pdtrain.storage import hash_json

SECONDS_BETWEEN_LINES = 60.0


def hash_of(files: Sequence[CorpusFile]) -> str:
    """Return the hash of the list of files, which is the same on all ranks."""
    return hash_json([[file.name, file.size] for file in files])


def own(requests: Iterable[Request], files: Sequence[CorpusFile], share: Share) -> list[Request]:
    """Return the requests that are this rank's.

    Args:
        requests: files that are new or changed.
        files: all of the corpus, in order.
    """
    names = set(share.of([file.name for file in files]))
    return [
        request
        for request in requests
        if (share.leads if request.known else request.file.name in names)
    ]


def of_followers(
    requests: Sequence[Request],
    folder: Path,
    settings: str,
    share: Share,
    stop_file: Path | None = None,
) -> Iterator[tuple[CorpusFile, Result]]:
    """Yield the files that other ranks read, as they come, with what ended a process over one.

    Args:
        requests: the files that are waited for.
        folder: of the stage.
        settings: the hash by which parts are known.
        stop_file: the run's, which the other ranks look for as well.

    Raises:
        Stopped: the stop file is there.
    """
    left = {request.file.name: request.file for request in requests}
    watch = _Watch(folder / "files", settings)
    told_at = time.monotonic()
    while left:
        started = time.monotonic()
        # what failed is reported after all that was read, so it is looked for first
        failed = share.reported(folder)
        found: dict[str, Result] = {name: Crash(why) for name, why in failed.items()}
        found |= watch.new()
        for name in [name for name in left if name in found]:
            yield left.pop(name), found[name]
        if left:
            end_if_asked(stop_file, f"passages: {len(left)} files left to other processes")
        if left and time.monotonic() - told_at > SECONDS_BETWEEN_LINES:
            told_at = time.monotonic()
            say(f"passages: waiting for {len(left)} files of {share.size - 1} other processes")
        if left:
            time.sleep(POLL_SECONDS + 2 * (time.monotonic() - started))


class _Watch:
    """Read the lines about files that others append to parts."""

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder, self._settings = folder, settings
        _, self._read = parts.read_index(folder, settings)  # bytes that were looked through

    def new(self) -> dict[str, Finished]:
        """Return the files that were added since the last call, by name."""
        found: dict[str, Finished] = {}
        for path in self._folder.glob("*.part"):
            for name, one in parts.scan(path, self._settings, self._read.get(path.name, 0)):
                found[name] = one
                self._read[path.name] = one.start + one.num_bytes
        return found
