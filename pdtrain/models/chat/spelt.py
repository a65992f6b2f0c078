"""Find control tokens that texts spell, count them and say so; no tokenizer is needed for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pdtrain.progress import say

SHOWN = 3  # control tokens that a message names


class Spelt:
    """Find and count what texts spell.

    Attributes:
        pattern: finds any of the names in a text, the longest first, in time linear in the text.
        spelt: how often each was spelt since `tell` was called.
        num_texts: how many texts spelt any since then.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.pattern = pattern_of(names)
        self.spelt: Counter[str] = Counter()
        self.num_texts = 0

    def stand_in(self, texts: Iterable[str]) -> bool:
        """Return whether any of the texts spells a control token."""
        return any(map(self.pattern.search, texts))

    def counted(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the texts, and count for `tell` what they spell."""
        for text in texts:
            if spelt := self.pattern.findall(text):
                self.spelt.update(spelt)
                self.num_texts += 1
            yield text

    def tell(self, stage: str) -> None:
        """Say in one line what text spelt since the last call, where it spelt any."""
        if self.num_texts:
            say(f"{stage}: in {self.num_texts} texts {in_words(self.spelt)}")
        self.spelt.clear()
        self.num_texts = 0


def in_words(spelt: Counter[str]) -> str:
    """Return how many control tokens texts spell, and which, as the end of a sentence."""
    most = ", ".join(f"{name} {number}×" for name, number in spelt.most_common(SHOWN))
    more = f" and {len(spelt) - SHOWN} others" if len(spelt) > SHOWN else ""
    named = f" ({most}{more})" if most else ""
    return f"control tokens of the model are spelt{named}; they are read as text"


def pattern_of(names: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of some texts, the longest first, in linear time."""
    root: dict[str, Any] = {}
    for name in names:
        node = root
        for character in name:
            node = node.setdefault(character, {})
        node[""] = {}
    return re.compile(_as_pattern(root) if root else r"(?!)")


def _as_pattern(node: dict[str, Any]) -> str:
    """Return the pattern of a tree of characters; an empty key ends a text."""
    ways = [re.escape(c) + _as_pattern(rest) for c, rest in sorted(node.items()) if c]
    if not ways:
        return ""
    found = ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"
    return f"(?:{found})?" if "" in node else found
