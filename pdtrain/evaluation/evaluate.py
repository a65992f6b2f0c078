"""adapter → scores: closed book, open book and RAG, with and without the adapter; forgetting."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from pdtrain.config import (
    DENSE_ROWS,
    ROWS,
    UNRELATED_ROWS,
    EvaluateConfig,
    RunConfig,
    SamplingConfig,
)
from pdtrain.evaluation import forgetting, retrieval
from pdtrain.evaluation import judge as judging
from pdtrain.evaluation.metrics import grade, summarise
from pdtrain.evaluation.retrieval import BM25
from pdtrain.evaluation.scores import AGES, METRICS
from pdtrain.generation.huggingface import Generator
from pdtrain.models import learnt_passages
from pdtrain.models.adapter import load_trained, trained
from pdtrain.models.base import fingerprint
from pdtrain.models.chat_template import Chat, joined
from pdtrain.models.learnt_passages import Learnt
from pdtrain.models.lora import adapter_off
from pdtrain.progress import progress, say
from pdtrain.records import Passage, Score, TestQuestion, content_id, seed_for
from pdtrain.stage import is_current, mark_finished, output_hash, say_current
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    hash_json,
    read_jsonl,
    sha256_file,
    to_line,
    write_atomically,
    write_json,
)
from pdtrain.synthesis import unrelated
from pdtrain.synthesis.held_out import read_questions

VERSION = 1  # part of the input hash: raise it when the same adapter would score differently


def score(config: RunConfig) -> None:
    """The `evaluate` stage: every row of the table, question by question, then `scores.json`.

    A row is redone only when something it depends on changed: rows without the adapter survive
    another training. Without held-out questions there is nothing to score, which is said.
    """
    if not config.evaluate.questions:
        say("evaluate: skipped, evaluate.questions names no held-out questions")
        return
    folder = config.run.scores_folder
    questions = read_questions(config.evaluate.questions, config.evaluate.limit)
    asked = rows_of(config.evaluate)
    keys = {row: row_inputs(config, row) for row in asked}
    others = unrelated_texts(config)
    keys |= {row: unrelated_inputs(config, row, texts) for row, texts in others.items()}
    trained(config)  # or an error that says what to run
    record = learnt_passages.read(config.run.adapter)  # its rounds have learnt nothing new
    began = record if record and record.started_from else None
    more = [*judge_inputs(config), *([began.new, began.documents] if began else [])]
    inputs = hash_json([keys, config.evaluate.bootstrap_samples, *more])
    wanted = [config.run.scores_file, *([config.run.scores_by_age_file] if began else [])]
    if is_current(folder, inputs) and all(path.exists() for path in wanted):
        say_current("evaluate", folder)
        return
    missing = [row for row in keys if not _is_done(folder / f"{row}.jsonl", keys[row])]
    if missing:
        _Examination(config, questions).write(folder, {row: keys[row] for row in missing})
    if config.evaluate.judge.url:
        _judge(config, folder, {row: keys[row] for row in asked})
    table = {
        row: summarise_row(folder / f"{row}.jsonl", config.evaluate, config.seed) for row in keys
    }
    values = {row: {m: asdict(s) for m, s in scores.items()} for row, scores in table.items()}
    write_json(config.run.scores_file, values)
    if began:
        _write_by_age(config, ages(config, questions, began), asked)
    else:
        (config.run.scores_by_age_file).unlink(
            missing_ok=True
        )  # of an adapter that was here before
    mark_finished(folder, inputs, adapter=sha256_file(trained(config) / ADAPTER_WEIGHTS))
    gold = [f"{row} {table[row]['gold_in_answer'].value:.3f}" for row in asked]
    changed = [f"{row} {table[row]['kl_to_base'].value:.4f}" for row in others]
    say(f"evaluate: gold_in_answer {', '.join(gold)}")
    say(f"evaluate: nats per token between base and adapter: {', '.join(changed)}")


def ages(config: RunConfig, questions: list[TestQuestion], record: Learnt) -> dict[str, set[str]]:
    """Ids of the questions about new and about old documents.

    A document is new when one of its passages is, added or replaced, or when none was learnt.
    """
    passages = list(config.run.passages())
    known, new, bm25 = record.passages, set(record.new), BM25(passages)
    documents = {p.document_id for p in passages} - {
        p.document_id for p in passages if p.id in known
    }
    documents |= {p.document_id for p in passages if p.id in new}
    found: dict[str, set[str]] = {age: set() for age in AGES}
    for question in questions:
        is_new = gold_passage(question, bm25).document_id in documents
        found["new" if is_new else "old"].add(question.id)
    return found


def _write_by_age(config: RunConfig, among: dict[str, set[str]], rows: Sequence[str]) -> None:
    """`scores_by_age.json`: an age that nobody asked about has no rows."""
    folder, table = config.run.scores_folder, dict[str, dict[str, dict[str, Score]]]()
    for age, ids in among.items():
        table[age] = {
            row: summarise_row(folder / f"{row}.jsonl", config.evaluate, config.seed, ids)
            for row in (rows if ids else ())
        }
    write_json(
        config.run.scores_by_age_file,
        {
            age: {row: {m: asdict(s) for m, s in scores.items()} for row, scores in found.items()}
            for age, found in table.items()
        },
    )
    own = {age: found.get("adapter_closed_book", {}) for age, found in table.items()}
    said = [
        f"{age} documents {s['gold_in_answer'].value:.3f} ({s['gold_in_answer'].n} questions)"
        if s
        else f"{age} documents were not asked about"
        for age, s in own.items()
    ]
    say(f"evaluate: gold_in_answer of adapter_closed_book, {', '.join(said)}")


def judge_inputs(config: RunConfig) -> list[Any]:
    """All but the predictions that decides their grades; nothing where nobody judges."""
    judge = config.evaluate.judge
    return [judging.VERSION, judge.url, judge.model, judge.max_new_tokens] if judge.url else []


def _judge(config: RunConfig, folder: Path, keys: dict[str, str]) -> None:
    """Grades of every row's predictions as `<row>.judged.jsonl`; the same answer is graded once."""
    judge, known = judging.Judge(config.evaluate.judge), dict[tuple, bool | None]()
    num_unclear = 0
    with progress("judge", len(keys), "rows") as advance:
        for row, key in keys.items():
            path = _judged(folder / f"{row}.jsonl")
            inputs = hash_json([key, judge_inputs(config)])
            if not _is_done(path, inputs):
                lines = config.run.predictions(row)
                marks = [(line["id"], line["prediction"]) for line in lines]
                every = dict(zip(marks, lines, strict=True))
                new = {mark: line for mark, line in every.items() if mark not in known}
                known |= dict(zip(new, judge(list(new.values())), strict=True))
                grades = [{"id": i, "judged": known[i, text]} for i, text in marks]
                header = to_line({"inputs": inputs, "row": row, "of": key})
                write_atomically(path, header + "".join(map(to_line, grades)))
            num_unclear += sum(line["judged"] is None for line in _graded(path))
            advance()
    if num_unclear:
        say(f"evaluate: {num_unclear} of the judge's grades were unclear and count as wrong")


def _graded(path: Path) -> list[dict]:
    return [line for line in read_jsonl(path) if "id" in line]


def rows_of(config: EvaluateConfig) -> tuple[str, ...]:
    """The rows that questions are asked for."""
    return (*ROWS, *DENSE_ROWS) if config.dense else ROWS


def row_inputs(config: RunConfig, row: str) -> str:
    """All that decides the predictions of one row."""
    settings = asdict(config.evaluate) | {"bootstrap_samples": 0, "batch_size": 0, "questions": ""}
    del settings["unrelated"], settings["dense"], settings["judge"]
    if not row.endswith("rag"):
        settings["rag_passages"] = 0
    needs = [VERSION, row, settings, asdict(config.prompts), fingerprint(config.model)]
    needs.append(sha256_file(Path(config.evaluate.questions)))
    if not row.endswith("closed_book"):
        needs.append(output_hash(config.run.passages_folder))
    if row in DENSE_ROWS:
        needs.append(retrieval.fingerprint(config.evaluate.dense))
    if row.startswith("adapter"):
        needs.append(sha256_file(trained(config) / ADAPTER_WEIGHTS))
    return hash_json(needs)


def unrelated_texts(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Texts or questions of each unrelated row that has any."""
    found = unrelated.read(config.evaluate.unrelated)
    return {row: texts for row, texts in zip(UNRELATED_ROWS, found, strict=True) if texts}


def unrelated_inputs(config: RunConfig, row: str, texts: Sequence[str]) -> str:
    """All that decides what an unrelated row says."""
    needs = [VERSION, row, list(texts), asdict(config.prompts)]
    needs += [fingerprint(config.model), sha256_file(trained(config) / ADAPTER_WEIGHTS)]
    return hash_json(needs)


def _is_done(path: Path, key: str) -> bool:
    return path.exists() and next(iter(read_jsonl(path)), {}).get("inputs") == key


class Find(Protocol):
    """Find passages for a question: `retrieval.BM25`, `retrieval.Dense`."""

    passages: list[Passage]

    def __call__(self, question: str, k: int) -> list[Passage]: ...


@dataclass
class _Examination:
    """The model, loaded once, and what each row puts before a question."""

    config: RunConfig
    questions: list[TestQuestion]

    def write(self, folder: Path, keys: dict[str, str]) -> None:
        """Predictions of each row as `<row>.jsonl`; its first line names the inputs."""
        config = self.config
        passages = list(config.run.passages())
        model, chat = load_trained(config)
        generator = Generator(model, chat, config.evaluate.batch_size)
        for row, texts in unrelated_texts(config).items():
            if row in keys:
                self._write(folder, row, keys[row], _unrelated(row, texts, generator))
        asked_rows = {row: key for row, key in keys.items() if row not in UNRELATED_ROWS}
        find: dict[str, Find] = {"bm25": BM25(passages)}
        if any(row in DENSE_ROWS for row in asked_rows):
            find["dense"] = retrieval.Dense(passages, config.evaluate.dense)
        known: dict[tuple, dict] = {}  # retrieval that finds the gold passage asks nothing new
        with progress("evaluate", len(asked_rows) * len(self.questions), "questions") as advance:
            for row, key in asked_rows.items():
                with_adapter = row.startswith("adapter")
                asked = [(q, self._prompt(row, q, chat, find)) for q in self.questions]
                marks = [(with_adapter, q.id, *prompt) for q, prompt in asked]
                new = [i for i, mark in enumerate(marks) if mark not in known]
                advance(len(marks) - len(new))
                with nullcontext() if with_adapter else adapter_off(model):
                    lines = self._predict(generator, [asked[i] for i in new], advance)
                known |= {marks[i]: line for i, line in zip(new, lines, strict=True)}
                self._write(folder, row, key, [known[mark] for mark in marks])

    def _write(self, folder: Path, row: str, key: str, lines: list[dict]) -> None:
        header = to_line({"inputs": key, "row": row})
        write_atomically(folder / f"{row}.jsonl", header + "".join(map(to_line, lines)))

    def _prompt(
        self, row: str, question: TestQuestion, chat: Chat, find: dict[str, Find]
    ) -> list[int]:
        if row.endswith("closed_book"):
            return chat.student(question.question)
        if row.endswith("open_book"):
            return chat.teacher(gold_passage(question, find["bm25"]), question.question)
        found = find["dense" if row in DENSE_ROWS else "bm25"](
            question.question, self.config.evaluate.rag_passages
        )
        return chat.teacher(joined(found), question.question)

    def _predict(
        self,
        generator: Generator,
        asked: list[tuple[TestQuestion, list[int]]],
        advance: Callable[[int], object],
    ) -> list[dict]:
        greedy = SamplingConfig(temperature=0, max_new_tokens=self.config.evaluate.max_new_tokens)
        prompts = [prompt for _, prompt in asked]
        gold = [generator.chat.ids(question.answers[0]) for question, _ in asked]
        done = generator(prompts, greedy, seed=0, on_done=advance)
        likelihoods = generator.log_likelihoods(prompts, gold)
        return [
            {
                "id": question.id,
                "document": question.document,
                "question": question.question,
                "answers": question.answers,
                "prediction": completion.text,
                **grade(completion.text, question.answers),
                "gold_log_likelihood": likelihood,
            }
            for (question, _), completion, likelihood in zip(asked, done, likelihoods, strict=True)
        ]


def _unrelated(row: str, texts: Sequence[str], generator: Generator) -> list[dict]:
    read = forgetting.texts if row == "unrelated_text" else forgetting.answers
    lines = forgetting.compare(generator.model, read(generator, texts))
    return [{"id": content_id(t), **line} for t, line in zip(texts, lines, strict=True)]


def gold_passage(question: TestQuestion, bm25: Find) -> Passage:
    """The passage a question is about: of its document, holding an answer, best by BM25.

    `question.document` is a document's id, its file name without the ending, or its title; a
    question that names none is matched against all passages.
    """
    wanted = question.document.lower()
    own = [p for p in bm25.passages if wanted in _names(p)]
    among = own or bm25.passages
    holding = [p for p in among if any(a.lower() in p.text.lower() for a in question.answers)]
    among = holding or among
    if len(among) == 1:
        return among[0]
    allowed = {passage.id for passage in among}
    ranked = bm25(question.question, len(bm25.passages))
    return next(passage for passage in ranked if passage.id in allowed)


def _names(passage: Passage) -> set[str]:
    """What a question may call the passage's document."""
    name = passage.document_id.lower()
    path, row, *_ = [*re.split(r"\.(?:jsonl|parquet|arrow):", name, maxsplit=1), ""]
    return {name, passage.title.lower(), Path(path).stem, row or path}


def summarise_row(
    path: Path, config: EvaluateConfig, seed: int, among: Set[str] | None = None
) -> dict[str, Score]:
    """Args: among: ids of the questions that count; all of them by default."""

    def counts(line: dict) -> bool:
        return "id" in line and (among is None or line["id"] in among)

    lines = [line for line in read_jsonl(path) if counts(line)]
    if path.stem in UNRELATED_ROWS:
        return forgetting.summary(lines, config.bootstrap_samples, seed)
    values = {metric: [float(line[metric]) for line in lines] for metric in METRICS}
    if config.judge.url:
        values["judged"] = [float(bool(g["judged"])) for g in _graded(_judged(path)) if counts(g)]
    return {
        metric: summarise(found, config.bootstrap_samples, seed_for(seed, metric))
        for metric, found in values.items()
    }


def _judged(path: Path) -> Path:
    return path.with_suffix(".judged.jsonl")
