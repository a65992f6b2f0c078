"""The page of a report, as a browser reads it."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_folders import (
    MARKUP,
    config_of,
    fill_with,
    make_corpus,
    make_metrics,
    make_rounds,
    make_run,
    make_scores_by_age,
)

from pdtrain.config import RunConfig
from pdtrain.reporting import html, sections
from pdtrain.reporting.summary import COMPARED, read_summary
from pdtrain.storage import read_shards, to_line

VOID = ("meta", "link", "input")
ASKS_OR_RUNS = {"script", "img", "iframe", "object", "embed", "form", "a", "base"}


class Page(HTMLParser):
    """Hold the tags and the text of a page, and assert that tags are closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(source)
        assert self.open == [], f"never closed: {self.open}"
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def having(self, tag: str, css: str = "") -> Iterator[dict[str, str | None]]:
        for name, attributes in self.tags:
            if name == tag and (not css or css in (attributes.get("class") or "").split()):
                yield attributes


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return make_run(tmp_path / "run")


def page_of(config: RunConfig) -> Page:
    return Page(html.render(read_summary(config)))


def test_the_page_is_one_file_that_asks_for_nothing(run):
    page = page_of(run)
    assert not {tag for tag, _ in page.tags} & ASKS_OR_RUNS
    assert [attributes["href"] for attributes in page.having("link")] == ["data:,"]
    assert "url(" not in page.source and "@import" not in page.source
    assert "http" not in page.source.replace("http-equiv", "")


def test_texts_are_shown_as_they_are(run):
    page = page_of(run)
    assert MARKUP in page.text
    assert "heron <1>" in page.text  # the name of the run
    assert "The <i>Copper</i> Heron 1" in page.text  # a title
    assert "Sentence 3 of <b>document</b> 0 says 21." in page.text  # one without a question


HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onload='alert(1)",
    "{{ 7 * 7 }}{% include 'page.html' %}{# gone #}",
    "[click](javascript:alert(1))",
    '<a href="javascript:alert(1)">click</a>',
    "</style><svg onload=alert(1)>",
    "`code` &lt;b&gt; &amp; <!-- ",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(run, text):
    calm = page_of(run)
    fill_with(run.folder, text)
    config = config_of(run.folder, name=text)
    (run.folder / "metrics" / "metrics.jsonl").write_text(f"{text}\n")  # told of in a note
    page = page_of(config)
    # document, question, gold answer, prediction, sentence, title, kind, name
    assert page.text.count(" ".join(text.split())) > 24 * 3
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in calm.tags} | {"p", "code"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "javascript" not in str(attributes.get("href")), tag


def test_every_held_out_question_stands_there_with_three_marked_answers(run):
    page = page_of(run)
    marks = [attributes["class"].split() for attributes in page.having("article")]
    assert len(marks) == 24
    assert all(len(found) == len(COMPARED) for found in marks)
    right = sum("adapter-right" in found for found in marks)
    scores = json.loads((run.folder / "scores.json").read_text())
    assert right == 24 * scores["adapter_closed_book"]["gold_in_answer"]["value"]
    assert f"adapter right {right}" in page.text


def test_a_rule_of_the_stylesheet_hides_what_a_filter_does_not_count(run):
    page = page_of(run)
    css = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)[1]
    names = [attributes["id"] for attributes in page.having("input")]
    assert names == [f"show-{name}" for name in sections.FILTERS]
    for name, (_, hidden) in sections.FILTERS.items():
        assert f"#show-{name}:checked ~ nav label[for=show-{name}]" in css
        rule = rf"#show-{name}:checked ~ \.group article:is\((.*?)\) {{ display: none; }}"
        found = re.search(rule, css)
        classes = set(found[1].split(", ")) if found else set()
        assert classes == {f".{mark}" for mark in hidden}


def test_the_headline_has_the_numbers_of_the_table(run):
    page = page_of(run)
    scores = json.loads((run.folder / "scores.json").read_text())
    for system in COMPARED:
        assert f"{100 * scores[system]['gold_in_answer']['value']:.0f}\u2009%" in page.source


def test_the_headline_says_where_the_adapter_answers_worse_than_its_base(run):
    before = page_of(run).text.partition("Answered:")[0]
    assert "unfinished" not in before and "retain.reading" not in before
    path = run.folder / "scores.json"
    scores = json.loads(path.read_text())
    scores["adapter_rag_3"]["finished"] |= {"value": 0.2, "low": 0.1, "high": 0.3}
    scores["base_rag_3"]["finished"] |= {"value": 0.6, "low": 0.5, "high": 0.7}
    path.write_text(json.dumps(scores))
    wanted = (
        "The adapter + search (3) leaves more answers unfinished than the base that reads the "
        "same: finished 0.200 [0.100, 0.300] against 0.600 [0.500, 0.700]."
    )
    after = page_of(run).text.partition("Answered:")[0]
    assert wanted in after and "retain.reading" in after, "and what holds an adapter to reading"


def test_forgetting_is_shown(run):
    text = page_of(run).text
    assert "Forgetting" in text and "unrelated questions" in text and "1.250 to 2.000" in text


def test_old_and_new_documents_are_shown_where_the_adapter_had_a_start(run):
    assert "Old and new documents" not in page_of(run).text
    make_scores_by_age(run.folder)
    text = page_of(run).text
    assert "Old and new documents" in text
    assert "adapter, new 8" in text and "0.50 to 0.75" in text and "adapter, old 24" in text


def test_a_run_without_evaluation_has_curves_and_no_answers(tmp_path):
    make_corpus(tmp_path)
    make_metrics(tmp_path)
    page = page_of(config_of(tmp_path))
    assert list(page.having("figure")) and not list(page.having("article"))


def test_the_notes_of_an_empty_run_are_on_its_page(tmp_path):
    summary = read_summary(config_of(tmp_path))
    page = Page(html.render(summary))
    assert len(list(page.having("p", "note"))) == len(summary.notes) == 3
    assert all(note.replace("`", "") in page.text for note in summary.notes)
    assert "<code>pdtrain train CONFIG</code>" in page.source


def test_values_that_are_not_finite_leave_a_gap_and_no_broken_picture(run):
    path = run.folder / "metrics" / "metrics.jsonl"
    path.write_text(path.read_text() + to_line({"step": 201, "train/loss": math.nan}))
    drawings = re.findall(r"<svg.*?</svg>", page_of(run).source, re.DOTALL)
    assert drawings and not any("nan" in drawing or "inf" in drawing for drawing in drawings)


def test_sentences_without_a_question_are_outlined_and_counted(run):
    page = page_of(run)
    assert "36 sentences have at least one" in page.text
    assert len(list(page.having("rect", "empty"))) == 3  # the last of each document
    answered = {record["question_id"] for record in read_shards(run.folder / "answers")}
    questions = read_shards(run.folder / "questions")
    sentences = {
        (question["passage_id"], question["sentence"])
        for question in questions
        if question["id"] in answered and question["sentence"] >= 0
    }
    assert f"{39 - len(sentences)} have no answer" in page.text


def test_a_long_list_of_documents_is_cut_and_says_by_how_much(run):
    summary = read_summary(run)
    long = replace(summary, coverage=summary.coverage[:1] * (html.MOST_DOCUMENTS + 7))
    page = Page(html.render(long))
    assert len(list(page.having("details", "document"))) == html.MOST_DOCUMENTS
    assert "7 more documents are not shown." in page.text


def test_rounds_are_shown_with_recall_by_passage(run):
    text = page_of(make_rounds(run)).text
    assert "15 facts were quizzed" in text and "rounds.least_gain=0.01" in text
    assert "0.75 3 missed, 24 new questions" in text
    assert "<b>A</b> a.md 4 → 4 → 4 of 7" in text and "2 → 5 → 5 of 5" in text
    assert text.index("4 → 4 → 4") < text.index("2 → 5 → 5")  # weakest first


def test_a_run_without_rounds_says_nothing_of_them(run):
    make_rounds(run)
    assert "Rounds" not in page_of(run).text


def test_settings_that_differ_from_the_defaults_are_marked(run):
    source = page_of(run).source
    assert '<tr class="changed"><th scope="row">train.epochs</th><td>7</td>' in source
    assert '<tr><th scope="row">train.scheduler</th>' in source
