"""Find the paragraphs, lists and code of plain text, where only line breaks tell of them."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source
from pdtrain.documents.encoding.characters import EAST_ASIAN, UNSPACED, visible
from pdtrain.documents.own_lines import (
    BULLET,
    LABEL,
    TIME_ALONE,
    are_quantities,
    begin_records,
    stand_alone,
)

NARROWEST = 40  # characters: shorter lines are not taken for wrapped ones
# before the lines of a message that is answered; ">>>" is a prompt of Python's
QUOTED = re.compile(r"\A>{1,2}(?![>=\d])(?:[ \t]>{1,2}(?![>=\d]))*[ \t]?")
SENTENCE_ENDS = ("。", "！", "？")
YAML_KEY = re.compile(r"[ \t]*(?:- )*[\w.\"'/$-]+:(?=\s|$)")
YAML_LINE = re.compile(rf"{YAML_KEY.pattern}|[ \t]*- \S|[ \t]*#")
SENTENCE_END = re.compile(r"\w[.!?][\"'”’)]*(?:\s|$)")
RULE = re.compile(r"([=~*#_+^\"-])\1{2,}")
ALIGNED = re.compile(r"\S(?: {3,}|\t+)\S")  # a column begins after the gap
HYPHEN = re.compile(r"(\w+)([\u00ad\u2010-])$")
LEAST_FULL = 0.3  # share of the lines of a wrapped paragraph that reach its width
LONGEST_WORD = 60
# what is joined to the next word by a hyphen that stays
COMPOUND = frozenset(
    "well self half non ex so high low long short all cross vice semi far old".split()
)
# words before which a hyphen stands for a part that comes later: "Ein- und Ausgang"
SUSPENDED = frozenset(
    (
        "and or to und oder bzw beziehungsweise sowie bis als wie en of et ou och samt eller og ja "
        "tai sekä és vagy y e o u i ni"
    ).split()
)
# what French and Portuguese put behind a verb, with a hyphen that stays
CLITICS = frozenset(
    (
        "y en il elle on ils elles je tu nous vous moi toi lui ce ci là t se lhe lhes lo la los "
        "las me te"
    ).split()
)
PAGE_END = re.compile(r"(?<=[^\s.!?:;])[ \t]*\r?\n?\f\s*(?=(\w))")
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
    text = visible(text, builder.changes)  # they may hide what a line begins with
    words = words_of(text.splitlines())
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
        for joined in join_lines([line.strip() for line in lines], words):
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
    """Return a text with line feeds alone; a page that ends within a sentence ends a line."""
    text = PAGE_END.sub(lambda end: "\n" if end[1].islower() else end[0], text)
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
    if _is_yaml(lines):
        return True
    if not any(deeper) or any(BULLET.match(line.lstrip()) for line in lines):
        return False
    first_line_only = deeper[0] and not any(deeper[1:])
    pairs = list(itertools.pairwise(zip(lines, deeper, strict=True)))
    hanging = not deeper[0] and len(set(deeper) - {0}) == 1
    if hanging and not all(deeper[1:]):  # several entries, as of a bibliography
        width = max(map(len, lines))
        hanging = all(_is_wrapped(a, b.strip(), width) for (a, _), (b, is_deep) in pairs if is_deep)
    centred = deeper[0] > 8
    if first_line_only or centred or (hanging and not lines[0].rstrip().endswith((":", "{", "("))):
        return False
    width = max(map(len, lines))
    wrapped = sum(_is_wrapped(a, b, width) for a, b in itertools.pairwise(lines))
    return wrapped < 0.5 * (len(lines) - 1)


def _is_yaml(lines: Sequence[str]) -> bool:
    """Return whether lines are keys and items, and a key without a value has keys below it."""
    if not all(map(YAML_LINE.match, lines)):
        return False
    return any(
        YAML_KEY.fullmatch(above) and YAML_KEY.match(line) and _indent(line) > _indent(above)
        for above, line in itertools.pairwise(lines)
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def join_lines(lines: Sequence[str], words: Counter[str] | None = None) -> list[str]:
    """Return the lines of a paragraph, with those that were wrapped joined to the one before.

    Args:
        lines: those of one paragraph, without blanks at their ends.
        words: how often the document has each word, which tells what a line's end has cut; None
            leaves hyphens and what stands behind them as they are.
    """
    if stand_alone(lines):
        return list(lines)
    begins = begin_records(lines)
    width = max((len(line) for line in lines), default=0)
    full = [_is_wrapped(before, line, width) for before, line in itertools.pairwise(lines)]
    inside = [is_full for is_full, new in zip(full, begins[1:], strict=True) if not new]
    # the longest line is always full: of some lines that stand for themselves, one is
    is_filled = len(inside) < 3 or sum(inside) >= LEAST_FULL * len(inside)
    is_filled = is_filled and (all(inside) or not _are_entries(lines))
    sentence_case = bool(lines) and not _begins_small(lines[0]) and not are_quantities(lines)
    is_timed = bool(lines) and TIME_ALONE.fullmatch(lines[0]) is not None
    joined = [[line] for line in lines[:1]]
    for number, (before, line) in enumerate(itertools.pairwise(lines)):
        is_text = sentence_case and len(before.split()) > 1
        goes_on = (
            (is_text and _begins_small(line) and not before.endswith((".", ":", "!", "?")))
            or (words is not None and _is_cut(before, line))
            or (is_timed and TIME_ALONE.fullmatch(before))
        )
        if begins[number + 1] or not (goes_on or (is_filled and full[number])):
            joined.append([line])
        else:
            joined[-1][-1:] = [*_seam(before, line, words), line]
    return ["".join(parts) for parts in joined]


def _are_entries(lines: Sequence[str]) -> bool:
    """Return whether lines begin with capitals or digits, and no sentence ends in any of them."""
    return all(
        (line[:1].isupper() or line[:1].isdigit()) and not SENTENCE_END.search(line)
        for line in lines
    )


def _begins_small(line: str) -> bool:
    return line[:1].islower()


def _is_cut(line: str, following: str) -> bool:
    """Return whether the end of a line has cut a word, in a text and not in a list of words."""
    is_text = " " in line or " " in following
    return is_text and _begins_small(following) and bool(HYPHEN.search(line[-LONGEST_WORD:]))


def _seam(line: str, following: str, words: Counter[str] | None) -> tuple[str, str]:
    """Return a line, and what parts it from the next: the halves of a word that was cut are one."""
    if UNSPACED.fullmatch(line[-1:]) and UNSPACED.fullmatch(following[:1]):
        return line, ""
    cut, second = HYPHEN.search(line[-LONGEST_WORD:]), re.match(r"\w+", following)
    if words is None or not cut or not second:
        return line, " "
    if second[0].lower() in SUSPENDED and following.startswith(" ", second.end()):
        return line, " "
    if following.startswith("-", second.end()):  # "up-to-date"
        return line, ""
    begun = line[-LONGEST_WORD:].rpartition(" ")[2].lstrip("\"'“‘„«([")
    # a word with a hyphen or a mark of an address in it, or of one letter, is hardly ever cut
    is_whole = begun != cut[0] or len(cut[1]) == 1
    if cut[2] == "\u00ad" or not (is_whole or keeps_hyphen(cut[1], second[0], words)):
        return line[:-1], ""
    return line, ""


def keeps_hyphen(first: str, second: str, words: Counter[str], *, is_printed: bool = False) -> bool:
    """Return whether a hyphen at the end of a line is a part of its word.

    Args:
        first: what stands before it.
        second: what begins the next line.
        words: how often the document has each word, in small letters.
        is_printed: the lines are those of a printed page, which cut words anywhere.
    """
    whole, parted = f"{first}{second}".lower(), f"{first}-{second}".lower()
    if words[whole] != words[parted]:
        return words[parted] > words[whole]
    if not second[0].islower() or first.isdigit() or first.lower() in COMPOUND:
        return True
    if is_printed:
        return False
    # programs break lines only at hyphens that belong there; a noun of German begins large
    are_words = bool(first[0].islower() and words[first.lower()] and words[second.lower()])
    return are_words or second.lower() in CLITICS


def words_of(lines: Sequence[str]) -> Counter[str]:
    """Count the words of lines but the last one of each, which the line's end may have cut.

    None are counted where no line ends with a hyphen.
    """
    if not any(line.rstrip().endswith(("-", "\u2010")) for line in lines):
        return Counter()
    found = Counter[str]()
    for line in lines:
        known = line if line[-1:].isspace() else line.rpartition(" ")[0]
        found.update(re.findall(r"\w+(?:-\w+)*", known.lower()))
    return found


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
