"""documents → passages: nothing lost, nothing over budget, whole sentences, each format's text."""

import random
import re

import pytest
from support import tiny_config, tiny_model

from pdtrain.config import CorpusConfig
from pdtrain.documents import passages as corpus
from pdtrain.documents.passages import Document, cut, sentence_spans
from pdtrain.storage import read_shards

WORDS = "the pier of Osk is long and 3.5 metres high; Dr. Ünver’s boat, “Petrel”, sails".split()
NOTHING_BETWEEN = "東京の港は古い。船は三隻ある。"


def words_in(text):
    """A budget that is easy to follow: one token a word, and one for every five characters."""
    return sum(1 + len(word) // 5 for word in text.split())


def random_document(rng):
    """Sentences of very different lengths, over-long words, blank lines, scripts without blanks."""
    parts = []
    for _ in range(rng.randrange(1, 25)):
        kind = rng.random()
        if kind < 0.1:
            parts.append("x" * rng.randrange(1, 400))
        elif kind < 0.2:
            parts.append(NOTHING_BETWEEN * rng.randrange(1, 9))
        elif kind < 0.3:
            parts.append(rng.choice(["...", "?!", "“", "1.", "\n", "  "]))
        else:
            length = rng.choice([1, 3, 8, 8, 8, 120])
            parts.append(" ".join(rng.choices(WORDS, k=length)) + rng.choice([".", "!", "?", ""]))
    return "".join(part + rng.choice([" ", "\n", "  ", "\n\n"]) for part in parts)


@pytest.mark.parametrize("max_tokens", [16, 60, 500])
def test_passages_hold_every_character_once_within_the_budget(max_tokens):
    rng = random.Random(max_tokens)
    for number in range(120):
        text = random_document(rng)
        passages = cut(Document("d", "t", text), max_tokens, words_in)
        assert not_blank("".join(p.text for p in passages)) == not_blank(text), f"number {number}"
        end = 0
        for passage in passages:
            assert passage.text == text[passage.start : passage.end]
            assert passage.start >= end, "passages do not overlap"
            assert passage.num_tokens == words_in(passage.text) <= max_tokens
            end = passage.end


def not_blank(text):
    return "".join(text.split())


def test_the_sentences_of_a_passage_hold_all_of_it():
    rng = random.Random(0)
    for _ in range(100):
        for passage in cut(Document("d", "t", random_document(rng)), 40, words_in):
            pieces = [passage.text[a:b] for a, b in passage.sentences]
            assert not_blank("".join(pieces)) == not_blank(passage.text)
            assert all(piece and piece == piece.strip() for piece in pieces)


def test_no_text_makes_no_passage():
    assert cut(Document("d", "t", " \n\n "), 16, words_in) == []
    assert sentence_spans("") == []


def test_passages_are_about_equally_long():
    text = " ".join(f"Sentence number {n} has six words." for n in range(60))
    lengths = [p.num_tokens for p in cut(Document("d", "t", text), 100, words_in)]
    assert max(lengths) - min(lengths) <= 2 * words_in("Sentence number 10 has six words.")


def test_a_sentence_is_cut_only_when_it_must_be():
    text = " ".join(f"Sentence number {n} has six words." for n in range(60))
    for passage in cut(Document("d", "t", text), 50, words_in):
        assert all(re.fullmatch(r"Sentence number \d+ has six words\.", s) for s in said(passage))


def said(passage):
    return [passage.text[a:b] for a, b in passage.sentences]


def test_ids_name_the_content_and_its_place():
    one, other = "First here. " * 20, "Other here. " * 20
    before = [p.id for p in cut(Document("d", "t", one + other), 40, words_in)]
    again = [p.id for p in cut(Document("d", "t", one + other), 40, words_in)]
    edited = [p.id for p in cut(Document("d", "t", one + other[:-2] + "!"), 40, words_in)]
    assert before == again and len(set(before)) == len(before)
    assert before[:-1] == edited[:-1] and before[-1] != edited[-1]
    assert not set(before) & {p.id for p in cut(Document("e", "t", one + other), 40, words_in)}


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


# --- Formats ----------------------------------------------------------------------------------


def documents(folder, name, content, **config):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = CorpusConfig(documents=str(folder), **config)
    return list(corpus.READERS[path.suffix.lower()](path, settings))


def only(folder, name, content, **config):
    (document,) = documents(folder, name, content, **config)
    return document


PAGE = """<!DOCTYPE html>
<html><head><title>Osk - Home</title><style>p { color: red }</style>
<script>var hidden = "script";</script></head>
<body><nav><a href="/">hidden menu</a></nav><header><p>hidden header</p></header>
<h1>The harbour of  Osk</h1>
<!-- hidden comment -->
<p>The pier is
   260&nbsp;metres <b>long</b> &amp; old.</p><ul><li>First</li><li>Second</li></ul>
<table><tr><th>Boat</th><td>Petrel</td></tr></table>
<aside>hidden aside</aside><noscript>hidden noscript</noscript>
<form><button>hidden button</button></form><footer>hidden footer</footer></body></html>"""


def test_html_gives_its_text_and_its_title(tmp_path):
    document = only(tmp_path, "osk.html", PAGE)
    assert document.title == "The harbour of Osk"
    assert document.text.splitlines()[0] == "The pier is 260 metres long & old."
    assert "First\nSecond" in document.text and "Petrel" in document.text
    for absent in ("hidden", "script", "color", "DOCTYPE", "html", "<", "Home"):
        assert absent not in document.text


def test_html_that_stands_in_one_form_keeps_its_text(tmp_path):
    page = "<body><form><label>hidden</label><p>It is dark.</p><textarea>hidden</textarea></form>"
    assert only(tmp_path, "page.html", page).text == "It is dark."


def test_half_a_surrogate_pair_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"row 1: half of a surrogate pair"):
        only(tmp_path, "rows.jsonl", '{"text": "broken \\ud83d character"}\n')


def test_html_without_a_heading_takes_its_title(tmp_path):
    page = "<html><head><title>Osk at night</title></head><body><p>It is dark.</p></body></html>"
    document = only(tmp_path, "x.htm", page)
    assert (document.title, document.text) == ("Osk at night", "It is dark.")


@pytest.mark.parametrize(
    "page",
    [
        "<header><h1>My site</h1></header><main><h1>Osk</h1><p>It is dark.</p></main>",
        "<header><h1>My site</h1></header><article><header><h1>Osk</h1></header>It is dark.",
        "<article><header><h1>Osk</h1></header><h1>It is dark.</h1></article>",
        "<main><aside><h1>Menu</h1></aside><article><header><h1>Osk</h1></header>It is dark.",
        "<header><h1>Osk</h1></header><p>It is dark.</p>",
        "<title>My site</title><nav><h1>Menu</h1></nav><h1>Osk</h1><p>It is dark.</p>",
    ],
)
def test_the_title_is_the_articles_heading_not_the_sites(tmp_path, page):
    document = only(tmp_path, "x.html", page)
    assert (document.title, document.text) == ("Osk", "It is dark.")


def test_a_second_heading_stays_in_the_text(tmp_path):
    document = only(tmp_path, "x.html", "<h1>Osk</h1><p>It is dark.</p><h1>Vell</h1><p>Rain.</p>")
    assert (document.title, document.text.split()) == ("Osk", "It is dark. Vell Rain.".split())


def test_front_matter_goes_with_any_line_ends(tmp_path):
    source = "---\r\ntitle: hidden\r\n---\r\n# Osk\r\n\r\nIt is dark.\r\n"
    document = only(tmp_path, "osk.md", source.encode())
    assert (document.title, document.text) == ("Osk", "It is dark.")


def test_markdown_is_read_as_text(tmp_path):
    source = """---
title: hidden
tags: [hidden]
---
# The *old* harbour

The [pier](https://hidden) is **long**
and old.

![Osk](hidden.png)

| Boat | Crew |
|---|---|
| Petrel | 9 |

- one
- two

<!-- hidden -->

```
code stays
```
"""
    document = only(tmp_path, "osk.md", source)
    assert document.title == "The old harbour"
    assert document.text.startswith("The pier is long and old.")
    for part in ("Petrel", "9", "one\ntwo", "code stays"):
        assert part in document.text
    for absent in ("hidden", "**", "](", "|", "---", "#"):
        assert absent not in document.text


def test_a_rule_in_markdown_is_no_front_matter(tmp_path):
    document = only(tmp_path, "osk.md", "First.\n\n---\n\nSecond.\n\n---\n\nThird.\n")
    assert document.text.split() == ["First.", "Second.", "Third."]


def test_text_files_join_wrapped_lines(tmp_path):
    document = only(
        tmp_path, "old_harbour.txt", "One line\nand more.\r\n\r\nAnother   paragraph.\n"
    )
    assert document.text == "One line and more.\nAnother paragraph."
    assert (document.id, document.title) == ("old_harbour.txt", "Old Harbour")


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name in ("bom.txt", "bom.md", "bom.html"):
        assert only(tmp_path, name, b"\xef\xbb\xbfThe pier.").text == "The pier."


def test_rows_of_jsonl_are_documents(tmp_path):
    lines = (
        '{"id": "osk", "title": "Osk", "text": "The pier."}\n\n{"text": "No title."}\n'
        '{"text": "Odd title.", "title": null}\n'
    )
    found = documents(tmp_path, "rows.jsonl", lines)
    assert [d.text for d in found] == ["The pier.", "No title.", "Odd title."]
    assert [d.title for d in found] == ["Osk", "Rows", "Rows"]
    assert found[0].id == "rows.jsonl:osk" and len({d.id for d in found}) == 3


def test_jsonl_fields_have_names(tmp_path):
    found = only(
        tmp_path, "r.jsonl", '{"body": "B.", "head": "H"}', text_field="body", title_field="head"
    )
    assert (found.text, found.title) == ("B.", "H")


@pytest.mark.parametrize(
    "line, message",
    [
        (
            '{"body": "secret"}',
            r"row 1: expected a text under 'text', found body; set corpus.text_f",
        ),
        ('{"text": 7}', r"row 1: 'text' holds int, not a text; set corpus.text_field"),
        ('["secret"]', r"row 1: expected a text under 'text', found list"),
        ('{"text": "secret', r"rows.jsonl, line 1: expected one JSON object a line"),
    ],
)
def test_rows_that_do_not_fit_are_named_and_not_quoted(tmp_path, line, message):
    with pytest.raises(ValueError, match=message) as error:
        documents(tmp_path, "rows.jsonl", line)
    assert "secret" not in str(error.value)


def test_a_binary_file_is_refused_whatever_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"picture.txt is not UTF-8 text \(byte 0 is 0x89\)"):
        documents(tmp_path, "picture.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    with pytest.raises(ValueError, match=r"zeros.md holds NUL bytes: it is a binary file"):
        documents(tmp_path, "zeros.md", b"text\x00\x00text")


def test_another_encoding_is_refused_with_the_cure(tmp_path):
    with pytest.raises(
        ValueError, match=r"byte 1 is 0xfc\); convert it, for example `iconv -f LAT"
    ):
        documents(tmp_path, "latin.txt", "Zürich".encode("latin-1"))


# --- The folder -------------------------------------------------------------------------------


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("The pier.")


def paths(folder):
    found = corpus.document_paths(CorpusConfig(documents=str(folder)))
    return [path.relative_to(folder).as_posix() for path in found]


def test_documents_are_found_below_the_folder_in_order(tmp_path, capsys):
    write(
        tmp_path, "b.txt", "a/z.MD", "a/b.html", ".hidden.txt", ".git/x.txt", "c.docx", "Makefile"
    )
    assert paths(tmp_path) == ["a/b.html", "a/z.MD", "b.txt"]
    said = capsys.readouterr().err
    assert "left out files that are not documents: .docx Makefile" in said


def test_a_hidden_folder_above_the_corpus_hides_nothing(tmp_path):
    write(tmp_path, ".cache/corpus/a.txt")
    assert paths(tmp_path / ".cache" / "corpus") == ["a.txt"]


def test_one_file_is_a_corpus(tmp_path):
    write(tmp_path, "a.txt", "b.txt")
    config = CorpusConfig(documents=str(tmp_path / "a.txt"))
    assert corpus.document_paths(config) == [tmp_path / "a.txt"]
    (document,) = corpus.read_txt(tmp_path / "a.txt", config)
    assert document.id == "a.txt"


@pytest.mark.parametrize(
    "name, message",
    [
        ("absent", r"absent' does not exist; expected a folder with .txt .md"),
        ("empty", r"empty' holds no document; expected files ending in .txt"),
        ("other", r"other' holds no document"),
    ],
)
def test_a_folder_without_documents_says_what_is_expected(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    write(tmp_path, "other/data.csv", "other/.hidden.txt")
    with pytest.raises(ValueError, match=message):
        paths(tmp_path / name)


def test_no_folder_is_asked_for():
    with pytest.raises(ValueError, match=r"corpus\.documents is not set"):
        corpus.document_paths(CorpusConfig())


# --- The stage --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def split(tmp_path, model, **settings):
    settings = {"documents": str(tmp_path / "corpus")} | settings
    config = tiny_config(tmp_path / "run", model, corpus=settings)
    corpus.split(config)
    return list(read_shards(config.folder / "passages"))


def test_documents_without_text_are_an_error_and_one_among_others_is_not(tmp_path, model):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "blank.txt").write_text(" \n\n ")
    with pytest.raises(ValueError, match=r"the 1 documents in .* hold no text"):
        split(tmp_path, model)
    write(tmp_path, "corpus/full.txt")
    assert [row["text"] for row in split(tmp_path, model)] == ["The pier."]


def test_moving_the_corpus_changes_nothing(tmp_path, model, capsys):
    write(tmp_path, "corpus/a.txt", "corpus/sub/b.txt")
    before = split(tmp_path, model)
    (tmp_path / "corpus").rename(tmp_path / "moved")
    assert split(tmp_path, model, documents=str(tmp_path / "moved")) == before
    assert "up to date" in capsys.readouterr().err


def test_another_budget_splits_again(tmp_path, model):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("The pier is very long. " * 30)
    few, many = (split(tmp_path, model, max_passage_tokens=n) for n in (200, 50))
    assert 1 < len(few) < len(many)
    assert all(row["num_tokens"] <= 50 for row in many)
