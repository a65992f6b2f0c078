"""Quiz the student about each fact by a question that is never trained on.

A fact is a phrase of a sentence that was asked for in training. The teacher reads the passage, and
the student answers from memory. Held-out questions only say what must not be asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.generation.backend import Backend
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.base import fingerprint
from pdtrain.processes.shares import ALONE, Share
from pdtrain.records import Passage, Question, content_id, seed_for
from pdtrain.stage import run_units
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    hash_json,
    read_checked,
    read_shards,
    sha256_file,
    write_checked,
)
from pdtrain.synthesis.filters import LEAST_OF_PHRASE
from pdtrain.synthesis.question_kinds import FACT, fault, kind_of
from pdtrain.synthesis.sentence_writer.writer import Writer
from pdtrain.synthesis.text import content_words, normalise

VERSION = 2  # part of the input hash; raise it when the same facts give another quiz

ATTEMPTS = 4  # how often the base is asked for a question that may be used
Fact = tuple[int, str]  # the number of a sentence, and a phrase of it
OpenStudent = Callable[[RunConfig, Path], Backend]  # from the folder of an adapter


@dataclass(frozen=True)
class QuizItem:
    """Hold a fact with its question, whose text is empty where none was found."""

    question: Question
    teacher: str  # the teacher's answer, with the passage in view
    is_known: bool  # to the teacher; the student is asked about no other facts


def facts(questions: Iterable[Question], most: int) -> dict[str, list[Fact]]:
    """Return the facts that each passage was asked about: the first `most` of each sentence."""
    found: dict[str, list[Fact]] = {}
    count: Counter[tuple[str, int]] = Counter()
    for question in questions:
        place, fact = (question.passage_id, question.sentence), (question.sentence, question.phrase)
        if not kind_of(question.kind).quizzed or fact in found.get(question.passage_id, ()):
            continue
        if count[place] < most:
            count[place] += 1
            found.setdefault(question.passage_id, []).append(fact)
    return found


def make_quiz(
    config: RunConfig,
    passages: Mapping[str, Passage],
    asked: Mapping[str, list[Fact]],
    taken: set[str],
    base: Backend | None = None,
    share: Share = ALONE,
) -> list[QuizItem]:
    """Return the quiz of a run, which is made once and kept in `rounds/quiz/`.

    Args:
        config: the knobs and the model.
        passages: the passages of the run, by id.
        asked: the facts of each passage.
        taken: questions that are trained on or held out, normalised; none of them is used.
        base: asks and, as the teacher, answers; by default it is opened from the config.
        share: this process's part of the passages.

    Returns:
        The whole quiz; on a process that does not lead, nothing.
    """
    settings = _settings(config, taken) | {"answers": _greedy(config).max_new_tokens}
    writer: Writer | None = None

    def work(_: str, unit: tuple[str, list[Fact]]) -> list[dict[str, Any]]:
        nonlocal writer
        writer = writer or Writer(config, taken, Counter(), base)
        passage, wanted = passages[unit[0]], unit[1]
        found = _unused_questions(writer, passage, wanted, taken, "quiz")
        prompts = [writer.chat.teacher(passage, q.text, q.sentence) for q in found]
        done = writer.backend.sample(prompts, _greedy(config), seed=0) if prompts else []
        items = {
            (q.sentence, q.phrase): QuizItem(q, c.text, knows(q, c.text))
            for q, c in zip(found, done, strict=True)
        }
        return [asdict(items.get(fact) or _without_question(passage, fact)) for fact in wanted]

    folder = config.run.quiz_folder
    units = {hash_json([passages[i].to_json(), wanted]): (i, wanted) for i, wanted in asked.items()}
    run_units(
        folder,
        "facts",
        settings,
        units,
        work,
        "passages",
        share=share,
        stop_file=config.run.stop_file,
    )
    if not share.leads:
        return []
    return [
        QuizItem(Question.from_json(record["question"]), record["teacher"], record["is_known"])
        for record in read_shards(folder)
    ]


def new_questions(
    config: RunConfig,
    number: int,
    passages: Mapping[str, Passage],
    missed: Mapping[str, list[Fact]],
    taken: set[str],
    base: Backend | None = None,
    share: Share = ALONE,
) -> list[Question]:
    """Ask new questions about each missed fact, and keep them in the folder of the round.

    Args:
        config: the knobs and the model.
        number: the number of the round; each has a seed of its own.
        passages: the passages of the run, by id.
        missed: the facts of each passage that the student misses.
        taken: questions that are trained on, in the quiz or held out, normalised.
        base: asks; by default it is opened from the config.
        share: this process's part of the passages.

    Returns:
        At most `rounds.questions_per_miss` new questions for each fact; perhaps none. On a process
        that does not lead, nothing.
    """
    count, folder = config.rounds.questions_per_miss, config.run.round(number).questions_folder
    settings = _settings(config, taken) | {"round": number, "per_miss": count}
    writer: Writer | None = None

    def work(_: str, unit: tuple[str, list[Fact]]) -> list[dict[str, Any]]:
        nonlocal writer
        writer = writer or Writer(config, taken, Counter(), base)
        wanted = [fact for fact in unit[1] for _ in range(count)]
        found = _unused_questions(writer, passages[unit[0]], wanted, taken, number)
        return [question.to_json() for question in found]

    units = {hash_json([passages[i].to_json(), few]): (i, few) for i, few in missed.items()}
    run_units(
        folder,
        "questions",
        settings,
        units,
        work,
        "passages",
        share=share,
        stop_file=config.run.stop_file,
    )
    return list(config.run.round(number).questions()) if share.leads else []


def _unused_questions(
    writer: Writer, passage: Passage, wanted: Sequence[Fact], taken: set[str], name: object
) -> list[Question]:
    """Return a new question for each fact wanted, if the base finds one in ATTEMPTS attempts.

    A new question is no near-duplicate of a taken question (the writer was given them as held-out
    ones), and no duplicate of another new one.
    """
    found, left, seen = list[Question](), list(wanted), set(taken)
    for attempt in range(ATTEMPTS):
        if not left:
            break
        seed = seed_for(writer.config.seed, "rounds", name, passage.id, attempt)
        again = []
        for question in writer.about(FACT, passage, left, seed):
            if fault(question, passage, seen) or writer.near_held_out.holds(question.text):
                again.append((question.sentence, question.phrase))
            else:
                seen.add(normalise(question.text))
                found.append(question)
        left = again
    return found


def knows(question: Question, answer: str) -> bool:
    """Tell whether an answer holds half of the phrase, and of it a word that the question lacks."""
    wanted, said = content_words(question.phrase), content_words(answer)
    enough = len(said & wanted) >= LEAST_OF_PHRASE * len(wanted)
    return enough and bool((said - content_words(question.text)) & wanted)


def open_student(config: RunConfig, adapter: Path) -> Backend:
    """Load the base with the adapter of a folder on it."""
    return HuggingFaceBackend.of_student(config, adapter, batch_size=config.evaluate.batch_size)


def _quiz_taken(
    config: RunConfig, items: Sequence[QuizItem], adapter: Path, path: Path
) -> set[str] | None:
    """Return the ids of the questions that a student answered, if it has taken this quiz before.

    Args:
        items: the quiz; facts that the teacher does not know are left out.
        adapter: the folder of the student's adapter.
        path: the file that keeps the answers.
    """
    found = read_checked(path)
    if not found or found.get("inputs") != _inputs(config, items, adapter):
        return None
    return set(found["known"])


def take_quiz(
    config: RunConfig,
    items: Sequence[QuizItem],
    adapter: Path,
    path: Path,
    open_student: OpenStudent = open_student,
    share: Share = ALONE,
) -> set[str]:
    """Ask a student the quiz, and return the ids of the questions that it answers from memory.

    Prompts that the model reads together are a unit of work, so that several processes get the
    answers that one gets.

    Args:
        config: the knobs and the model.
        items: the quiz; facts that the teacher does not know are left out.
        adapter: the folder of the student's adapter.
        path: the file that keeps the answers. A folder beside it keeps those of batches until all
            are there.
        open_student: opens the adapter.
        share: this process's part of the batches.

    Returns:
        What it knows; on a process that does not lead, perhaps nothing.
    """
    if (before := _quiz_taken(config, items, adapter, path)) is not None:
        return before
    asked = [item.question for item in items if item.is_known]
    inputs = _inputs(config, items, adapter)
    student = open_student(config, adapter)
    prompts = [student.chat.student(question.text) for question in asked]
    batches = _batches(student, prompts)
    units = {hash_json([asked[i].id for i in batch]): batch for batch in batches}

    def work(_: str, batch: Sequence[int]) -> list[dict[str, Any]]:
        done = student.sample([prompts[i] for i in batch], _greedy(config), seed=0)
        return [{"id": asked[i].id, "text": c.text} for i, c in zip(batch, done, strict=True)]

    folder = batches_folder(path)
    run_units(
        folder,
        "quiz",
        {"inputs": inputs},
        units,
        work,
        "batches",
        share=share,
        made_name="answers",
        stop_file=config.run.stop_file,
    )
    if not share.leads:
        return set()
    found = {record["id"]: record["text"] for record in read_shards(folder)}
    said = {question.id: found[question.id] for question in asked}
    known = [question.id for question in asked if knows(question, said[question.id])]
    write_checked(path, {"inputs": inputs, "known": known, "answers": said})
    return set(known)


def batches_folder(path: Path) -> Path:
    """Return the folder of what a student has answered until the file of its answers is there."""
    return path.with_name(f"{path.stem}_batches")


def _inputs(config: RunConfig, items: Sequence[QuizItem], adapter: Path) -> str:
    """Return the hash of all that decides what a student answers."""
    asked = [item.question.to_json() for item in items if item.is_known]
    needs = [VERSION, sha256_file(adapter / ADAPTER_WEIGHTS), fingerprint(config.model)]
    needs += [config.hash_for("forgetting"), _greedy(config).max_new_tokens, asked]
    return hash_json(needs)


def _batches(student: Backend, prompts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return which prompts, by place, the student reads together."""
    if isinstance(student, HuggingFaceBackend):
        return list(student.batches(prompts))
    return [range(len(prompts))]


def _settings(config: RunConfig, taken: set[str]) -> dict[str, Any]:
    """Return everything but passages and facts that decides which questions are asked."""
    return {
        "version": VERSION,
        "knobs": config.hash_for("quiz"),
        "model": fingerprint(config.model),
        "taken": hash_json(sorted(taken)),
    }


def _without_question(passage: Passage, fact: Fact) -> QuizItem:
    name = content_id(passage.id, FACT.name, "", fact)
    return QuizItem(Question(name, passage.id, "", FACT.name, *fact), "", False)


def _greedy(config: RunConfig) -> SamplingConfig:
    return SamplingConfig(temperature=0, max_new_tokens=config.answers.sampling.max_new_tokens)
