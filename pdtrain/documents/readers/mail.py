"""Read e-mail: single messages and mailboxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from typing import BinaryIO

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import MAX_BYTES, Document, Source, Unreadable
from pdtrain.documents.encoding.decoding import decode
from pdtrain.documents.plain import add_plain
from pdtrain.documents.readers.html import add_html

LEFT_OUT = "messages left out: "  # begins what is said of them
# the line before a message in a mailbox: who sent it, and when
SEPARATOR = re.compile(
    rb"From \S.*? (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +\w{1,3} +\w{1,3} .*?\d\d:\d\d"
)
ANY_SEPARATOR = re.compile(rb"From ")
LONGEST_SEPARATOR = 300  # bytes
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
    size, blank, begins = 0, True, SEPARATOR
    for line in stream:
        if not held and size == 0 and blank and line.strip() and not SEPARATOR.match(line):
            begins = ANY_SEPARATOR  # the first one: its program writes no dates
        if blank and begins.match(line[:LONGEST_SEPARATOR]):
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
    parts = list(_parts(message))
    texts = [part for part in parts if _is_text(part)]
    if not texts and _is_text(parts[0], may_be_named=True):  # the message is one text with a name
        texts = parts[:1]
    if left_out := sorted(map(_named, set(parts) - set(texts))):
        builder.warnings.append(f"attachments left out: {', '.join(left_out)}")
    title = builder.title
    for part in texts:
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


def _parts(part: Message) -> Iterator[Message]:
    """Yield the parts of a message in order; of those that say the same, the one to read."""
    payload = part.get_payload() if part.get_content_maintype() == "multipart" else ""
    inner = [one for one in payload if isinstance(one, Message)]
    if not inner:
        yield part
    elif part.get_content_subtype() == "alternative":
        yield from _parts_of_best([list(_parts(one)) for one in inner])
    else:
        for one in inner:
            yield from _parts(one)


def _parts_of_best(choices: list[list[Message]]) -> Iterator[Message]:
    """Yield the parts of plain text, or those of the page where they are empty, and all files."""
    best = max(choices, key=lambda parts: max(map(_worth, parts), default=0), default=[])
    yield from best
    for parts in choices:
        if parts is not best:
            yield from (part for part in parts if not _is_text(part) and part.get_filename())


def _worth(part: Message) -> int:
    """Return how gladly a part is read: plain text before a page, and an empty one least."""
    payload = part.get_payload(decode=True)
    if not _is_text(part) or not isinstance(payload, bytes) or not payload.strip():
        return 0
    return 2 if part.get_content_type() == "text/plain" else 1


def _is_text(part: Message, *, may_be_named: bool = False) -> bool:
    """Return whether a part is text that the message shows, and no file."""
    is_file = not may_be_named and bool(part.get_filename())
    is_shown = part.get_content_disposition() != "attachment" and not is_file
    return is_shown and part.get_content_type() in ("text/plain", "text/html")


def _named(part: Message) -> str:
    return part.get_filename() or "without a name"


def _header(message: EmailMessage, name: str) -> str:
    """Return a header's text; one that cannot be decoded is left out."""
    try:
        value = " ".join(str(message[name] or "").split())
    except (ValueError, LookupError, IndexError):
        return ""
    while value.lower().startswith(SUBJECT_MARKS):
        value = value.split(":", 1)[1].strip()
    return value
