"""Say errors of the machine in words, and tell errors meant for users from mistakes of ours.

Statuses: 0 done, 1 a refusal in words or an error of ours with its traceback, 2 a wrong command
line, 74 an error of the machine, 75 stopped on request, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import dis
import errno
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from pdtrain.files.durable import machine_error

FAILED = 1
MACHINE = 74  # the disk is full, a folder cannot be written to: mend that, and start again
SAVED = 75  # temporary failure, as schedulers know it: start again
INTERRUPTED = 130

FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
WHAT = {
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
    errno.EROFS: "this file system is read-only",
    errno.ENOENT: "it is missing, or nothing can be made there",
    errno.ENOTDIR: "a file stands where a folder belongs",
    errno.EEXIST: "something else stands where a folder belongs",
    errno.EISDIR: "a folder stands where a file belongs",
    errno.EIO: "the disk or the network to it fails",
    errno.ESTALE: "the server of this file system has lost it",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EPIPE: "nobody reads the output any more",
}
WHAT |= dict.fromkeys(FULL, "the disk is full")
WHAT |= dict.fromkeys(DENIED - {errno.EROFS}, "it may not be read or written by this user")
WHAT |= dict.fromkeys(NO_LOCKS, "this file system knows no locks")
BYTES = re.compile(r"[\udc80-\udcff]")  # what Python makes of bytes in a name that are not UTF-8
# part of a path, and the variable that moves the cache which it belongs to
CACHES = (
    ("huggingface", "HF_HOME"),
    ("triton", "TRITON_CACHE_DIR"),
    ("inductor", "TORCHINDUCTOR_CACHE_DIR"),
    ("torch_extensions", "TORCH_EXTENSIONS_DIR"),
    ("matplotlib", "MPLCONFIGDIR"),
    (".cache", "XDG_CACHE_HOME"),
)


def how_to_install(extra: str) -> str:
    """Say where and by which command an extra of pdtrain is installed, such as `documents`.

    The command does not name the package, for package indexes have another project of this name.
    """
    return f"in the clone of pdtrain, `pip install -e '.[{extra}]'`"


def is_for_user(error: ValueError) -> bool:
    """Tell whether an error was raised by a line of this package that says `raise`.

    Such a message is written for the user. A ValueError out of a library, or out of a built-in
    function, is a mistake of ours, and its traceback is wanted.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return True
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    instruction = dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]]
    return module.partition(".")[0] in ("pdtrain", "__main__") and instruction == "RAISE_VARARGS"


def in_words(error: BaseException, out_dir: str = "") -> str | None:
    """Return a line for the user about an error of the machine; None for other errors.

    It has the path, what is wrong, what is safe, and what to do. No text of a document or of a
    question is in it.

    Args:
        out_dir: the run folder, where it is known.
    """
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return _not_utf8(error, out_dir)
    found = machine_error(error)
    if found is None or found.errno is None:
        return None
    path = found.filename
    name = os.fsdecode(path) if isinstance(path, str | bytes) else f"a file below {out_dir or '.'}"
    second = f" → {found.filename2}" if isinstance(found.filename2, str) else ""
    reason = os.strerror(found.errno)
    what = WHAT.get(found.errno)
    said = f"{what} ({reason})" if what else reason
    return (
        f"{name!a}"[1:-1] + f"{second}: {said}. What was finished before is kept; "
        f"{_remedy(found.errno, name, out_dir)}, and run the same command again"
    )


def _not_utf8(error: UnicodeEncodeError, out_dir: str) -> str:
    """Say that a name or a text cannot be written; what is not known to be a name is not shown."""
    name = out_dir if BYTES.search(out_dir) else _name_at(error.object, error.start)
    if name:
        return (
            f"a name is not UTF-8: {name!a}; rename it, for example by `convmv -f LATIN1 "
            "-t UTF-8 --notest`, and run the same command again"
        )
    return (
        "a text holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character, or "
        "is a name that is not UTF-8; correct it, and run the same command again"
    )


def _name_at(text: str, at: int) -> str:
    """Return the path of this machine that a text holds at a byte which is not UTF-8, or nothing.

    The path ends with the folder or file whose name has that byte.
    """
    if not BYTES.match(text[at]):
        return ""
    rest = re.search(r"[/\"'\n]", text[at:])
    end = at + rest.start() if rest else len(text)
    starts = (max(text.rfind(mark, 0, at) for mark in marks) + 1 for marks in ("\"'\n", " "))
    return next((text[start:end] for start in starts if os.path.lexists(text[start:end])), "")


def _remedy(number: int, path: str, out_dir: str) -> str:
    elsewhere = f"set {_setting(path, out_dir)} to another folder"
    if number in FULL:
        return f"make room there, or {elsewhere}"
    if number in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return f"move it away, or {elsewhere}"
    if number in (errno.EMFILE, errno.ENFILE, errno.EFBIG):
        return "raise that limit"
    if number in DENIED | NO_LOCKS | {errno.ENOENT}:
        return f"put that right, or {elsewhere}"
    return "put that right"


def _setting(path: str, out_dir: str) -> str:
    """Return the knob or variable that says where this path lies."""
    if out_dir and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(out_dir)):
        return "out_dir"
    for part, variable in CACHES:
        if part in path:
            return f"the variable {variable}"
    with suppress(OSError):  # where the disk of all temporary folders is full, there is none
        if Path(path).is_relative_to(tempfile.gettempdir()):
            return "the variable TMPDIR"
    return "out_dir"
