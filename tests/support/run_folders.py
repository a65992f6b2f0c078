"""Write run folders as finished stages leave them, without any model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pdtrain.config import EvaluateConfig, RoundsConfig, RunConfig, from_dict
from pdtrain.evaluation.grading.metrics import answer_metrics, forgetting_metrics, grade, summarise
from pdtrain.evaluation.systems import SYSTEMS, answering_systems
from pdtrain.records import rng_for
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    read_json,
    read_jsonl,
    read_shards,
    sha256_file,
    to_line,
    write_json,
    write_shards,
)

# the systems and metrics of a run without dense retrieval and without a judge, by name
ANSWERING = [system.name for system in answering_systems(EvaluateConfig())]
UNRELATED = [system.name for system in SYSTEMS.values() if system.measures == "forgetting"]
READING = [system.name for system in SYSTEMS.values() if system.measures == "reading"]
# those of a system without an adapter; with one there is also the gain over the base, and where a
# question has no answer, what is invented
METRICS = [
    metric.name
    for metric in answer_metrics(EvaluateConfig())
    if metric.name not in ("gain", "invented")
]
READING_METRICS = [
    metric.name for metric in answer_metrics(EvaluateConfig(), "reading") if metric.name != "gain"
]
FORGETTING = [metric.name for metric in forgetting_metrics()]
MARKUP = "Who is <script>alert('x')</script> & \"Co\"?"
# the share of questions that each system answers
KNOWS = {"base_closed_book": 0.03, "teacher_open_book": 0.9, "base_rag": 0.8}
KNOWS |= {"adapter_closed_book": 0.65, "adapter_rag": 0.88, "adapter_open_book": 0.85}
KNOWS |= {f"{who}_rag_{n}": 0.7 for who in ("base", "adapter") for n in (3, 5)}


def make_run(folder: Path) -> RunConfig:
    """Write a run that was trained and evaluated: 3 documents, 24 held-out questions, 200 steps."""
    make_corpus(folder)
    make_metrics(folder)
    manifest = {"inputs": "x", "output": "y", "num_steps": 200, "num_answers": 150}
    write_json(folder / "adapter" / "manifest.json", manifest)
    make_scores(folder)
    return config_of(folder)


def config_of(folder: Path, name: str = "heron <1>") -> RunConfig:
    return from_dict({"name": name, "out_dir": str(folder), "train": {"epochs": 7}})


def write_stage(folder: Path, records: list[dict[str, Any]]) -> None:
    shards = write_shards(folder, records, 1000)
    output = "".join(shard["sha256"] for shard in shards)
    write_json(folder / "manifest.json", {"inputs": "x", "output": output, "shards": shards})


def make_corpus(folder: Path, num_documents: int = 3) -> None:
    """Write passages, questions and answers.

    The last sentence of each document has no question, and its last question no answer.
    """
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
                question = {"id": f"q{len(questions)}", "passage_id": f"p{d}", "sentence": s}
                questions.append(question | {"text": "?", "kind": kind if s >= 0 else "recital"})
        own = [question["id"] for question in questions if question["passage_id"] == f"p{d}"]
        answers += [
            {"id": f"a{d}{i}", "passage_id": f"p{d}", "question_id": question}
            for i, question in enumerate(own[:-1])
        ]
    for name, records in (("passages", passages), ("questions", questions), ("answers", answers)):
        write_stage(folder / name, records)


def make_scores(folder: Path, num_questions: int = 24) -> None:
    """Write the table, and every system's answers behind it."""
    table = {}
    for system in ANSWERING:
        rng, lines = rng_for(1, system), []
        for i in range(num_questions):
            gold = f"answer {i}"
            is_right = rng.random() < KNOWS[system]
            text = f"It is {gold}, as far as I know." if is_right else "It is red."
            question = MARKUP if i == 0 else f"What is number {i} of the heron's many numbers?"
            likelihood = -1 - 6 * (1 - KNOWS[system]) * rng.random()
            line = {"id": str(i), "document": f"document-{i % 3}", "question": question}
            line |= {"answers": [gold], "prediction": text, "gold_log_likelihood": likelihood}
            line |= {"finished": i % 3 > 0, "answer_tokens": 5 + i % 4}
            line |= {"recited": 0.0, "repeated": 0.0}  # which are not in the file of a real run
            lines.append(line | grade(text, [gold]))
        write_predictions(folder, system, lines)
        scores = {m: summarise([line[m] for line in lines], 200, 0) for m in METRICS}
        table[system] = {
            m: {"value": s.value, "low": s.low, "high": s.high, "n": s.n} for m, s in scores.items()
        }
    for system in READING:
        score = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 44}
        table[system] = dict.fromkeys(READING_METRICS, score)
    for text in UNRELATED:
        table[text] = {m: {"value": 1.5, "low": 1.25, "high": 2.0, "n": 7} for m in FORGETTING}
    write_json(folder / "scores.json", table)


def write_predictions(folder: Path, system: str, lines: list[dict[str, Any]]) -> None:
    header = to_line({"inputs": "x", "system": system})
    folder.joinpath("scores").mkdir(parents=True, exist_ok=True)
    (folder / "scores" / f"{system}.jsonl").write_text(header + "".join(map(to_line, lines)))


def make_scores_by_age(folder: Path) -> None:
    """Write scores on new documents, with values of their own, and on old ones."""
    table = read_json(folder / "scores.json")
    score = {"value": 0.625, "low": 0.5, "high": 0.75, "n": 8}
    new = {system: dict.fromkeys(METRICS, score) for system in ANSWERING}
    old = {system: table[system] for system in ANSWERING}
    write_json(folder / "scores_by_age.json", {"new": new, "old": old})


def make_metrics(folder: Path, num_steps: int = 200) -> None:
    rng, lines = rng_for(2), []
    for step in range(1, num_steps + 1):
        line = {"step": step, "unix_seconds": 1e9 + 2.5 * step}
        line["train/loss"] = 1.5 * math.exp(-step / 60) + 0.1 + 0.1 * rng.random()
        line["train/grad_norm"] = 1.0 + rng.random()
        line["train/learning_rate"] = 1e-3 * min(step / 20, (num_steps - step) / num_steps + 0.01)
        line["train/student_tokens_per_second"] = 900 + 50 * rng.random()
        line["distillation/teacher_mass"] = 0.97 + 0.02 * rng.random()
        lines.append(line)
        if step % 40 == 0:
            lines.append({"step": step, "eval/gold_in_answer": 0.65 * step / num_steps})
    folder.joinpath("metrics").mkdir(parents=True, exist_ok=True)
    (folder / "metrics" / "metrics.jsonl").write_text("".join(map(to_line, lines)))


def make_rounds(run: RunConfig) -> RunConfig:
    """Add two rounds to a run, of which the first is the best, and return its config."""
    folder = run.folder
    for place in ("adapter", "rounds/1/adapter"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / ADAPTER_WEIGHTS).write_text(place)
    counts = [(0, 6, 0, 0), (1, 9, 24, 20), (2, 9, 8, 7)]
    keys = ("round", "known", "new_questions", "new_answers")
    rounds = [dict(zip(keys, c, strict=True)) for c in counts]
    passages = [
        {"passage": "p0", "document": "a.md", "title": "<b>A</b>", "asked": 7, "known": [4] * 3},
        {"passage": "p1", "document": "b|c.md", "title": "B", "asked": 5, "known": [2, 5, 5]},
        {"passage": "p2", "document": "d.md", "title": "D", "asked": 0, "known": [0] * 3},
    ]
    summary = {
        "adapter": sha256_file(folder / "adapter" / ADAPTER_WEIGHTS),
        "best": 1,
        "stopped": "recovery grew by less than rounds.least_gain=0.01",
        "facts": {"quizzed": 15, "unquizzed": 4, "missed_by_teacher": 3},
        "rounds": [r | {"recovery": r["known"] / 12, "missed": 12 - r["known"]} for r in rounds],
        "passages": passages,
    }
    write_json(folder / "rounds" / "rounds.json", summary)
    write_json(folder / "rounds" / "manifest.json", {"inputs": "x"})
    return replace(run, rounds=RoundsConfig(most=3))


def fill_with(folder: Path, text: str) -> None:
    """Put `text` in every place of a run that a document, a question or a model writes."""
    for system in ANSWERING:
        _, *lines = read_jsonl(folder / "scores" / f"{system}.jsonl")
        hostile = {"document": text, "question": text, "answers": [text], "prediction": text}
        write_predictions(folder, system, [line | hostile for line in lines])
    for stage in ("passages", "questions"):
        records = list(read_shards(folder / stage))
        for record in records:
            if stage == "questions":
                record["kind"] = text
            else:
                record |= {"title": text, "document_id": text, "text": f"{text} {text}"}
                record["sentences"] = [[0, len(text)]] * len(record["sentences"])
        write_stage(folder / stage, records)
