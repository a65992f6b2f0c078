"""`pdtrain inspect`: the prompt of the teacher as it is, harmless in a terminal and on a page."""

import io
from html.parser import HTMLParser

import pytest
from support import tiny_config, tiny_model

from pdtrain.api import run_stages
from pdtrain.reporting.inspection import inspect, visible

EVIL = '<script>alert(1)</script> & "quotes" were found at Osk. It\'s </pre> the {passage} end.'


class Reader(HTMLParser):
    """Collect the texts of a page's `pre` and `b`, and the names of all tags."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.shown, self.sentences = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "pre":
            self.shown.append("")
        if tag == "b":
            self.sentences.append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "pre" in self.open:
            self.shown[-1] += data
        if "b" in self.open:
            self.sentences[-1] += data


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text(EVIL)
    for number in range(9):
        (folder / f"b{number}.txt").write_text(f"The pier is {number} metres long. It is old.")
    config = tiny_config(
        tmp_path / "run", tiny_model(tmp_path / "model"), corpus={"documents": str(folder)}
    )
    run_stages(config, ["passages"])
    return config


def test_the_terminal_shows_what_the_teacher_reads(config):
    out = io.StringIO()
    inspect(config, 2, out)
    said = out.getvalue()
    assert said.count("── passage") == 2 and "passage 1 of 10 · a.txt · A" in said
    passage = next(config.run.passages())
    prompt = config.prompts.teacher.format(
        title=passage.heading, passage=EVIL, focus="", question="[the question]"
    )
    assert prompt in said


def test_the_page_holds_every_passage_escaped_with_its_sentences(config):
    inspect(config, 0, io.StringIO())
    text = config.run.passages_page.read_text()
    page = Reader()
    page.feed(text)
    assert "script" not in page.tags and "default-src 'none'" in text
    assert len(page.shown) == 10 and EVIL in page.shown[0]
    assert page.shown[1].count("The pier is 0 metres long. It is old.") == 1
    assert {"The pier is 0 metres long.", "It is old."} <= set(page.sentences)
    assert "10 kept" in " ".join(text.split())


def test_more_can_be_printed_than_there_are(config):
    out = io.StringIO()
    inspect(config, 99, out)
    assert out.getvalue().count("── passage") == 10


def test_a_terminal_is_not_steered():
    assert visible("a\x1b[31mred\x07\u202egnorw\x9b2J\ttab\n") == (
        "a<U+001B>[31mred<U+0007><U+202E>gnorw<U+009B>2J\ttab\n"
    )
