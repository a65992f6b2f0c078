# ruff: noqa: RUF001
"""Filters of one document or passage alone, and lines that stand in many documents."""

from collections import Counter

import pytest

from pdtrain.documents.ingest.cleaning.filters import (
    _secret_plugins,
    fault_of,
    language_of,
    personal_data,
)
from pdtrain.documents.ingest.cleaning.repeated import hash_of, without_repeated
from pdtrain.records import Passage

ENGLISH = "The lighthouse of Brandholm was built in the year 1883 by the engineer Tobias Wells."
GERMAN = "Der Leuchtturm von Brandholm wurde im Jahr 1883 von dem Ingenieur Tobias Wells gebaut."


def test_documents_in_other_languages_are_left_out_and_named(corpus):
    corpus.write("en.txt", ENGLISH)
    corpus.write("de.txt", GERMAN)
    corpus.write("short.txt", "1883: 12.50")
    corpus.split(languages=["en"])
    assert sorted(corpus.texts) == ["en.txt", "short.txt"], "what is not clear stays"
    entry = corpus.report["de.txt"]
    assert (entry["reason"], entry["detail"]) == ("another language", "de")
    assert corpus.summary["dropped"] == {"another language": 1}
    corpus.split()
    assert len(corpus.texts) == 3, "off again, everything is back"


@pytest.mark.parametrize("text, code", [(ENGLISH, "en"), (GERMAN, "de"), ("42 % of 7", "")])
def test_language_of(text, code):
    assert language_of(text) == code


@pytest.mark.parametrize(
    "text, fault",
    [
        (ENGLISH, ""),
        ("灯塔由工程师于1883年建造。", ""),
        ("", ""),
        ("-=-=-= | --- | *** !!! ... a", "fewer than half"),
        ("\n".join(["next page"] * 8 + ["one", "two"]), "more than half of its lines"),
        ("begin " + "iVBORw0KGgo" * 60, "most of it is words of more than 200"),
    ],
)
def test_fault_of(text, fault):
    assert fault_of(text).startswith(fault) and bool(fault_of(text)) == bool(fault)


def test_personal_data_is_counted_by_kind():
    text = (
        "Write to anna.gray@osk.example or call +44 20 7946 0958. The key is AKIA"
        "IOSFODNN7EXAMPLE. "
        "The pier is 1883.5 metres long, version 2.0.1, ISBN 978-3-16-148410-0, @anna."
    )
    found = personal_data(text, _secret_plugins())
    assert found == Counter({"e-mail address": 1, "telephone number": 1, "key or token": 1})
    assert not personal_data(ENGLISH, _secret_plugins())


@pytest.mark.parametrize(
    "text, kind",
    [
        ("联系邮箱anna@example.com或电话", "e-mail address"),
        ("連絡先はanna@example.jpです。", "e-mail address"),
        ("메일은 anna@example.com으로 보내세요.", "e-mail address"),
        ("ส่งถึงanna@example.comได้", "e-mail address"),
        ("Пишите на иван@пример.рф.", "e-mail address"),
        ("राम@उदाहरण.भारत", "e-mail address"),
        ("写信给anna＠example．com", "e-mail address"),
        ("Write to <anna.gray+x@osk-1.co.uk>, please.", "e-mail address"),
        ("電話＋81 3 1234 5678まで", "telephone number"),
    ],
)
def test_personal_data_is_found_in_text_of_any_script(text, kind):
    assert personal_data(text, []) == Counter({kind: 1})


@pytest.mark.parametrize(
    "text",
    [
        "On X: @anna.gray",
        "3 kg @2.50",
        "анна @иван",
        "a@b.c",
        "root@localhost",
        "微博@张三",
        "x@1.2.3",
    ],
)
def test_other_uses_of_an_at_sign_are_no_personal_data(text):
    assert not personal_data(text, [])


def test_passages_with_personal_data_are_counted_or_left_out(corpus):
    corpus.write("a.txt", "Write to anna@osk.example about the pier.")
    corpus.write("b.txt", ENGLISH)
    assert len(corpus.split(personal_data="count")) == 2
    assert corpus.report["a.txt"]["personal"] == {"e-mail address": 1}
    assert [p["document_id"] for p in corpus.split(personal_data="drop")] == ["b.txt"]
    assert corpus.report["a.txt"]["reason"] == "personal data: e-mail address"
    assert "anna@" not in str(corpus.report)


def test_lines_that_stand_in_many_documents_leave_the_passages(corpus):
    for number in range(4):
        own = f"Tower {number} is {number + 3} metres high.\n\n" if number != 3 else ""
        corpus.write(f"{number}.txt", f"All rights reserved.\n\n{own}Back to the top.")
    passages = corpus.split(repeated_lines=3)
    assert [p["text"] for p in passages] == [f"Tower {n} is {n + 3} metres high." for n in range(3)]
    for passage in passages:
        assert [passage["text"][a:b] for a, b in passage["sentences"]] == [passage["text"]]
    assert corpus.report["3.txt"]["state"] == "skipped"
    assert "All rights" in corpus.split(repeated_lines=5)[0]["text"]


def test_a_passage_keeps_the_names_of_its_columns_without_its_repeated_rows():
    text = "name | founded\nOsk | 1850\nVell | 1860\nAsh | 1870"
    spans = ((15, 25), (26, 37), (38, 48))
    passage = Passage("p", "d", "Towns", text, 0, len(text), 9, spans)
    found = without_repeated(passage, {hash_of("Vell | 1860")}, len)
    assert found.text == "name | founded\nOsk | 1850\nAsh | 1870"
    assert [found.text[a:b] for a, b in found.sentences] == ["Osk | 1850", "Ash | 1870"]
