"""Remove locks of extension builds that a killed process left, on which PyTorch waits for ever.

PyTorch compiles an extension, such as DeepSpeed's for sums in shared memory, under a lock that is
a mere file (torch/utils/file_baton.py): whoever makes it has it open until it is removed. A killed
process cannot remove it. The locks of Triton, Inductor and the Hugging Face Hub need no such care:
the first replaces files whole, and the others' are given back by the kernel.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch.utils.cpp_extension import get_default_build_root

from pdtrain.progress import show_error

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_UNTIL_SAID = 30.0
SECONDS_OF_NO_CHANGE = 300.0  # in a folder of which another machine or container may have the lock
PROCESSES = Path("/proc")
FIRST_NAMESPACE = 0xEFFFFFFC  # the kernel's number of the one in which all processes are seen
OWN_FILE_SYSTEMS = {"overlay", "tmpfs"}  # a container's own, whose processes it sees
LOCAL_FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"}


@contextmanager
def swept_locks(root: Path | None = None) -> Iterator[None]:
    """Remove abandoned locks before the body and while it runs, and say which one is waited for.

    Args:
        root: the folder of the extensions; by default the one that PyTorch takes.
    """
    watch = _Watch(root or Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()))
    if watch.look():  # a second look, for a lock is closed a moment before it is removed
        time.sleep(SECONDS_BETWEEN_LOOKS)
        watch.look()
    over = threading.Event()

    def look_on() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            watch.look()

    thread = threading.Thread(target=look_on, name="extension locks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Watch:
    """Look at the locks below a folder again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._free: dict[tuple[Path, int], bool] = {}  # whether each lock was held at the last look
        self._since: dict[tuple[Path, int], float] = {}
        self._said: set[tuple[Path, int]] = set()

    def look(self) -> bool:
        """Remove each lock that nobody held at this look and the last; return if any is left."""
        found = {}
        for path in (*self.root.glob("*/lock"), *self.root.glob("*/*/lock")):
            with suppress(OSError):
                found[path, path.stat().st_ino] = path
        held = _held(found.keys()) if found else {}
        for lock, path in found.items():
            holder = held.get(lock)
            is_free = holder is None and (_sees_all_users(path) or _is_quiet(path.parent))
            if is_free and self._free.get(lock):
                with suppress(OSError):
                    path.unlink()
                    _say(f"removed {path}, which a killed process had left")
                continue
            self._free[lock] = is_free
            self._say_late(lock, path, holder)
        return any(path.exists() for path in found.values())

    def _say_late(self, lock: tuple[Path, int], path: Path, holder: int | None) -> None:
        since = self._since.setdefault(lock, time.monotonic())
        if time.monotonic() - since < SECONDS_UNTIL_SAID or lock in self._said:
            return
        self._said.add(lock)
        if holder is not None:
            _say(f"process {holder} compiles an extension and holds {path}; waiting for it")
        else:
            _say(
                f"waiting for {path}: somebody compiles there, or was killed while compiling; if "
                "nobody does, on no machine that shares this folder, remove the file. It is "
                f"removed once nothing there has changed for {SECONDS_OF_NO_CHANGE:.0f} s"
            )


def _say(text: str) -> None:
    # ranks that are silent otherwise say this too: one of them may wait alone
    show_error(f"pdtrain: {text}")


def _held(locks: Iterable[tuple[Path, int]]) -> dict[tuple[Path, int], int]:
    """Return which process of this machine has each lock open, of those that some process has."""
    wanted = {str(path.resolve()): (path, number) for path, number in locks}
    found: dict[tuple[Path, int], int] = {}
    for handle in PROCESSES.glob("[0-9]*/fd/*"):
        with suppress(OSError):  # of a process that has ended, or of another user
            if (lock := wanted.get(os.readlink(handle))) and handle.stat().st_ino == lock[1]:
                found[lock] = int(handle.parts[-3])
    return found


def _sees_all_users(path: Path) -> bool:
    """Return whether all processes that can hold a file are among those that this one can see."""
    try:
        kind = _file_system(path)
        sees_machine = (PROCESSES / "self/ns/pid").stat().st_ino == FIRST_NAMESPACE
    except OSError:
        return False
    return kind in OWN_FILE_SYSTEMS or (kind in LOCAL_FILE_SYSTEMS and sees_machine)


def _file_system(path: Path) -> str:
    """Return the kind of the file system that a file lies on, as the kernel names it."""
    best, kind = -1, ""
    for line in (PROCESSES / "self/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        if path.resolve().is_relative_to(place) and len(place) >= best:
            best, kind = len(place), found
    return kind


def _is_quiet(folder: Path) -> bool:
    """Return whether nothing in a folder has changed for so long that nobody compiles there."""
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return time.time() - max(times) > SECONDS_OF_NO_CHANGE
