"""Tokens counted word by word are those of the whole text, or the library counts them itself."""

from __future__ import annotations

import random
import sys
import unicodedata
from functools import cache

import pytest
from chat_families import FAMILIES, tokenizer_of
from support import DATA, tiny_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from pdtrain.documents.ingest import counting
from pdtrain.documents.ingest.counting import WordCounter, fast_counter, word_counter
from pdtrain.models.chat.control_tokens import ControlTokens

# what Llama 3 and Qwen 2.5 cut by
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
BYTES = {"use_regex": False, "add_prefix_space": False}


def split_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(**BYTES)])


def of_bytes(pre_tokenizer=None, normalizer=None, model=None, added=()) -> Tokenizer:
    """Return a byte-level BPE that is trained on the documents of the tests."""
    found = Tokenizer(model or models.BPE())
    found.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer:
        found.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    found.train_from_iterator(texts(), trainer)
    found.add_tokens(list(added))
    return found


def unigram() -> Tokenizer:
    found = Tokenizer(models.Unigram())
    found.normalizer = normalizers.NFKC()
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    special = {"special_tokens": ["<unk>"], "unk_token": "<unk>", "show_progress": False}
    found.train_from_iterator(texts(), trainers.UnigramTrainer(vocab_size=300, **special))
    return found


def word_piece() -> Tokenizer:
    found = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=["[UNK]"], show_progress=False
    )
    found.train_from_iterator(texts(), trainer)
    return found


@cache
def texts() -> list[str]:
    files = [path for path in sorted(DATA.iterdir()) if path.is_file()]
    return [path.read_text(encoding="utf-8") for path in files]


BY_WORDS = {
    "bytes": of_bytes,
    "llama_3": lambda: of_bytes(split_by(LLAMA_3)),
    "qwen": lambda: of_bytes(split_by(QWEN), normalizers.NFC(), added=["<think>", "e\u0301a"]),
    "whole words first": lambda: of_bytes(split_by(LLAMA_3), model=models.BPE(ignore_merges=True)),
    "renamed": lambda: ControlTokens(tiny_tokenizer()).renamed,
    "renamed llama_3": lambda: ControlTokens(tokenizer_of(FAMILIES["llama_3"])).renamed,
}
BY_THE_LIBRARY = {
    "unigram": unigram,
    "word pieces": word_piece,
    "pieces": lambda: ControlTokens(tokenizer_of(FAMILIES["gemma"])).renamed,
    "renamed unigram": lambda: ControlTokens(tokenizer_of(FAMILIES["mistral"])).renamed,
    "a blank before": lambda: of_bytes(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "digits": lambda: of_bytes(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    ),
    "lower case": lambda: of_bytes(normalizer=normalizers.Lowercase()),
    "groups": lambda: of_bytes(split_by(r"(\p{L}+)|[^\p{L}]+")),
    "no pre-tokenizer": lambda: without_pre_tokenizer(),
    "an empty sequence": lambda: of_bytes(pre_tokenizers.Sequence([])),
    "chance": lambda: of_bytes(model=models.BPE(dropout=0.5)),
}


def without_pre_tokenizer() -> Tokenizer:
    found = of_bytes()
    found.pre_tokenizer = None
    return found


def whole_of(tokenizer: Tokenizer):
    """Return the reference: the ids of the whole text, by the library's plainest call."""
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


@cache
def alphabets() -> list[str]:
    """Return strings of characters to make texts of: every kind that libraries differ about."""
    code_points = [*range(0xD800), *range(0xE000, 0x10000), *range(0x10000, sys.maxunicode, 61)]
    every = "".join(map(chr, code_points))
    spaces = "".join(c for c in every if c.isspace() or unicodedata.category(c).startswith("Z"))
    numbers = "".join(c for c in every if unicodedata.category(c).startswith("N"))
    marks = "".join(c for c in every if unicodedata.category(c).startswith("M"))
    young = "".join(c for c in every if unicodedata.ucd_3_2_0.category(c) == "Cn")
    ascii_ = "".join(map(chr, range(128)))
    return [ascii_, "abcsS'tTrRvVlL mMdD\u017f\u212a 1\n\r\t", every, spaces, numbers, marks, young]


def random_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    kinds = alphabets()
    more = ["<think>", "<s>", "e\u0301a", "\u00e9a", "e\u0301", "<|im_end|>", "<|eot_id|>", "  "]
    found = []
    for _ in range(count):
        chosen = [*rng.sample(kinds, 2), kinds[1]]
        letters = [rng.choice(rng.choice(chosen)) for _ in range(rng.randrange(60))]
        for _ in range(rng.randrange(3)):
            letters.insert(rng.randrange(len(letters) + 1), rng.choice(more))
        found.append("".join(letters))
    return found


@pytest.mark.parametrize("kind", BY_WORDS)
def test_words_have_together_as_many_tokens_as_the_text(kind):
    tokenizer = BY_WORDS[kind]()
    whole = whole_of(tokenizer)
    left = []
    counter = word_counter(tokenizer, lambda text: left.append(text) or whole(text))
    assert isinstance(counter, WordCounter), "these parts allow it"
    plain = [line for text in texts() for line in text.splitlines(keepends=True)]
    for text in ["", *plain, *texts(), "x" * 500, " " * 300, *plain]:
        assert counter(text) == whole(text), repr(text)
    assert not left, "the documents of the tests are all counted word by word"
    for text in random_texts(400, seed=len(kind)):
        assert counter(text) == whole(text), repr(text)
    assert left, "some are left to the library"


@pytest.mark.parametrize("kind", BY_THE_LIBRARY)
def test_other_parts_are_left_to_the_library(kind):
    tokenizer = BY_THE_LIBRARY[kind]()
    whole = whole_of(tokenizer)
    assert word_counter(tokenizer, whole) is None
    if kind == "chance":
        return
    count = fast_counter(tokenizer)
    for text in [*texts(), *random_texts(50, seed=1)]:
        assert count(text) == whole(text), repr(text)


def test_an_expression_that_cuts_otherwise_here_is_noticed(monkeypatch):
    r"""`\h` is a hexadecimal digit to the library and white space to `regex`."""
    tokenizer = of_bytes(split_by(r"\h+|[^\h]+"))
    assert word_counter(tokenizer, whole_of(tokenizer)) is None
    tokenizer = of_bytes()
    monkeypatch.setattr(counting, "BYTE_LEVEL", counting.BYTE_LEVEL.replace(r" ?\p{N}+", r"\p{N}+"))
    assert word_counter(tokenizer, whole_of(tokenizer)) is None


def test_surrogates_fail_as_in_the_library():
    tokenizer = of_bytes()
    counter = word_counter(tokenizer, whole_of(tokenizer))
    with pytest.raises((UnicodeEncodeError, TypeError)):
        whole_of(tokenizer)("a\ud800")
    with pytest.raises((UnicodeEncodeError, TypeError)):
        counter("a\ud800")


def test_words_are_forgotten_before_they_are_too_many(monkeypatch):
    monkeypatch.setattr(counting, "WORDS_KEPT", 50)
    tokenizer = of_bytes()
    whole = whole_of(tokenizer)
    counter = word_counter(tokenizer, whole)
    for number in range(300):
        text = f"word{number} and w{'o' * number} {number}"
        assert counter(text) == whole(text)
        assert len(counter._known) <= 50
    assert not any(len(word) > counting.LONGEST_KEPT for word in counter._known)


def test_a_small_corpus_is_counted_by_the_library_alone(monkeypatch):
    made = []
    monkeypatch.setattr(counting, "CHARACTERS_BEFORE", 1000)
    monkeypatch.setattr(counting, "word_counter", lambda *_: made.append(1) or (lambda _: -1))
    count = fast_counter(of_bytes())
    assert [count("a" * 400) for _ in range(2)] == [whole_of(of_bytes())("a" * 400)] * 2
    assert not made
    assert count("a" * 400) == -1 == count("a") and made == [1]
