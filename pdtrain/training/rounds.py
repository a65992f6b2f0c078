"""Quiz the student after training, and train it again on what it misses, round after round.

Each round asks new questions about the facts that the student missed and the teacher knows. It goes
on from the adapter of the round before, and trains on the answers to these questions and on some
earlier ones. Round 0 is the run's own training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pdtrain.config import RunConfig
from pdtrain.distillation import examples
from pdtrain.distillation.examples import Example
from pdtrain.distributed.process_group import connected
from pdtrain.distributed.world import find_world
from pdtrain.files.durable import remove
from pdtrain.generation.backend import Backend
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.adapter import SETTINGS, trained
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.models.chat.chat_template import Chat
from pdtrain.progress import Stopped, say
from pdtrain.records import Answer, Passage, Question, rng_for
from pdtrain.stage import is_current, mark_finished, output_hash, say_current
from pdtrain.storage import ADAPTER_WEIGHTS, hash_json, sha256_file, write_checked, write_json
from pdtrain.synthesis import answers, questions
from pdtrain.synthesis.held_out import held_out_texts
from pdtrain.synthesis.text import normalise
from pdtrain.training import quiz, recall, train, training_set, warm_start
from pdtrain.training.quiz import Fact, OpenStudent, QuizItem
from pdtrain.training.recall import RoundResult
from pdtrain.training.training_set import TrainingSet
from pdtrain.training.warm_start import WarmStart

VERSION = 3  # part of the input hash; raise it when the same adapter would go on differently


@dataclass(frozen=True)
class Generators:
    """Hold what generates text in the rounds."""

    base: Backend | None = None  # asks, and answers as the teacher; None opens it from the config
    open_student: OpenStudent = quiz.open_student


def run(config: RunConfig, generators: Generators | None = None) -> None:
    """Run the `rounds` stage: write a folder for each round, and `rounds/rounds.json`.

    Args:
        config: the run's config.
        generators: what generates text; by default it is loaded from the config.

    Raises:
        Stopped: a round was asked to stop; the same command goes on from there.
        ValueError: training has not finished, or runs on several ranks.
    """
    generators = generators or Generators()
    if not config.rounds.most:
        say("rounds: skipped, rounds.most is 0")
        return
    train.refuse_ranks(config, find_world())
    folder = config.run.rounds_folder
    inputs = inputs_hash(config)
    if is_current(folder, inputs) and config.run.best_adapter:
        say_current("rounds", folder)
        return
    remove(folder / "manifest.json")  # it names the files that are replaced
    records = RoundRecords.read(config)
    asked = quiz.facts(records.questions, config.rounds.quiz_per_sentence)
    taken = records.texts | held_out_texts(config.evaluate.questions)
    items = quiz.make_quiz(config, records.passages, asked, taken, generators.base)
    results, reason = _rounds(config, records, items, generators)
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
            [VERSION, quiz.VERSION, questions.VERSION, answers.VERSION],
            [config.hash_for(name) for name in ("rounds", "quiz", "answers")],
            train.inputs_hash(config, warm_start.of_config(config)),
            _first_adapter(config),
            sorted(held_out_texts(config.evaluate.questions)),
        ]
    )


def _first_adapter(config: RunConfig) -> str:
    """Return the SHA-256 of the weights that the rounds start from: those of the run's training."""
    alone = replace(config, rounds=replace(config.rounds, most=0))
    return sha256_file(trained(alone) / ADAPTER_WEIGHTS)


@dataclass
class RoundRecords:
    """Hold the records that rounds train on; every round adds to them."""

    passages: dict[str, Passage]  # by id
    questions: list[Question]
    answers: list[Answer]

    @classmethod
    def read(cls, config: RunConfig) -> RoundRecords:
        """Return the records that the run's stages left."""
        run = config.run
        passages = {passage.id: passage for passage in run.passages()}
        return cls(passages, list(run.questions()), list(run.answers()))

    @property
    def texts(self) -> set[str]:
        """Return the texts of all questions, normalised."""
        return {normalise(question.text) for question in self.questions}


def _rounds(
    config: RunConfig, records: RoundRecords, items: Sequence[QuizItem], generators: Generators
) -> tuple[list[RoundResult], str]:
    """Quiz and train, round after round; return the results, and the reason why no round follows.

    The first result is that of the run's own training.
    """
    goal = [item for item in items if item.is_known]
    _say_quiz(items)
    if not goal:
        say("rounds: none, for the teacher answers no question of the quiz")
        return [], "there is nothing that the student could recover"
    results: list[RoundResult] = []
    while True:
        number, new = len(results), (0, 0)
        if number:
            missed = _missed_facts(items, results[-1])
            new = _ask_and_train(config, records, items, missed, number, generators.base)
            if not new[0]:
                return results, "the base finds no new question about what is missed"
            if not new[1]:
                return results, f"no answer to {new[0]} new questions about what is missed held"
        adapter = config.run.round(number).adapter if number else config.run.adapter
        path = config.run.round(number).path / "quiz.json"
        known = quiz.take_quiz(config, goal, adapter, path, generators.open_student)
        results.append(RoundResult(known, *new))
        recoveries = [len(result.known) / len(goal) for result in results]
        say(
            f"rounds: round {number}: recovery {recoveries[-1]:.3f}, "
            f"{len(goal) - len(known)} of {len(goal)} facts missed, {new[0]} new questions"
        )
        if reason := recall.why_to_stop(recoveries, config.rounds):
            return results, reason


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
    base: Backend | None,
) -> tuple[int, int]:
    """Run one round, and add its new questions and answers to the records.

    Returns:
        The number of new questions, and of new answers to them; without any, nothing is trained.
    """
    if config.run.stop_file.exists():
        raise Stopped(
            f"stopped before round {number}; remove {config.run.stop_file}, and the same command "
            "goes on from there"
        )
    in_quiz = {normalise(item.question.text) for item in items}
    taken = records.texts | in_quiz | held_out_texts(config.evaluate.questions)
    asked = quiz.new_questions(config, number, records.passages, missed, taken, base)
    if not asked:
        return 0, 0
    round_ = config.run.round(number)
    answers.collect_into(round_.answers_folder, config, records.passages, asked, base)
    new = list(round_.answers())
    trained_on = [*new, *_replayed(config, records.answers, new)]
    records.questions += asked
    records.answers += new
    if new:
        _train_round(config, records, trained_on, number)
    return len(asked), len(new)


def _train_round(
    config: RunConfig, records: RoundRecords, trained_on: Sequence[Answer], number: int
) -> None:
    """Train the adapter of a round, from the adapter of the round before."""
    settings = round_settings(config)
    before = config.run.round(number - 1).adapter if number > 1 else config.run.adapter
    start = warm_start.of_folder(before, config)
    answered = {answer.question_id for answer in trained_on}
    asked = [question for question in records.questions if question.id in answered]
    inputs = [
        train.knobs_hash(settings),
        start.hashes,
        [question.to_json() for question in asked],
        [answer.to_json() for answer in trained_on],
        [passage.to_json() for passage in records.passages.values()],
        output_hash(config.run.regularization_folder) if config.retain.weight else None,
    ]

    # no code of the package reads this; it says what a round was trained on
    write_json(config.run.round(number).trained_on_file, [answer.id for answer in trained_on])

    def read(chat: Chat) -> TrainingSet:
        found = examples.from_answers(records.passages.values(), asked, trained_on, chat)
        regularization = training_set.regularization_examples(config, chat)
        return TrainingSet(found, regularization, lambda: _learned(config, found, chat, start))

    world = find_world()
    with connected(settings.engine, world):
        train.train_adapter(
            settings,
            world,
            read,
            start=start,
            output=config.run.round(number),
            inputs=hash_json(inputs),
        )


def round_settings(config: RunConfig) -> RunConfig:
    """Return the knobs that a round is trained with."""
    settings = replace(
        config.train,
        epochs=config.rounds.epochs,
        learning_rate=config.rounds.learning_rate or config.train.learning_rate,
        answer_tokens=0,  # the budget is that of the first training
        evaluate_every_epochs=0,  # the curve is that of the first training
    )
    return replace(config, train=settings)


def _learned(
    config: RunConfig, trained_on: Sequence[Example], chat: Chat, start: WarmStart
) -> LearnedPassages | None:
    """Return what a round's adapter has learned; None where that of the run's own is not known.

    With a budget (`train.answer_tokens`) no passage counts as learned that did not before, because
    a round trains on only some of its answers.
    """
    first = learned_passages.read(config.run.adapter)
    if first is None:
        return None
    if config.train.answer_tokens:
        return LearnedPassages(start.hashes[0], first.documents, [])
    return training_set.passages_learned(config, trained_on, chat, start)


def _replayed(config: RunConfig, earlier: list[Answer], new: list[Answer]) -> list[Answer]:
    """Draw some of the earlier answers, `rounds.replay` times as many as there are new ones."""
    count = min(len(earlier), round(config.rounds.replay * len(new)))
    rng = rng_for(config.seed, "rounds", "replay", len(earlier))
    return rng.sample(earlier, count)
