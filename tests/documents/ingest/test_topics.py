"""What requests about whole passages call them: no two passages are called alike."""

import json

import pytest

from pdtrain.documents.document import is_no_title, title_from_name
from pdtrain.records import Passage
from pdtrain.synthesis.sentence_writer.question_templates import lists, recitals, summaries
from pdtrain.synthesis.text import topic


def topics(corpus, **settings):
    return {p.document_id: topic(p) for p in map(Passage.from_json, corpus.split(**settings))}


def requests(corpus, **settings):
    """Return the texts of all requests about whole passages, and how often each is made."""
    found = [
        request.text
        for passage in map(Passage.from_json, corpus.split(**settings))
        for make in (recitals, summaries, lists)
        for request in make(passage, 2, 0)
    ]
    return {text: found.count(text) for text in found}


def rows(*records):
    return "\n".join(map(json.dumps, records))


def test_records_that_share_a_title_are_not_asked_about_as_wholes(corpus):
    shared = [
        {"title": "Handbook", "text": "The handbook says that it opens at nine."},
        {"title": "handbook", "text": "It is closed on most days."},
        {"title": "Handbook!", "text": "A handbook costs nothing."},
        {"title": "Ferry", "text": "The ferry leaves at noon."},
    ]
    corpus.write("rows.jsonl", rows(*shared))
    assert topics(corpus) == {
        "rows.jsonl:1": "",
        "rows.jsonl:2": "",
        "rows.jsonl:3": "",
        "rows.jsonl:4": "the Ferry",
    }
    assert set(requests(corpus).values()) == {1}
    assert not any("andbook" in text for text in requests(corpus))


def test_records_without_a_title_that_begin_with_the_same_name_are_not_either(corpus):
    texts = (
        "It was Anna Gray who built it.",
        "It was Anna Gray who sold it.",
        "It is Paul Reed's.",
    )
    corpus.write("rows.jsonl", rows(*({"text": text} for text in texts)))
    assert list(topics(corpus).values()) == ["", "", "Paul Reed"]


def test_files_that_share_a_title_are_told_by_their_folders(corpus):
    for folder, words in (("pump", "two valves"), ("lamp", "one bulb")):
        corpus.write(f"{folder}/guide.md", f"# User guide\n\nThis user guide is about {words}.\n")
    assert topics(corpus) == {
        "lamp/guide.md": "User guide (lamp)",
        "pump/guide.md": "User guide (pump)",
    }
    corpus.write("pump/old.md", "# User guide\n\nThis user guide was about three valves.\n")
    assert topics(corpus) == {
        "lamp/guide.md": "User guide (lamp)",
        "pump/guide.md": "User guide (pump/guide.md)",
        "pump/old.md": "User guide (pump/old.md)",
    }
    assert set(requests(corpus).values()) == {1}


def test_a_copy_that_is_left_out_takes_no_name_from_the_other(corpus):
    for folder in ("pump", "lamp"):
        corpus.write(f"{folder}/guide.md", "# User guide\n\nThis user guide is about valves.\n")
    assert topics(corpus) == {"lamp/guide.md": "User guide"}


SECTION = "## {}\n\n{} " + "It is a long sentence about the harbour that fills some room. " * 6
SECTIONS = [("Opening", "It opens at nine."), ("Prices", "It costs two crowns.")]


def test_passages_of_one_document_are_called_by_their_sections(corpus):
    text = "# Harbour\n\nThe harbour is old.\n\n" + "\n\n".join(
        SECTION.format(*s) for s in SECTIONS
    )
    corpus.write("harbour.md", text)
    found = [topic(Passage.from_json(p)) for p in corpus.split(max_passage_tokens=64)]
    assert len(found) > 3 and "Harbour: Prices" in found
    named = [one for one in found if one]
    assert len(set(named)) == len(named) >= 2
    assert set(requests(corpus, max_passage_tokens=64).values()) == {1}


def test_a_text_without_sections_is_asked_about_once(corpus):
    text = "".join(f"The harbour has a pier with the number {n}, which is old. " for n in range(60))
    corpus.write("harbour.txt", text)
    found = [topic(Passage.from_json(p)) for p in corpus.split(max_passage_tokens=64)]
    assert len(found) > 3 and found[0] == "the Harbour" and not any(found[1:])


def test_a_new_document_changes_the_passages_of_those_that_it_shares_a_title_with(corpus):
    corpus.write("pump/guide.md", "# User guide\n\nThis user guide is about valves.\n")
    corpus.write("ferry.md", "# Ferry\n\nThe ferry leaves at noon.\n")
    before = {p["document_id"]: p["id"] for p in corpus.split()}
    corpus.write("lamp/guide.md", "# User guide\n\nThis user guide is about bulbs.\n")
    after = {p["document_id"]: p["id"] for p in corpus.split()}
    assert before["ferry.md"] == after["ferry.md"]
    assert before["pump/guide.md"] != after["pump/guide.md"]
    (corpus.documents / "lamp/guide.md").unlink()
    assert {p["document_id"]: p["id"] for p in corpus.split()} == before


@pytest.mark.parametrize(
    "name, title",
    [
        ("old_harbour.txt", "Old Harbour"),
        ("pump/README.md", "Pump"),
        ("pump/docs/index.html", "Pump"),
        ("README", ""),
        ("a/b.tar.gz/readme.txt", "B"),
        ("untitled-2.docx", ""),
        ("valves/0001.txt", "Valves"),
        ("valves/3f2a9c1e-77aa-4b1c-9d3e-0123456789ab.txt", "Valves"),
        ("1984 in Osk.txt", "1984 In Osk"),
        ("说明/目录.txt", "目录"),
        ("%C3%9Cber%20uns.html", "Über Uns"),
        ("100%.txt", "100%"),
        ("%FCber.txt", "%Fcber"),
        ("100%25 cotton.txt", "100% Cotton"),
        ("mills/50% off.txt", "50% Off"),
        ("a%2Fb.txt", "A%2Fb"),
        ("a%0Ab.txt", "A%0Ab"),
        ("mills/train-00000-of-00001.txt", "Mills"),
        ("mills/Neues Textdokument.txt", "Mills"),
        ("mills/DSC00012.txt", "Mills"),
    ],
)
def test_a_name_that_any_file_may_have_is_no_title(name, title):
    assert title_from_name(name) == title


def test_titles_that_say_nothing():
    for words in ("Untitled", "untitled document", "Untitled-1", "index", "README", "---", "N/A"):
        assert is_no_title(words), words
    for words in ("The index of Osk", "Handbook", "1984", "目录", "Home rule", "Page of Osk"):
        assert not is_no_title(words), words


def test_a_page_whose_title_says_nothing_takes_that_of_its_folder(corpus):
    corpus.write("pump/index.html", "<title>Untitled Document</title><p>It has two valves.</p>")
    assert [p["title"] for p in corpus.split()] == ["Pump"]
