"""The files that the report stage writes, and `report.md` among them."""

import pytest
from markdown_it import MarkdownIt
from run_folders import (
    config_of,
    fill_with,
    make_corpus,
    make_metrics,
    make_rounds,
    make_run,
    make_scores,
    make_scores_by_age,
)

from pdtrain.config import RunConfig
from pdtrain.evaluation.scores import table_text
from pdtrain.evaluation.systems import ADAPTER
from pdtrain.reporting import html, report
from pdtrain.reporting.summary import read_summary
from pdtrain.storage import read_shards


@pytest.fixture
def run(tmp_path) -> RunConfig:
    return make_run(tmp_path / "run")


def markdown_of(config: RunConfig) -> str:
    return report.markdown(read_summary(config))


def tables(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the lines below a heading, but for the rule below the first."""
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.split("\n") if line.startswith("|")]
    return [
        [cell.strip() for cell in line[1:-1].split(" | ")] for line in lines if "--" not in line
    ]


# --- The stage --------------------------------------------------------------------------------


def test_both_files_are_written_and_the_table_goes_to_standard_output(run, capsys):
    report.write(run)
    summary = read_summary(run)
    assert (run.folder / "report.html").read_text() == html.render(summary)
    assert (run.folder / "report.md").read_text() == report.markdown(summary)
    assert capsys.readouterr().out == table_text(run.run.scores()) + "\n"


def test_nothing_is_written_twice_and_the_table_is_printed_again(run, capsys):
    report.write(run)
    first, written = capsys.readouterr().out, (run.folder / "report.html").stat().st_mtime_ns
    report.write(run)
    assert capsys.readouterr().out == first
    assert (run.folder / "report.html").stat().st_mtime_ns == written


def test_new_scores_or_a_lost_page_are_reported_again(run):
    report.write(run)
    before = (run.folder / "report.html").read_text()
    make_scores(run.folder, num_questions=12)
    report.write(run)
    assert (run.folder / "report.html").read_text() != before
    (run.folder / "report.md").unlink()
    report.write(run)
    assert (run.folder / "report.md").exists()


def test_a_run_without_evaluation_is_reported_without_a_table(tmp_path, capsys):
    make_corpus(tmp_path)
    make_metrics(tmp_path)
    report.write(config_of(tmp_path))
    assert capsys.readouterr().out == ""
    assert "Not evaluated" in (tmp_path / "report.md").read_text()


# --- report.md --------------------------------------------------------------------------------


def test_the_markdown_has_the_table_of_scores_and_those_by_document(run):
    text = markdown_of(run)
    assert table_text(run.run.scores()) in text
    assert "Sentence" not in text  # the documents' own text stays out of it
    head, *lines = tables(text, "Gold in answer by document")
    recall = read_summary(run).recall
    assert [line[0] for line in lines] == [document.document for document in recall]
    column = head.index(ADAPTER.name)
    shares = [f"{document.gold_in_answer[ADAPTER.name]:.2f}" for document in recall]
    assert [line[column] for line in lines] == shares


def test_old_and_new_documents_are_in_the_markdown(run):
    assert "Old and new documents" not in markdown_of(run)
    make_scores_by_age(run.folder)
    lines = dict(line[:2] for line in tables(markdown_of(run), "Old and new documents"))
    assert lines["adapter_closed_book, new"] == "0.625 [0.500, 0.750]"
    assert "adapter_closed_book, old" in lines


def test_the_markdown_counts_questions_and_answers_by_kind_and_document(run):
    text = markdown_of(run)
    sizes = [len(list(read_shards(run.folder / name))) for name in ("questions", "answers")]
    for heading in ("Questions by kind", "Questions by document"):
        _, *lines = tables(text, heading)
        counts = [map(int, line[-2:]) for line in lines]
        assert [sum(column) for column in zip(*counts, strict=True)] == sizes
    head, *lines = tables(text, "Questions by document")
    for name in ("without a question", "without an answer"):
        assert all(int(line[head.index(name)]) for line in lines)


def test_rounds_are_in_the_markdown(run):
    text = markdown_of(make_rounds(run))
    assert ["0.750", "1", "9", "3", "24", "20"] in tables(text, "Rounds")
    assert ["b\\|c.md", "p1", "2", "5", "5", "5"] in tables(text, "Recall by passage")
    assert "The best is round 1." in text


def test_a_run_without_rounds_says_nothing_of_them(run):
    make_rounds(run)
    assert "Rounds" not in markdown_of(run)


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "[click](javascript:alert(1))", "![x](y.png) | `*b*`\n\n# c"],
)
def test_no_text_becomes_markup(run, text):
    fill_with(run.folder, text)
    (run.folder / "metrics" / "metrics.jsonl").write_text(f"{text}\n")  # told of in a note
    config = config_of(run.folder, name=text)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown_of(config))
    assert not [token for token in tokens if token.type == "html_block"]
    inline = [token for token in tokens if token.type == "inline"]
    shown = {child.type for token in inline for child in token.children}
    assert shown <= {"text", "text_special", "softbreak", "code_inline"}
    cells = [token.content for token in inline]
    assert len([cell for cell in cells if "alert" in cell or "y.png" in cell]) >= 4
