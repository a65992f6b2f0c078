"""Compare a prediction with gold answers, word by word.

`words` keeps apart what may differ: "37m" is one word and "37 m" two. Who grades an answer by hand
takes both for right. So an answer is compared as it stands, and once more in one spelling of
numbers, units, dates and transliterated names.
"""

# ruff: noqa: RUF001 - letters that look alike are what this is about
from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import regex

from pdtrain.documents.words import ARTICLES, ending_article, holds, plain, words
from pdtrain.evaluation.grading import han_numbers
from pdtrain.evaluation.grading.listing import in_order_of, parts_of
from pdtrain.evaluation.grading.numerals import in_digits
from pdtrain.evaluation.grading.spelling import (
    MONTHS,
    before_numbers,
    contradict,
    in_usual_words,
)

ENDS = ".,;:!?"  # that end what stands between blanks
# what is written right behind a number as well as after a blank, in letters of either case
UNITS = (
    "mm cm dm km µm nm mg kg ml cl dl hl ha ms min mi ft yd lb lbs oz mph ma kv kw mw gw wh kwh "
    "mwh hz khz mhz ghz kb mb gb tb kib mib gib tib px dpi db bn am pm pa hpa kpa bar kcal cal kj "
    "rpm m2 m3 cm2 cm3 km2 m² m³ cm² cm³ km² мм см км кг мин руб чел"
).split()
# but 5G and 3M are names, and 1M is a million
UNIT = rf"(?:(?i:{'|'.join(UNITS)})|[mgtlhvLVмгтлч])"
SHORT_MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec".split()
MONTH = rf"(?:{'|'.join([*MONTHS, *SHORT_MONTHS])})\b"
# in transliterations from Arabic, Sanskrit and Japanese they are left out as one likes
MARKS = regex.compile("(?<=[aeiouy][\u0300\u0301]?)\u0304|(?<=[^aeiouy\\W])[\u0323\u0331\u032e]")
# of Latvian, Lithuanian, Yoruba and Igbo, where words differ by such marks alone
TELLING = regex.compile("[ģķļņėẹịọụ]")
HALF_GAP = regex.compile(r"(?<=\p{Arabic})\u200c(?=\p{Arabic})")  # Persian also puts a blank
INSIDE = regex.compile(r"(?<=\p{L})'(?=\p{L})")
SPELT_OUT = str.maketrans(
    {"œ": "oe", "æ": "ae", "ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "‐": "-"}
)
GROUPED = re.compile(r"(?<![\w.,:'-])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?!\w| \d)")
WITH_UNIT = re.compile(
    rf"(?<![^\W_])(?<![$€£¥])(?<!\d[.,:])(\d++(?:[.,:]\d++)*+)({UNIT})(?![^\W_])"  # $5m: millions
)
CLOCK = re.compile(
    r"(?<![\d.,:])([01]?\d|2[0-4])(?: ?h ?([0-5]\d)\b|\.([0-5]\d)(?= ?(?:uhr\b|h\b|[ap]\.? ?m\b)))"
)
AFTER_MONTH = re.compile(rf"\b({MONTH}\.? \d\d?)(?:st|nd|rd|th)\b")
BEFORE_MONTH = re.compile(rf"\b(\d\d?)(?:st|nd|rd|th)?(?: of)?(?= {MONTH})")
DATED = re.compile(rf"\b({MONTH})\.? (\d\d?),? (\d{{4}})\b")
DAY = re.compile(rf"(?<!\d )\b({MONTH})\.? (\d\d?)\b(?![.,:/–-]?\d)")  # of no year
SHORT_MONTH = re.compile(rf"(?:(?<=\b\d )|(?<=\b\d\d ))({'|'.join(SHORT_MONTHS)})\b\.?")
PERCENT = re.compile(r"(?<=\d) ?(?:%|per cent\b)")
TIMES = re.compile(r"(?<=\d)(?<!\b0) ?[x×*] ?(?=\d)")  # 0x10 is one number
PART = r"[\p{L}\p{M}\p{N}]++(?:[.,][\p{L}\p{M}\p{N}]++)*+"
COMPOUND = regex.compile(rf"{PART}(?:[-‐&_]{PART})*+")
TAIL = re.compile(r"-(?=(?:based|born|built|owned|led|era)\b)")  # leaves a name what it is
# between digits it is a range or a minus
JOINT = regex.compile(r"(?<=[\p{L}\p{M}])[-‐&_](?=[\p{L}\p{N}])|(?<=\p{N})[-‐&_](?=\p{L})")


# of a name of two words or more, which tells the person without it; not "Mrs", who may be another
# than he who has the name, and not "Miss" and "Doctor", which titles of works have
TITLE = re.compile(r"^(?:dr|prof|professor|sir)\.?\s+(?=\w\S*\s+\w)", re.IGNORECASE)
# of a noun, as other languages than English have it; German writes nouns large, so that "die hard"
# has none. Not "d'", which is a part of names, and no word that is often English
ARTICLE = re.compile(
    r"^(?:(?:der|die|das|den|dem|ein|eine|einen|einem|einer)\s+(?=[A-ZÄÖÜ])"
    r"|(?:le|la|les|une?|el|las|una|il|gli|uno|het|een)\s+(?=[^\W\d_])|(?:l|dell|all|nell)['’](?=\w))"
)
ARABIC = "ال"
TIED = re.compile(rf"({ARABIC})?([\u05d0-\u05ea]+|[\u0620-\u064a]+)(?!\w)")
SHORTEST_TIED = 4  # letters
ROMAN = r"X{0,3}(?:IX|IV|V?I{0,3})"
NUMBERED = re.compile(rf"(?<=[^\W\d_] )(?=[IVX]{{2}})({ROMAN})\b(?![.-]\w)")
RULERS = "First Second Third Fourth Fifth Sixth Seventh Eighth Ninth Tenth".split()
RULER = re.compile(rf"(?<=[a-z] )the ({'|'.join(RULERS)})\b(?! [A-Z])")


def compared(prediction: str, answers: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the words of a prediction and of each gold answer, as they are and in one spelling.

    A list counts in any order, and a name without its title. Where a number has another currency
    they are compared in one spelling alone, which has that as a word.
    """
    for answer in answers:
        spelt = in_one_spelling(prediction, answer)
        if not contradict(*spelt):
            yield _words_of(prediction, answer)
        yield _words_of(*spelt)
        for shorter in {TITLE.sub("", answer), ARTICLE.sub("", answer)} - {answer}:
            yield _words_of(*in_one_spelling(prediction, shorter))
        if parts := parts_of(spelt[1]):
            found, gold = _words_of(*spelt)
            yield in_order_of(gold, parts, found), gold


def _words_of(prediction: str, answer: str) -> tuple[list[str], list[str]]:
    """Return the words of a prediction and of a gold answer, which has one at least.

    "A" may be all that a gold answer says, or its end, as in "vitamin A": then it counts there, and
    in the prediction behind the same word. Of signs alone, such as "+", what stands between blanks
    are the words.
    """
    gold, last = words(answer), ending_article(answer)
    if last:
        said = words(prediction, with_articles=True)
        before = gold[-1:]
        kept = [
            word
            for i, word in enumerate(said)
            if word not in ARTICLES or (word == last and before in ([], said[max(0, i - 1) : i]))
        ]
        return kept, [*gold, last]
    if gold:
        return words(prediction), gold
    signs = plain(answer).split()
    return [one.strip(ENDS) or one for one in plain(prediction).split()], signs


def in_one_spelling(prediction: str, answer: str) -> tuple[str, str]:
    """Return a prediction and a gold answer in the spelling that is common to the ways to write it.

    Hebrew and Arabic tie "in", "and" and the like to the next word, which lose them.

    A compound of the prediction falls into its parts where all of them stand in the gold answer:
    "Boeing-747" is "Boeing 747", but "twenty-five days" are no "five days", and "her mother-in-law"
    is not "her mother".
    """
    with_marks = TELLING.search(plain(f"{prediction} {answer}")) is not None
    if len(words(answer)) > 1:
        prediction, answer = map(_in_figures, (prediction, answer))
    gold = _opened(_spelt(answer, with_marks=with_marks))
    among = words(gold, with_articles=True)

    def open_known(compound: re.Match[str]) -> str:
        parts = JOINT.sub(" ", compound[0])
        if parts == compound[0] or not holds(among, words(parts, with_articles=True)):
            return compound[0]
        return parts

    said = COMPOUND.sub(open_known, _spelt(prediction, with_marks=with_marks))
    return _untied(said, gold), gold


def _untied(said: str, gold: str) -> str:
    """Return a prediction without the small words that are tied to the gold answer's first word."""
    first = TIED.match(gold.strip())
    if not first or len(gold) < SHORTEST_TIED:
        return said
    alone = re.escape(first[2])
    # others, such as Hebrew "m" and Arabic "k", begin too many words that are longer by them
    before = "[והבל]{1,2}" if first[0] < ARABIC else f"و?[بل]?(?:{ARABIC}|ل)?"
    return re.sub(rf"(?<!\w)(?:{before})-?{alone}(?!\w)", f" {first[2]}", said)


def _in_figures(text: str) -> str:
    """Return a text in which the number behind a name, as in "Osk II", is in figures."""

    def figure(found: re.Match[str]) -> str:
        values = [10 if c == "X" else 5 if c == "V" else 1 for c in found[1]]
        later = [*values[1:], 0]
        return str(sum(-v if v < n else v for v, n in zip(values, later, strict=True)))

    text = RULER.sub(lambda found: str(RULERS.index(found[1]) + 1), text)
    return NUMBERED.sub(figure, text)


def _opened(gold: str) -> str:
    """Return a gold answer with its compounds in parts.

    One with a part that would be taken for an article stays whole, as in "the A-team", unless that
    ends the answer, as in "Type-A".
    """

    def open_one(compound: re.Match[str]) -> str:
        parts = JOINT.sub(" ", compound[0])
        found = words(parts, with_articles=True)
        if not words(gold[compound.end() :], with_articles=True):
            found = found[:-1]
        return compound[0] if parts == compound[0] or ARTICLES & {*found} else parts

    return COMPOUND.sub(open_one, gold)


def _spelt(text: str, *, with_marks: bool) -> str:
    spelt = plain(HALF_GAP.sub(" ", WITH_UNIT.sub(r"\1 \2", text)))
    if not spelt.isascii():
        if not with_marks:
            parts = MARKS.sub("", unicodedata.normalize("NFD", spelt))
            spelt = unicodedata.normalize("NFC", parts)
        spelt = spelt.translate(SPELT_OUT)
    spelt = in_digits(before_numbers(TAIL.sub(" ", INSIDE.sub("", spelt))))
    spelt = han_numbers.in_digits(spelt)
    spelt = GROUPED.sub(lambda found: found[0].replace(" ", ""), spelt)
    spelt = CLOCK.sub(lambda found: f"{found[1]}:{found[2] or found[3]}", spelt)
    spelt = AFTER_MONTH.sub(r"\1", BEFORE_MONTH.sub(r"\1", spelt))
    spelt = DAY.sub(r"\2 \1", DATED.sub(r"\2 \1 \3", spelt))
    spelt = SHORT_MONTH.sub(_whole_month, spelt)
    return in_usual_words(TIMES.sub(" x ", PERCENT.sub(" percent", spelt)))


def _whole_month(found: re.Match[str]) -> str:
    return next(month for month in MONTHS if month.startswith(found[1]))
