"""MB/s and peak memory of the stage `passages` over real text, by its size and by processes.

    python benchmarks/ingest.py --folder FOLDER --times 1 4 --workers 1
    python benchmarks/ingest.py --folder FOLDER --times 1 4 16 --workers 2

The text is what this machine has: documentation trees, Python's library and its packages, as .html,
.txt, .md, .rst and .py files, without those that are no UTF-8 text. Each copy of a file says which
copy it is, so that none is a duplicate, and a copy is read as any other file. The stage runs as a
user would start it. "Peak" is the highest VmHWM of any of its processes, which are
sampled every 20 ms; "MB" are 10^6 bytes of files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MB = 1e6
SOURCES = ("/usr/share/doc", "/usr/lib/python3.11", "/usr/lib/python3")
SUFFIXES = {".html", ".htm", ".txt", ".md", ".rst", ".py"}
LARGEST = 4_000_000  # bytes of one file
FILES_A_FOLDER = 1000


def real_files(sources: list[str]) -> Iterator[Path]:
    """Yield the text files of some folders, in order, links left out."""
    for source in sources:
        for path in sorted(Path(source).rglob("*")):
            is_file = path.suffix in SUFFIXES and path.is_file() and not path.is_symlink()
            if is_file and 200 < path.stat().st_size <= LARGEST:
                yield path


def write_corpus(folder: Path, megabytes: float, sources: list[str]) -> int:
    """Write so many MB of copies, and return how many files they are; nothing if they are there.

    The files of one copy follow each other, so that every size holds all kinds of files from the
    first whole copy on.
    """
    done = folder / "done.json"
    if done.exists():
        return int(json.loads(done.read_text())["files"])
    files = [(path, path.read_bytes()) for path in real_files(sources)]
    files = [(path, data) for path, data in files if _is_utf8(data)]
    written = count = copy = 0
    while written < megabytes * MB:
        for path, data in files:
            if written >= megabytes * MB:
                break
            place = folder / f"docs/{count // FILES_A_FOLDER}/{count}{path.suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            content = _copy(path, data, copy)
            place.write_bytes(content)
            written, count = written + len(content), count + 1
        copy += 1
    done.write_text(json.dumps({"files": count, "bytes": written, "copies": copy}))
    return count


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _copy(path: Path, data: bytes, number: int) -> bytes:
    """Return a file's bytes with a sentence that makes the copy another document."""
    said = f"This is copy {number} of {path.name}."
    if path.suffix in (".html", ".htm"):
        return data.replace(b"</body>", f"<p>{said}</p></body>".encode())
    return f"# {said}\n\n".encode() + data


def run(folder: Path, workers: int, timeout: float) -> dict[str, Any]:
    """Run the stage over a corpus, and return what it took."""
    config = folder / f"ingest{workers}.yaml"
    out = folder / f"run{workers}"
    shutil.rmtree(out, ignore_errors=True)
    config.write_text(f"corpus: {{documents: docs, workers: {workers}}}\nout_dir: {out}\n")
    command = [sys.executable, "-P", "-m", "pdtrain", "-q", "passages", str(config)]
    before = os.times()
    started = time.monotonic()
    process = subprocess.Popen(command)
    peaks: dict[str, float] = {}
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peaks, stop))
    sampler.start()
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        stop.set()
        sampler.join()
    seconds = time.monotonic() - started
    after = os.times()
    if status:
        raise SystemExit(f"the stage ended with status {status}")
    report = json.loads((out / "passages/report.json").read_text())["summary"]["files"]
    manifest = json.loads((out / "passages/manifest.json").read_text())
    size = json.loads((folder / "done.json").read_text())["bytes"] / MB
    cpu = sum(after[2:4]) - sum(before[2:4])
    shutil.rmtree(out)
    return {
        "MB": round(size),
        "files": sum(report.values()),
        "kept": sum(n for state, n in report.items() if state.startswith("kept")),
        "passages": manifest["num_records"],
        "workers": workers,
        "seconds": round(seconds, 1),
        "CPU seconds": round(cpu, 1),
        "MB/s": round(size / seconds, 2),
        "MB/s a core": round(size / cpu, 2),
        **{f"peak MB, {role}": round(peak) for role, peak in sorted(peaks.items())},
    }


def _sample(pid: int, peaks: dict[str, float], stop: threading.Event) -> None:
    """Keep the highest memory of a process and its children, by what they do."""
    while not stop.wait(0.02):
        for one in [pid, *_children(pid)]:
            try:
                command = Path(f"/proc/{one}/cmdline").read_text()
                status = Path(f"/proc/{one}/status").read_text()
            except OSError:  # it has ended
                continue
            high = next((line for line in status.splitlines() if line.startswith("VmHWM")), "")
            if not high:
                continue
            role = "reading" if "ingest.worker" in command else "main"
            role = "tokenizer" if "ingest.base" in command else role
            peaks[role] = max(peaks.get(role, 0), int(high.split()[1]) * 1024 / MB)


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    """Write the corpora, run the stage over each, and print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="for corpora and runs")
    parser.add_argument("--megabytes", type=float, default=130, help="of the smallest corpus")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    parser.add_argument("--timeout", type=float, default=14400, help="seconds of one run")
    parser.add_argument("--write-only", action="store_true", help="write the corpora, run nothing")
    options = parser.parse_args()
    for times in options.times:
        folder = options.folder / f"{times}x"
        folder.mkdir(parents=True, exist_ok=True)
        write_corpus(folder, options.megabytes * times, options.sources)
        for workers in [] if options.write_only else options.workers:
            found = {"times": times} | run(folder, workers, options.timeout)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
