"""Remove the shared memory that DeepSpeed's ranks on CPUs leave in `/dev/shm`.

DeepSpeed gives each rank a buffer of 69 MB there and never removes it, not even at an orderly end:
it is memory of the machine, and after a hundred runs the machine has none left. A name can go as
soon as the ranks have opened one another's buffers; the memory itself goes with the last process.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")
NAME = "deepspeed_allreduce_buffer"  # csrc/cpu/comm/shm.cpp: then user, address, port and rank
SECONDS_OF_BEGINNING = 600.0  # in which ranks may not have opened one another's buffers yet


def remove_own(rank: int, folder: Path = FOLDER) -> None:
    """Remove this rank's buffer, at the end of its work."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if hasattr(os, "getuid"):
        with suppress(OSError):
            (folder / f"{NAME}_{os.getuid()}_{address}_{port}_{rank}").unlink(missing_ok=True)


def sweep(folder: Path = FOLDER) -> int:
    """Remove the buffers of this user's ranks that were killed; return how many there were.

    A buffer that a process still has open keeps its memory; one that is young keeps its name too.
    """
    removed = 0
    if not hasattr(os, "getuid") or not folder.is_dir():
        return removed
    for path in folder.glob(f"{NAME}_{os.getuid()}_*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > SECONDS_OF_BEGINNING:
                path.unlink()
                removed += 1
    return removed
