"""Score the adapter on held-out questions, beside its base, its teacher and retrieval."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.evaluation import forgetting, judge, retrieval
from pdtrain.evaluation.metrics import answer_metrics, grade, summarise
from pdtrain.evaluation.retrieval import BM25
from pdtrain.evaluation.scores import measuring
from pdtrain.evaluation.systems import (
    ADAPTER,
    UNRELATED_QUESTIONS,
    UNRELATED_TEXT,
    Context,
    System,
    answering_systems,
)
from pdtrain.generation.huggingface import Generator
from pdtrain.models import learnt_passages
from pdtrain.models.adapter import load_trained, trained
from pdtrain.models.base import fingerprint
from pdtrain.models.chat_template import Chat, joined
from pdtrain.models.learnt_passages import Learnt
from pdtrain.models.lora import adapter_off
from pdtrain.progress import progress, say
from pdtrain.records import Passage, Score, TestQuestion, content_id, seed_for
from pdtrain.run_folder import Scores
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
Age = Literal["new", "old"]  # of a document, for an adapter that was trained on from another one
Line = dict[str, Any]  # of a file of predictions


def score(config: RunConfig) -> None:
    """Run the `evaluate` stage: write every system's predictions, then `scores.json`.

    A system answers again only when something that decides its answers has changed, so that those
    without the adapter outlive another training. Where the config names no held-out questions, the
    stage is skipped, and says so.

    Raises:
        ValueError: there is no trained adapter, or the file of questions cannot be read.
    """
    if not config.evaluate.questions:
        say("evaluate: skipped, evaluate.questions names no held-out questions")
        return
    run = config.run
    questions = read_questions(config.evaluate.questions, config.evaluate.limit)
    keys = system_keys(config)
    adapter = trained(config)
    warm_start = _learnt_since_warm_start(config)
    inputs = _inputs(config, keys, warm_start)
    wanted = [run.scores_file, *([run.scores_by_age_file] if warm_start else [])]
    if is_current(run.scores_folder, inputs) and all(path.exists() for path in wanted):
        say_current("evaluate", run.scores_folder)
        return
    missing = {s: key for s, key in keys.items() if not is_of(run.predictions_file(s.name), key)}
    if missing:
        Examination(config, questions).write(missing)
    if config.evaluate.judge.url:
        write_grades(config, {s: key for s, key in keys.items() if s.measures == "answers"})
    table = {system.name: summarise_system(config, system) for system in keys}
    write_json(run.scores_file, _values(table))
    if warm_start:
        write_scores_by_age(config, questions, warm_start)
    else:  # a table of an adapter that was here before
        run.scores_by_age_file.unlink(missing_ok=True)
    mark_finished(run.scores_folder, inputs, adapter=sha256_file(adapter / ADAPTER_WEIGHTS))
    _say_scores(table)


def _inputs(config: RunConfig, keys: Mapping[System, str], warm_start: Learnt | None) -> str:
    by_name = {system.name: key for system, key in keys.items()}
    new = [warm_start.new, warm_start.documents] if warm_start else []
    return hash_json([by_name, config.evaluate.bootstrap_samples, *judge_inputs(config), *new])


def _learnt_since_warm_start(config: RunConfig) -> Learnt | None:
    """Return what the adapter has learnt if it was trained on from another one, else None.

    Rounds learn no further passages, so the record of the adapter before them holds for theirs.
    """
    learnt = learnt_passages.read(config.run.adapter)
    return learnt if learnt and learnt.started_from else None


def _values(table: Scores) -> dict[str, dict[str, dict[str, float]]]:
    return {
        system: {metric: asdict(found) for metric, found in scores.items()}
        for system, scores in table.items()
    }


def _say_scores(table: Scores) -> None:
    gold = [
        f"{system} {scores['gold_in_answer'].value:.3f}"
        for system, scores in measuring(table, "answers").items()
    ]
    distances = [
        f"{system} {scores['kl_to_base'].value:.4f}"
        for system, scores in measuring(table, "forgetting").items()
    ]
    say(f"evaluate: gold_in_answer {', '.join(gold)}")
    say(f"evaluate: nats per token between base and adapter: {', '.join(distances)}")


def summarise_system(
    config: RunConfig, system: System, among: Set[str] | None = None
) -> dict[str, Score]:
    """Return the metrics of a system whose predictions are written.

    Args:
        among: ids of the questions that count; all of them by default.
    """
    lines = config.run.predictions(system.name)
    if among is not None:
        lines = [line for line in lines if line["id"] in among]
    num_samples = config.evaluate.bootstrap_samples
    if system.measures == "forgetting":
        return forgetting.summary(lines, num_samples, config.seed)
    return {
        metric.name: summarise(
            [float(line[metric.name]) for line in lines],
            num_samples,
            seed_for(config.seed, metric.name),
        )
        for metric in answer_metrics(config.evaluate)
    }


# --- What decides the predictions -------------------------------------------------------------


def system_keys(config: RunConfig) -> dict[System, str]:
    """Return the systems to be scored, each with a hash of all that decides its predictions."""
    keys = {system: answer_inputs(config, system) for system in answering_systems(config.evaluate)}
    others = unrelated_texts(config)
    return keys | {system: unrelated_inputs(config, system, t) for system, t in others.items()}


def answer_inputs(config: RunConfig, system: System) -> str:
    settings = asdict(config.evaluate) | {"bootstrap_samples": 0, "batch_size": 0, "questions": ""}
    del settings["unrelated"], settings["dense"], settings["judge"]
    if not system.retriever:
        settings["rag_passages"] = 0
    needs = [VERSION, system.name, settings, asdict(config.prompts), fingerprint(config.model)]
    needs.append(sha256_file(Path(config.evaluate.questions)))
    if system.context != "none":
        needs.append(output_hash(config.run.passages_folder))
    if system.context == "dense":
        needs.append(retrieval.fingerprint(config.evaluate.dense))
    if system.with_adapter:
        needs.append(sha256_file(trained(config) / ADAPTER_WEIGHTS))
    return hash_json(needs)


def unrelated_inputs(config: RunConfig, system: System, texts: Sequence[str]) -> str:
    needs = [VERSION, system.name, list(texts), asdict(config.prompts)]
    needs += [fingerprint(config.model), sha256_file(trained(config) / ADAPTER_WEIGHTS)]
    return hash_json(needs)


def unrelated_texts(config: RunConfig) -> dict[System, tuple[str, ...]]:
    """Return the texts or questions that forgetting is measured on, where there are any."""
    found = unrelated.read(config.evaluate.unrelated)
    by_system = {UNRELATED_TEXT: found.texts, UNRELATED_QUESTIONS: found.questions}
    return {system: texts for system, texts in by_system.items() if texts}


def is_of(path: Path, key: str) -> bool:
    """Return True where the first line of a file says that it was made from these inputs."""
    return path.exists() and next(iter(read_jsonl(path)), {}).get("inputs") == key


# --- Asking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Examination:
    """Ask several systems their questions with a model that is loaded once."""

    config: RunConfig
    questions: Sequence[TestQuestion]

    def write(self, keys: Mapping[System, str]) -> None:
        """Write the predictions of each system as soon as they are there.

        Args:
            keys: the systems, each with the hash that the first line of its file shall hold.
        """
        model, chat = load_trained(self.config)
        generator = Generator(model, chat, self.config.evaluate.batch_size)
        for system, texts in unrelated_texts(self.config).items():
            if system in keys:
                self._write(system, keys[system], compare_with_base(system, texts, generator))
        asked = [system for system in keys if system.measures == "answers"]
        contexts = Contexts(self.config, {system.context for system in asked})
        answered: dict[tuple[object, ...], Line] = {}
        with progress("evaluate", len(asked) * len(self.questions), "questions") as advance:
            for system in asked:
                prompts = [contexts.prompt(system.context, q, chat) for q in self.questions]
                # retrieval often finds the gold passage, for which the question was asked already
                marks = [
                    (system.with_adapter, question.id, *prompt)
                    for question, prompt in zip(self.questions, prompts, strict=True)
                ]
                new = [i for i, mark in enumerate(marks) if mark not in answered]
                advance(len(marks) - len(new))
                with nullcontext() if system.with_adapter else adapter_off(model):
                    lines = self._answer(
                        generator,
                        [self.questions[i] for i in new],
                        [prompts[i] for i in new],
                        advance,
                    )
                answered |= {marks[i]: line for i, line in zip(new, lines, strict=True)}
                self._write(system, keys[system], [answered[mark] for mark in marks])

    def _write(self, system: System, key: str, lines: Sequence[Line]) -> None:
        header = to_line({"inputs": key, "system": system.name})
        path = self.config.run.predictions_file(system.name)
        write_atomically(path, header + "".join(map(to_line, lines)))

    def _answer(
        self,
        generator: Generator,
        questions: Sequence[TestQuestion],
        prompts: Sequence[list[int]],
        advance: Callable[[int], object],
    ) -> list[Line]:
        """Return a line of predictions for each question, graded but for the judge's grade."""
        greedy = SamplingConfig(temperature=0, max_new_tokens=self.config.evaluate.max_new_tokens)
        gold = [generator.chat.ids(question.answers[0]) for question in questions]
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
            for question, completion, likelihood in zip(questions, done, likelihoods, strict=True)
        ]


def compare_with_base(system: System, texts: Sequence[str], generator: Generator) -> list[Line]:
    """Return how far adapter and base are apart on each text, or on the answer to each question."""
    pairs_of = forgetting.texts if system is UNRELATED_TEXT else forgetting.answers
    found = forgetting.compare(generator.model, pairs_of(generator, texts))
    return [{"id": content_id(text), **line} for text, line in zip(texts, found, strict=True)]


# --- What stands before a question ------------------------------------------------------------


class Retriever(Protocol):
    """Find passages for a question, as `retrieval.BM25` and `retrieval.Dense` do."""

    passages: list[Passage]

    def __call__(self, question: str, k: int) -> list[Passage]: ...


class Contexts:
    """Put passages of a run before a question, as the context of a system says."""

    def __init__(self, config: RunConfig, needed: Set[Context]) -> None:
        passages = list(config.run.passages())
        self.num_retrieved = config.evaluate.rag_passages
        self.bm25 = BM25(passages)
        self.retrievers: dict[Context, Retriever] = {"bm25": self.bm25}
        if "dense" in needed:
            self.retrievers["dense"] = retrieval.Dense(passages, config.evaluate.dense)

    def prompt(self, context: Context, question: TestQuestion, chat: Chat) -> list[int]:
        """Return the token ids of the prompt: the passages, if any, and the question."""
        if context == "none":
            return chat.student(question.question)
        if context == "gold":
            return chat.teacher(gold_passage(question, self.bm25), question.question)
        found = self.retrievers[context](question.question, self.num_retrieved)
        return chat.teacher(joined(found), question.question)


def gold_passage(question: TestQuestion, bm25: Retriever) -> Passage:
    """Return the passage that a question is about.

    It is a passage of the question's document that holds a gold answer; among several the one that
    BM25 ranks first. Where none holds an answer, any passage of the document may be it.

    Args:
        question: its `document` is a document's id, its file name without the ending, or its title,
            in any case; where it names none, all passages may be it.
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
    """Return what a question may call the passage's document."""
    name = passage.document_id.lower()
    path, record, *_ = [*re.split(r"\.(?:jsonl|parquet|arrow):", name, maxsplit=1), ""]
    return {name, passage.title.lower(), Path(path).stem, record or path}


# --- The judge --------------------------------------------------------------------------------


def judge_inputs(config: RunConfig) -> list[Any]:
    """Return what decides the grades, apart from the predictions; empty where nobody judges."""
    settings = config.evaluate.judge
    if not settings.url:
        return []
    return [judge.VERSION, settings.url, settings.model, settings.max_new_tokens]


def write_grades(config: RunConfig, keys: Mapping[System, str]) -> None:
    """Have a judge grade the predictions of each system; the same answer is graded once.

    A grade that is unclear counts as wrong; how many were is said.

    Args:
        keys: the systems, each with the hash of what decided its predictions.

    Raises:
        ValueError: the judge cannot be reached; the grades of finished systems are kept.
    """
    ask = judge.Judge(config.evaluate.judge)
    known: dict[tuple[str, str], bool | None] = {}
    num_unclear = 0
    with progress("judge", len(keys), "systems") as advance:
        for system, key in keys.items():
            path = config.run.grades_file(system.name)
            inputs = hash_json([key, judge_inputs(config)])
            if not is_of(path, inputs):
                lines = config.run.predictions(system.name)
                marks = [(line["id"], line["prediction"]) for line in lines]
                by_mark = dict(zip(marks, lines, strict=True))
                new = {mark: line for mark, line in by_mark.items() if mark not in known}
                known |= dict(zip(new, ask(list(new.values())), strict=True))
                grades = [{"id": mark[0], "judged": known[mark]} for mark in marks]
                header = to_line({"inputs": inputs, "system": system.name, "of": key})
                write_atomically(path, header + "".join(map(to_line, grades)))
            _, *grades = read_jsonl(path)
            num_unclear += sum(line["judged"] is None for line in grades)
            advance()
    if num_unclear:
        say(f"evaluate: {num_unclear} of the judge's grades were unclear and count as wrong")


# --- New and old documents --------------------------------------------------------------------


def questions_by_age(
    config: RunConfig, questions: Sequence[TestQuestion], learnt: Learnt
) -> dict[Age, set[str]]:
    """Return the ids of the questions about new documents and about old ones.

    A document is new where one of its passages was added or replaced since the warm start, or
    where none of its passages was learnt.

    Args:
        learnt: what the adapter has learnt, before and after its warm start.
    """
    passages = list(config.run.passages())
    known, new, bm25 = learnt.passages, set(learnt.new), BM25(passages)
    documents = {p.document_id for p in passages} - {
        p.document_id for p in passages if p.id in known
    }
    documents |= {p.document_id for p in passages if p.id in new}
    found: dict[Age, set[str]] = {"new": set(), "old": set()}
    for question in questions:
        is_new = gold_passage(question, bm25).document_id in documents
        found["new" if is_new else "old"].add(question.id)
    return found


def write_scores_by_age(
    config: RunConfig, questions: Sequence[TestQuestion], learnt: Learnt
) -> None:
    """Write `scores_by_age.json`, in which an age that nobody asked about has no systems."""
    systems = answering_systems(config.evaluate)
    table: dict[Age, Scores] = {
        age: {system.name: summarise_system(config, system, ids) for system in systems if ids}
        for age, ids in questions_by_age(config, questions, learnt).items()
    }
    write_json(
        config.run.scores_by_age_file, {age: _values(scores) for age, scores in table.items()}
    )
    said = []
    for age, scores in table.items():
        if scores:
            gold = scores[ADAPTER.name]["gold_in_answer"]
            said.append(f"{age} documents {gold.value:.3f} ({gold.n} questions)")
        else:
            said.append(f"{age} documents were not asked about")
    say(f"evaluate: gold_in_answer of {ADAPTER.name}, {', '.join(said)}")
