"""Equal and nearly equal texts: which are found, and which one stays."""

import random
import time

import numpy as np
import pytest

from pdtrain.documents.ingest.cleaning import duplicates
from pdtrain.documents.ingest.cleaning.duplicates import (
    equal_to_earlier,
    near_duplicates,
    shingles,
    signature_bytes,
    signature_of,
)

WORDS = [f"word{number}" for number in range(5000)]


def similarity(one, other):
    """Return the Jaccard similarity of two texts' shingles, as they stand."""
    a, b = set(shingles(one)), set(shingles(other))
    return len(a & b) / len(a | b)


def rows(texts):
    data = b"".join(signature_bytes(signature_of(text)) for text in texts)
    return np.frombuffer(data, "<u4").reshape(len(texts), duplicates.NUM_HASHES)


def planted(count, seed=0):
    """Return texts of which every fourth is a light edit of an earlier one, and its origin."""
    rng = random.Random(seed)
    texts, origin = [], {}
    for number in range(count):
        if number % 4 == 3:
            origin[number] = number - 3
            words = texts[number - 3].split()
            for _ in range(2):
                words[rng.randrange(len(words))] = rng.choice(WORDS)
        elif number % 4 == 2:  # half of another text: similar, and no duplicate
            words = texts[number - 1].split()[:75] + rng.choices(WORDS, k=75)
        else:
            words = rng.choices(WORDS, k=150)
        texts.append(" ".join(words))
    return texts, origin


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_recall_and_precision_on_planted_near_duplicates(count):
    texts, origin = planted(count)
    assert min(similarity(texts[a], texts[b]) for a, b in origin.items()) > 0.85
    found = near_duplicates(rows(texts), 0.8, np.zeros(count, bool))
    marked = {int(n): int(found[n]) for n in np.flatnonzero(found >= 0)}
    right = sum(origin.get(number) == other for number, other in marked.items())
    assert right / len(origin) >= 0.97, "recall"
    assert right == len(marked), "precision"


@pytest.mark.slow
def test_time_is_linear_in_the_number_of_texts():
    def seconds(count):
        signatures = np.random.default_rng(0).integers(0, 2**32, (count, 128), np.uint32)
        signatures[count // 2 :] = signatures[: count - count // 2]
        started = time.process_time()
        near_duplicates(signatures, 0.8, np.zeros(count, bool))
        return time.process_time() - started

    seconds(1000)
    assert seconds(80_000) < 8 * 1.6 * seconds(10_000), "n log n has a ratio of about 9.6"


def test_the_first_of_similar_texts_stays_and_copies_name_one_that_stays():
    texts, _ = planted(40)
    again = [*texts, *texts[:5], "short", "short"]
    found = near_duplicates(rows(again), 0.8, np.zeros(len(again), bool))
    assert all(found[other] < 0 for other in found[found >= 0])
    assert list(found[-7:]) == [0, 1, 2, 0, 4, -1, 45]


def test_equal_to_earlier():
    hashes = np.array([5, 7, 5, 0, 0, 5, 7], np.uint64)
    assert list(equal_to_earlier(hashes)) == [-1, -1, 0, -1, -1, 0, 1]
    assert len(equal_to_earlier(hashes[:0])) == 0


def test_texts_without_blanks_between_words_are_compared_by_characters():
    text = "灯塔由工程师于一八八三年建造共有二百一十四级台阶它的灯用菜籽油点燃守塔人养了三只山羊"
    assert similarity(text, text[:-3] + "四头牛") > 0.8
    assert len(shingles(text)) == len(text) - 7


def test_near_duplicates_of_documents_and_passages(corpus):
    rng = random.Random(0)
    text = " ".join(f"The pier number {rng.random():.3f} is {n} metres long." for n in range(30))
    corpus.write("a.txt", text)
    corpus.write("b.txt", text.replace("number 0", "number 9", 1))
    corpus.write("c.txt", "The mill is another matter altogether, as everybody in Osk knows.")
    assert {p["document_id"] for p in corpus.split()} == {"a.txt", "b.txt", "c.txt"}
    assert {p["document_id"] for p in corpus.split(duplicates="near")} == {"a.txt", "c.txt"}
    assert corpus.report["b.txt"]["detail"] == "of a.txt"
    near = corpus.split(duplicates="off", passage_duplicates="near", max_passage_tokens=200)
    dropped = corpus.report["b.txt"].get("dropped", [])
    assert dropped and {one["of"] for one in dropped} <= {p["id"] for p in near}


def test_records_of_equal_text_stay_where_their_titles_differ(corpus):
    corpus.write(
        "shops.jsonl",
        '{"title": "Mill", "text": "Open at nine."}\n{"title": "Pier", "text": "Open at nine."}\n'
        '{"title": "Mill", "text": "Open at nine."}\n',
    )
    assert [p["title"] for p in corpus.split()] == ["Mill", "Pier"]
    assert corpus.report["shops.jsonl"]["dropped"] == [
        {"document": "shops.jsonl:3", "why": "duplicate", "of": "shops.jsonl:1"}
    ]


NO_BLANKS = {  # short texts with a comma or a blank here and there, and a letter to change
    "Chinese": (
        "奥斯克磨坊很老、由安娜建造、高三米半。它磨黑麦、也磨燕麦。池塘边有山羊、很安静。",
        "黑",
    ),
    "Japanese": (
        "水車小屋は古い、アンナが建てた。高さは三メートル、村の麦をひく。池に山羊がいる。",
        "村",
    ),
    "Thai": ("โรงสีเก่ามาก แอนนาเป็นคนสร้าง มันบดข้าวให้ทั้งหมู่บ้าน แพะสองตัวอยู่ข้างบ่อน้ำ เงียบสงบ", "บ่อ"),
}


@pytest.mark.parametrize("script", NO_BLANKS)
def test_one_other_letter_makes_a_near_duplicate_without_blanks_between_words(script):
    text, letter = NO_BLANKS[script]
    changed = text.replace(letter, "ก" if script == "Thai" else "白", 1)
    assert text != changed and similarity(text, changed) > 0.5
    assert similarity(text, text[::-1]) < 0.1
