"""Ask systems the held-out questions, and write their predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.evaluation import forgetting
from pdtrain.evaluation.context import Contexts, context_inputs, passage_of
from pdtrain.evaluation.grading.metrics import METRICS, grade
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
from pdtrain.progress import progress, say
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

VERSION = 2  # part of the input hash: raise it when the same system would answer differently

Line = dict[str, Any]  # of a file of predictions


def system_keys(config: RunConfig) -> dict[System, str]:
    """Return the systems to be scored, each with a hash of all that decides its predictions."""
    asked = [*answering_systems(config.evaluate), BASE_READING, ADAPTER_READING]
    keys = {system: answer_inputs(config, system) for system in asked}
    others = unrelated_texts(config)
    return keys | {system: unrelated_inputs(config, system, t) for system, t in others.items()}


def answer_inputs(config: RunConfig, system: System) -> str:
    needs: list[Any] = [VERSION, system.name, config.hash_for("predictions")]
    needs.append(fingerprint(config.model))
    # a line of predictions holds its grades: a run that was scored before lacks a new metric
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
    """Ask several systems their questions with a model that is loaded once."""

    config: RunConfig
    questions: Sequence[TestQuestion]

    def write(self, keys: Mapping[System, str]) -> None:
        """Write the predictions of each system as soon as they are there.

        Args:
            keys: the systems, each with the hash that the first line of its file shall hold.
        """
        settings = self.config.evaluate
        student = HuggingFaceBackend.of_student(self.config, batch_size=settings.batch_size)
        for system, texts in unrelated_texts(self.config).items():
            if system in keys:
                self._write(system, keys[system], compare_with_base(system, texts, student))
        asked = [system for system in keys if system.measures != "forgetting"]
        prompts = Prompts(self.config, self.questions, asked, student)
        answered: dict[tuple[object, ...], Line] = {}
        with progress("evaluate", sum(map(prompts.number, asked)), "questions") as advance:
            for system in asked:
                questions, tokens = prompts.of(system)
                # retrieval often finds the gold passage, for which the question was asked already
                marks = [
                    (system.with_adapter, question.id, *prompt)
                    for question, prompt in zip(questions, tokens, strict=True)
                ]
                new = [i for i, mark in enumerate(marks) if mark not in answered]
                advance(len(marks) - len(new))
                with nullcontext() if system.with_adapter else student.without_adapter():
                    lines = self._answer(
                        student, [questions[i] for i in new], [tokens[i] for i in new], advance
                    )
                answered |= {marks[i]: line for i, line in zip(new, lines, strict=True)}
                self._write(system, keys[system], [answered[mark] for mark in marks])
        student.chat.control.tell("evaluate")

    def _write(self, system: System, key: str, lines: Sequence[Line]) -> None:
        path = self.config.run.predictions_file(system.name)
        write_headed(path, {"inputs": key, "system": system.name}, lines)

    def _answer(
        self,
        student: HuggingFaceBackend,
        questions: Sequence[TestQuestion],
        prompts: Sequence[list[int]],
        advance: Callable[[int], object],
    ) -> list[Line]:
        """Return a line of predictions for each question, graded but for the judge's grade."""
        greedy = SamplingConfig(temperature=0, max_new_tokens=self.config.evaluate.max_new_tokens)
        done = student.sample(prompts, greedy, seed=0, on_done=advance)
        answerable = [i for i, question in enumerate(questions) if question.answers]
        likelihoods = student.log_likelihoods(
            [prompts[i] for i in answerable],
            [student.chat.text_ids(questions[i].answers[0]) for i in answerable],
        )
        likelihood = dict(zip(answerable, likelihoods, strict=True))
        return [
            {
                "id": question.id,
                "document": question.document,
                "question": question.question,
                "answers": question.answers,
                "prediction": completion.text,
                "finished": completion.finished,
                "answer_tokens": len(completion.token_ids),
                **grade(completion.text, question.answers),
                "gold_log_likelihood": likelihood.get(i),
            }
            for i, (question, completion) in enumerate(zip(questions, done, strict=True))
        ]


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
        most = student.window and student.window - config.evaluate.max_new_tokens
        self.contexts = Contexts(config, systems, most)
        self.reading = read_reading(config.evaluate.reading, config.evaluate.limit)

    def number(self, system: System) -> int:
        return len(self.reading if system.measures == "reading" else self.questions)

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


def compare_with_base(
    system: System, texts: Sequence[str], student: HuggingFaceBackend
) -> list[Line]:
    """Return how far adapter and base are apart on each text, or on the answer to each question."""
    pairs_of = forgetting.texts if system is UNRELATED_TEXT else forgetting.answers
    found = forgetting.compare(student.model, pairs_of(student, texts))
    return [{"id": content_id(text), **line} for text, line in zip(texts, found, strict=True)]
