"""Rounds after training: the student is quizzed, and taught again what it misses.

Each round asks new questions about the facts that the student missed and its teacher knows, and
goes on from the adapter of the round before, on the answers to them and on some of the earlier
ones. It uses the stages' own functions, on configs that differ from the run's in their folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pdtrain.config import RoundsConfig, RunConfig
from pdtrain.distributed.world import find_world
from pdtrain.models import learnt_passages
from pdtrain.models.adapter import trained
from pdtrain.models.learnt_passages import DOCUMENTS, Learnt
from pdtrain.progress import Stopped, say
from pdtrain.records import Answer, Passage, Question, rng_for
from pdtrain.stage import is_current, mark_finished, say_current, write_rows
from pdtrain.storage import ADAPTER_WEIGHTS, hash_json, read_shards, sha256_file, write_json
from pdtrain.synthesis import answers, questions
from pdtrain.synthesis.held_out import held_out_texts
from pdtrain.synthesis.text import normalise
from pdtrain.training import quiz, recall, train
from pdtrain.training.quiz import Fact, Item

VERSION = 2  # part of the input hash: raise it when the same adapter would go on differently
# of a round's lesson nothing is left out, also where one of its passages had no answer so far
EVERYTHING = 1e9


@dataclass(frozen=True)
class Sitting:
    """What the student knew after a round, and what it had been taught in it."""

    known: set[str]  # ids of questions
    num_questions: int = 0  # new ones
    num_answers: int = 0  # to them


def run(config: RunConfig) -> None:
    """The `rounds` stage: `rounds/`, one folder a round, and `rounds/rounds.json`."""
    if not config.rounds.most:
        say("rounds: skipped, rounds.most is 0")
        return
    train.refuse_ranks(config, find_world())
    folder = config.run.rounds_folder
    inputs = inputs_hash(config)
    if is_current(folder, inputs) and recall.best_adapter(config):
        say_current("rounds", folder)
        return
    (folder / "manifest.json").unlink(missing_ok=True)  # what follows is not what it names
    material = Material.read(config)
    asked = quiz.facts(material.questions, config.rounds.quiz_per_sentence)
    taken = material.texts | held_out_texts(config.evaluate.questions)
    items = quiz.make(config, material.passages, asked, taken)
    sittings, reason = _rounds(config, material, items)
    summary = summarise(material.passages.values(), items, sittings, reason)
    adapter = sha256_file(trained(of_round(config, 0)) / ADAPTER_WEIGHTS)
    write_json(folder / recall.SUMMARY, {"adapter": adapter, **summary})
    mark_finished(folder, inputs)
    say(f"rounds: {reason}; the adapter of round {summary['best']} is the run's")


def inputs_hash(config: RunConfig) -> str:
    """All that decides what comes out of the rounds."""
    return hash_json(
        [
            [VERSION, quiz.VERSION, questions.VERSION, answers.VERSION],
            asdict(config.rounds),
            train.inputs_hash(config),
            sha256_file(trained(of_round(config, 0)) / ADAPTER_WEIGHTS),
            [config.prompts.ask, asdict(config.questions.sampling), asdict(config.answers)],
            [config.questions.near_duplicate, sorted(held_out_texts(config.evaluate.questions))],
        ]
    )


def of_round(config: RunConfig, number: int) -> RunConfig:
    """The config that a round is trained with; of round 0 the run's own, without rounds."""
    alone = replace(config, rounds=RoundsConfig())
    if not number:
        return alone
    before = of_round(config, number - 1).folder / "adapter"
    settings = replace(
        config.train,
        start=str(before),
        replay=EVERYTHING,
        answer_tokens=0,  # a budget of the first training
        epochs=config.rounds.epochs,
        learning_rate=config.rounds.learning_rate or config.train.learning_rate,
        evaluate_every_epochs=0,  # held-out questions say nothing before the end
    )
    return replace(alone, out_dir=str(config.run.rounds_folder / str(number)), train=settings)


def of_new(config: RunConfig, number: int) -> RunConfig:
    """The config by which the new questions of a round are answered."""
    alone = of_round(config, number)
    return replace(alone, out_dir=str(alone.folder / "new"))


@dataclass
class Material:
    """What a run has to teach with: it grows with every round."""

    passages: dict[str, Passage]
    questions: list[Question]
    answers: list[Answer]

    @classmethod
    def read(cls, config: RunConfig) -> Material:
        found = map(Passage.from_json, read_shards(config.run.passages_folder))
        made = cls({passage.id: passage for passage in found}, [], [])
        made.add(config.folder)
        return made

    def add(self, folder: Path) -> None:
        self.questions += map(Question.from_json, read_shards(folder / "questions"))
        self.answers += map(Answer.from_json, read_shards(folder / "answers"))

    @property
    def texts(self) -> set[str]:
        """Of all questions, normalised."""
        return {normalise(question.text) for question in self.questions}


def _rounds(
    config: RunConfig, material: Material, items: Sequence[Item]
) -> tuple[list[Sitting], str]:
    """Round after round; and why none follows."""
    goal = [item for item in items if item.is_known]
    _say_quiz(items)
    if not goal:
        say("rounds: none, for the teacher answers no question of the quiz")
        return [], "there is nothing that the student could recover"
    sittings: list[Sitting] = []
    while True:
        number, made = len(sittings), (0, 0)
        if number:
            made = _taught(config, material, items, sittings[-1], number)
            if not made[0]:
                return sittings, "the base finds no new question about what is missed"
            if not made[1]:
                return sittings, f"no answer to {made[0]} new questions about what is missed held"
        path = config.run.rounds_folder / str(number) / "quiz.json"
        sittings.append(Sitting(quiz.sit(of_round(config, number), goal, path), *made))
        recoveries = [len(sitting.known) / len(goal) for sitting in sittings]
        say(
            f"rounds: round {number}: recovery {recoveries[-1]:.3f}, "
            f"{len(goal) - len(sittings[-1].known)} of {len(goal)} facts missed, "
            f"{made[0]} new questions"
        )
        if reason := recall.why_to_stop(recoveries, config.rounds):
            return sittings, reason


def _say_quiz(items: Sequence[Item]) -> None:
    num_unasked = sum(not item.question.text for item in items)
    num_missed = len(items) - num_unasked - sum(item.is_known for item in items)
    say(
        f"rounds: {len(items)} facts: {num_unasked} without a question to quiz with, "
        f"{num_missed} that the teacher misses"
    )


def _taught(
    config: RunConfig, material: Material, items: Sequence[Item], before: Sitting, number: int
) -> tuple[int, int]:
    """Trains one round; adds to the material what was new in it.

    Returns:
        How many new questions, and how many answers to them: without any, nothing is trained.
    """
    if (config.run.stop_file).exists():
        raise Stopped(
            f"stopped before round {number}; remove {config.run.stop_file}, and the same command "
            "goes on from there"
        )
    missed: dict[str, list[Fact]] = {}
    for item in items:
        if item.is_known and item.question.id not in before.known:
            fact = (item.question.sentence, item.question.phrase)
            missed.setdefault(item.question.passage_id, []).append(fact)
    new, whole = of_new(config, number), of_round(config, number)
    passages = [material.passages[passage_id] for passage_id in missed]
    _leave(new.folder / "passages", [passage.to_json() for passage in passages])
    put = {normalise(item.question.text) for item in items}
    taken = material.texts | put | held_out_texts(config.evaluate.questions)
    count = config.rounds.questions_per_miss
    if not quiz.more(new, number, count, material.passages, missed, taken):
        return 0, 0
    answers.collect(new)
    earlier = list(material.answers)
    material.add(new.folder)
    fresh = material.answers[len(earlier) :]
    num_questions = sum(1 for _ in read_shards(new.folder / "questions"))
    if fresh:
        _write_lesson(config, whole.folder, material, [*fresh, *_replayed(config, earlier, fresh)])
        train.run(whole)
        _set_record(config, whole.folder / "adapter")
    return num_questions, len(fresh)


def _set_record(config: RunConfig, adapter: Path) -> None:
    """A round has learnt no passage that was not known whole: its lesson holds some answers of it.

    Where the run's own adapter does not say what it has learnt, a round does not either.
    """
    first, own = learnt_passages.read(config.run.adapter), learnt_passages.read(adapter)
    if first is None:
        (adapter / DOCUMENTS).unlink(missing_ok=True)
    elif own and config.train.answer_tokens:
        learnt_passages.write(adapter, Learnt(own.started_from, first.documents, []))


def _replayed(config: RunConfig, earlier: list[Answer], fresh: list[Answer]) -> list[Answer]:
    """Some of the earlier answers, `rounds.replay` times as many as there are new ones."""
    count = min(len(earlier), round(config.rounds.replay * len(fresh)))
    rng = rng_for(config.seed, "rounds", "replay", len(earlier))
    return rng.sample(earlier, count)


def _write_lesson(
    config: RunConfig, folder: Path, material: Material, taught: Sequence[Answer]
) -> None:
    """What a round is trained on, as the stages leave it."""
    asked = {answer.question_id for answer in taught}
    _leave(folder / "passages", [passage.to_json() for passage in material.passages.values()])
    _leave(folder / "questions", [q.to_json() for q in material.questions if q.id in asked])
    _leave(folder / "answers", [answer.to_json() for answer in taught])
    if config.retain.weight:
        _leave(folder / "retain", list(read_shards(config.run.regularization_folder)))


def _leave(folder: Path, rows: list[dict[str, Any]]) -> None:
    inputs = hash_json(rows)
    if not is_current(folder, inputs):
        write_rows(folder, inputs, rows)


def summarise(
    passages: Iterable[Passage], items: Sequence[Item], sittings: Sequence[Sitting], reason: str
) -> dict[str, Any]:
    """What `rounds.json` says; recall is of the facts that the teacher knows."""
    goal = [(item.question.passage_id, item.question.id) for item in items if item.is_known]
    num_unasked = sum(not item.question.text for item in items)
    recoveries = [len(sitting.known) / len(goal) for sitting in sittings]
    tables = [recall.by_passage(goal, sitting.known) for sitting in sittings]
    asked = recall.by_passage(goal, set())
    return {
        "best": recall.best(recoveries) if recoveries else 0,
        "stopped": reason,
        "facts": {
            "quizzed": len(items) - num_unasked,
            "unquizzed": num_unasked,
            "missed_by_teacher": len(items) - num_unasked - len(goal),
        },
        "rounds": [
            {
                "round": number,
                "recovery": recovery,
                "known": len(sitting.known),
                "missed": len(goal) - len(sitting.known),
                "new_questions": sitting.num_questions,
                "new_answers": sitting.num_answers,
            }
            for number, (sitting, recovery) in enumerate(zip(sittings, recoveries, strict=True))
        ],
        "passages": [
            {
                "passage": passage.id,
                "document": passage.document_id,
                "title": passage.title,
                "asked": asked.get(passage.id, (0, 0))[1],
                "known": [table.get(passage.id, (0, 0))[0] for table in tables],
            }
            for passage in passages
        ],
    }
