"""Share the files of a corpus among processes of this machine.

A process that dies over a file costs that file alone: it is reported, and another process goes on.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pdtrain.documents.ingest.listing import CorpusFile
from pdtrain.documents.ingest.parts import CannotWrite, Finished
from pdtrain.documents.ingest.reading import FileReader

BYTES_A_WORKER = 4_000_000  # with less to do, a further process takes longer to start than it saves


class Request(NamedTuple):
    """Ask for a file; `known` is the hash of what was read of it before, or empty."""

    file: CorpusFile
    known: str


class Crash(NamedTuple):
    """Say how the process ended that was reading a file."""

    detail: str


Result = Finished | Crash | None  # None: the file is still what was read before


def num_workers(asked: int, requests: Sequence[Request], ranks_here: int = 1) -> int:
    """Return how many processes read the files.

    Args:
        asked: `corpus.workers`; 0 takes as many as there are cores and work for.
        requests: the files.
        ranks_here: how many ranks of a launcher share this machine's cores.
    """
    if not asked:
        cores = max(1, len(os.sched_getaffinity(0)) // ranks_here)
        asked = min(cores, sum(request.file.size for request in requests) // BYTES_A_WORKER)
    return max(1, min(asked, len(requests)))


def read_here(
    requests: Sequence[Request], reader: FileReader
) -> Iterator[tuple[CorpusFile, Result]]:
    """Read the files in this process."""
    try:
        for request in requests:
            yield request.file, reader.read(*request)
    finally:
        reader.part.close()


def read_in_processes(
    requests: Sequence[Request], setup: dict[str, Any], count: int
) -> Iterator[tuple[CorpusFile, Result]]:
    """Read the files in several processes, and yield each as it is done.

    Args:
        requests: the files; large ones are begun first, so that none is left for the end.
        setup: what `worker.main` needs to know, as JSON.
        count: how many processes.

    Raises:
        CannotWrite: the disk is full, or the folder cannot be written to.
    """
    waiting = deque(sorted(requests, key=lambda request: -request.file.size))
    pool = selectors.DefaultSelector()
    started = 0

    def start() -> None:
        nonlocal started
        worker = _Worker(setup | {"writer": f"{setup['writer']}w{started}"})
        started += 1
        pool.register(worker.output, selectors.EVENT_READ, worker)
        worker.ask(waiting.popleft())

    try:
        for _ in range(count):
            start()
        while pool.get_map():
            for key, _ in pool.select():
                worker: _Worker = key.data
                asked = worker.asked
                result = worker.answer()
                if isinstance(result, Crash) or not waiting:
                    pool.unregister(worker.output)
                    worker.close()
                else:
                    worker.ask(waiting.popleft())
                if isinstance(result, Crash) and waiting:
                    start()
                yield asked.file, result
    finally:
        for key in list(pool.get_map().values()):
            key.data.kill()
        pool.close()


@dataclass
class _Worker:
    """Hold a process that reads files, and the file that it was last asked for."""

    setup: dict[str, Any]

    def __post_init__(self) -> None:
        # -P keeps the working folder off sys.path: a file there could pass for a package
        command = [sys.executable, "-P", "-m", "pdtrain.documents.ingest.worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout
        self._input, self.output = self._process.stdin, self._process.stdout
        self._send(self.setup)

    def ask(self, request: Request) -> None:
        self.asked = request
        self._send({"file": _fields(request.file), "known": request.known})

    def answer(self) -> Result:
        """Return the answer, or the crash that came instead.

        Raises:
            CannotWrite: the process cannot write.
        """
        line = self.output.readline()
        if not line.endswith(b"\n"):
            return Crash(_end_of(self._process.wait()))
        answer = json.loads(line)
        if "error" in answer:
            raise CannotWrite(*answer["error"])
        if answer["found"] is None:
            return None
        size, mtime_ns, looked_at_ns, sha256, part, start, num_bytes = answer["found"]
        return Finished(size, mtime_ns, looked_at_ns, sha256, Path(part), start, num_bytes)

    def close(self) -> None:
        """Let the process end."""
        with suppress(OSError):  # it has ended already
            self._input.close()
        self._process.wait()
        self.output.close()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self.close()

    def _send(self, value: dict[str, Any]) -> None:
        with suppress(OSError):  # it has died, which its output will show
            self._input.write((json.dumps(value) + "\n").encode())
            self._input.flush()


def _fields(file: CorpusFile) -> list[Any]:
    return [file.name, file.path, file.size, file.mtime_ns]


def _end_of(status: int) -> str:
    """Return how a process ended, in words."""
    if status < 0:
        return f"the process that read it was ended by {signal.Signals(-status).name}"
    return f"the process that read it ended with status {status}"
