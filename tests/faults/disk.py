"""Watch what a run writes, and say what a disk would hold had the power gone at any moment.

A disk keeps what was flushed: a file's content as of its last fsync, and a folder's list of names
as of its own. `Disk` follows both for everything below one folder, without tracing single writes:
at each flush it takes the content that the file has then, whoever wrote it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

State = dict[str, str | None]  # of each path below the folder the hash of its content; None: folder
WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
EMPTY = hashlib.sha256(b"").hexdigest()


class Disk:
    """Follow what is on the disk of everything below a folder.

    Args:
        root: the folder; it need not be there yet.
        store: where contents are kept, by their hashes.
    """

    def __init__(self, root: Path, store: Path) -> None:
        self.root, self.store = Path(os.path.abspath(root)), store
        store.mkdir(parents=True, exist_ok=True)
        self.flushed: dict[int, str] = {}  # content by inode
        self.names: dict[int, dict[str, int]] = {}  # a folder's flushed names, each with its inode
        self.folders: set[int] = set()
        self.top: int | None = None  # the root's inode, once its own name was flushed
        self._held: dict[int, int] = {}  # open files, or their inodes would be given to others

    def flush(self, handle: int) -> None:
        """Take note of an fsync."""
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        inode = self._hold(path)
        if path == self.root.parent and self.root.is_dir():
            self.top = self.root.stat().st_ino
            self.folders.add(self.top)
        elif path == self.root or path.is_relative_to(self.root):
            if path.is_dir():
                found = {entry.name: entry for entry in os.scandir(path)}
                self.names[inode] = {name: entry.inode() for name, entry in found.items()}
                for entry in found.values():
                    if entry.is_dir():
                        self.folders.add(entry.inode())
                        with suppress(FileNotFoundError):  # another thread has just renamed it
                            self._hold(Path(entry))
            else:
                self.flushed[inode] = self._keep(path)

    def _hold(self, path: Path) -> int:
        """Return the inode of a path, which stays its own from now on."""
        inode = path.stat().st_ino
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)
        return inode

    def lost_all(self) -> State:
        """Return what is there if all that was not flushed is lost, names too."""

        def below(folder: int, at: str) -> Iterator[tuple[str, str | None]]:
            for name, inode in self.names.get(folder, {}).items():
                if inode in self.folders:
                    yield f"{at}{name}", None
                    yield from below(inode, f"{at}{name}/")
                else:
                    yield f"{at}{name}", self.flushed.get(inode, EMPTY)

        return {} if self.top is None else {".": None, **dict(below(self.top, ""))}

    def lost_content(self) -> State:
        """Return what is there if names reached the disk at once, and contents when flushed."""
        return self._state(lambda path: self.flushed.get(path.stat().st_ino, EMPTY))

    def kept(self) -> State:
        """Return what is there after a kill, which loses nothing that was written."""
        return self._state(self._keep)

    def _state(self, content: Callable[[Path], str]) -> State:
        found: State = {}
        for name, path in self._all():
            with suppress(FileNotFoundError):  # another thread has just renamed or removed it
                found[name] = None if path.is_dir() else content(path)
        return found

    def _all(self) -> list[tuple[str, Path]]:
        if not self.root.is_dir():
            return []
        found = [  # unlike rglob, walk passes over a folder that another thread has just renamed
            Path(parent, name)
            for parent, folders, files in os.walk(self.root)
            for name in (*folders, *files)
        ]
        return [(".", self.root)] + [
            (str(path.relative_to(self.root)), path) for path in sorted(found)
        ]

    def _keep(self, path: Path) -> str:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if not (self.store / digest).exists():
            (self.store / digest).write_bytes(data)
        return digest

    def write(self, state: State, folder: Path) -> None:
        """Write a state as a folder."""
        shutil.rmtree(folder, ignore_errors=True)
        for name, digest in state.items():
            path = folder / name
            if digest is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"" if digest == EMPTY else (self.store / digest).read_bytes())


@contextmanager
def watched(root: Path, act: Callable[[int | None], None]) -> Iterator[None]:
    """Call `act` at every operation on files below a folder, once in a process.

    Before an fsync it is called with None, and after it with the handle; before any other
    operation, with None.
    """
    inside, lock, at = threading.local(), threading.Lock(), os.path.abspath(root)
    real = os.fsync

    def call(handle: int | None) -> None:
        if getattr(inside, "now", False):
            return
        inside.now = True
        try:
            with lock:  # a checkpoint is written in a thread
                act(handle)
        finally:
            inside.now = False

    def fsync(handle: int) -> None:
        handle = handle if isinstance(handle, int) else handle.fileno()
        call(None)
        real(handle)
        call(handle)

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event not in WATCHED or getattr(inside, "now", False):
            return
        path = args[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        flags = args[2] if event == "open" else os.O_WRONLY
        if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            return
        if os.path.abspath(os.fsdecode(path)).startswith(at):
            call(None)

    os.fsync = fsync
    sys.addaudithook(hook)  # it cannot be taken away again
    yield
    os.fsync = real
