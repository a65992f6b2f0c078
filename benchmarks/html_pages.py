"""Look for glued cells and broken listings in what real HTML pages are read as.

    python benchmarks/html_pages.py /usr/share/doc /usr/lib/python3 --pages 2000 --seed 0

Two neighbouring cells of a table are glued where what comes out holds their texts one right after
the other. A listing counts where it is Python: the text of a `pre` that holds two lines or more and
compiles; it is whole where its lines stand one after the other in what comes out, indented alike.
What is compared with is the page's own tree, by lxml.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import resource
import textwrap
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path

from lxml import html

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Source
from pdtrain.documents.library import read_documents

SHORTEST = 3  # characters of a cell: shorter ones stand one after the other by chance
LARGEST = 2_000_000  # bytes of a page
CONFIG = CorpusConfig(documents=".")


def pages(folders: list[Path], number: int, seed: int) -> list[Path]:
    """Return a sample of the pages below some folders, links left out."""
    found = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*.htm*"))
        if path.suffix in (".html", ".htm") and path.is_file() and not path.is_symlink()
    ]
    found = [path for path in found if 500 < path.stat().st_size <= LARGEST]
    return random.Random(seed).sample(found, min(number, len(found)))


def examine(path: Path, counts: Counter[str], show: bool) -> None:
    """Count the pairs of cells and the listings of one page, and those that came out wrong."""
    try:
        text = "\n".join(one.text for one in read_documents(Source(path.name, path), CONFIG))
        tree = html.fromstring(path.read_bytes())
    except Exception as error:
        counts[f"pages that cannot be read: {type(error).__name__}"] += 1
        return
    counts["pages"] += 1
    said = Counter(text.split())
    apart = Counter(" ".join(tree.itertext()).split())  # a word that a page has is not glued
    for row in tree.iter("tr"):
        cells = ["".join(cell.itertext()).split() for cell in row if cell.tag in ("td", "th")]
        for first, second in pairwise(cells):
            if min(len("".join(first)), len("".join(second))) < SHORTEST:
                continue
            counts["pairs of cells"] += 1
            glued = first[-1] + second[0]
            if said[glued] > apart[glued]:
                counts["glued pairs"] += 1
                if show:
                    print(f"{path}: {glued}")
    for button in tree.xpath("//button"):  # such as the one that copies a listing
        button.drop_tree()
    for listing in tree.iter("pre"):
        code = textwrap.dedent(listing.text_content().strip("\n")).rstrip()
        if code.count("\n") < 1 or not is_python(code):
            continue
        counts["listings of Python"] += 1
        lines = [line.rstrip() for line in code.split("\n")]
        if not stands_in(lines, text):
            counts["listings that are not whole"] += 1
            if show:
                print(f"{path}: {code[:80]!r}")


def is_python(code: str) -> bool:
    """Return whether a text is Python that does something, and not a word or two."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    kinds = (ast.FunctionDef, ast.ClassDef, ast.For, ast.If, ast.Import, ast.With, ast.Assign)
    return any(isinstance(node, kinds) for node in tree.body)


def stands_in(lines: list[str], text: str) -> bool:
    """Return whether lines stand one after the other in a text, all indented alike."""
    first, *others = (re.escape(line) for line in lines)
    rest = "".join(rf"\n(?P=by){line}" if line else r"\n[ ]*" for line in others)
    return re.search(rf"(?m)^(?P<by>[ ]*){first}{rest}", text) is not None


def main() -> None:
    """Read the pages and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print what came out wrong")
    options = parser.parse_args()
    counts = Counter({"glued pairs": 0, "listings that are not whole": 0})
    chosen = pages(options.folders, options.pages, options.seed)
    for path in chosen:
        examine(path, counts, options.show)
    counts["MB"] = round(sum(path.stat().st_size for path in chosen) / 1e6)
    counts["peak MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
