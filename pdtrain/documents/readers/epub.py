"""Read books in the format EPUB."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from urllib.parse import unquote

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.encoding.decoding import decode
from pdtrain.documents.readers.html import add_chapter
from pdtrain.documents.readers.office_parts.zipped import CORE, check_archive

CONTAINER = "META-INF/container.xml"
PAGES = ("application/xhtml+xml", "text/html")
OPF = "{http://www.idpf.org/2007/opf}"


def read_epub(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a book chapter by chapter, in the order in which it is read.

    A chapter that is missing or damaged is left out with a warning.

    Raises:
        Unreadable: the book or all of it is damaged, or its chapters are encrypted.
    """
    from lxml import etree

    with source.open() as stream:
        archive = check_archive(stream, source)
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        builder = BlockBuilder()
        try:
            container = etree.fromstring(archive.read(CONTAINER), parser)
            package_name = container.find(".//{*}rootfile").get("full-path")
            package = etree.fromstring(archive.read(package_name), parser)
            builder.title = package.findtext(f".//{CORE}title") or ""
            names = {"author": "creator", "date": "date", "language": "language"}
            builder.add_metadata(
                {name: package.findtext(f".//{CORE}{theirs}") for name, theirs in names.items()}
            )
            locked = _encrypted(archive)
            # a page that is named again and again would make a book without an end
            pages = dict.fromkeys(_chapters(package, posixpath.dirname(package_name)))
            if any(name in locked for name in pages):
                raise Unreadable("locked", f"{source.where}: its chapters are encrypted")
            missing = [name for name in pages if not _add_page(builder, archive, name)]
        except (KeyError, AttributeError, etree.XMLSyntaxError, zipfile.BadZipFile) as error:
            name = type(error).__name__
            detail = f"{source.where} cannot be read as EPUB ({name}); get it again"
            raise Unreadable("broken", detail) from None
    if missing and len(missing) == len(pages):
        detail = f"{source.where}: none of its chapters can be read; get it again"
        raise Unreadable("broken", detail)
    if missing:
        builder.warnings.append(f"{len(missing)} missing or damaged chapters left out")
    yield builder.document(source)


def _add_page(builder: BlockBuilder, archive: zipfile.ZipFile, name: str) -> bool:
    """Add a page of a book, and return whether it is there and can be read."""
    try:
        html, _ = decode(archive.read(name), name)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, Unreadable):
        return False
    add_chapter(builder, html, is_xml=True)
    return True


def _chapters(package: object, folder: str) -> Iterator[str]:
    """Yield the names of the pages of a book in reading order, without its table of contents."""
    items = {item.get("id"): item for item in package.iter(f"{OPF}item")}  # type: ignore[attr-defined]
    for reference in package.iter(f"{OPF}itemref"):  # type: ignore[attr-defined]
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in PAGES:
            continue
        if "nav" not in (item.get("properties") or "").split():
            yield posixpath.normpath(posixpath.join(folder, unquote(item.get("href"))))


def _encrypted(archive: zipfile.ZipFile) -> str:
    """Return the text that names the encrypted files of a book, fonts among them."""
    try:
        return unquote(archive.read("META-INF/encryption.xml").decode("utf-8", "replace"))
    except KeyError:
        return ""
