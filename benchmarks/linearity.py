"""How the time of every stage's own machinery grows with its input: at 1, 4 and 16 times the size.

    python benchmarks/linearity.py --out benchmarks/results/linearity_NAME.md

No model runs. Each line does what one stage does beside the model, on inputs that are made up, some
of them as hostile as a document can be. The growth from the middle to the largest size says it: 4
is linear, 16 is quadratic. Each time is processor time, the least of several.
"""

from __future__ import annotations

import argparse
import logging
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from pdtrain import progress
from pdtrain.config import CorpusConfig, RunConfig, from_dict
from pdtrain.distillation.examples import Example
from pdtrain.distillation.micro_batches import Costs, Limits, micro_batches
from pdtrain.documents.document import Source
from pdtrain.documents.ingest.cleaning import duplicates
from pdtrain.documents.ingest.cleaning.filters import E_MAIL
from pdtrain.documents.ingest.cleaning.repeated import hash_of, without_repeated
from pdtrain.documents.library import READERS
from pdtrain.documents.records.question_answers import GivenQuestion
from pdtrain.documents.splitting import split_document
from pdtrain.evaluation.context import gold_passage
from pdtrain.evaluation.grading.metrics import grade
from pdtrain.evaluation.retrieval import BM25
from pdtrain.models.chat.spelt import pattern_of
from pdtrain.records import Answer, Passage, Question, TestQuestion
from pdtrain.reporting.markdown import escape_markdown
from pdtrain.stage import run_units
from pdtrain.storage import read_shards
from pdtrain.synthesis import coverage, filters, given, question_kinds, text
from pdtrain.synthesis.filters import ungrounded
from pdtrain.synthesis.sentence_writer import multi_hop

SIZES = (1, 4, 16)
WORST = 8.0  # times as long for 4 times the size; more is not linear
LEAST_SECONDS = 0.005  # below this the clock says nothing
WORDS = (
    "pier lamp boat wall tide rope crane quay mill oil bell storm light keeper stone gate".split()
)

Work = Callable[[], object]


def sentence(number: int) -> str:
    """Return a sentence about a name of its own, of words that come again."""
    word = WORDS[number % len(WORDS)]
    return f"The {word} of Osk{number} was built by Anna Gray{number % 97} in {1000 + number}."


def passage(number: int, sentences: int = 6) -> Passage:
    """Return a passage of made-up sentences, all of them different from those of others."""
    texts = [sentence(number * sentences + i) for i in range(sentences)]
    spans, end = [], 0
    for one in texts:
        spans.append((end, end + len(one)))
        end += len(one) + 1
    body = " ".join(texts)
    return Passage(f"p{number}", f"d{number}", f"Osk{number}", body, 0, end, 60, tuple(spans))


def read(suffix: str, unit: str, count: int) -> Work:
    """Return the work of reading and splitting a file of a repeated unit."""
    source = Source(f"a{suffix}", data=(unit * count).encode())

    def work() -> None:
        for document in READERS[suffix](source, CorpusConfig()):
            split_document(document, 200, lambda text: len(text) // 4 + 1)

    return work


def long_passage(size: int) -> Passage:
    return passage(0, 40 * size)


def asked(one: Passage) -> list[Question]:
    """Return a question about every sentence of a passage."""
    return [
        Question(
            f"q{i}", one.id, f"Who built the {WORDS[i % 16]} of Osk{i} in 1{i}?", "fact", i, "Anna"
        )
        for i in range(len(one.sentences))
    ]


def tests(size: int, named: bool) -> list[TestQuestion]:
    return [
        TestQuestion(f"t{i}", f"d{i}" if named else "", f"Who built Osk{i}?", (f"Gray{i % 97}",))
        for i in range(40 if not named else 40 * size)
    ]


def of_gold(size: int, named: bool) -> Work:
    bm25 = BM25([passage(i) for i in range(40 * size)])
    questions = tests(size, named)
    return lambda: [gold_passage(one, bm25) for one in questions]


def of_held_out(size: int) -> Work:
    """Return the work of asking an index of held-out questions, all worded alike."""
    held = [f"Tell me something about the {WORDS[i % 16]} of Osk{i}." for i in range(200 * size)]

    def work() -> None:
        index = filters.NearIndex(0.8, held)
        for one in held:
            index.holds(one.replace("Tell", "Say"))

    return work


def of_journal(size: int) -> Work:
    units = {f"u{i}": i for i in range(10 * size)}

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stage"
            run_units(
                path, "stage", {}, units, lambda name, i: [{"text": sentence(i)}] * 50, "units"
            )
            list(read_shards(path))

    return work


def of_given(size: int, named: bool) -> Work:
    """Return the work of finding the passages of given questions, in one document or in many."""
    count = 50 * size
    passages = [replace(passage(i), document_id="d" if named else f"d{i}") for i in range(count)]
    asked_for = [
        GivenQuestion(f"Who built Osk{6 * i}?", (f"Osk{6 * i}",), document="d" if named else "")
        for i in range(count)
    ]

    def work() -> None:
        search = given.Search(passages)
        assert all(search.passage_of(one) for one in asked_for)

    return work


def of_near_duplicates(size: int) -> Work:
    """Return the work of comparing documents, many of which are alike."""
    texts = [f"{sentence(i % 7)} {sentence(i % 5)} {sentence(i)}" for i in range(100 * size)]
    rows = [duplicates.signature_bytes(duplicates.signature_of(one)) for one in texts]
    signatures = np.frombuffer(b"".join(rows), np.uint32).reshape(len(texts), -1)
    return lambda: duplicates.near_duplicates(signatures, 0.8, np.zeros(len(texts), bool))


def of_repeated(size: int) -> Work:
    """Return the work of taking out sentences that stand in every passage of a document."""
    one = long_passage(20 * size)
    sentences = [one.text[slice(*span)] for span in one.sentences]
    repeated = {hash_of(text) for text in sentences[::2]}
    return lambda: without_repeated(one, repeated, lambda text: len(text) // 4 + 1)


def of_micro_batches(size: int) -> Work:
    """Return the work of dividing the answers of one step."""
    examples = [
        Example(f"a{i}", f"p{i // 8}", (1,) * 40, (1,) * 9, (1,) * (3 + i % 50))
        for i in range(250 * size)
    ]
    return lambda: micro_batches(examples, Costs(1.0, 1.0, 1.0), Limits(32, 2048))


def of_coverage(size: int) -> Work:
    passages = [passage(i) for i in range(200 * size)]
    questions = [replace(q, id=f"{p.id} {q.id}") for p in passages for q in asked(p)]
    answers = [Answer(f"a {q.id}", q.id, q.passage_id, "x", (1,), True) for q in questions]
    records = [[one.to_json() for one in some] for some in (passages, questions, answers)]
    return lambda: coverage.measure(*records)


def pairs(size: int) -> Work:
    config = from_dict({"questions": {"per_entity": 1, "per_passage_comparisons": 1}})
    passages = [passage(i) for i in range(50 * size)]
    return lambda: multi_hop.passage_pairs(passages, config)


def checked(size: int) -> Work:
    one = long_passage(size)
    questions = asked(one)
    return lambda: [question_kinds.fault(question, one, set()) for question in questions]


def grounded(size: int) -> Work:
    one = long_passage(size)
    questions = asked(one)
    return lambda: [ungrounded(one, q, sentence(i)) for i, q in enumerate(questions)]


def requested(size: int) -> Work:
    one, config = long_passage(size), RunConfig()
    return lambda: list(question_kinds.requests(one, config))


def spelt(size: int) -> Work:
    pattern = pattern_of([f"<|reserved_{i}|>" for i in range(2000)])
    body = "<|reserved_" * (80_000 * size)
    return lambda: pattern.findall(body)


def machinery() -> Iterator[tuple[str, str, Callable[[int], Work]]]:
    """Yield the stage, what it does, and a function that returns the work at a size."""
    files = {
        "paragraphs of HTML": (
            ".html",
            "<p>The <b>pier</b> of Osk is long. It is old.</p>\n",
            1250,
        ),
        "HTML elements in one another": (".html", "<div><span>a", 1000),
        "dots": (".txt", ".", 20_000),
        "dots and blanks": (".txt", ". ", 10_000),
        "one word": (".txt", "x", 50_000),
        "blanks": (".txt", " ", 150_000),
        "empty lines of code": (".py", "\n \n", 5000),
        "open voices of subtitles": (".vtt", "<v ", 150_000),
        "cells": (".csv", "Petrel,9,Osk\n", 1000),
        "open brackets of JSON": (".txt", '{"a": [', 2000),
        "Japanese quotations": (".txt", "「行こう」と", 2000),
    }
    for name, (suffix, unit, count) in files.items():
        yield "passages", name, lambda size, s=suffix, u=unit, c=count: read(s, u, c * size)
    yield (
        "passages",
        "e-mail addresses in one word",
        lambda size: lambda: E_MAIL.findall("a." * (2000 * size)),
    )
    yield "passages", "beginnings of control tokens", spelt
    yield (
        "questions",
        "names of a long text",
        lambda size: lambda: text.names(long_passage(size * 4).text),
    )
    yield (
        "questions",
        "pairs of sentences",
        lambda size: lambda: multi_hop.sentence_pairs(long_passage(size * 4)),
    )
    yield "questions", "pairs of passages", pairs
    yield "questions", "requests about a long passage", requested
    yield "questions", "checks of questions about one passage", checked
    yield "questions", "held-out questions worded alike", of_held_out
    yield "answers", "checks of answers about one passage", grounded
    yield "passages", "near-duplicates among documents", of_near_duplicates
    yield "passages", "sentences that are repeated", of_repeated
    yield "questions", "passages of given questions", lambda size: of_given(size, False)
    yield "questions", "given questions about one long document", lambda s: of_given(s, True)
    yield "train", "micro-batches of a step", of_micro_batches
    yield "all stages", "the journal and the shards", of_journal
    yield "evaluate", "gold passages of questions that name a document", lambda s: of_gold(s, True)
    yield "evaluate", "gold passages in a larger corpus", lambda s: of_gold(s, False)
    yield (
        "evaluate",
        "grades of a long answer",
        lambda size: lambda: grade(long_passage(size * 8).text, ("Anna Gray",)),
    )
    yield "report", "coverage", of_coverage
    yield "report", "escaped names", lambda size: lambda: escape_markdown("[*`_<" * (2000 * size))


def seconds(work: Work) -> float:
    """Return the least processor time of three tries; one, where it takes long."""
    least = float("inf")
    for _ in range(3):
        re.purge()  # patterns of names are compiled anew: a few of them would be remembered
        begun = time.process_time()
        work()
        least = min(least, time.process_time() - begun)
        if least > 2:
            break
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the page, Markdown; standard output by default")
    parser.add_argument("--only", default="", help="lines whose name holds this")
    options = parser.parse_args()
    progress.set_level(logging.WARNING)
    head = ["stage", "machinery", *(f"{size}×, s" for size in SIZES), "growth from 4× to 16×"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    worse = []
    for stage, name, make in machinery():
        if options.only not in name:
            continue
        found = [seconds(make(size)) for size in SIZES]
        growth = found[2] / found[1]
        is_told = found[1] >= LEAST_SECONDS
        worse += [name] if is_told and growth > WORST else []
        told = f"{growth:.1f}" if is_told else "–"
        cells = [stage, name, *(f"{one:.4f}" for one in found), told]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    verdict = f"Worse than linear: {', '.join(worse)}." if worse else "None is worse than linear."
    page = [
        "# Time against size, for the machinery of every stage",
        f"`python benchmarks/linearity.py`, Python {platform.python_version()}, "
        f"{platform.machine()}; processor time, the least of three. 4 times the size should "
        f"take about 4 times as long; more than {WORST:g} times counts as worse than linear. "
        f"A dash: 4 times the size takes less than {LEAST_SECONDS} s, which says nothing.",
        "\n".join(lines),
        verdict,
    ]
    if options.out:
        options.out.write_text("\n\n".join(page) + "\n", encoding="utf-8")
    print(verdict)


if __name__ == "__main__":
    main()
