# ruff: noqa: RUF001
"""Borders of sentences in running prose."""

import pytest

from pdtrain.documents.sentences import sentence_spans

SENTENCES = [
    (["The pier is long.", "It is old."], "plain"),
    (["Dr. Ada Marsh met Mr. Bell at St. Osk.", "They spoke."], "abbreviations"),
    (["J. R. Bell built it.", "He was 40."], "initials"),
    (["It measures 3.5 metres.", "It weighs 2.25 kg."], "decimals"),
    (["“Is it old?” she asked.", "“Yes.”", "He left."], "quotes"),
    (["Is it old?", "Yes!", "Good…", "Very good."], "other ends"),
    (["He called (the pier was empty).", "Nobody came."], "brackets"),
    (["See e.g. Osk, i.e. The harbour.", "It is near."], "latin"),
    (["東京の港は古い。", "船は三隻ある。", "本当ですか？", "はい！"], "full width"),
    (["Старый порт.", "Он большой."], "cyrillic"),
    (["Visit osk.example.com today.", "It is online."], "addresses"),
    (["A line without an end", "Another line"], "lines"),
    (["Version 2.0.1 came out.", "3 bugs were fixed."], "numbers that open"),
]


@pytest.mark.parametrize("sentences", [s for s, _ in SENTENCES], ids=[n for _, n in SENTENCES])
def test_borders_of_sentences(sentences):
    separator = "" if sentences[0][0] == "東" else "\n" if "line" in sentences[0] else " "
    text = separator.join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


def test_a_text_without_words_has_no_sentence():
    assert sentence_spans("") == sentence_spans(" \n\n ") == []


LANGUAGES = [
    ["Am 3. Mai wurde das Schiff verkauft.", "Nach § 4 Abs. 1 gilt eine Frist von ca. 9 Tagen."],
    ["Il porto è vecchio.", "«Apre domani», disse il custode."],
    ["¿Cuándo sale el barco?", "¡Mañana!", "A las seis."],
    ["Ślad jest stary.", "Żaden statek nie wrócił."],
    ["الميناء قديم.", "متى يفتح؟", "غدا."],
    ["बंदरगाह पुराना है।", "नाव कल आएगी।"],
    ["항구는 오래되었다.", "배는 언제 오나요?"],
    ["彼女は「来たよ。」と言った。", "船は古い。"],
    # a quotation ends its sentence
    ["她问：“船呢？”", "没有人回答。", "港口很旧！"],
    ["The boat left in 1901.[2]", "It never came back."],
    ["the boat is old.", "it leaks.", "nobody minds."],
]


@pytest.mark.parametrize("sentences", LANGUAGES, ids=[s[0][:12] for s in LANGUAGES])
def test_sentences_end_where_the_language_says(sentences):
    blank = "" if any("぀" <= c <= "鿿" for c in sentences[0]) else " "
    text = blank.join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


def test_speech_without_punctuation_is_cut_into_parts():
    text = "so the boat came in and the men went home because the fish was gone " * 20
    spans = sentence_spans(text.strip())
    parts = [text[a:b] for a, b in spans]
    assert " ".join(parts) == text.strip()
    assert all(len(part) <= 240 for part in parts)
    assert all(part.startswith(("so ", "and ", "because ")) for part in parts)
