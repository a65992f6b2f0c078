"""Count the tokens of texts word by word, where a tokenizer's parts allow it.

Most tokenizers cut a text into words by a regular expression and encode each word by itself. So a
text has as many tokens as its words have together, and a word's number, once known, is looked up.
That is several times faster than encoding, and it is exact: whatever could differ from the library
(other parts, tokens that were added to the vocabulary, characters that Unicode's versions class
differently, text that would be normalised) is left to the library.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Count = Callable[[str], int]

# how the library's byte-level pre-tokenizer cuts a text unless another expression stands before it
BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CHARACTERS_BEFORE = 1_000_000  # counted by the library, so that small corpora start at once
WORDS_KEPT = 1 << 17  # about 25 MB
LONGEST_KEPT = 64  # characters of a word that is kept
# blocks of characters of one class each, of which a sample is compared with the library
UNIFORM = ((0x3400, 0x9FFF), (0xA000, 0xA48C), (0xAC00, 0xD7A3))
STEP = 61


def fast_counter(tokenizer: Tokenizer) -> Count:
    """Return a function that counts the tokens of a text, as fast as this tokenizer allows.

    Args:
        tokenizer: it neither truncates nor pads.
    """

    def whole(text: str) -> int:
        # of a batch without offsets, which take time, and the length alone: ids would be a list
        return len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])

    return _Lazy(whole, lambda: word_counter(tokenizer, whole) or whole)


class _Lazy:
    """Count by the library at first: whether words may be counted takes a second to find out."""

    def __init__(self, count: Count, find: Callable[[], Count]) -> None:
        self._count, self._find = count, find
        self._left = CHARACTERS_BEFORE

    def __call__(self, text: str) -> int:
        if self._left > 0:
            self._left -= len(text)
            if self._left <= 0:
                self._count = self._find()
        return self._count(text)


def word_counter(tokenizer: Tokenizer, whole: Count) -> WordCounter | None:
    """Return a counter of words; None where its numbers could differ from the library's.

    Args:
        tokenizer: it neither truncates nor pads.
        whole: counts the tokens of a text by the library.
    """
    parts = json.loads(tokenizer.to_str())
    pattern = _pattern_of(parts["pre_tokenizer"])
    is_composing = (parts["normalizer"] or {}).get("type") == "NFC"
    is_random = bool(parts["model"].get("dropout"))
    if not pattern or is_random or (parts["normalizer"] and not is_composing):
        return None
    counter = WordCounter(tokenizer, pattern, parts["added_tokens"], is_composing, whole)
    return counter if counter.agrees() else None


def _pattern_of(pre_tokenizer: dict[str, Any] | None) -> str:
    """Return the expression whose matches are the words of a text; empty where it is not known."""
    found = pre_tokenizer or {}
    if found.get("type") != "Sequence":
        return BYTE_LEVEL if _is_byte_level(found, use_regex=True) else ""
    split, *rest = found["pretokenizers"] or [{"type": ""}]
    is_split = split["type"] == "Split" and split["behavior"] == "Isolated" and not split["invert"]
    if not is_split or len(rest) != 1 or not _is_byte_level(rest[0], use_regex=False):
        return ""
    return str(split["pattern"].get("Regex", ""))


def _is_byte_level(part: dict[str, Any], use_regex: bool) -> bool:
    return (
        part.get("type") == "ByteLevel"
        and not part["add_prefix_space"]
        and part.get("use_regex", True) == use_regex
    )


class WordCounter:
    """Count the tokens of a text as the sum of those of its words.

    Args:
        tokenizer: its model encodes the words.
        pattern: finds the words, as the tokenizer's own expression.
        added: the tokens that the tokenizer looks for before all else.
        is_composing: the tokenizer composes characters (NFC).
        whole: counts the tokens of the texts that are left to the library.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        pattern: str,
        added: list[dict[str, Any]],
        is_composing: bool,
        whole: Count,
    ) -> None:
        self._tokenizer, self._whole, self._is_composing = tokenizer, whole, is_composing
        self._find = _compiled(pattern)
        self._known = _Counts(tokenizer)
        names = {one["content"] for one in added if one["content"]}
        if is_composing:  # a name is looked for as it is composed, too
            names |= {unicodedata.normalize("NFC", name) for name in names}
        self._added = re.compile("|".join(map(re.escape, sorted(names))) or r"(?!)")
        self._unsure = re.compile(_character_class(_unsure_characters()))

    def __call__(self, text: str) -> int:
        """Return the number of tokens of a text."""
        if not self._is_plain(text):
            return self._whole(text)
        known = self._known
        words = self._find(text)
        count = sum(map(known.__getitem__, words))
        if len(known) > WORDS_KEPT:
            known.clear()
        return count if sum(map(len, words)) == len(text) else self._whole(text)

    def agrees(self) -> bool:
        """Tell whether the words of a text with characters of every kind are the library's own."""
        if self._find is _no_words:
            return False
        text = "".join(f"a{c}a1{c}1.{c} {c}{c}'{c}s \n" for c in _sample())
        if self._is_composing:
            text = unicodedata.normalize("NFC", text)
        found = self._tokenizer.pre_tokenizer.pre_tokenize_str(text)
        return self._find(text) == [text[start:end] for _, (start, end) in found]

    def _is_plain(self, text: str) -> bool:
        """Tell whether the words' tokens are surely all that the library would make of a text."""
        if self._added.search(text):
            return False
        if text.isascii():
            return True
        if self._unsure.search(text):
            return False
        return not self._is_composing or unicodedata.is_normalized("NFC", text)


class _Counts(dict[str, int]):
    """Hold how many tokens words have, and count those of a word that is asked for first."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenize = tokenizer.model.tokenize
        self._letters = _byte_letters()

    def __missing__(self, word: str) -> int:
        letters = self._letters
        count = len(self._tokenize("".join([letters[byte] for byte in word.encode()])))
        if len(word) <= LONGEST_KEPT:
            self[word] = count
        return count


def _compiled(pattern: str) -> Callable[[str], list[str]]:
    """Return the function that finds the words; `_no_words` where an expression is not the same."""
    import regex

    try:
        compiled = regex.compile(pattern)
    except regex.error:
        return _no_words
    return _no_words if compiled.groups else compiled.findall


def _no_words(text: str) -> list[str]:
    return []


def _byte_letters() -> list[str]:
    """Return the letters that stand for bytes in byte-level vocabularies, as GPT-2 has them."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(0x100)]


def _unsure_characters() -> Iterator[int]:
    """Yield the characters of the first plane that are younger than Unicode 3.2, and surrogates.

    The classes of older ones are the same in all libraries; the other planes are left out as well.
    """
    category = unicodedata.ucd_3_2_0.category
    return (n for n in range(0x10000) if category(chr(n)) in ("Cn", "Cs", "Co"))


def _character_class(numbers: Iterator[int]) -> str:
    """Return an expression for these characters, and for all behind the first plane."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    listed = "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)
    return f"[{listed}\\U00010000-\\U0010ffff]"


def _sample() -> Iterator[str]:
    """Yield the characters that are sure, but of large uniform blocks a few."""
    unsure = set(_unsure_characters())
    for number in range(0x10000):
        is_uniform = any(first <= number <= last for first, last in UNIFORM)
        if number not in unsure and (not is_uniform or number % STEP == 0):
            yield chr(number)
