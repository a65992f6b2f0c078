"""Read subtitles: what is said, without numbers and times."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source
from pdtrain.documents.encoding.characters import on_one_line
from pdtrain.documents.encoding.decoding import read_text

TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}"
CUE_TIMES = re.compile(rf"[ \t]*({TIME})[ \t]+-->[ \t]+({TIME})[^\n]*")
# in a file of subtitles, where some programs leave out the fractions or the blanks
ANY_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?"
ANY_CUE_TIMES = re.compile(rf"[ \t]*({ANY_TIME})[ \t]*-->[ \t]*({ANY_TIME})[^\n]*")
SPEAKER = re.compile(r"<v(?:\.[^\s>]*)?[ \t]+([^<>]*)>")
# an element that subtitles have, and no token of a model's or another name in brackets
MARKUP = re.compile(
    r"</?(?:[biucv]|ruby|r[tp]|font|lang|div|span|p|br|em|strong|small|big|center|su[bp])"
    r"(?:[\s./][^<>\n]*)?>|<\d[\d:.]*>|\{\\[^{}\n]*\}",
    re.IGNORECASE,
)
# of sentences, in any script
ENDS = (*'.!?…。！？؟\u06d4।॥\u0589።။។།"”»」』♪', "፡፡")
PAUSE = 4.0  # seconds of silence that end a paragraph


def read_subtitles(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read SubRip (`.srt`) or WebVTT (`.vtt`) subtitles."""
    text, warnings = read_text(source)
    builder = BlockBuilder()
    builder.warnings += warnings
    add_subtitles(builder, text)
    yield builder.document(source)


def add_subtitles(builder: BlockBuilder, text: str) -> None:
    """Add what is said; a sentence that goes on in the next subtitle is joined.

    Where nothing is punctuated, as in what machines write down, every subtitle is a paragraph.
    """
    cues = list(_cues(text))
    punctuated = sum(words.endswith(ENDS) for _, _, words in cues) >= 0.2 * len(cues)
    held: list[str] = []
    last_end = 0.0
    for start, end, words in cues:
        if held and (not punctuated or held[-1].endswith(ENDS) or start - last_end > PAUSE):
            builder.prose("\n".join(held))
            held = []
        if not held or held[-1] != words:  # some players' files say every line twice
            held.append(words)
        last_end = end
    builder.prose("\n".join(held))


def _cues(text: str) -> Iterator[tuple[float, float, str]]:
    """Yield start and end in seconds and the words of every subtitle that has any."""
    lines = text.split("\n")
    number, before = 0, set[str]()
    while number < len(lines):
        times = ANY_CUE_TIMES.fullmatch(lines[number])
        number += 1
        if not times:
            continue
        said = list[str]()
        while number < len(lines) and lines[number].strip():
            if ANY_CUE_TIMES.fullmatch(lines[number]):  # no empty line stands between the two
                said = said[:-1] if said and said[-1].strip().isdigit() else said
                break
            said.append(lines[number])
            number += 1
        # where lines roll, each comes several times, with others beside it
        shown = [_bare(line) for line in said]
        new = [line for line, bare in zip(said, shown, strict=True) if bare not in before]
        if 0 < len(new) < len(said) or (not new and len(before) > 1):
            said = new
        before = set(shown)
        words = MARKUP.sub("", SPEAKER.sub(r"\1: ", "\n".join(said)))
        if words := on_one_line(html.unescape(words)):
            yield _seconds(times[1]), _seconds(times[2]), words


def _bare(line: str) -> str:
    return MARKUP.sub("", SPEAKER.sub(r"\1: ", line)).strip()


def _seconds(time: str) -> float:
    parts = [float(part) for part in time.replace(",", ".").split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))
