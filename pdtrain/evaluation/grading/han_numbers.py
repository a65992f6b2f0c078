"""Write the numbers of Chinese and Japanese texts in digits."""

from __future__ import annotations

import re
from decimal import Decimal

DIGITS = {sign: i for i, sign in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
SMALL = {"十": 10, "百": 100, "千": 1000}
LARGE = {"万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}
SIGNS = "".join([*DIGITS, *SMALL, "万萬亿億"])
# behind which even a single sign is a number; "one" is in too many other words
COUNTED = "年月日天岁歳個个名位次回只隻米公里時时秒点點号號層层階楼樓章本枚匹艘座条條間间度倍元円磅"
SHORTEST_YEAR, LONGEST = 4, 20
RUN = re.compile(
    rf"[{SIGNS}]{{2,}}|(?<![{SIGNS}\d])[二两兩三四五六七八九十](?=[{COUNTED}])|^[{SIGNS}]$"
)
ROUND = re.compile(rf"(?<![\w.,])(\d{{1,4}}(?:\.\d{{1,4}})?)([{''.join(LARGE)}])(?!\d)")


def in_digits(text: str) -> str:
    """Return a text with its whole numbers in digits; what is no number stays as it is."""
    if text.isascii():
        return text

    def number(found: re.Match[str]) -> str:
        value = _value(found[0])
        return found[0] if value is None else str(value)

    def rounded(found: re.Match[str]) -> str:
        return f"{(Decimal(found[1]) * LARGE[found[2]]).normalize():f}"

    return ROUND.sub(rounded, RUN.sub(number, text))


def _value(signs: str) -> int | None:
    """Return the number that signs say; None where they say none."""
    if all(sign in DIGITS for sign in signs):
        digits = "".join(str(DIGITS[sign]) for sign in signs)
        is_range = 1 < len(digits) < SHORTEST_YEAR and "0" not in digits  # "three or four boats"
        return None if is_range or len(digits) > LONGEST else int(digits)
    total = below = digit = 0
    last_small, last_large, has_digit = 10**4, 10**12, False
    for sign in signs:
        if sign in DIGITS:
            if has_digit and digit:
                return None
            digit, has_digit = DIGITS[sign], True
        elif sign in SMALL:
            if SMALL[sign] >= last_small or not (digit or sign == "十"):
                return None
            below += (digit or 1) * SMALL[sign]
            last_small, digit, has_digit = SMALL[sign], 0, False
        else:
            if LARGE[sign] >= last_large or not below + digit:
                return None
            total += (below + digit) * LARGE[sign]
            last_large, last_small, below, digit, has_digit = LARGE[sign], 10**4, 0, 0, False
    return total + below + digit
