"""Ask systems the held-out questions, and write their predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.batches import FOLDER, Group, Result, Task, work_on
from pdtrain.evaluation.context import Contexts, context_inputs, passage_of
from pdtrain.evaluation.grading.metrics import GRADING, METRICS, grade
from pdtrain.evaluation.systems import (
    ADAPTER_READING,
    BASE_READING,
    UNRELATED_QUESTIONS,
    UNRELATED_TEXT,
    System,
    answering_systems,
)
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.adapter import trained
from pdtrain.models.base import fingerprint
from pdtrain.processes.shares import ALONE, Share
from pdtrain.progress import say, warn
from pdtrain.records import TestQuestion, content_id
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    hash_json,
    sha256_bytes,
    sha256_file,
    warn_of_damage,
    write_headed,
)
from pdtrain.synthesis.held_out import read_reading, read_unrelated

VERSION = 3  # part of the input hash: raise it when the same system would answer differently

Line = dict[str, Any]  # of a file of predictions
Mark = str  # hash of a question and what stands before it; the same is asked once
COMPARED: dict[System, Task] = {
    UNRELATED_TEXT: "compare texts",
    UNRELATED_QUESTIONS: "compare answers",
}


def system_keys(config: RunConfig) -> dict[System, str]:
    """Return the systems to be scored, each with a hash of all that decides its predictions."""
    asked = [*answering_systems(config.evaluate), BASE_READING, ADAPTER_READING]
    keys = {system: answer_inputs(config, system) for system in asked}
    others = unrelated_texts(config)
    return keys | {system: unrelated_inputs(config, system, t) for system, t in others.items()}


def answer_inputs(config: RunConfig, system: System) -> str:
    needs: list[Any] = [VERSION, system.name, config.hash_for("predictions")]
    needs.append(fingerprint(config.model))
    # a line of predictions holds its grades: a run that was scored before lacks a new metric, and
    # has grades of before a change of the grading
    needs.append(GRADING)
    needs.append([metric.name for metric in METRICS.values() if metric.grade])
    if system.measures == "reading":
        reading = read_reading(config.evaluate.reading, config.evaluate.limit)
        needs += [[one.passage, one.question.to_json()] for one in reading]
    else:
        needs.append(sha256_file(Path(config.evaluate.questions)))
        needs += context_inputs(config, system)
    if system.with_adapter:
        needs.append(sha256_file(trained(config) / ADAPTER_WEIGHTS))
    return hash_json(needs)


def unrelated_inputs(config: RunConfig, system: System, texts: Sequence[str]) -> str:
    needs = [VERSION, system.name, list(texts), config.hash_for("forgetting")]
    needs += [fingerprint(config.model), sha256_file(trained(config) / ADAPTER_WEIGHTS)]
    return hash_json(needs)


def unrelated_texts(config: RunConfig) -> dict[System, tuple[str, ...]]:
    """Return the texts or questions that forgetting is measured on, where there are any."""
    found = read_unrelated(config.evaluate.unrelated)
    by_system = {UNRELATED_TEXT: found.texts, UNRELATED_QUESTIONS: found.questions}
    return {system: texts for system, texts in by_system.items() if texts}


def is_of(path: Path, key: str) -> bool:
    """Tell whether a file was made from these inputs, as its first line says, and is whole.

    Damage is said, for the caller makes the file again.
    """
    if not path.exists():
        return False
    fault = "it is no file"
    if path.is_file():
        data = path.read_bytes()
        header, _, rest = data.partition(b"\n")
        try:
            about = json.loads(header)
            if about["inputs"] == key and about.get("sha256") in (None, sha256_bytes(rest)):
                return True
            fault = "" if about["inputs"] != key else "its content does not fit its hash"
        except (ValueError, TypeError, KeyError):
            fault = "its first line is no JSON object"
    if fault:
        warn_of_damage(path, fault, "it is made again")
    return False


@dataclass(frozen=True)
class Examination:
    """Ask several systems their questions with a model that is loaded once.

    Args:
        share: this process's part of what is asked.
    """

    config: RunConfig
    questions: Sequence[TestQuestion]
    share: Share = ALONE

    def write(self, keys: Mapping[System, str]) -> None:
        """Ask the systems and write their predictions, or do this process's share of the asking.

        Args:
            keys: the systems, each with the hash that the first line of its file shall hold.
        """
        student = HuggingFaceBackend.of_student(
            self.config, batch_size=self.config.evaluate.batch_size
        )
        compared = {
            system: Group.of_texts(COMPARED[system], texts, student)
            for system, texts in unrelated_texts(self.config).items()
            if system in keys
        }
        asked = [system for system in keys if system.measures != "forgetting"]
        prompts = Prompts(self.config, self.questions, asked, student)
        seen: set[Mark] = set()
        sheets = {system: Sheet.of(system, prompts, seen, student) for system in asked}
        groups = [group for sheet in sheets.values() for group in (sheet.answers, sheet.scores)]
        settings = self.config.evaluate
        found = work_on(
            self.config.run.scores_folder / FOLDER,
            self._settings(),
            [*compared.values(), *groups],
            student,
            settings.max_new_tokens,
            self.share,
            self.config.run.stop_file,
        )
        if not self.share.leads:
            return
        student.chat.control.tell("evaluate")
        for system, group in compared.items():
            texts = [content_id(str(text)) for text in group.items]
            lines = [
                {"id": name, **line} for name, line in zip(texts, group.results(found), strict=True)
            ]
            self._write(system, keys[system], lines)
        answered: dict[Mark, Line] = {}
        for system, sheet in sheets.items():
            answered |= sheet.lines(found, student)
            self._write(system, keys[system], [answered[mark] for mark in sheet.marks])

    def _settings(self) -> dict[str, Any]:
        """Return what decides all results beside what is asked."""
        return {
            "version": VERSION,
            "knobs": [self.config.hash_for("predictions"), self.config.hash_for("forgetting")],
            "model": fingerprint(self.config.model),
            "adapter": sha256_file(trained(self.config) / ADAPTER_WEIGHTS),
        }

    def _write(self, system: System, key: str, lines: Sequence[Line]) -> None:
        path = self.config.run.predictions_file(system.name)
        write_headed(path, {"inputs": key, "system": system.name}, lines)


@dataclass(frozen=True)
class Sheet:
    """Hold what a system is asked.

    Attributes:
        marks: of all its questions, each with what the system reads.
        new: places of those that no system before it is asked alike.
        answers: the prompts of the new ones.
        scores: the prompts and the gold answers of the new ones that have any.
    """

    questions: Sequence[TestQuestion]
    marks: Sequence[Mark]
    new: Sequence[int]
    answers: Group
    scores: Group

    @classmethod
    def of(
        cls, system: System, prompts: Prompts, seen: set[Mark], student: HuggingFaceBackend
    ) -> Sheet:
        """Return the sheet of a system; retrieval often finds a passage that was asked about.

        Args:
            seen: the marks of the systems before it; its own are added.
        """
        questions, tokens = prompts.of(system)
        marks = [
            hash_json([system.with_adapter, question.id, prompt])
            for question, prompt in zip(questions, tokens, strict=True)
        ]
        new = [i for i, mark in enumerate(marks) if mark not in seen]
        seen.update(marks)
        known = [i for i in new if questions[i].answers]
        who = system.with_adapter
        asked, scored = [tokens[i] for i in new], [tokens[i] for i in known]
        gold = [student.chat.text_ids(questions[i].answers[0]) for i in known]
        return cls(
            questions,
            marks,
            new,
            Group.of_prompts("answer", who, asked, [[]] * len(asked), student),
            Group.of_prompts("score", who, scored, gold, student),
        )

    def lines(
        self, found: Mapping[str, list[Result]], student: HuggingFaceBackend
    ) -> dict[Mark, Line]:
        """Return a line of predictions for each new question, graded but for the judge's grade."""
        known = [i for i in self.new if self.questions[i].answers]
        likelihood = {
            i: result["log_likelihood"]
            for i, result in zip(known, self.scores.results(found), strict=True)
        }
        lines = {}
        for i, done in zip(self.new, self.answers.results(found), strict=True):
            question, text = self.questions[i], student.chat.text(done["ids"])
            lines[self.marks[i]] = {
                "id": question.id,
                "document": question.document,
                "question": question.question,
                "answers": question.answers,
                "prediction": text,
                "finished": done["finished"],
                "answer_tokens": len(done["ids"]),
                **grade(text, question.answers),
                "gold_log_likelihood": likelihood.get(i),
            }
        return lines


class Prompts:
    """Put each system's questions into words: its passages, if any, and the question.

    Args:
        questions: the held-out ones.
        systems: those that will ask.
    """

    def __init__(
        self,
        config: RunConfig,
        questions: Sequence[TestQuestion],
        systems: Sequence[System],
        student: HuggingFaceBackend,
    ) -> None:
        self.questions, self.chat = questions, student.chat
        self.contexts = Contexts(config, systems, student.window)
        self.reading = read_reading(config.evaluate.reading, config.evaluate.limit)
        unknown = self.contexts.num_unknown(questions)
        if unknown and any(system.context == "gold" for system in systems):
            warn(
                f"evaluate: {unknown} of {len(questions)} held-out questions name a document that "
                "is not there, so that all passages are searched for their answers; `document` is "
                "to be a file's name, a title or the id of a record"
            )

    def of(self, system: System) -> tuple[Sequence[TestQuestion], list[list[int]]]:
        """Return a system's questions, each with the token ids of its prompt."""
        if system.measures == "reading":
            return [one.question for one in self.reading], [
                self.chat.teacher(passage_of(one), one.question.question) for one in self.reading
            ]
        prompts = [self.contexts.prompt(system, q, self.chat) for q in self.questions]
        if short := self.contexts.num_shortened[system.name]:
            say(
                f"evaluate: {system.name}: {short} of {len(prompts)} prompts were too long for the "
                "model's window; the passages that were found last are left out of them"
            )
        return self.questions, prompts
