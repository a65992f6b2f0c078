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
