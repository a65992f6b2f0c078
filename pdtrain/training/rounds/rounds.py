"""Quiz the student after training, and train it again on what it misses, round after round.

Each round asks new questions about the facts that the student missed and the teacher knows. It goes
on from the adapter of the round before, and trains on the answers to these questions and on some
earlier ones. Round 0 is the run's own training.

Under a launcher all ranks train, and share what is asked as they share questions and answers. The
first alone writes, and tells the others what came out: they may see its files later.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pdtrain.config import RunConfig
from pdtrain.distributed.process_group import connected, from_first
from pdtrain.distributed.world import find_world
from pdtrain.files.durable import remove
from pdtrain.generation.backend import Backend
from pdtrain.models.adapters.adapter import SETTINGS, trained
from pdtrain.models.placement import give_back_memory
from pdtrain.processes.shares import Share
from pdtrain.progress import Stopped, say
from pdtrain.records import Answer, Question
from pdtrain.stage import is_current, mark_finished, say_current
from pdtrain.storage import ADAPTER_WEIGHTS, hash_json, sha256_file, write_checked
from pdtrain.synthesis import answers, questions
from pdtrain.synthesis.held_out import held_out_texts
from pdtrain.synthesis.text import normalise
from pdtrain.training import train, warm_start
from pdtrain.training.rounds import quiz, recall
from pdtrain.training.rounds.crew import ONE_PROCESS, Crew
from pdtrain.training.rounds.quiz import Fact, OpenStudent, QuizItem
from pdtrain.training.rounds.recall import RoundResult
from pdtrain.training.rounds.round_training import RoundRecords, replayed, train_round

VERSION = 4  # part of the input hash; raise it when the same adapter would go on differently


@dataclass(frozen=True)
class Generators:
    """Hold what generates text in the rounds."""

    base: Backend | None = None  # asks, and answers as the teacher; None opens it from the config
    open_student: OpenStudent = quiz.open_student


Found = TypeVar("Found")


@dataclass(frozen=True)
class Ranks:
    """Let the ranks of a launcher work on the rounds together, or one process alone.

    Args:
        crew: shares what is asked.
        generators: what generates text on this rank.
    """

    crew: Crew
    generators: Generators

    def first(self, work: Callable[[], Found]) -> Found:
        """Return what the first rank gets, which alone does it."""
        found: Found = from_first(work() if self.crew.leads else None)
        return found

    def share(
        self,
        config: RunConfig,
        part: str,
        work: Callable[[RunConfig, Share], Found],
        *,
        stage: str = "",
    ) -> Found:
        """Return what the first rank gets from a part that all have worked on."""
        found: list[Found] = []
        self.crew.work_on(
            config, part, lambda mine, share: found.append(work(mine, share)), stage=stage
        )
        return self.first(lambda: found[0])


def run(config: RunConfig, generators: Generators | None = None, crew: Crew = ONE_PROCESS) -> None:
    """Run the `rounds` stage: write a folder for each round, and `rounds/rounds.json`.

    Args:
        config: the run's config.
        generators: what generates text; by default it is loaded from the config.
        crew: this process among those that share the work.

    Raises:
        Stopped: a round was asked to stop; the same command goes on from there.
        ValueError: training has not finished.
    """
    if not config.rounds.most:
        say("rounds: skipped, rounds.most is 0")
        return
    world = find_world()
    train.refuse_ranks(config, world)
    with connected(config.engine, world):
        _run(config, Ranks(crew, generators or Generators()))


def _run(config: RunConfig, ranks: Ranks) -> None:
    folder = config.run.rounds_folder
    inputs = ranks.first(lambda: inputs_hash(config))
    if ranks.first(lambda: is_current(folder, inputs) and config.run.best_adapter is not None):
        say_current("rounds", folder)
        return
    if ranks.crew.leads:
        remove(folder / "manifest.json")  # it names the files that are replaced
    records = ranks.first(lambda: RoundRecords.read(config))
    asked = quiz.facts(records.questions, config.rounds.quiz_per_sentence)
    taken = records.texts | held_out_texts(config.evaluate.questions)

    def make(mine: RunConfig, share: Share) -> list[QuizItem]:
        base = ranks.generators.base
        return quiz.make_quiz(mine, records.passages, asked, taken, base, share)

    items = ranks.share(config, "rounds: quiz", make)
    results, reason = _rounds(config, records, items, ranks)
    if not ranks.crew.leads:
        return
    summary = recall.summarise(records.passages.values(), items, results, reason)
    write_checked(config.run.rounds_file, {"adapter": _first_adapter(config), **summary})
    mark_finished(folder, inputs, _files(config, len(results)))
    say(f"rounds: {reason}; the adapter of round {summary['best']} is the run's")


def _files(config: RunConfig, num_results: int) -> list[str]:
    """Return the files that the rounds leave, relative to their folder."""
    folder = config.run.rounds_folder
    rounds = [config.run.round(number).path for number in range(num_results)]
    found = [config.run.rounds_file, *(path / "quiz.json" for path in rounds)]
    found += [
        path / "adapter" / name for path in rounds[1:] for name in (ADAPTER_WEIGHTS, SETTINGS)
    ]
    return [str(path.relative_to(folder)) for path in found]


def inputs_hash(config: RunConfig) -> str:
    """Return the hash of all that decides the result of the rounds."""
    return hash_json(
        [
            [VERSION, quiz.VERSION, questions.VERSION, answers.settings(config)],
            [config.hash_for(name) for name in ("rounds", "quiz")],
            train.inputs_hash(config, warm_start.of_config(config)),
            _first_adapter(config),
            sorted(held_out_texts(config.evaluate.questions)),
        ]
    )


def _first_adapter(config: RunConfig) -> str:
    """Return the SHA-256 of the weights that the rounds start from: those of the run's training."""
    alone = replace(config, rounds=replace(config.rounds, most=0))
    return sha256_file(trained(alone) / ADAPTER_WEIGHTS)


def _rounds(
    config: RunConfig, records: RoundRecords, items: Sequence[QuizItem], ranks: Ranks
) -> tuple[list[RoundResult], str]:
    """Quiz and train, round after round; return the results, and the reason why no round follows.

    The first result is that of the run's own training.
    """
    goal = [item for item in items if item.is_known]
    _say_quiz(items)
    if not items:
        reason = "training asked for no phrase of a sentence, and rounds quiz about these alone"
        say(f"rounds: none, for {reason}")
        return [], reason
    if not goal:
        say("rounds: none, for the teacher answers no question of the quiz")
        return [], "there is nothing that the student could recover"
    results: list[RoundResult] = []
    while True:
        number, new = len(results), (0, 0)
        if number:
            missed = _missed_facts(items, results[-1])
            new = _ask_and_train(config, records, items, missed, number, ranks)
            if not new[0]:
                return results, "the base finds no new question about what is missed"
            if not new[1]:
                return results, f"no answer to {new[0]} new questions about what is missed held"
        known = _take_quiz(config, goal, number, ranks)
        results.append(RoundResult(known, *new))
        recoveries = [len(result.known) / len(goal) for result in results]
        say(
            f"rounds: round {number}: recovery {recoveries[-1]:.3f}, "
            f"{len(goal) - len(known)} of {len(goal)} facts missed, {new[0]} new questions"
        )
        if reason := recall.why_to_stop(recoveries, config.rounds):
            return results, reason


def _take_quiz(config: RunConfig, goal: Sequence[QuizItem], number: int, ranks: Ranks) -> set[str]:
    """Return the ids of the quiz's questions that the student of a round answers."""
    adapter = config.run.round(number).adapter if number else config.run.adapter
    path = config.run.round(number).path / "quiz.json"
    ranks.crew.wait_for([adapter / name for name in (ADAPTER_WEIGHTS, SETTINGS, "manifest.json")])

    def take(mine: RunConfig, share: Share) -> set[str]:
        return quiz.take_quiz(mine, goal, adapter, path, ranks.generators.open_student, share)

    # the student is asked by transformers, as the evaluation asks it
    known = ranks.share(config, f"rounds: quiz {number}", take, stage="evaluate")
    if ranks.crew.leads:
        shutil.rmtree(quiz.batches_folder(path), ignore_errors=True)
    return known


def _say_quiz(items: Sequence[QuizItem]) -> None:
    num_unasked = sum(not item.question.text for item in items)
    num_missed = len(items) - num_unasked - sum(item.is_known for item in items)
    say(
        f"rounds: {len(items)} facts: {num_unasked} without a question to quiz with, "
        f"{num_missed} that the teacher misses"
    )


def _missed_facts(items: Sequence[QuizItem], result: RoundResult) -> dict[str, list[Fact]]:
    """Return the facts of each passage that the teacher knows and the student misses."""
    missed: dict[str, list[Fact]] = {}
    for item in items:
        if item.is_known and item.question.id not in result.known:
            fact = (item.question.sentence, item.question.phrase)
            missed.setdefault(item.question.passage_id, []).append(fact)
    return missed


def _ask_and_train(
    config: RunConfig,
    records: RoundRecords,
    items: Sequence[QuizItem],
    missed: dict[str, list[Fact]],
    number: int,
    ranks: Ranks,
) -> tuple[int, int]:
    """Run one round, and add its new questions and answers to the records.

    Returns:
        The number of new questions, and of new answers to them; without any, nothing is trained.
    """
    if ranks.first(config.run.stop_file.exists):
        raise Stopped(
            f"stopped before round {number}; remove {config.run.stop_file}, and the same command "
            "goes on from there"
        )
    in_quiz = {normalise(item.question.text) for item in items}
    taken = records.texts | in_quiz | held_out_texts(config.evaluate.questions)
    base, passages, round_ = ranks.generators.base, records.passages, config.run.round(number)

    def ask(mine: RunConfig, share: Share) -> list[Question]:
        return quiz.new_questions(mine, number, passages, missed, taken, base, share)

    def answer(mine: RunConfig, share: Share) -> list[Answer]:
        answers.collect_into(round_.answers_folder, mine, passages, asked, base, share)
        return list(round_.answers()) if share.leads else []

    asked = ranks.share(config, f"rounds: questions {number}", ask)
    if not asked:
        return 0, 0
    new = ranks.share(config, f"rounds: answers {number}", answer)
    trained_on = [*new, *replayed(config, records, new)]
    records.questions += asked
    records.answers += new
    if new:
        train_round(config, records, trained_on, number)
        give_back_memory()  # the first rank loads the base to take the quiz
    return len(asked), len(new)
