"""Find the borders of sentences in any language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import regex

from pdtrain.documents.language import detect_language
from pdtrain.documents.sentences.abbreviations import ABBREVIATIONS, ABBREVIATIONS_OF, NUMBERED_OF
from pdtrain.documents.sentences.ends import THAI_BEGINS, THAI_BLANK, ends_inside

Span = tuple[int, int]  # characters of a text, from the first to before the second

WINDOW = 4000  # characters that the segmenter sees at a time: its time grows with their square
LONGEST_SPOKEN = 240  # characters of a sentence that nothing ends, as in what is written down
TAIL = 20  # characters at a sentence's end that tell whether it goes on
SPOKEN = 140  # characters of the parts that such a sentence is split into, about

LONGEST_SHORT = 5  # letters of a word that a language with capitals cuts short before a small one
# where one letter and a full stop are an abbreviation, as in the title of a doctor
BY_LETTER = frozenset(("ar", "fa", "ur", "he"))
LEAST_THAI = 5  # letters of a Thai word before a full stop that ends a sentence
# a day or a number in its order, though what is counted has a capital
ORDINAL_OF = {
    "de": re.compile(
        r"\b(?:am|im|der|die|das|den|dem|des|vom|zum|zur|beim)\s+\d{1,2}\.$", re.IGNORECASE
    ),
    "da": re.compile(r"\b(?:den|det|de|under|efter|fra|til)\s+\d{1,2}\.$", re.IGNORECASE),
    "hu": re.compile(r"(?:^|\s)[IVXLC]+\.$"),
    "ko": re.compile(r"(?<!\d)\d{4}\.(?: ?\d{1,2}\.){1,2}$"),
    "tr": re.compile(r"(?:^|\s)(?:\d{1,2}|[IVXLC]+)\.$"),
}
# a day, and the month and year behind it; a day and month, and the year behind them; a year, and
# the month and day behind it
DATES = (
    (re.compile(r"(?<!\d)\d{1,2}\.$"), re.compile(r"\d{1,2}\. ?\d{4}")),
    (re.compile(r"(?<!\d)\d{1,2}\. ?\d{1,2}\.$"), re.compile(r"\d{4}")),
    (re.compile(r"(?<!\d)\d{4}\.$"), re.compile(r"\d{1,2}\. ?\d{1,2}\.")),
    (
        re.compile(r"\d (?:jan|feb|mrt|apr|jun|jul|aug|sept?|okt|nov|dec)\.$"),
        re.compile(r"\d{4}"),
    ),
)
# of an item in a list, of a question and its answer, or of a part of a law, a play or a book
NUMBER = re.compile(
    "(?:(?i:Art(?:icle|ikel|ículo|icolo|igo)|Section|Chapter|Rule|Kapitel|Madde|Статья|Глава|Act|"
    "Scene|Question|Frage|Step|Schritt|Figure|Table|Abbildung|Tabelle) )?"
    "\\(?(?:[A-Z]?\\d{1,3}(?:\\.\\d{1,3})*|[A-Za-z]|[ivxlc]{1,6}|[IVXLC]{1,6})[.)\uff0e]"
)
WIDE_NUMBER = re.compile("(?<![0-9A-Za-z])(?:\\d{1,3}|[A-Z])\uff0e$")  # the same, in Chinese
SAID = re.compile("[^。！？，、：“”「」\\s]{1,6}?(?:说|說|问|問|道|喊|叫|答|笑)")  # noqa: RUF001
# behind what is said: a dash and who says it, or, in Korean, the verb
SAID_BY = regex.compile(r"[—–-]\s*\p{Ll}|(?:이?라고|이?라며|하고|하며)\s")
NOTE = r"\[(?:\^[\w -]{1,20}|(?:\p{L}{1,9} ?)?\d{1,3}|\p{L})\]"
# of a note or a quote's end, without a blank behind the sentence that it belongs to; before a
# letter of East Asia, an asterisk or a quote may open what follows
MARKS = regex.compile(
    rf"(?:[¹²³⁰⁴-⁹*†‡“”»]|(?<=\u2039)«|{NOTE}){{1,12}}(?=\s|\Z)"
    rf"|(?:[¹²³⁰⁴-⁹”]|{NOTE}){{1,12}}(?=[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}])"
)
# quotes inside others, which the segmenter does not know, as those that it does
INNER = re.compile(r"(?<!\w)\u201a(?=\w)((?:[^\u201a\u2018’]|(?<![.,!?…])’)*)\u2018")
POINTED = str.maketrans("\u2039\u203a", "«»")
# of a first name in two parts, and not those of Jesus Christ in French
INITIALS = regex.compile(r"(?<!\p{L})(?!J\.-C)\p{Lu}\.-\p{Lu}\.$")
# of a name such as ".NET", and no sentence whose blank is missing
ENDING = regex.compile(r"(?:NET|(?<!\p{Ll}\.)\p{Lu}{2,4})\b")
# letters, with the full stop, of a part of an abbreviation without blanks, as that of a kilometre
LONGEST_INDIC = 4
INDIC = re.compile(r"[\u0900-\u0dff]{1,4}\.")  # its next part
QUOTE_GOES_ON = re.compile(
    r"[とってはがをにのもで]"
)  # after 」, Japanese goes on with one of these
# a blank before one of these is a better border than others, in speech without punctuation
CONJUNCTION = re.compile(
    r"\s(?=(?:and|but|so|then|because|which|when|or|um|uh|und|aber|dann|weil|et|mais|puis|donc|y|"
    r"pero|entonces|porque|e|ma|poi|mas|então|и|но|потом)\s)"
)
BLANK = re.compile(r"\s")
# goes on with what a bibliography cuts short: the name of a journal, the year of a book
REFERENCE = re.compile(r"[A-Z][a-z]{1,6}\.,|\((?:1[5-9]|20)\d\d[a-z]?\)[.,]")
OPENING = re.compile(r"(?:\A|[^\W\d_]{2}[.!?][\"'”»)]*\s+)[\"'“«(]*([^\W\d_])")  # of a sentence
CLOSING = frozenset("」』）】〉》〕)]")  # noqa: RUF001 - begin no sentence
HANGUL = re.compile("[가-힣]")
COMMA = re.compile("[,;:،؛、\uff0c\uff1b\uff1a]\\s*|\\s[–—-]\\s")


def sentence_spans(text: str, language: str | None = None) -> list[Span]:
    """Return the spans of the sentences of a text, without the blanks between them.

    A line break always ends a sentence. A wrong border moves the borders of passages a little; it
    never loses text.

    Args:
        text: any text.
        language: its code by ISO 639-1; None to tell it from the text.
    """
    if language is None:
        language = detect_language(text, least_probability=0.5)
    spans: list[Span] = []
    goes_small = language != "en" if language else _has_capitals(text)
    for line in re.finditer(r"[^\n]+", text):
        found = [strip_span(text, span) for span in _segments(text, line.span(), language or "en")]
        found = [span for span in found if span[0] < span[1]]
        for span in _joined(text, found, language or "en", goes_small):
            spans += _spoken(text, span)
    return spans


def strip_span(text: str, span: Span) -> Span:
    """Return the span without the blanks at its ends."""
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def _segments(text: str, line: Span, language: str) -> Iterator[Span]:
    """Yield the sentences that the segmenter finds in a line, and those that an ellipsis ends."""
    from sentencex import get_sentence_boundaries

    begun: int | None = None  # start of a sentence whose end the last window did not show
    for start, end in _windows(text, line):
        for found in get_sentence_boundaries(language, _with_known_quotes(text[start:end])):
            first = start + found["start_index"] if begun is None else begun
            last = start + found["end_index"]
            begun = None
            if last == end < line[1] and not found["boundary_symbol"]:
                begun = first
                continue
            for inner in ends_inside(text, (first, last), language):
                yield first, inner
                first = inner
            yield first, last
    if begun is not None:
        yield begun, line[1]


def _with_known_quotes(text: str) -> str:
    """Return a text of the same length with quotes that the segmenter knows."""
    return INNER.sub(r"„\1“", text).translate(POINTED)


def _windows(text: str, line: Span) -> Iterator[Span]:
    """Cut a long line at blanks."""
    start, end = line
    while end - start > WINDOW:
        blank = text.rfind(" ", start + WINDOW // 2, start + WINDOW)
        cut = start + WINDOW if blank < 0 else blank + 1
        yield start, cut
        start = cut
    yield start, end


def _has_capitals(text: str) -> bool:
    """Return whether the sentences of a text begin with capitals, unlike in many chats."""
    opening = [letter.isupper() for letter in OPENING.findall(text[:WINDOW])]
    return bool(opening) and opening[0] and sum(opening) >= 0.5 * len(opening)


def _joined(text: str, spans: list[Span], language: str, goes_small: bool) -> list[Span]:
    """Join sentences that the segmenter cut after an abbreviation, a number or a quotation."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and start == joined[-1][1] and (marks := MARKS.match(text, start, end)):
            joined[-1] = (joined[-1][0], marks.end())
            start, end = strip_span(text, (marks.end(), end))
            if start == end:
                continue
        if joined and _goes_on(text, joined[-1], start, language, goes_small):
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _goes_on(text: str, span: Span, following_start: int, language: str, goes_small: bool) -> bool:
    """Return whether a sentence goes on with what the segmenter takes for the next one."""
    start, end = span
    following = text[following_start]
    if following in CLOSING or (following == "-" and following_start == end):
        return True
    sentence = text[max(start, end - TAIL) : end]  # a sentence that was joined may be long
    if sentence[-1] in '?!…»\u203a”“"’' and SAID_BY.match(text, following_start):
        return True
    if (end - start <= TAIL and NUMBER.fullmatch(sentence)) or WIDE_NUMBER.search(sentence):
        return True
    if (
        text[start] in "“「『"
        and sentence.endswith(("”", "」", "』"))
        and SAID.match(text, following_start)
    ):
        return True
    if sentence.endswith(("」", "』")):
        return bool(QUOTE_GOES_ON.match(following))
    if sentence.endswith(("”", '"', "’")) and following_start == end:  # what was said, in Korean
        return HANGUL.match(following) is not None
    if REFERENCE.match(text, following_start) and sentence.endswith((".", ".)")):
        return True
    written = re.split(r"[\s\"'“‘’(\[]", sentence)[-1]
    last = written.lower()
    if not last.endswith("."):
        return False
    if following_start == end and following.isdecimal() and last[-2:-1].isdecimal():
        return True
    if following_start == end and ENDING.match(text, following_start):
        return True
    if following_start == end and len(last) <= LONGEST_INDIC and INDIC.match(text, following_start):
        return True
    if following.isupper() and INITIALS.search(sentence):
        return True
    # in English, the first of two such numbers is a decimal
    if language != "en" and any(
        a.search(sentence) and b.match(text, following_start) for a, b in DATES
    ):
        return True
    if language == "th":
        return following_start == end or len(last.rsplit(".", 2)[-2]) < LEAST_THAI
    if language in ORDINAL_OF and ORDINAL_OF[language].search(sentence):
        return True
    known = ABBREVIATIONS_OF.get(language, frozenset())
    if last[:-1] in ABBREVIATIONS or written[:-1] in known:
        return True
    if last[:-1] in known or known.issuperset(last[:-1].split(".")):  # "GS.TS." are two of them
        return True
    if following.isdigit() and last[:-1] in NUMBERED_OF.get(language, ()):
        return True
    # in Arabic, "and" is the first letter of the word that it stands before
    if language in BY_LETTER and len(last.rsplit(".", 2)[-2].lstrip("و")) == 1:
        return True
    # a day or a number in its order, before a month or what is counted, or a word cut short
    is_short = last[:-1].isdigit() or len(last) <= LONGEST_SHORT
    is_small = following.islower() and not text[following_start + 1 : following_start + 2].isupper()
    return is_short and is_small and goes_small


def _spoken(text: str, span: Span) -> list[Span]:
    """Split a long sentence that no mark ends, as in speech that was written down, into parts."""
    start, end = span
    is_ended = unicodedata.category(text[end - 1])[0] not in "LMN"  # a vowel may be a mark
    if end - start <= LONGEST_SPOKEN or is_ended:
        return [span]
    parts: list[Span] = []
    while end - start > LONGEST_SPOKEN:
        reach = (start + SPOKEN // 2, start + LONGEST_SPOKEN - SPOKEN // 4)
        borders = [m.end() for m in COMMA.finditer(text, *reach)]
        for pattern in (CONJUNCTION, THAI_BEGINS, THAI_BLANK, BLANK):
            borders = borders or [m.start() for m in pattern.finditer(text, *reach)]
        if not borders:
            break
        border = min(borders, key=lambda b: abs(b - start - SPOKEN))
        parts.append(strip_span(text, (start, border)))
        while text[border].isspace():
            border += 1
        start = border
    return [*parts, (start, end)]
