"""Take out of a prediction what it denies, so that "not Lena Marsh" does not say Lena Marsh."""

# ruff: noqa: RUF001 - letters that look alike are what this is about
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# what denies the words behind it, and what may stand between
NO = (
    r"(?:not|neither|nor|(?:is|was|are|were)n['’]t|nicht|weder|niet|noch(?= \w+ maar\b)|ikke|inte"
    r"|não|не|(?<=est )pas|(?<=était )pas|no (?:es|era|fue|son|eran|fueron)"
    r"|non (?:è|era|fu|sono|erano|furono)"
    r"|nie (?:jest|był|była|było|są|byli|były)|nu (?:este|a fost|era)|δεν (?:είναι|ήταν)|όχι"
    r"|không phải(?: là)?|bukan|ليس|ليست)"
)
BETWEEN = (
    r"(?:an?|the|in|at|on|by|of|to|for|from|am|im|den|der|die|das|de|het|em|à|en|le|la|el|il|o|na"
    r"|в|на)"
)
DENIAL = re.compile(rf"\b{NO}\b", re.IGNORECASE)
DENIED = re.compile(
    rf"(?<!\bor )(?<!\bif )(?<!\bwhy )\b({NO})(?:\s+{BETWEEN}\b){{0,2}}[\s\"'“‘„«(]+(?=\w)",
    re.IGNORECASE,
)
# what denies the words before it, and in Chinese those behind it, up to a comma or a full stop; but
# not "not only"
ELSEWHERE = re.compile(
    r"(?<!是)(?:不是|并非|並非)(?![只仅僅单單不吗嗎])[^\s，,、。.；;！!？?而是]{1,30}"
    r"|[^\s、，。！？ぁ-ん]{1,30}?(?:では|じゃ)(?:な[いくか]|あり)"
    r"|\w{1,30}(?<!뿐만)(?<!만)[이가] 아니"
    r"|(?<!sadece )(?<!yalnızca )\b\w{1,30}['’]?\w{0,10} değil"
)


def without_denied(prediction: str, answers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each gold answer with a prediction in which nothing stands that is denied there.

    "Not 5 m but 6 m" does not say 5 m, and "not allowed" not that it is allowed. A gold answer that
    itself denies something is looked for in the prediction as it is.
    """
    affirmed = ELSEWHERE.sub(" ", DENIED.sub(r"\1x", prediction))
    for answer in answers:
        is_denial = DENIAL.search(answer) or ELSEWHERE.search(answer)
        yield (prediction if is_denial else affirmed), answer
