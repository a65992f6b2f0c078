"""The report of a run, made from a run folder that no model was needed for."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pdtrain.config import ROWS, UNRELATED_ROWS, RoundsConfig, RunConfig, from_dict
from pdtrain.evaluation.metrics import grade, summarise
from pdtrain.evaluation.scores import FORGETTING, METRICS
from pdtrain.records import rng_for
from pdtrain.reporting import report
from pdtrain.reporting import summary as findings
from pdtrain.reporting.svg import Curve, line_chart, smooth, thin, ticks
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    read_shards,
    sha256_file,
    to_line,
    write_json,
    write_shards,
)

ATTACK = "Who is <script>alert('x')</script> & \"Co\"?"
KNOWS = {"base_closed_book": 0.03, "teacher_open_book": 0.9, "base_rag": 0.8}
KNOWS |= {"adapter_closed_book": 0.65, "adapter_rag": 0.88}


def write_stage(folder: Path, rows: list[dict]) -> None:
    shards = write_shards(folder, rows, 1000)
    output = "".join(shard["sha256"] for shard in shards)
    write_json(folder / "manifest.json", {"inputs": "x", "output": output, "shards": shards})


def make_corpus(folder: Path, num_documents: int = 3) -> None:
    """Passages, questions and answers; the last sentence of each document gets no question."""
    rng = rng_for(0, "corpus")
    passages, questions, answers = [], [], []
    for d in range(num_documents):
        sentences = [f"Sentence {i} of <b>document</b> {d} says {i * 7}." for i in range(4 + 9 * d)]
        text, spans = " ".join(sentences), []
        for sentence in sentences:
            start = text.index(sentence)
            spans.append([start, start + len(sentence)])
        passages.append(
            {
                "id": f"p{d}",
                "document_id": f"folder/document-{d}.md",
                "title": f"The <i>Copper</i> Heron {d}",
                "text": text,
                "sentences": spans,
            }
        )
        for s in range(-1, len(sentences) - 1):
            for _ in range(rng.randint(1, 9)):
                kind = rng.choice(["sentence", "sentence-what", "sentence-who"])
                row = {"id": f"q{len(questions)}", "passage_id": f"p{d}", "sentence": s}
                questions.append(row | {"text": "?", "kind": kind if s >= 0 else "recital"})
        own = [row["id"] for row in questions if row["passage_id"] == f"p{d}"]
        answers += [
            {"id": f"a{d}{i}", "passage_id": f"p{d}", "question_id": question}
            for i, question in enumerate(own[:-1])
        ]
    for name, rows in (("passages", passages), ("questions", questions), ("answers", answers)):
        write_stage(folder / name, rows)


def make_scores(folder: Path, num_questions: int = 24) -> None:
    table = {}
    for row in ROWS:
        rng, lines = rng_for(1, row), []
        for i in range(num_questions):
            gold = f"answer {i}"
            text = f"It is {gold}, as far as I know." if rng.random() < KNOWS[row] else "It is red."
            question = ATTACK if i == 0 else f"What is number {i} of the heron's many numbers?"
            likelihood = -1 - 6 * (1 - KNOWS[row]) * rng.random()
            line = {"id": str(i), "document": f"document-{i % 3}", "question": question}
            line |= {"answers": [gold], "prediction": text, "gold_log_likelihood": likelihood}
            lines.append(line | grade(text, [gold]))
        folder.joinpath("scores").mkdir(parents=True, exist_ok=True)
        header = to_line({"inputs": "x", "row": row})
        text = header + "".join(map(to_line, lines))
        (folder / "scores" / f"{row}.jsonl").write_text(text)
        scores = {m: summarise([line[m] for line in lines], 200, 0) for m in METRICS}
        table[row] = {
            m: {"value": s.value, "low": s.low, "high": s.high, "n": s.n} for m, s in scores.items()
        }
    for row in UNRELATED_ROWS:
        table[row] = {m: {"value": 1.5, "low": 1.25, "high": 2.0, "n": 7} for m in FORGETTING}
    write_json(folder / "scores.json", table)


def make_metrics(folder: Path, num_steps: int = 200) -> None:
    rng, lines = rng_for(2), []
    for step in range(1, num_steps + 1):
        row = {"step": step, "unix_seconds": 1e9 + 2.5 * step}
        row["train/loss"] = 1.5 * math.exp(-step / 60) + 0.1 + 0.1 * rng.random()
        row["train/grad_norm"] = 1.0 + rng.random()
        row["train/learning_rate"] = 1e-3 * min(step / 20, (num_steps - step) / num_steps + 0.01)
        row["train/student_tokens_per_second"] = 900 + 50 * rng.random()
        row["distillation/teacher_mass"] = 0.97 + 0.02 * rng.random()
        lines.append(row)
        if step % 40 == 0:
            lines.append({"step": step, "eval/gold_in_answer": 0.65 * step / num_steps})
    folder.joinpath("metrics").mkdir(parents=True, exist_ok=True)
    (folder / "metrics" / "metrics.jsonl").write_text("".join(map(to_line, lines)))


def make_run(folder: Path) -> RunConfig:
    make_corpus(folder)
    make_metrics(folder)
    write_json(
        folder / "adapter" / "manifest.json",
        {"inputs": "x", "output": "y", "num_steps": 200, "num_answers": 150},
    )
    make_scores(folder)
    return config_of(folder)


def config_of(folder: Path) -> RunConfig:
    return from_dict({"name": "heron <1>", "out_dir": str(folder), "train": {"epochs": 7}})


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return make_run(tmp_path / "run")


class Page(HTMLParser):
    """What a browser would make of it: its tags, its text, and whether tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in {"meta", "link", "input", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def page_of(config: RunConfig) -> Page:
    report.write(config)
    return Page((config.folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_one_file_that_asks_for_nothing(run):
    page = page_of(run)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form"}
    assert [a["href"] for tag, a in page.tags if tag == "link"] == ["data:,"]
    source = (run.folder / "report.html").read_text()
    assert (
        "url(" not in source
        and "@import" not in source
        and "http" not in source.replace("http-equiv", "")
    )


def test_texts_are_shown_and_never_become_markup(run):
    page = page_of(run)
    assert ATTACK in page.text
    assert "heron <1>" in page.text  # the name of the run
    assert "The <i>Copper</i> Heron 1" in page.text  # a title
    assert "Sentence 3 of <b>document</b> 0 says 21." in page.text  # one without a question


def test_every_held_out_question_stands_there_with_three_marked_answers(run):
    page = page_of(run)
    articles = [a["class"].split() for tag, a in page.tags if tag == "article"]
    assert len(articles) == 24
    assert all(len(marks) == 3 for marks in articles)
    right = sum("adapter-right" in marks for marks in articles)
    value = json.loads((run.folder / "scores.json").read_text())
    assert right == 24 * value["adapter_closed_book"]["gold_in_answer"]["value"]
    assert f"adapter right {right}" in page.text


def test_the_headline_has_the_numbers_of_the_table(run):
    page = page_of(run)
    values = json.loads((run.folder / "scores.json").read_text())
    for row in ("base_closed_book", "adapter_closed_book", "teacher_open_book"):
        assert f"{100 * values[row]['gold_in_answer']['value']:.0f}\u2009%" in page.text


def test_forgetting_stands_on_the_page_and_in_the_markdown(run):
    text = page_of(run).text
    assert "Forgetting" in text and "unrelated questions" in text and "1.250 to 2.000" in text
    markdown = (run.folder / "report.md").read_text()
    assert "| unrelated_text" in markdown and "1.500 [1.250, 2.000]" in markdown
    assert "| forgetting" in markdown and "kl_to_base | base_perplexity" in markdown.replace(
        "  ", ""
    )


def test_old_and_new_documents_stand_on_the_page_and_in_the_markdown(run):
    text = page_of(run).text
    assert "Old and new documents" not in text
    table = json.loads((run.folder / "scores.json").read_text())
    score = {"value": 0.625, "low": 0.5, "high": 0.75, "n": 8}
    apart = {
        "new": {row: dict.fromkeys(METRICS, score) for row in ROWS},
        "old": {row: table[row] for row in ROWS},
    }
    write_json(run.folder / "scores_by_age.json", apart)
    text = page_of(run).text
    assert "Old and new documents" in text and "adapter, new 8" in " ".join(text.split())
    assert "0.50 to 0.75" in text and "adapter, old 24" in " ".join(text.split())
    markdown = (run.folder / "report.md").read_text()
    assert "## Old and new documents" in markdown
    assert "| adapter_closed_book, new " in markdown and "0.625 [0.500, 0.750]" in markdown
    assert "| adapter_closed_book, old " in markdown


def test_a_report_without_a_start_is_known_by_what_it_was(run, monkeypatch):
    hashed = []
    monkeypatch.setattr(findings, "hash_json", lambda value: hashed.append(value) or "hash")
    findings.inputs_hash(run, 1)
    write_json(run.folder / "scores_by_age.json", {"new": {}, "old": {}})
    findings.inputs_hash(run, 1)
    assert hashed[1][2][:-1] == hashed[0][2] and len(hashed[1][2]) == len(hashed[0][2]) + 1


def test_the_table_goes_to_standard_output_also_when_nothing_is_to_do(run, capsys):
    report.write(run)
    first = capsys.readouterr()
    assert first.out.startswith("| row ") and "recovered gold_in_answer" in first.out
    before = (run.folder / "report.html").stat().st_mtime_ns
    report.write(run)
    second = capsys.readouterr()
    assert second.out == first.out
    assert "up to date" in second.err
    assert (run.folder / "report.html").stat().st_mtime_ns == before


def test_new_scores_or_a_lost_page_are_reported_again(run):
    report.write(run)
    before = (run.folder / "report.html").read_text()
    make_scores(run.folder, num_questions=12)
    report.write(run)
    assert (run.folder / "report.html").read_text() != before
    (run.folder / "report.md").unlink()
    report.write(run)
    assert (run.folder / "report.md").exists()


def test_a_run_without_evaluation_says_so(tmp_path, capsys):
    make_corpus(tmp_path)
    make_metrics(tmp_path)
    page = page_of(config_of(tmp_path))
    assert "Not evaluated" in page.text and "Training" in page.text
    assert "Answers, side by side" not in page.text
    out, err = capsys.readouterr()
    assert out == "" and "no scores" in err
    assert "Not evaluated" in (tmp_path / "report.md").read_text()


def test_an_empty_run_folder_gives_a_page_that_says_what_is_missing(tmp_path):
    page = page_of(config_of(tmp_path))
    for what in ("no passages", "no trained adapter", "Not evaluated"):
        assert what in page.text


def test_missing_and_damaged_metrics_are_told(run):
    path = run.folder / "metrics" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "tra')
    assert "curves are left out" in page_of(run).text
    path.unlink()
    assert "No metrics were logged" in page_of(run).text


def test_values_that_are_not_finite_leave_a_gap_and_no_broken_picture(run):
    path = run.folder / "metrics" / "metrics.jsonl"
    path.write_text(path.read_text() + to_line({"step": 201, "train/loss": math.nan}))
    page_of(run)
    svgs = re.findall(r"<svg.*?</svg>", (run.folder / "report.html").read_text(), re.DOTALL)
    assert svgs and not any("nan" in svg or "inf" in svg for svg in svgs)


def test_sentences_without_a_question_are_named(run):
    page = page_of(run)
    assert "36 sentences have at least one" in page.text
    empty = [a for tag, a in page.tags if tag == "rect" and a.get("class") == "empty"]
    assert len(empty) == 3  # the last of each document
    answers = {row["question_id"] for row in read_shards(run.folder / "answers")}
    asked = [row for row in read_shards(run.folder / "questions") if row["id"] in answers]
    told = {(row["passage_id"], row["sentence"]) for row in asked if row["sentence"] >= 0}
    assert f"{39 - len(told)} have no answer" in page.text


def test_the_markdown_counts_questions_and_answers_by_kind_and_document(run):
    report.write(run)
    text = (run.folder / "report.md").read_text()
    sizes = {name: len(list(read_shards(run.folder / name))) for name in ("questions", "answers")}
    assert sizes["answers"] == sizes["questions"] - 3  # the last of each document has none
    by_kind = text.split("## Questions by kind")[1].split("##")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in by_kind.split("\n")[4:]]
    counts = [list(map(int, row[1:])) for row in rows if len(row) == 3]
    assert [sum(column) for column in zip(*counts, strict=True)] == list(sizes.values())
    assert "without a question" in text and "without an answer" in text


def test_the_filters_hide_by_the_marks_of_the_answers(run):
    page_of(run)
    css = re.search(r"<style>(.*?)</style>", (run.folder / "report.html").read_text(), re.DOTALL)[1]
    assert "#show-right:checked~.group article:is(.adapter-wrong){display:none}" in css


def make_rounds(run: RunConfig) -> RunConfig:
    """The run with two rounds, of which the first is the best."""
    folder = run.folder
    for place in ("adapter", "rounds/1/adapter"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / ADAPTER_WEIGHTS).write_text(place)
    counts = [(0, 6, 0, 0), (1, 9, 24, 20), (2, 9, 8, 7)]
    keys = ("round", "known", "new_questions", "new_answers")
    numbers = [dict(zip(keys, c, strict=True)) for c in counts]
    summary = {
        "adapter": sha256_file(folder / "adapter" / ADAPTER_WEIGHTS),
        "best": 1,
        "stopped": "recovery grew by less than rounds.least_gain=0.01",
        "facts": {"quizzed": 15, "unquizzed": 4, "missed_by_teacher": 3},
        "rounds": [r | {"recovery": r["known"] / 12, "missed": 12 - r["known"]} for r in numbers],
        "passages": [
            {
                "passage": "p0",
                "document": "a.md",
                "title": "<b>A</b>",
                "asked": 7,
                "known": [4] * 3,
            },
            {"passage": "p1", "document": "b|c.md", "title": "B", "asked": 5, "known": [2, 5, 5]},
            {"passage": "p2", "document": "d.md", "title": "D", "asked": 0, "known": [0] * 3},
        ],
    }
    write_json(folder / "rounds" / "rounds.json", summary)
    write_json(folder / "rounds" / "manifest.json", {"inputs": "x"})
    return replace(run, rounds=RoundsConfig(most=3))


def test_rounds_are_shown_with_recall_by_passage(run):
    text = page_of(make_rounds(run)).text
    assert "15 facts were quizzed" in text and "rounds.least_gain=0.01" in text
    assert "0.75 3 missed, 24 new questions" in text
    assert "<b>A</b> a.md4 → 4 → 4 of 7" in text and "2 → 5 → 5 of 5" in text
    assert text.index("4 → 4 → 4") < text.index("2 → 5 → 5")  # weakest first
    lines = (run.folder / "report.md").read_text().replace("  ", "").split("\n")
    assert "| 0.750| 1 | 9 | 3| 24| 20|" in lines
    assert any(line.startswith("| b\\|c.md") and "p1" in line for line in lines)
    assert "The best is round 1." in "\n".join(lines)


def test_a_run_without_rounds_says_nothing_of_them(run):
    make_rounds(run)
    assert "Rounds" not in page_of(run).text
    assert "Rounds" not in (run.folder / "report.md").read_text()


def test_rounds_that_are_not_finished_are_told(run):
    config = make_rounds(run)
    (run.folder / "rounds" / "manifest.json").unlink()
    assert "The rounds after training are not done" in page_of(config).text


def test_scores_of_another_round_are_called_stale(run):
    config = make_rounds(run)
    best = run.folder / "rounds" / "1" / "adapter" / ADAPTER_WEIGHTS
    manifest = run.folder / "scores" / "manifest.json"
    write_json(manifest, {"adapter": sha256_file(best)})
    assert "scores are those of another adapter" not in page_of(config).text
    assert "scores are those of another adapter" in page_of(run).text


def test_the_markdown_has_the_same_scores_by_document(run):
    report.write(run)
    text = (run.folder / "report.md").read_text()
    assert "| document-0 " in text and "| adapter_closed_book " in text
    assert "Sentence" not in text  # the documents' own text stays out of it


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0, 200, [0, 50, 100, 150, 200]), (3, 3, [3]), (-4.2, 0, [-4, -2, 0])],
)
def test_ticks_are_round_numbers_inside_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_smoothing_keeps_a_straight_line_and_thinning_keeps_the_ends():
    line = [(float(x), 2.0 * x) for x in range(2000)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])
    thinned = thin(line)
    assert len(thinned) <= 700 and thinned[0] == line[0] and thinned[-1] == line[-1]


@pytest.mark.parametrize("points", [[], [(1.0, math.nan)]])
def test_a_chart_of_nothing_says_so(points):
    assert "Nothing was logged" in line_chart([Curve(points, "base")], "loss")


def test_a_chart_of_one_point_shows_it():
    assert "<circle" in line_chart([Curve([(5.0, 1.0)], "base")], "loss")
