"""Write units, money, times, ordinals and British words in one of the ways to write them.

Texts come in lower case. What is written here is compared with what is written here alone, so that
it may read oddly.
"""

# ruff: noqa: RUF001 - letters that look alike are what this is about
from __future__ import annotations

import re

NUMBER = r"\d++(?:[.,]\d++)*+"
METRE = r"m(?:et(?:re|er|ro)s?|ètres?|etern?|etri)"
GRAM = r"gram(?:me|m|o|mi)?s?"
LITRE = r"lit(?:re|er|ro)s?"
BYTE = r"bytes?"
# what follows a number, by the word that is common to the ways to write it; not "in", a word of
# other meaning, and not "lb", which in words is also money
UNITS = {
    "km/h": rf"(?:(?:k|kilo){METRE}|km) per hour|km ?/ ?h|kmh|kph|km an hour",
    "mph": r"(?:miles|mi) (?:per|an) hour",
    "m2": rf"square {METRE}|sq\.? ?m|qm",
    "km2": rf"square kilo{METRE}|sq\.? ?km",
    "m3": rf"cubic {METRE}",
    "m": METRE,
    "km": rf"(?:kilo|kiló|chilo|quilo|quilô){METRE}|kms",
    "cm": rf"centí?i?{METRE}",
    "mm": rf"milí?l?i?{METRE}",
    "g": GRAM,
    "kg": rf"kilo{GRAM}|kilos?|kgs",
    "mg": rf"milli{GRAM}",
    "l": LITRE,
    "ml": rf"milli{LITRE}",
    "t": r"tonnes?|tonnen",
    "s": r"seconds?|secs?|sekunden?|sec",
    "min": r"minutes?|mins?|minuten?|minutos?|minuti",
    "h": r"hours?|hrs?|stunden?",
    "mi": r"miles?",
    "ft": r"feet|foot",
    "inch": r"inch(?:es)?",
    "yd": r"yards?",
    "lb": r"lbs?",
    "oz": r"ounces?",
    "ha": r"hectares?|hektar",
    "w": r"watts?",
    "kw": r"kilowatts?",
    "mw": r"megawatts?",
    "v": r"volts?",
    "kb": rf"kilo{BYTE}",
    "mb": rf"mega{BYTE}",
    "gb": rf"giga{BYTE}",
    "tb": rf"tera{BYTE}",
    "c": r"°c|(?:degrees?|grad) (?:celsius|centigrade)",
    "f": r"°f|degrees? fahrenheit",
}
UNIT = re.compile(
    r"(?<=\d)(?: |-|(?=°))(?:" + "|".join(f"({words})" for words in UNITS.values()) + r")\b"
)
NAMES = list(UNITS)

MONEY = {
    "dollars": ("$", "us$", "usd", r"(?:us |u\.s\. |american )?dollars?"),
    "euros": ("€", "eur", "euros?"),
    "pounds": ("£", "gbp", r"pounds?(?: sterling)?"),
    "yen": ("¥", "jpy", "yen"),
    "chf": ("chf", "sfr", "swiss francs?|(?:schweizer )?franken"),
    "rupees": ("₹", "inr", "rupees?"),
    "roubles": ("₽", "rub", "roubles?|rubles?"),
    "won": ("₩", "krw"),
}
# millions and the like behind a number, in other languages than English; not "mil", which in
# English is a million, or a thickness
ABROAD = {
    "thousand": r"tausend|тыс|тысяч[аи]?",
    "million": r"mio|millionen|millions|millones|millón|milhões|milhão|milioni|miljoen|miljoner"
    r"|млн|миллион(?:а|ов)?|milyon",
    "billion": r"mrd|milliarden?|milliards?|miliardi|miliardo|miljard(?:er)?|млрд"
    r"|миллиард(?:а|ов)?|milyar",
}
SCALED = re.compile(
    rf"(?<=\d) ?(?:{'|'.join(f'({words})' for words in ABROAD.values())})\b\.?", re.IGNORECASE
)
ABROAD_NAMES = list(ABROAD)
SHORT_SCALE = re.compile(rf"(?<=[$€£¥])({NUMBER}) ?(k|mn?|bn?|tn)\b")
SCALES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
SUM = rf"({NUMBER})"
MONEY_BEFORE = {
    name: re.compile(
        rf"(?<!\w)(?:{'|'.join(re.escape(sign) for sign in signs[:2])}) ?{SUM}(?![\w.,]*\d)"
    )
    for name, signs in MONEY.items()
}
MONEY_BEHIND = {
    name: re.compile(rf"(?<=\d)[ -]?(?:{'|'.join([*map(re.escape, signs[:2]), *signs[2:]])})(?!\w)")
    for name, signs in MONEY.items()
}
SIGNED = re.compile(rf"(?<![\d.,])({NUMBER}) ({'|'.join(MONEY)}|percent)\b")

# the hour of a clock of twelve hours, that of twenty-four, and what stands for one; half past seven
# is another time than seven
HOUR = (
    r"(?<![\d.,:/-])(?<!\bpast )(?<!\bafter )(?<!\bquarter to )(?<!\bhalf )(?<!\bhalb )"
    r"(?<!\bviertel )(?<!\bvor )(?<!\bnach )(\d\d?)"
)
HALF_DAY = re.compile(rf"{HOUR}(?:[:.]([0-5]\d))? ?([ap])(?:m\b|\. ?m\b)")
PART_OF_DAY = re.compile(
    rf"{HOUR}(?::([0-5]\d)(?: oclock)?| oclock) (?:in the (morning|afternoon|evening)|at night\b)"
)
O_CLOCK = re.compile(rf"{HOUR}(?::([0-5]\d))? ?(?:oclock|uhr)\b(?! ?\d)")
NOON = re.compile(r"\b(?:12(?::00)? )?(noon|midnight)\b")

DAYS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
TEENS = "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split()
ORDINALS = {word: i for i, word in enumerate([*DAYS, *TEENS], 1)}
TENS = {
    word: 10 * i
    for i, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
# a third and two thirds are parts, a second is a time, who first came was not the first, and the
# hundred and third is not the third
ORDINAL = re.compile(
    rf"(?<!\d )(?<!\d-)(?<!\ba )(?<!\bone )(?<!\bone-)(?<!\bper )(?<!\bsplit )"
    rf"(?<!\bhundred )(?<!\bhundred-)(?<!\bhundred and )(?<!\bthousand )(?<!\bthousand and )"
    rf"(?:\b({'|'.join(TENS)})[ -]({'|'.join(DAYS[:9])})\b"
    rf"|(?:^(?=\w+\W*$)|(?<=\bthe ))(first|second)\b|\b({'|'.join([*DAYS[2:], *TEENS])})\b"
    rf"|\b({'|'.join(word[:-1] + 'ieth' for word in TENS)})\b)"
)
ENDS = {1: "st", 2: "nd", 3: "rd"}

MONTHS = (
    "january february march april may june july august september october november december"
).split()
ISO_DATE = re.compile(r"(?<![\w.:/-])(\d{4})-(0\d|1[0-2])-([0-3]\d)(?![\w-])")
POINTED_DATE = re.compile(r"(?<![\w.:/-])([0-3]?\d)\.(0?[1-9]|1[0-2])\.(\d{4})(?![\w-]|\.\d)")
FROM_TO = re.compile(
    rf"(?<![\w.,])(?:(?:from|between|von|zwischen) )?({NUMBER}) ?(?:[-–—]|(?:to|until|till|through"
    rf"|bis)) ?(?=\d)|\b(?:between|zwischen) ({NUMBER}) (?:and|und) (?=\d)"
)
SHORT_YEAR = re.compile(r"(?<![\w.,:/-])(\d\d)(\d\d)-(\d\d)(?![\w-]|[.,:/]\d)")

INITIALS = re.compile(r"\b([^\W\d_])\. (?=[^\W\d_]\.)")
SHORT = {"st": "saint", "mt": "mount", "dr": "doctor", "prof": "professor"}
SHORTENED = re.compile(rf"\b({'|'.join(SHORT)})(?:\. ?| )(?=[^\W\d_])")

MINUS = re.compile(r"\bminus (?=\d)")

# what British spelling has, and American
SPELT = (
    (r"\b((?:dis|mis|un|multi|tri)?(?:ard|arm|behavi|cand|clam|col|endeav|fav|ferv|flav|glam|harb"
     r"|hon|hum|lab|neighb|od|parl|ranc|rig|rum|savi|sav|splend|succ|tum|val|vap|vig))our"
     r"(?=(?:s|ed|ing|ful|less|able|ite|ites|hood|hoods|ly|er|ers)?\b)", r"\1or"),
    (r"\b((?:amphi)?theat|(?:epi)?cent|(?:kilo|centi|milli|micro|nano)?met|(?:milli|centi|hecto)?lit"
     r"|fib|calib|lust|spect|scept|meag)re(s?)\b", r"\1er\2"),
    (r"\b([a-z]{4,20})is(e|ed|es|er|ers|ing|ation|ations)\b", r"\1iz\2"),
    (r"\b([a-z]{1,20}ly)s(e|ed|es|er|ers|ing)\b", r"\1z\2"),
    (r"\b(def|off|lic|pret)ence", r"\1ense"),
    (r"\b([a-z]{0,9}[aeiouy][a-z]{0,9}[^aeiouy\W][ea])ll(ed|ing|er|ers)\b", r"\1l\2"),
    (r"\bgrey", "gray"),
    (r"\b(cata|dia|mono)logue", r"\1log"),
    (r"\bprogramme(s?)\b", r"program\1"),
    (r"\bplough", "plow"),
    (r"\bjewellery\b", "jewelry"),
    (r"\baluminium\b", "aluminum"),
    (r"\bmould", "mold"),
    (r"\btyres\b", "tires"),
    (r"\bsceptic", "skeptic"),
    (r"\bmoustache", "mustache"),
    (r"\bpyjamas\b", "pajamas"),
    (r"\baeroplane", "airplane"),
)  # fmt: skip
BRITISH = [(re.compile(pattern), american) for pattern, american in SPELT]


def before_numbers(text: str) -> str:
    """Return a text with ordinals in figures, and with thousands and the like in English words."""
    text = ORDINAL.sub(_ordinal, text)
    text = SCALED.sub(lambda found: f" {ABROAD_NAMES[(found.lastindex or 1) - 1]}", text)
    return SHORT_SCALE.sub(lambda found: f"{found[1]} {SCALES[found[2][0]]}", text)


def in_usual_words(text: str) -> str:
    """Return a text in lower case, its number words in digits, in the common spelling."""
    text = INITIALS.sub(r"\1.", text)
    text = ISO_DATE.sub(lambda found: _date(found[3], found[2], found[1]), text)
    text = POINTED_DATE.sub(lambda found: _date(found[1], found[2], found[3]), text)
    text = FROM_TO.sub(lambda found: f"{found[1] or found[2]}-", text)
    text = SHORT_YEAR.sub(_whole_years, MINUS.sub("-", text))
    text = SHORTENED.sub(lambda found: f"{SHORT[found[1]]} ", text)
    text = NOON.sub(lambda found: "12:00" if found[1] == "noon" else "0:00", text)
    text = O_CLOCK.sub(_whole_hour, HALF_DAY.sub(_of_day, PART_OF_DAY.sub(_of_day, text)))
    for name, before in MONEY_BEFORE.items():
        text = MONEY_BEHIND[name].sub(f" {name}", before.sub(rf"\1 {name}", text))
    text = UNIT.sub(lambda found: f" {NAMES[(found.lastindex or 1) - 1]}", text)
    for british, american in BRITISH:
        text = british.sub(american, text)
    return text


def contradict(said: str, wanted: str) -> bool:
    """Return whether a text has a sum of the wanted one in another currency alone, or as per cent.

    Args:
        said: the text, in this spelling.
        wanted: the text whose sums are looked for, in this spelling.
    """
    found = set(SIGNED.findall(said))
    numbers = {number for number, _ in found}
    return any(one[0] in numbers and one not in found for one in SIGNED.findall(wanted))


def _ordinal(found: re.Match[str]) -> str:
    tens, ones, alone, whole, round_ = found.groups()
    if round_:
        value = next(TENS[word] for word in TENS if word[:-1] + "ieth" == round_)
    else:
        value = TENS.get(tens, 0) + ORDINALS[ones or alone or whole]
    is_teen = 10 < value % 100 < 20
    return f"{value}{'th' if is_teen else ENDS.get(value % 10, 'th')}"


def _of_day(found: re.Match[str]) -> str:
    """Return a time of a clock of twelve hours as one of twenty-four."""
    hour, part = int(found[1]), found[3] or "night"
    if not 1 <= hour <= 12:
        return found[0]
    is_late = part in ("p", "afternoon", "evening") or (part == "night" and 6 <= hour < 12)
    return f"{hour % 12 + 12 * is_late}:{found[2] or '00'}"


def _date(day: str, month: str, year: str) -> str:
    return f"{int(day)} {MONTHS[max(int(month), 1) - 1]} {year}"


def _whole_years(found: re.Match[str]) -> str:
    """Return a span of years such as 1990-95 with both in full."""
    century, first, last = found.groups()
    return f"{century}{first}-{century}{last}" if first < last else found[0]


def _whole_hour(found: re.Match[str]) -> str:
    return f"{int(found[1])}:{found[2] or '00'}"
