"""Train the adapter of a round on new answers and on some earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pdtrain.config import RunConfig
from pdtrain.distillation import examples
from pdtrain.distillation.examples import Example
from pdtrain.distributed.process_group import from_first
from pdtrain.distributed.world import find_world
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.models.chat.chat_template import Chat
from pdtrain.records import UNSAID, Answer, Passage, Question, rng_for, seed_for
from pdtrain.stage import output_hash
from pdtrain.storage import hash_json, write_json
from pdtrain.synthesis.text import normalise
from pdtrain.training import train, training_set, warm_start
from pdtrain.training.training_set import TrainingSet
from pdtrain.training.warm_start import WarmStart


@dataclass
class RoundRecords:
    """Hold the records that rounds train on; every round adds to them."""

    passages: dict[str, Passage]  # by id
    questions: list[Question]
    answers: list[Answer]
    num_of_run: int  # of the answers, those of the run's own stages, which come first

    @classmethod
    def read(cls, config: RunConfig) -> RoundRecords:
        """Return the records that the run's stages left."""
        run = config.run
        passages = {passage.id: passage for passage in run.passages()}
        answers = list(run.answers())
        return cls(passages, list(run.questions()), answers, len(answers))

    @property
    def texts(self) -> set[str]:
        """Return the texts of all questions, normalised."""
        return {normalise(question.text) for question in self.questions}


def train_round(
    config: RunConfig, records: RoundRecords, trained_on: Sequence[Answer], number: int
) -> None:
    """Train the adapter of a round, from the adapter of the round before. All ranks take part."""
    settings, world = round_settings(config, number), find_world()
    before = config.run.round(number - 1).adapter if number > 1 else config.run.adapter
    start = warm_start.of_folder(before, config)
    answered = {answer.question_id for answer in trained_on}
    asked = [question for question in records.questions if question.id in answered]
    inputs = ""
    if world.is_first:
        needs = [
            train.knobs_hash(settings),
            start.hashes,
            [question.to_json() for question in asked],
            [answer.to_json() for answer in trained_on],
            [passage.to_json() for passage in records.passages.values()],
            output_hash(config.run.regularization_folder) if config.retain.weight else None,
        ]
        inputs = hash_json(needs)
        # no code of the package reads this; it says what a round was trained on
        write_json(config.run.round(number).trained_on_file, [answer.id for answer in trained_on])

    def read(chat: Chat) -> TrainingSet:
        found = examples.from_answers(records.passages.values(), asked, trained_on, chat)
        regularization = training_set.regularization_examples(config, chat)
        return TrainingSet(found, regularization, lambda: _learned(config, found, chat, start))

    train.train_adapter(
        settings,
        world,
        read,
        start=start,
        output=config.run.round(number),
        inputs=from_first(inputs),
    )


def round_settings(config: RunConfig, number: int) -> RunConfig:
    """Return the knobs that a round is trained with.

    Each round has its own seed, so that it is held to the base by other samples than the first
    steps of training and the other rounds.
    """
    settings = replace(
        config.train,
        epochs=config.rounds.epochs,
        learning_rate=config.rounds.learning_rate or config.train.learning_rate,
        answer_tokens=0,  # the budget is that of the first training
        evaluate_every_epochs=0,  # the curve is that of the first training
    )
    return replace(config, train=settings, seed=seed_for(config.seed, "rounds", number))


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


def replayed(config: RunConfig, records: RoundRecords, new: Sequence[Answer]) -> list[Answer]:
    """Draw some of the earlier answers, `rounds.replay` times as many as there are new ones.

    A round asks no new question that no document answers. So many of those that the run asked are
    drawn that their share of the round is that of the run's answers, but no more than half of what
    is drawn: saying that one does not know is forgotten, too.
    """
    unsaid = {question.id for question in records.questions if question.kind == UNSAID}
    earlier, of_run = records.answers, records.answers[: records.num_of_run]
    count = min(len(earlier), round(config.rounds.replay * len(new)))
    stated = [answer for answer in of_run if answer.question_id in unsaid]
    share = len(stated) / max(1, len(of_run))
    rng = rng_for(config.seed, "rounds", "replay", len(earlier))
    num_stated = min(len(stated), count // 2, round(share * (len(new) + count)))
    first = rng.sample(stated, num_stated)
    others = [answer for answer in earlier if answer.question_id not in unsaid]
    return [*first, *rng.sample(others, min(len(others), count - len(first)))]
