"""Read e-mail: single messages and mailboxes."""

from __future__ import annotations

from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from typing import BinaryIO

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.decoding import decode
from pdtrain.documents.document import MAX_BYTES, Document, Source, Unreadable
from pdtrain.documents.plain import add_plain
from pdtrain.documents.readers.html import add_html

LEFT_OUT = "messages left out: "  # begins what is said of them
SUBJECT_MARKS = ("re:", "fwd:", "fw:", "aw:", "wg:")


def read_message(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read one message (.eml): its subject is the title, and its text or its page the text."""
    yield _document(source.read(), source, None)


def read_mailbox(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a mailbox (.mbox), a document a message, without holding all of it in memory.

    Raises:
        Unreadable: the file does not begin as a mailbox does.
        ValueError: messages were left out; this is raised after the last one.
    """
    bad: list[Unreadable] = []
    num_read = 0
    with source.open() as stream:
        for number, message in enumerate(_messages(stream, source), 1):
            try:
                found = _document(message, source, number)
            except Unreadable as error:
                bad.append(error)
                continue
            num_read += 1
            yield found
    if bad and num_read:
        raise ValueError(f"{LEFT_OUT}{len(bad)}, the first of them: {bad[0]}")
    if bad:
        raise bad[0]


def _messages(stream: BinaryIO, source: Source) -> Iterator[bytes]:
    held: list[bytes] = []
    size, blank = 0, True
    for line in stream:
        if line.startswith(b"From ") and blank:
            if held:
                yield b"".join(held)
            held, size, blank = [], 0, False
            continue
        if not held and size == 0 and blank and line.strip():
            raise Unreadable("broken", f"{source.where} does not begin as a mailbox does")
        blank = not line.strip()
        held.append(line[1:] if line.startswith((b">From ", b">>From ")) else line)
        size += len(line)
        if size > MAX_BYTES:
            raise Unreadable("too large", f"{source.where} holds a message above the limit")
    if held:
        yield b"".join(held)


def _document(data: bytes, source: Source, record: int | None) -> Document:
    message = BytesParser(policy=policy.default).parsebytes(data)
    builder = BlockBuilder()
    builder.title = _header(message, "subject")
    builder.add_metadata({name: _header(message, name) for name in ("from", "date")})
    body = _body(message)
    others = list(message.iter_attachments())
    attachments = sorted(
        part.get_filename() or "without a name" for part in others if not _is_text(part)
    )
    if attachments:
        builder.warnings.append(f"attachments left out: {', '.join(attachments)}")
    title = builder.title
    for part in [*([body] if body is not None else []), *filter(_is_text, others)]:
        payload = part.get_payload(decode=True)
        data = payload if isinstance(payload, bytes) else b""
        text, warnings = decode(data, source.where, part.get_content_charset() or "")
        builder.warnings += warnings
        if part.get_content_subtype() == "html":
            add_html(builder, text, source)
        else:
            add_plain(builder, text, is_message=True)
    builder.title = title or builder.title
    return builder.document(source, record)


def _body(message: EmailMessage) -> Message | None:
    """Return the part that is the text; the page where the plain text beside it is empty."""
    plain, page = (message.get_body(preferencelist=(kind,)) for kind in ("plain", "html"))
    if plain is not None and page is not None:
        payload = plain.get_payload(decode=True)
        return plain if isinstance(payload, bytes) and payload.strip() else page
    return page if plain is None else plain


def _is_text(part: Message) -> bool:
    """Return whether a part that stands beside the first text goes on with it."""
    is_plain = part.get_content_type() == "text/plain" and not part.get_filename()
    return is_plain and part.get_content_disposition() != "attachment"


def _header(message: EmailMessage, name: str) -> str:
    """Return a header's text; one that cannot be decoded is left out."""
    try:
        value = " ".join(str(message[name] or "").split())
    except (ValueError, LookupError, IndexError):
        return ""
    while value.lower().startswith(SUBJECT_MARKS):
        value = value.split(":", 1)[1].strip()
    return value
