"""Put files and folders on the disk so that a kill or a loss of power leaves them whole or absent.

A file is written under a temporary name, flushed, renamed, and its folder flushed: only then may
another file vouch for it. The order of these steps is the whole point, so it stands here alone.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# a folder cannot be flushed on these file systems, which order its entries by themselves or never
NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}
# what a kill leaves: named by `_beside`, checkpoints, an export, and what is compared while reading
OLD = re.compile(r"\.(.+)\.\d+\.old")  # a folder that another was about to replace
LEFT_OVER = re.compile(
    r"\..+\.\d+\.(tmp|old)|\.tmp-step-\d+-\w+|\.export\.tmp|signatures\.tmp"
    r"|shard-\w+\.tmp|\d{5}-\w+\.tmp"
)


def flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in NO_FLUSH or not path.is_dir():
            raise named(error, path) from None


def flush_tree(folder: Path) -> None:
    """Flush all files and folders below a folder, and the folder itself."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            flush(Path(parent, name))
        flush(Path(parent))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before something is put into it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file to, which then takes the place of `path`.

    Readers see the old file or the new one, also after a loss of power. When this returns, the new
    one is on the disk. After an error nothing temporary is left.

    Raises:
        OSError: it cannot be written; the error names `path`, whoever wrote.
    """
    make_folder(path.parent)
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if (found := machine_error(error)) is None:
            raise
        if found.filename == str(temporary):
            found = OSError(found.errno, found.strerror)
        raise named(found, path) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text as `replacing` does."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)


def put_folder_in_place(temporary: Path, final: Path) -> None:
    """Put a folder that was built beside its final place there, whole and on the disk.

    Raises:
        NotADirectoryError: a file is in its place.
    """
    flush_tree(temporary)
    old = _beside(final, "old")
    if final.exists():
        if not final.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(final))
        final.rename(old)
    temporary.rename(final)
    flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file if it is there, so that it does not come back after a loss of power."""
    if path.is_symlink() or path.exists():
        path.unlink()
        flush(path.parent)


def sweep(folder: Path) -> list[Path]:
    """Remove what killed processes left under temporary names below a folder; return the paths.

    A folder whose successor was not yet in its place gets its name back. Nobody else may be writing
    there.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = _put_back(Path(parent), folders)
        for name in [*folders, *files]:
            if LEFT_OVER.fullmatch(name):
                path = Path(parent, name)
                found.append(path)
                if name in folders and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                    folders.remove(name)
                else:
                    path.unlink(missing_ok=True)
    return found


def _put_back(parent: Path, names: list[str]) -> list[str]:
    """Give folders of replaced names, of which nothing stands in the place, these names back.

    Args:
        names: of the folders in `parent`.

    Returns:
        The names of the folders that are there now.
    """
    found = list(names)
    old = [match for match in map(OLD.fullmatch, names) if match]
    for match in sorted(old, key=lambda one: -(parent / one[0]).lstat().st_mtime_ns):
        path, name = parent / match[0], match[1]
        if not path.is_symlink() and not os.path.lexists(parent / name):
            path.rename(parent / name)
            flush(parent)
            found[found.index(path.name)] = name
    return found


def machine_error(error: BaseException) -> OSError | None:
    """Return an error of the machine as an OSError; None for other errors.

    Libraries that are not written in Python put the number into their messages.
    """
    if isinstance(error, OSError):
        return error
    if not isinstance(error, Exception):
        return None
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return OSError(int(found[1]), os.strerror(int(found[1])))
    return None


def named(error: OSError, path: Path) -> OSError:
    """Return an error with the path that it is about, where it names none."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(path))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors of the machine the path that they are about, where they name none."""
    try:
        yield
    except OSError as error:
        raise named(error, path) from None


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{ending}")
