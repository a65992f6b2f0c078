"""Quiz the student after training, and teach it again what it misses, round after round.

Each round asks new questions about the facts that the student missed and its teacher knows, and
goes on from the adapter of the round before, on the answers to them and on some of the earlier
ones. Round 0 is the run's own training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pdtrain.config import RunConfig
from pdtrain.distillation import examples
from pdtrain.distillation.examples import Example
from pdtrain.distributed.process_group import connected
from pdtrain.distributed.world import find_world
from pdtrain.generation.backend import Backend
from pdtrain.models import learnt_passages
from pdtrain.models.adapter import trained
from pdtrain.models.chat_template import Chat
from pdtrain.models.learnt_passages import Learnt
from pdtrain.progress import Stopped, say
from pdtrain.records import Answer, Passage, Question, rng_for
from pdtrain.stage import is_current, mark_finished, output_hash, say_current
from pdtrain.storage import ADAPTER_WEIGHTS, hash_json, sha256_file, write_json
from pdtrain.synthesis import answers, questions
from pdtrain.synthesis.held_out import held_out_texts
from pdtrain.synthesis.text import normalise
from pdtrain.training import quiz, recall, train, training_set, warm_start
from pdtrain.training.quiz import Fact, Item
from pdtrain.training.recall import Sitting, summarise
from pdtrain.training.training_set import TrainingSet
from pdtrain.training.warm_start import WarmStart

VERSION = 3  # part of the input hash: raise it when the same adapter would go on differently


def run(config: RunConfig, base: Backend | None = None) -> None:
    """Run the `rounds` stage: `rounds/`, one folder a round, and `rounds/rounds.json`.

    Args:
        base: asks questions and answers them; opened from the config by default.
    """
    if not config.rounds.most:
        say("rounds: skipped, rounds.most is 0")
        return
    train.refuse_ranks(config, find_world())
    folder = config.run.rounds_folder
    inputs = inputs_hash(config)
    if is_current(folder, inputs) and config.run.best_adapter:
        say_current("rounds", folder)
        return
    (folder / "manifest.json").unlink(missing_ok=True)  # what follows is not what it names
    material = Material.read(config, base)
    asked = quiz.facts(material.questions, config.rounds.quiz_per_sentence)
    taken = material.texts | held_out_texts(config.evaluate.questions)
    items = quiz.make(config, material.passages, asked, taken, base)
    sittings, reason = _rounds(config, material, items)
    summary = summarise(material.passages.values(), items, sittings, reason)
    write_json(config.run.rounds_file, {"adapter": _first_adapter(config), **summary})
    mark_finished(folder, inputs)
    say(f"rounds: {reason}; the adapter of round {summary['best']} is the run's")


def inputs_hash(config: RunConfig) -> str:
    """Return the hash of all that decides what comes out of the rounds."""
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
    """Return the SHA-256 of the weights that the rounds begin with: those of the run's training."""
    alone = replace(config, rounds=replace(config.rounds, most=0))
    return sha256_file(trained(alone) / ADAPTER_WEIGHTS)


@dataclass
class Material:
    """Hold what a run has to teach with, which grows with every round."""

    passages: dict[str, Passage]
    questions: list[Question]
    answers: list[Answer]
    base: Backend | None = None  # makes more of both; opened from the config by default

    @classmethod
    def read(cls, config: RunConfig, base: Backend | None = None) -> Material:
        run = config.run
        passages = {passage.id: passage for passage in run.passages()}
        return cls(passages, list(run.questions()), list(run.answers()), base)

    @property
    def texts(self) -> set[str]:
        """The texts of all questions, normalised."""
        return {normalise(question.text) for question in self.questions}


def _rounds(
    config: RunConfig, material: Material, items: Sequence[Item]
) -> tuple[list[Sitting], str]:
    """Quiz and teach, round after round; return the sittings, and why no round follows."""
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
        adapter = config.run.round(number).adapter if number else config.run.adapter
        path = config.run.round(number).path / "quiz.json"
        sittings.append(Sitting(quiz.sit(config, goal, adapter, path), *made))
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
    """Train one round, and add to the material what was new in it.

    Returns:
        How many new questions, and how many answers to them: without any, nothing is trained.
    """
    if config.run.stop_file.exists():
        raise Stopped(
            f"stopped before round {number}; remove {config.run.stop_file}, and the same command "
            "goes on from there"
        )
    missed: dict[str, list[Fact]] = {}
    for item in items:
        if item.is_known and item.question.id not in before.known:
            fact = (item.question.sentence, item.question.phrase)
            missed.setdefault(item.question.passage_id, []).append(fact)
    put = {normalise(item.question.text) for item in items}
    taken = material.texts | put | held_out_texts(config.evaluate.questions)
    asked = quiz.more(config, number, material.passages, missed, taken, material.base)
    if not asked:
        return 0, 0
    round_ = config.run.round(number)
    folder, passages = round_.answers_folder, material.passages
    answers.collect_into(folder, config, passages, asked, material.base)
    fresh = list(round_.answers())
    taught = [*fresh, *_replayed(config, material.answers, fresh)]
    material.questions += asked
    material.answers += fresh
    if fresh:
        _train_round(config, material, taught, number)
    return len(asked), len(fresh)


def _train_round(
    config: RunConfig, material: Material, taught: Sequence[Answer], number: int
) -> None:
    """Train the adapter of a round, from the adapter of the round before."""
    settings = round_settings(config)
    before = config.run.round(number - 1).adapter if number > 1 else config.run.adapter
    start = warm_start.of_folder(before, config)
    asked = {answer.question_id for answer in taught}
    lesson = [question for question in material.questions if question.id in asked]
    inputs = [
        train.knobs_hash(settings),
        start.hashes,
        [question.to_json() for question in lesson],
        [answer.to_json() for answer in taught],
        [passage.to_json() for passage in material.passages.values()],
        output_hash(config.run.regularization_folder) if config.retain.weight else None,
    ]

    # for people to read, and tests: nothing reads it back
    write_json(config.run.round(number).taught_file, [answer.id for answer in taught])

    def read(chat: Chat) -> TrainingSet:
        made = examples.from_answers(material.passages.values(), lesson, taught, chat)
        held = training_set.regularization_examples(config, chat)
        return TrainingSet(made, held, _learnt(config, made, chat, start))

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
        answer_tokens=0,  # a budget of the first training
        evaluate_every_epochs=0,  # held-out questions say nothing before the end
    )
    return replace(config, train=settings)


def _learnt(
    config: RunConfig, taught: Sequence[Example], chat: Chat, start: WarmStart
) -> Learnt | None:
    """Return what a round's adapter has learnt; None where the run's own does not say.

    Under a budget (`train.answer_tokens`) a round learns no passage that was not known whole: it
    is taught some answers of it.
    """
    first = learnt_passages.read(config.run.adapter)
    if first is None:
        return None
    if config.train.answer_tokens:
        return Learnt(start.hashes[0], first.documents, [])
    return training_set.passages_learnt(config, taught, chat, start)


def _replayed(config: RunConfig, earlier: list[Answer], fresh: list[Answer]) -> list[Answer]:
    """Draw some of the earlier answers, `rounds.replay` times as many as there are new ones."""
    count = min(len(earlier), round(config.rounds.replay * len(fresh)))
    rng = rng_for(config.seed, "rounds", "replay", len(earlier))
    return rng.sample(earlier, count)
