"""Find the paragraphs, lists and code of plain text, where only line breaks tell of them."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence

from pdtrain.documents.blocks import TIMED, BlockBuilder
from pdtrain.documents.decoding import EAST_ASIAN, UNSPACED
from pdtrain.documents.document import Document, Source

NARROWEST = 40  # characters: shorter lines are not taken for wrapped ones
BULLET = re.compile(r"(?:[-*+•‣◦▪–]|\(?\d{1,3}[.)])\s+(?=\S)")
# before the lines of a message that is answered; ">>>" is a prompt of Python's
QUOTED = re.compile(r"\A>{1,2}(?![>=\d])(?:[ \t]>{1,2}(?![>=\d]))*[ \t]?")
SENTENCE_ENDS = ("。", "！", "？")
LABEL = re.compile(r"\S[^:\n]{0,40}:(?:\s|$)")  # "Monday: closed"
RULE = re.compile(r"([=~*#_+^\"-])\1{2,}")
ALIGNED = re.compile(r"\S(?: {3,}|\t+)\S")  # a column begins after the gap
UNDERLINES = '=-~^"*+#_'  # the levels of headings, as most texts use them


def make_document(source: Source, text: str, title: str = "", record: object = None) -> Document:
    """Make a document of a file's text, or of the text of one of its records.

    Args:
        source: the file.
        text: plain text whose paragraphs are separated by blank lines.
        title: where it is empty, a file gets one that is made of its name.
        record: the id or number of the record within the file; None for the file as a whole.
    """
    builder = BlockBuilder()
    builder.title = title
    add_plain(builder, text)
    return builder.document(source, record)


def add_plain(builder: BlockBuilder, text: str, *, is_message: bool = False) -> None:
    """Add the paragraphs of a plain text, which blank lines separate.

    Lines that were wrapped are joined. Lines that stand for themselves, as those of a list, a log
    or a poem, become a paragraph each, and those of code and of aligned columns keep their blanks.

    Args:
        is_message: lines that begin with ">" are quoted, and read without their marks.
    """
    for paragraph in _paragraphs(text, is_message):
        lines = [line.rstrip() for line in paragraph.expandtabs(8).split("\n") if line.strip()]
        if not lines:
            continue
        if heading := _underlined(lines):
            builder.heading(heading[0], heading[1])
            lines = lines[2:]
        if keeps_layout(lines):
            builder.code(textwrap.dedent("\n".join(lines) if heading else paragraph))
            continue
        for joined in join_lines([line.strip() for line in lines]):
            if not RULE.fullmatch(joined.replace(" ", "")):
                builder.prose(joined)


def _paragraphs(text: str, is_message: bool) -> Iterator[str]:
    """Yield what blank lines separate, and apart what a message quotes, without its marks."""
    for paragraph in re.split(r"\n\s*\n", _with_line_feeds(text)):
        lines = paragraph.split("\n")
        if not is_message or sum(bool(QUOTED.match(line)) for line in lines) < 2:
            yield paragraph
            continue
        for _, run in itertools.groupby(lines, lambda line: bool(QUOTED.match(line))):
            own = "\n".join(QUOTED.sub("", line) for line in run)
            yield from re.split(r"\n\s*\n", own)


def _with_line_feeds(text: str) -> str:
    return re.sub(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", text)


def _underlined(lines: list[str]) -> tuple[str, int] | None:
    """Return the words and the level of a heading that a line of one mark underlines."""
    if len(lines) < 2 or not RULE.fullmatch(lines[1]) or RULE.fullmatch(lines[0]):
        return None
    if len(lines[1]) < 0.7 * len(lines[0].strip()) or lines[0] != lines[0].lstrip():
        return None
    return lines[0], 2 + UNDERLINES.index(lines[1][0])


def keeps_layout(lines: Sequence[str]) -> bool:
    """Return whether the blanks of these lines mean something: code, or columns that are aligned.

    Args:
        lines: those of a paragraph, without empty ones.
    """
    if len(lines) < 2:
        return False
    if sum(bool(ALIGNED.search(line.strip())) for line in lines) >= 0.6 * len(lines):
        return not all(LABEL.match(line) for line in lines)
    indents = [len(line) - len(line.lstrip()) for line in lines]
    margin = min(indents)
    deeper = [indent - margin for indent in indents]
    if not any(deeper) or any(BULLET.match(line.lstrip()) for line in lines):
        return False
    first_line_only = deeper[0] and not any(deeper[1:])
    hanging = not deeper[0] and all(deeper[1:]) and len(set(deeper[1:])) == 1
    centred = deeper[0] > 8
    if first_line_only or centred or (hanging and not lines[0].rstrip().endswith((":", "{", "("))):
        return False
    width = max(map(len, lines))
    wrapped = sum(_is_wrapped(a, b, width) for a, b in itertools.pairwise(lines))
    return wrapped < 0.5 * (len(lines) - 1)


def join_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines of a paragraph, with those that were wrapped joined to the one before.

    Args:
        lines: those of one paragraph, without blanks at their ends.
    """
    if _stand_alone(lines):
        return list(lines)
    joined = [[line] for line in lines[:1]]
    width = max((len(line) for line in lines), default=0)
    sentence_case = bool(lines) and not _begins_small(lines[0])
    for before, line in itertools.pairwise(lines):
        goes_on = (
            sentence_case and _begins_small(line) and not before.endswith((".", ":", "!", "?"))
        )
        if BULLET.match(line) or not (goes_on or _is_wrapped(before, line, width)):
            joined.append([line])
        elif UNSPACED.fullmatch(before[-1:]) and UNSPACED.fullmatch(line[:1]):
            joined[-1] += [line]
        else:
            joined[-1] += [" ", line]
    return ["".join(parts) for parts in joined]


def _begins_small(line: str) -> bool:
    return line[:1].islower()


def _stand_alone(lines: Sequence[str]) -> bool:
    """Return whether most lines begin as records do: with a time, a date or a label."""
    if len(lines) < 2:
        return False
    most = 0.8 * len(lines)
    return any(sum(bool(p.match(line)) for line in lines) >= most for p in (TIMED, LABEL))


def _is_wrapped(line: str, following: str, width: int) -> bool:
    """Return whether the first word of the next line would not have fitted on this one.

    Args:
        line: a line.
        following: the line after it.
        width: characters of the paragraph's longest line.
    """
    if UNSPACED.search(line[-1:]):
        if line.endswith(SENTENCE_ENDS) and width < NARROWEST:  # short rules or verses, one a line
            return False
        return width >= NARROWEST // 2 and len(line) >= width - 2
    word = following[:1] if UNSPACED.match(following) else following.split(None, 1)[0]
    narrowest = NARROWEST // 2 if EAST_ASIAN.search(line) else NARROWEST  # their letters are wide
    return width >= narrowest and len(line) + 1 + len(word) > 0.95 * width
