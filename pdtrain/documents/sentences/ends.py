"""Say where sentences end inside what the segmenter takes for one."""

from __future__ import annotations

import re

import regex

Span = tuple[int, int]  # characters of a text, from the first to before the second


def _before_digit(abbreviations: str) -> re.Pattern[str]:
    """Return where a sentence ends before a digit: after a word, but none of these or a numeral."""
    words = "|".join(abbreviations.split())
    return re.compile(
        rf"\b(?!(?:{words}|(?-i:[IVXLC]+))\.)[^\W\d_]{{3,}}\.(?=\s+\d)", re.IGNORECASE
    )


# from the first mark of a row alone: from each of them, a long row would take its square in time
EAST_ASIAN_END = re.compile(
    '(?<![。\uff01\uff1f])[。\uff01\uff1f]++[”」』\uff09"]*+(?=\\s*+[0-9A-Za-z])'
)
# a sentence ends here, too: the segmenter takes it for an abbreviation, or knows no such sign
ETHIOPIC_END = re.compile("(?:፡፡|።)+")
TIBETAN_END = re.compile("(?<![།༎])[།༎]++(?=\\s*+[^།༎])")
# Thai has a blank between phrases, and no mark that ends a sentence: a polite word does, and these
# hardly ever stand but at the beginning of one
THAI_END = re.compile("(?:ครับ|ค่ะ|คะ)(?=\\s+[ก-ฮเ-ไ])")
THAI_BEGINS = re.compile(
    "\\s(?=นอกจากนี้|นอกจากนั้น|ต่อมา|อย่างไรก็ตาม|ทั้งนี้|ดังนั้น|จากนั้น|หลังจากนั้น|ปัจจุบัน|ในปัจจุบัน|ในที่สุด|แต่)"
)
# a blank of Thai that stands beside no number, abbreviation or mark of repetition
THAI_BLANK = re.compile("(?<=[ก-ฮะ-ฺเ-ๅ็-๎]{3})\\s(?=[ก-ฮเ-ไ]{2})")
# "and so on", and units
CYRILLIC_END = re.compile(
    r"(?:\bт\. ?[дп]|\b[иі] (?:др|пр|ін)|\d (?:м|км|см|мм|кг|т|ч|мин|руб|коп|чел))\."  # noqa: RUF001
    r"(?=\s+[«\"]?[А-ЯЁЄІЇҐ])"  # noqa: RUF001
)
ENDS_OF = {
    "am": ETHIOPIC_END,
    "bo": TIBETAN_END,
    "cs": _before_digit(
        "odst čl kap obr tab tel tzn např tis mil mld max min srov roč str resp cca popř zák vyhl "
        "nám hod odd příl event"
    ),
    "da": _before_digit(
        "kap art tlf fig tab stk pkt maks min mio mia jan feb mar apr jun jul aug sep sept okt "
        "nov dec afd str inkl ekskl eks dvs hhv evt pct vedr"
    ),
    "de": _before_digit(
        "abb abs abschn abt anh anl anm art aufl bde beil bsp bzw evtl fig gem ges ggf inkl exkl "
        "insg kap max min mind mio mrd nrn par pos rdnr sog str tab tel vers vgl zit ziff zzgl "
        "jan feb mrz apr jun jul aug sep sept okt nov dez frl std sek hrsg ebd lit tsd fax febr "
        "mär urt rspr entsch usw etc med [^\\W\\d_]*(?:str|pl|nr)"
    ),
    "dz": TIBETAN_END,
    "fi": _before_digit(
        "esim kpl puh mom luk vrt milj mrd mrs tark kuv taul alk max min maks väh enint nro huom"
    ),
    "ja": EAST_ASIAN_END,
    "km": re.compile(r"[។៕]+(?=\s*\S)"),
    "ru": CYRILLIC_END,
    "th": THAI_END,
    "ti": ETHIOPIC_END,
    "uk": CYRILLIC_END,
    "zh": EAST_ASIAN_END,
}
# a unit, which the segmenter takes for the beginning of a name
UNIT_END = regex.compile(
    r"(?<!\d)(?:\d{1,3}|\d+[.,]\d+) ?(?:[kcm]?m|k?g|t|h?l|ha?|min|[кcм]?м|кг|т|га)\."  # noqa: RUF001
    r"(?=\s+[\"“«(]?\p{Lu})"
)
# a stroke that stands for a danda, behind three words or more
STROKE = regex.compile(
    r"(?<=[\u0900-\u0d7f],?\s[\u0900-\u0d7f]{1,40},?\s[\u0900-\u0d7f]{1,40}\s?)\|{1,2}(?=\s)"
)
ELLIPSIS = re.compile(r"…[\"'”’)\]]*(?=\s+[\"'“‘(\[]*[^\W\d_a-zß-ÿ])")
# "and so on", which a segmenter takes for a word cut short
AND_SO_ON = regex.compile(
    r"(?<=\s)(?:etc|usw|itd|itp|atd|apod|ecc|enz|osv|jne|stb|κ\.?λπ)\."
    r"(?=\s+[\"“«„‚(\[]*\p{Lu})"  # noqa: RUF001
)
# whole sentences in brackets, and no word cut short or a number: "(Ed.)", "(2. Aufl.)"
BRACKETED = regex.compile(
    r"[(\[]\p{Lu}(?=[^()\[\]]{5})[^()\[\]]*(?:\p{Ll}{2}[.!?…]|[!?…])[\"'”’»]*[)\]]"
    r"\s+(?=[\"“«„‚(\[]*\p{Lu})"  # noqa: RUF001
    "|\uff08[^\uff08\uff09]*[。\uff01\uff1f][”」』]*\uff09(?=\\p{Lo})"
)


def ends_inside(text: str, span: Span, language: str) -> list[int]:
    """Return where sentences end inside what the segmenter takes for one."""
    patterns = [ELLIPSIS, STROKE, AND_SO_ON, *([ENDS_OF[language]] if language in ENDS_OF else [])]
    if language != "de":  # there, what is counted has a capital, too
        patterns.append(UNIT_END)
    found = {match.end() for one in patterns for match in one.finditer(text, *span)}
    start, end = span
    while bracketed := BRACKETED.match(text, start, end):
        start = bracketed.end()
        found.add(start)
    return sorted(found)
