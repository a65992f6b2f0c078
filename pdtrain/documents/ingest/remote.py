"""Find and fetch documents at addresses: whatever fsspec opens, such as s3://bucket/folder.

The user's own access is used, as fsspec finds it in the environment. A file is fetched when its
turn comes, into a temporary file that goes when it was read: no copy of the corpus is made.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pdtrain.errors import how_to_install

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:::[A-Za-z][A-Za-z0-9+.-]*)*://")
MAGIC = "*?["
UNKNOWN_NS = 1 << 62  # a time in the far future: such a file is always looked into
DATES = ("mtime", "LastModified", "last_modified", "updated", "created")
TAGS = ("ETag", "etag", "md5Hash", "checksum", "blob_id", "last_commit")
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp"}
PACKAGES |= {"https": "aiohttp", "hf": "huggingface_hub", "abfs": "adlfs", "az": "adlfs"}


def is_address(entry: str) -> bool:
    """Return whether an entry of `corpus.documents` is an address, not a path."""
    return bool(ADDRESS.match(entry))


def shown_address(entry: str) -> str:
    """Return an address without what may be secret in it: user, password, query."""
    if not is_address(entry):
        return entry
    parts = urlsplit(entry)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def files_at(entry: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield the files at an address: name, address, bytes, and a number that a change changes.

    The name is the path below the address, or below the folder of a file or a pattern.

    Raises:
        ValueError: nothing is there, or a package is missing, or the user has no access.
    """
    fs, path = _open(entry)
    try:
        found = _infos(fs, path)
    except (OSError, ValueError) as error:
        raise _refused(entry, error) from None
    if not found:
        raise ValueError(f"corpus.documents: nothing is at {shown_address(entry)}")
    root = _root(fs, path, found)
    for name in sorted(found):
        info = found[name]
        below = PurePosixPath(_plain(name)).relative_to(_plain(root)).as_posix()
        address = fs.unstrip_protocol(name)
        yield below, address, int(info.get("size") or 0), _version(info)


def _infos(fs: Any, path: str) -> dict[str, Mapping[str, Any]]:
    if any(sign in path for sign in MAGIC):
        found: dict[str, Mapping[str, Any]] = fs.glob(path, detail=True)
    elif fs.isdir(path):
        found = fs.find(path, detail=True)
    else:
        found = {path: fs.info(path)}
    return {name: info for name, info in found.items() if info.get("type") != "directory"}


def _root(fs: Any, path: str, found: Mapping[str, Any]) -> str:
    """Return the folder that names are relative to."""
    if any(sign in path for sign in MAGIC):
        parts = PurePosixPath(path).parts
        first = next(i for i, part in enumerate(parts) if any(sign in part for sign in MAGIC))
        return str(PurePosixPath(*parts[:first])) if first else ""
    return str(PurePosixPath(path).parent) if [*found] == [path] else path


def _plain(path: str) -> str:
    """Return a path without a query, and without the address of a host, which some keep."""
    return urlsplit(path).path if is_address(path) else path


def _version(info: Mapping[str, Any]) -> int:
    """Return a number that is another one after the file has changed."""
    for key in DATES:
        value = info.get(key)
        if isinstance(value, int | float):
            return int(value * 1e9)
        if isinstance(value, datetime):
            return int(value.timestamp() * 1e9)
    tags = [str(info[key]) for key in TAGS if info.get(key)]
    # below any date of today, so that it is never taken for one that may not have passed yet
    return int(hashlib.sha256(repr(tags).encode()).hexdigest()[:14], 16) if tags else UNKNOWN_NS


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Give the path of a file on this machine: the path itself, or a copy that goes at the end.

    Raises:
        OSError: it cannot be fetched.
    """
    if not is_address(path):
        yield Path(path)
        return
    fs, place = _open(path)
    handle, name = tempfile.mkstemp(prefix="pdtrain-", suffix=PurePosixPath(_plain(place)).suffix)
    os.close(handle)
    try:
        try:
            fs.get_file(place, name)
        except OSError:
            raise
        except Exception as error:  # each service has errors of its own; their text may hold keys
            raise OSError(f"it could not be fetched ({type(error).__name__})") from None
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _open(entry: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(entry)
    except (ImportError, ValueError) as error:
        raise _refused(entry, error) from None
    return fs, path


def _refused(entry: str, error: Exception) -> ValueError:
    scheme = entry.partition("://")[0]
    place = shown_address(entry)
    if isinstance(error, ImportError):
        package = PACKAGES.get(scheme, f"that fsspec needs for {scheme}://")
        return ValueError(
            f"corpus.documents={place!r} needs a package: pip install {package}, or all of them by "
            f"{how_to_install('remote')}"
        )
    if isinstance(error, FileNotFoundError):
        return ValueError(f"corpus.documents: nothing is at {place}")
    return ValueError(
        f"corpus.documents: {place} cannot be listed ({type(error).__name__}); is the address "
        "right, and does this user have access?"
    )
