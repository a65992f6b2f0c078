"""PDF files: the text of all pages, and the extra package that reads them."""

import sys

import pytest


def pdf(*pages):
    """Return a PDF whose pages hold these lines."""
    font = 3 + 2 * len(pages)
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    objects += [f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    for number, lines in enumerate(pages):
        content = "BT /F 12 Tf 14 TL 20 250 Td " + "".join(f"({line}) Tj T* " for line in lines)
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents {4 + 2 * number} 0 R"
            f" /Resources << /Font << /F {font} 0 R >> >> >>",
            f"<< /Length {len(content) + 2} >>\nstream\n{content}ET\nendstream",
        ]
    objects += ["<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    file, starts = "%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        starts.append(len(file))
        file += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{start:010d} 00000 n \n" for start in starts)
    return (
        f"{file}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(file)}\n%%EOF\n"
    ).encode()


def test_a_pdf_gives_the_text_of_all_its_pages(read_one):
    pytest.importorskip("pypdf")
    document = read_one("old_pier.pdf", pdf(["The pier is", "old."], ["It is long."]))
    assert document.text == "The pier is old.\nIt is long."
    assert (document.id, document.title) == ("old_pier.pdf", "Old Pier")


def test_without_the_extra_the_command_that_installs_it_is_named(read_one, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(ValueError, match=r"old_pier.pdf is a PDF.* pip install 'pdtrain\[doc"):
        read_one("old_pier.pdf", pdf(["The pier is old."]))
