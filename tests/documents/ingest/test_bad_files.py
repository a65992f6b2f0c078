"""A folder as people have it: one bad file of each kind among a thousand good ones."""

import gzip
import io
import json
import os
import zipfile

import pytest
from pdf_files import assembled

from pdtrain.cli import main

GOOD = 1000
CONTENT = "BT /F 12 Tf 20 250 Td (The pier of Osk.) Tj ET"
PICTURE = (
    "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray "
    "/BitsPerComponent 8 /Length 1 >>\nstream\n0\nendstream"
)
LOCK = (
    b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <" + b"41" * 32 + b"> /U <" + b"42" * 32
) + b"> >>"


def pdf(content, resources="/Font << /F 5 0 R >>"):
    """Return a PDF of one page."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources "
        f"<< {resources} >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        PICTURE,
    ]
    return assembled(objects)


def zipped(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


BAD = {  # contents, and the reason that must be given
    "nothing.txt": (b"", "empty"),
    "blank.md": (b" \n\t\n", "empty"),
    "no text.html": (b"<html><head><title></title></head><body><script>x</script></body>", "empty"),
    "picture.txt": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00" * 20, "binary"),
    "zeros.csv": (bytes(5000), "binary"),
    "program.html": (b"\x7fELF\x02\x01\x01\x00" + bytes(range(256)) * 9, "binary"),
    "scan.pdf": (pdf("q 400 0 0 400 90 200 cm /I Do Q", "/XObject << /I 6 0 R >>"), "scan"),
    "locked.pdf": (
        pdf(CONTENT).replace(b"/Root 1 0 R", b"/Root 1 0 R /ID [<01><01>] " + LOCK),
        "locked",
    ),
    "cut off.pdf": (pdf(CONTENT)[:400], "broken"),
    "not found.pdf": (b"<html><body>404 not found</body></html>", "broken"),
    "letter.docx": (zipped("word/document.xml", "<broken")[:60], "broken"),
    "no letter.docx": (zipped("other.xml", "<a/>"), "broken"),
    "table.xlsx": (b"PK\x03\x04 cut off", "broken"),
    "slides.pptx": (b"PK\x03\x04 cut off", "broken"),
    "book.epub": (b"PK\x03\x04 cut off", "broken"),
    "open.odt": (b"PK\x03\x04 cut off", "broken"),
    "notebook.ipynb": (b'{"cells": [', "broken"),
    "rows.jsonl": (b"{not json}\n", "broken"),
    "columns.jsonl": (b'{"body": "The pier."}\n', "broken"),
    "list.json": (b"[1, 2", "broken"),
    "data.parquet": (b"PAR1 cut off", "broken"),
    "data.arrow": (b"ARROW1 cut off", "broken"),
    "log.txt.gz": (gzip.compress(b"The pier of Osk is old. " * 90)[:40], "broken"),
    "docs.zip": (b"PK\x03\x04 cut off", "broken"),
    "docs.tar": (b"no archive", "broken"),
    "bomb.txt.gz": (gzip.compress(b" " * (3 << 20)), "too large"),
    "copy.txt": (b"The pier of Osk, number 0.", "duplicate"),
    "left out.txt": (b"The pier of Osk, draft.", "excluded"),
    "song.mp3": (b"ID3", "no reader"),
}


@pytest.fixture
def folder(corpus, tmp_path, monkeypatch):
    """Write a thousand good files and the bad ones, and return the path of a config."""
    monkeypatch.setattr("pdtrain.documents.archives.MAX_BYTES", 2 << 20)
    for number in range(GOOD):
        corpus.write(f"good/{number % 10}/{number}.txt", f"The pier of Osk, number {number}.")
    for name, (content, _) in BAD.items():
        corpus.write(f"other/{name}", content)
    os.symlink("/nowhere", corpus.documents / "other/gone.txt")
    os.symlink(corpus.folder, corpus.documents / "other/away")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"model: {{name: {corpus.model}}}\nout_dir: {corpus.run}\n"
        'corpus: {documents: docs, exclude: ["left out.txt"], workers: 1}\n'
    )
    return path


def test_a_thousand_good_files_are_kept_and_every_bad_one_is_named(corpus, folder, capsys):
    assert main(["passages", str(folder)]) == 0
    wanted = {f"other/{name}": reason for name, (_, reason) in BAD.items()}
    wanted |= {"other/gone.txt": "broken", "other/away": "link"}
    skipped = {n: e["reason"] for n, e in corpus.report.items() if e["state"] == "skipped"}
    assert skipped == wanted
    assert corpus.summary["files"] == {"kept": GOOD, "skipped": len(wanted)}
    assert len({p["document_id"] for p in corpus.passages}) == len(corpus.passages) == GOOD
    assert all(entry["detail"] for entry in corpus.report.values() if "detail" in entry)
    assert "Traceback" not in capsys.readouterr().err

    assert main(["passages", str(folder), "corpus.on_error=stop"]) == 1
    told = capsys.readouterr().err
    bad = [n for n, why in wanted.items() if why not in ("duplicate", "excluded", "no reader")]
    assert f"{len(bad) - 1} files were not read" in told, "a link is no fault of a file"
    report = json.loads((corpus.run / "passages/report.json").read_text())
    assert report["summary"]["files"]["kept"] == GOOD
