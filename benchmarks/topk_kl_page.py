"""Write the page of the top-k KL's benchmark by one command, on a machine that does nothing else.

    python benchmarks/topk_kl_page.py --run runs/real-wiki --out benchmarks/results/topk_kl_NAME.md
    python benchmarks/topk_kl_page.py --passages new_wiki.jsonl --out …

It runs benchmarks/topk_kl.py with 1 and 2 threads, each with idle cores and with one core kept busy
by another process, and puts the tables one below the other. In each table every variant takes its
turn in every round, and every baseline is there with PyTorch's own products and with oneDNN's: like
is to be compared with like. Each part takes some minutes; --threads and --cores choose parts, and
those that the page has already stay as they are.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TITLE = "# The top-k KL on this machine"
STATES = {"idle": "idle cores", "busy": "one core busy with another process"}
BENCHMARK = Path(__file__).with_name("topk_kl.py")
BUSY = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the page, Markdown")
    parser.add_argument("--run", type=Path, help="a run of the embedded model: its answers' rows")
    parser.add_argument("--passages", type=Path, help="JSONL with a field passage: rows of these")
    parser.add_argument("--shapes", nargs="+", default=["1024,576,49152,64"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--cores", nargs="+", default=list(STATES), choices=list(STATES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    parts = parts_of(options.out)
    for threads in options.threads:
        for state in options.cores:
            with busy_core(state == "busy"):
                found = measured(options, threads)
            parts[f"{threads} thread{'s' * (threads > 1)}, {STATES[state]}"] = found
            options.out.write_text(page(parts))  # so that an interruption loses one part
    print(f"wrote {options.out}")


def parts_of(out: Path) -> dict[str, str]:
    """Return the parts of a page by their headings; none where there is no page yet."""
    if not out.exists():
        return {}
    parts = out.read_text().split("\n# ")[1:]
    return {head: text.strip("\n") for head, text in (part.split("\n", 1) for part in parts)}


def page(parts: dict[str, str]) -> str:
    """Return the page, parts by heading."""
    text = "".join(f"\n# {head}\n\n{part.strip()}\n" for head, part in sorted(parts.items()))
    return f"{TITLE}\n{text}"


def measured(options: argparse.Namespace, threads: int) -> str:
    """Return the tables of one call of the benchmark."""
    command = [sys.executable, str(BENCHMARK), "--shapes", *options.shapes]
    command += ["--threads", str(threads), "--rounds", str(options.rounds), "--like-for-like"]
    if options.run:
        command += ["--run", str(options.run)]
    if options.passages:
        command += ["--passages", str(options.passages)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def busy_core(is_busy: bool) -> Iterator[None]:
    """Keep the first core busy inside the block."""
    if not is_busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
