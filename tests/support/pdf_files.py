"""PDF files with texts at places, made by hand."""

from __future__ import annotations


def drawn(*pages):
    """Return a PDF whose pages hold texts at places: (x, y, text), from the lower left corner."""
    objects = [
        "".join(f"BT /F 11 Tf {x} {y} Td ({text}) Tj ET " for x, y, text in page) for page in pages
    ]
    return pdf_of(objects)


def pdf_of(contents, extra="", resources=""):
    """Return a PDF of A4 pages with these contents."""
    font = 3 + 2 * len(contents)
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(contents)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    objects += [f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>"]
    for number, content in enumerate(contents):
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {4 + 2 * number} 0 R"
            f" /Resources << /Font << /F {font} 0 R >> {resources} >> >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    objects += [
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *([extra] if extra else []),
    ]
    return assembled(objects)


def assembled(objects):
    """Return the file that these objects make; the first is its catalogue."""
    file, starts = "%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        starts.append(len(file))
        file += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{start:010d} 00000 n \n" for start in starts)
    return (
        f"{file}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(file)}\n%%EOF\n"
    ).encode("latin-1")
