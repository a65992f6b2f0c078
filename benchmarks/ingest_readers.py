"""Time, memory and right words of this project's readers beside markitdown, on the same files.

    python benchmarks/ingest_readers.py make --folder FOLDER
    python benchmarks/ingest_readers.py read --folder FOLDER --reader ours
    OTHER/bin/python benchmarks/ingest_readers.py read --folder FOLDER --reader markitdown

`make` writes PDF files of known text (in one column, in two, and in two with words cut at line
ends; each page has a running header and a number) and copies pages of documentation, whose
reference is the text of their main part. Of the runs of three words, "found" is the share of the
reference's that came out, and "right" the share of those that came out that stand in it.
Markdown's signs are taken off first. One process reads all files of a kind, one after the other;
"peak" is its VmHWM.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

PAGES = "/usr/share/doc/python3.11/html"
LINES, WIDTH = 46, {"one": 84, "two": 40, "hyphens": 40}
KINDS = ("pdf", "html", "manuals")
HEADER = "Annual Report of the Brandholm Society"


def make(folder: Path, seed: int, pages: str, most: int) -> None:
    """Write the files and their references."""
    rng = random.Random(seed)
    sources = [path for path in sorted(Path(pages).rglob("*.html")) if path.stat().st_size > 20_000]
    chosen = rng.sample(sources, min(most, len(sources)))
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(chosen):
        data = path.read_bytes()
        (folder / f"html/{number}.html").write_bytes(data)
        (folder / f"html/{number}.reference").write_text(main_text(data))
    prose = " ".join(main_text(path.read_bytes()) for path in chosen[:40])
    words = re.findall(r"[A-Za-z]{2,14}[,.]?", prose)
    for number, layout in enumerate([*WIDTH] * 10):
        text = words[number * 3000 : (number + 1) * 3000]
        (folder / f"pdf/{number}-{layout}.pdf").write_bytes(pdf(layout, text))
        (folder / f"pdf/{number}-{layout}.reference").write_text(" ".join(text))


def main_text(data: bytes) -> str:
    """Return all text in the main part of a page, with blanks between its elements."""
    from lxml import html

    tree = html.fromstring(data)
    (main, *_) = tree.xpath('//div[@role="main"]') or [tree]
    for unseen in main.xpath(".//script|.//style|.//a[@class='headerlink']"):
        unseen.drop_tree()
    return " ".join(" ".join(main.itertext()).split())


def pdf(layout: str, words: list[str]) -> bytes:
    """Return a PDF of these words, set in lines of about the layout's width."""
    lines = [""]
    for word in words:
        room = WIDTH[layout] - len(lines[-1]) - 1
        if len(word) <= room:
            lines[-1] = f"{lines[-1]} {word}".strip()
        elif layout == "hyphens" and room > 4 and len(word) > room + 2 and word.isalpha():
            lines[-1] = f"{lines[-1]} {word[: room - 1]}-".strip()
            lines.append(word[room - 1 :])
        else:
            lines.append(word)
    columns = 1 if layout == "one" else 2
    pages = [lines[i : i + LINES * columns] for i in range(0, len(lines), LINES * columns)]
    contents = []
    for number, page in enumerate(pages, 1):
        drawn = [(72, 800, HEADER), (290, 30, str(number))]
        for place, line in enumerate(page):
            drawn.append((60 + 250 * (place // LINES), 760 - 15 * (place % LINES), line))
        contents.append("".join(f"BT /F 10 Tf {x} {y} Td ({t}) Tj ET\n" for x, y, t in drawn))
    return assembled(contents)


def assembled(contents: list[str]) -> bytes:
    """Return a PDF with these contents of pages."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(contents)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>",
    ]
    for number, content in enumerate(contents):
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F 3 0 R "
            f">> >> /Contents {5 + 2 * number} 0 R >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}endstream")
    file, starts = "%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        starts.append(len(file))
        file += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{start:010d} 00000 n \n" for start in starts)
    end = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(file)}\n%%EOF\n"
    return f"{file}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{end}".encode()


def reader_of(name: str) -> Callable[[Path], str]:
    """Return what reads a file into text."""
    if name == "ours":
        from pdtrain.config import CorpusConfig
        from pdtrain.documents.document import Source
        from pdtrain.documents.library import read_documents

        config = CorpusConfig(documents=".")
        return lambda path: "\n".join(
            document.text for document in read_documents(Source(path.name, path), config)
        )
    from markitdown import MarkItDown

    converter = MarkItDown()
    return lambda path: str(converter.convert(str(path)).text_content)


def runs(text: str) -> Counter[tuple[str, ...]]:
    """Return the runs of three words of a text, without Markdown's signs and links' targets."""
    plain = re.sub(r"\]\([^)\s]*(?: \"[^\"]*\")?\)", "]", text)
    words = re.findall(r"\w+", plain.replace("\\", "").replace("_", " ").lower())
    return Counter(zip(words, words[1:], words[2:], strict=False))


def read(folder: Path, name: str, kind: str) -> dict[str, object]:
    """Read all files of a kind, and return what it took and what came out."""
    reader = reader_of(name)
    paths = sorted(path for path in (folder / kind).iterdir() if path.suffix in (".pdf", ".html"))
    reader(paths[0])  # what is loaded once does not count
    started = time.process_time()
    texts = [reader(path) for path in paths]
    seconds = time.process_time() - started
    size = sum(path.stat().st_size for path in paths) / 1e6
    result: dict[str, object] = {
        "reader": name,
        "kind": kind,
        "files": len(paths),
        "MB": round(size, 1),
        "CPU seconds": round(seconds, 1),
        "characters": sum(map(len, texts)),
        "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
    }
    by_layout: dict[str, list[float]] = {}
    for path, text in zip(paths, texts, strict=True):
        reference = path.with_suffix(".reference")
        if reference.exists():
            wanted, found = runs(reference.read_text()), runs(text)
            both = (wanted & found).total()
            layout = path.stem.partition("-")[2] or kind
            sums = by_layout.setdefault(layout, [0, 0, 0])
            for place, value in enumerate((both, wanted.total(), found.total())):
                sums[place] += value
    for layout, (both, wanted_total, found_total) in by_layout.items():
        share = f"found {both / wanted_total:.1%}, right {both / max(1, found_total):.1%}"
        result[layout] = share
    return result


def main() -> None:
    """Make the files, or read them and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["make", "read"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--reader", choices=["ours", "markitdown"], default="ours")
    parser.add_argument("--kind", choices=KINDS, default="pdf")
    parser.add_argument("--pages", default=PAGES, help="folder of the HTML pages")
    parser.add_argument("--most", type=int, default=240, help="HTML pages")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.seed, options.pages, options.most)
    else:
        print(json.dumps(read(options.folder, options.reader, options.kind)))


if __name__ == "__main__":
    sys.exit(main())
