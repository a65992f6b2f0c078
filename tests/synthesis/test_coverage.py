"""What is counted, that it is written once, and that no text of a passage is written with it."""

import re

import pytest
from support import tiny_config, write_records

from pdtrain.records import Answer, Passage, Question
from pdtrain.run_folder import RunFolder
from pdtrain.storage import read_json
from pdtrain.synthesis import coverage

TEXT = "Anna Gray built the mill. It grinds rye. It burnt."
SPANS = ((0, 25), (26, 40), (41, 50))
PASSAGES = [Passage(f"p{i}", f"{i}.txt", "The mill", TEXT, 0, 50, 12, SPANS) for i in (0, 1)]
KINDS = (("fact", 0), ("fact", 0), ("blank", 1), ("summary", -1))
QUESTIONS = [Question(f"q{i}", "p0", f"{i}?", kind, s) for i, (kind, s) in enumerate(KINDS)]
QUESTIONS += [Question("q9", "p1", "Who?", "fact", 2)]
ANSWERS = [Answer(f"a{i}", q, "p0", "-", (1,), True) for i, q in enumerate(("q1", "q1", "q3"))]


@pytest.fixture
def folder(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    write_records(config, PASSAGES, QUESTIONS, ANSWERS)
    return config.folder


def coverage_file(folder):
    return folder / "coverage.json"


def test_questions_and_answers_are_counted_by_sentence_and_kind(folder):
    first, second = coverage.read(RunFolder(folder))
    assert first.questions.per_sentence == [2, 1, 0] and first.answers.per_sentence == [2, 0, 0]
    assert first.questions.kinds == {"fact": 2, "blank": 1, "summary": 1}
    assert first.answers.kinds == {"fact": 2, "summary": 1}
    assert second.questions.per_sentence == [0, 0, 1] and not second.answers.kinds
    assert [text for text, n in zip(first.sentences, [2, 1, 0], strict=True) if not n] == [
        "It burnt."
    ]


def test_rows_of_another_corpus_are_not_counted():
    rows = [[record.to_json() for record in found] for found in (QUESTIONS, ANSWERS)]
    (only,) = coverage.measure([PASSAGES[1].to_json()], *rows)
    assert only.questions.kinds == {"fact": 1} and not only.answers.kinds
    (left,) = coverage.measure([PASSAGES[0].to_json()], rows[0][2:], rows[1])
    assert left.answers.kinds == {"summary": 1}  # the others are to questions that are gone


def test_a_stage_ends_with_one_line_and_says_it_once(folder, capsys):
    """In numbers: of questions about sentences, sentences, a sentence, least, without; the rest."""
    capsys.readouterr()
    for _ in range(2):
        coverage.report(RunFolder(folder), "questions")
        coverage.report(RunFolder(folder), "answers")
    said = capsys.readouterr().err.splitlines()
    numbers = [[float(number) for number in re.findall(r"[\d.]+", line)] for line in said]
    assert numbers == [[4, 6, 0.7, 0, 3, 1, 3, 1, 1], [2, 6, 0.3, 0, 5, 1, 2, 1]]
    before = coverage_file(folder).stat().st_mtime_ns
    coverage.report(RunFolder(folder), "answers")
    assert coverage_file(folder).stat().st_mtime_ns == before
    assert not capsys.readouterr().err


def test_the_file_has_a_row_a_passage_and_no_text(folder):
    coverage.report(RunFolder(folder), "questions")
    rows = read_json(folder / "coverage.json")["passages"]
    assert [row["questions_per_sentence"] for row in rows] == [[2, 1, 0], [0, 0, 1]]
    assert all(row["answers"] == {} for row in rows)  # they may be of earlier questions
    coverage.report(RunFolder(folder), "answers")
    rows = read_json(folder / "coverage.json")["passages"]
    assert rows[0]["answers"] == {"fact": 2, "summary": 1}
    assert rows[0]["document"] == "0.txt" and rows[0]["passage"] == "p0"
    text = (folder / "coverage.json").read_text()
    assert not any(word in text for word in ("Anna", "rye", "Who?"))


def test_a_file_that_tells_of_other_output_is_written_again(folder):
    coverage.report(RunFolder(folder), "answers")
    write_records(tiny_config(folder, folder), PASSAGES, QUESTIONS[:-1])
    coverage.report(RunFolder(folder), "questions")
    assert read_json(folder / "coverage.json")["passages"][1]["questions"] == {}
    coverage.report(RunFolder(folder), "answers")
    assert read_json(folder / "coverage.json")["passages"][0]["answers"]


def test_a_large_corpus_is_counted_alike_and_its_least_covered_passages_are_listed(
    folder, monkeypatch, capsys
):
    run = RunFolder(folder)
    wanted = coverage.read(run)
    tally = coverage.Tally.of_run(run, coverage.STAGES)
    for stage in coverage.STAGES:
        whole = coverage.line(wanted, lambda one, stage=stage: getattr(one, stage))
        assert tally.line(stage) == whole
    assert list(tally.least_covered(run, "answers", 9)) == [one.to_json() for one in wanted]
    monkeypatch.setattr(coverage, "MOST_PASSAGES", 1)
    capsys.readouterr()
    coverage.report(run, "questions")
    found = read_json(coverage_file(folder))["passages"]
    assert len(found) == 1 and found[0]["passage"] == "p0" and not found[0]["answers"]
    assert "5 about" not in (said := capsys.readouterr().err) and "4 about 6 sentences" in said
