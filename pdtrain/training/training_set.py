"""Choose what a run trains on from the records that its stages left, and hash those records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pdtrain.config import RunConfig, require
from pdtrain.distillation import examples
from pdtrain.distillation.examples import Example
from pdtrain.models import learned_passages
from pdtrain.models.chat_template import Chat
from pdtrain.models.learned_passages import LearnedPassages
from pdtrain.progress import say
from pdtrain.records import rng_for
from pdtrain.stage import output_hash
from pdtrain.training.warm_start import WarmStart


@dataclass(frozen=True)
class TrainingSet:
    """Hold what one training reads.

    Args:
        examples: the answers, each as both sides read it.
        regularization: examples that hold the adapter to its base; may be empty.
        learned: the passages that the adapter has learned once it is trained on these; None where
            that is not known.
    """

    examples: list[Example]
    regularization: list[Example]
    learned: LearnedPassages | None


def of_run(config: RunConfig, chat: Chat, start: WarmStart | None) -> TrainingSet:
    """Return what a run trains on, from the records that its stages left."""
    chosen = chosen_examples(config, chat, start)
    return TrainingSet(
        chosen, regularization_examples(config, chat), passages_learned(config, chosen, chat, start)
    )


def chosen_examples(config: RunConfig, chat: Chat, start: WarmStart | None) -> list[Example]:
    """Return the examples of the objective, with at most `train.answer_tokens` answer tokens.

    After a warm start these are the examples that it has not learned, and some of the others.
    """
    return within(_chosen(config, chat, start), config.train.answer_tokens, config.seed)


def within(found: Sequence[Example], num_tokens: int, seed: int) -> list[Example]:
    """Draw examples at random that together have at most `num_tokens` answer tokens.

    They keep their order. An answer that alone is longer than the budget is left out. Unless it
    leaves out such answers, the draw for a smaller budget is part of that for a larger one, so that
    budgets can be compared.

    Args:
        found: the examples.
        num_tokens: the budget; 0 returns all examples.
        seed: the run's seed.

    Raises:
        ValueError: no answer fits the budget.
    """
    if not num_tokens:
        return list(found)
    order = list(range(len(found)))
    rng_for(seed, "answer tokens").shuffle(order)
    order = [i for i in order if len(found[i].answer) <= num_tokens]
    ends = accumulate(len(found[i].answer) for i in order)
    taken = {i for i, end in zip(order, ends, strict=True) if end <= num_tokens}
    require(
        bool(taken),
        f"train.answer_tokens={num_tokens} is less than any answer has; raise it, or 0 for all",
    )
    return [example for i, example in enumerate(found) if i in taken]


def _chosen(config: RunConfig, chat: Chat, start: WarmStart | None) -> list[Example]:
    found = _all(config, chat)
    if start is None:
        return found
    folder, known = start.folder, start.learned
    if known is None:
        say(
            f"train: {folder} has no {learned_passages.DOCUMENTS} to say what it has learned, so "
            f"all {len(found)} answers are trained on"
        )
        return found
    chosen = selected(found, known.passages, config.train.replay, config.seed)
    num_new = sum(_is_new(e, known.passages) for e in found)
    if num_new:
        say(
            f"train: {num_new} answers of passages that {folder} has not learned, and "
            f"{len(chosen) - num_new} of {len(found) - num_new} others (train.replay)"
        )
    else:
        say(
            f"train: {folder} has learned every passage, so all {len(found)} answers are trained on"
        )
    if gone := known.passages - _documents(config).keys():
        say(
            f"train: {folder} has learned {len(gone)} passages that are not in the corpus any more,"
            " and an adapter that goes on from it still knows them; to be rid of them train from "
            "scratch (train.start='')"
        )
    return chosen


def selected(found: Sequence[Example], known: set[str], replay: float, seed: int) -> list[Example]:
    """Return the examples of unknown passages, and `replay` times as many others, drawn at random.

    They keep their order, and are the same on every rank. Where no passage is unknown, all examples
    are returned.

    Args:
        found: the examples.
        known: the ids of the passages that the warm start has learned.
        replay: how many of the others are drawn, for each example of an unknown passage.
        seed: the run's seed.
    """
    others = [i for i, e in enumerate(found) if not _is_new(e, known)]
    num_new = len(found) - len(others)
    if not num_new:
        return list(found)
    taken = min(len(others), round(replay * num_new))
    again = set(rng_for(seed, "replay").sample(others, taken))
    return [e for i, e in enumerate(found) if _is_new(e, known) or i in again]


def _is_new(example: Example, known: set[str]) -> bool:
    """Tell whether the teacher reads an unknown passage; one of two is enough."""
    return not known.issuperset(_read(example))


def _read(example: Example) -> tuple[str, ...]:
    """Return the ids of the passages that the teacher reads for an example."""
    return tuple(filter(None, (example.passage_id, example.other_passage_id)))


def passages_learned(
    config: RunConfig, chosen: Sequence[Example], chat: Chat, start: WarmStart | None
) -> LearnedPassages:
    """Return what the adapter has learned once it is trained on the chosen examples.

    This includes what the warm start had learned. A passage counts as learned only if none of its
    answers was left out to keep to `train.answer_tokens`.
    """
    before = start.learned if start else None
    documents = {name: list(own) for name, own in before.documents.items()} if before else {}
    known = before.passages if before else set()
    of_passage, new = _documents(config), []
    incomplete: set[str] = set()
    if config.train.answer_tokens:
        taken = {e.answer_id for e in chosen}
        left_out = [e for e in _all(config, chat) if e.answer_id not in taken]
        incomplete = {passage for e in left_out for passage in _read(e)}
    for passage in dict.fromkeys(passage for e in chosen for passage in _read(e)):
        if passage not in known | incomplete:
            documents.setdefault(of_passage[passage], []).append(passage)
            new.append(passage)
    if start is None:
        return LearnedPassages(None, documents, [])
    return LearnedPassages(start.hashes[0], documents, new)


def _documents(config: RunConfig) -> dict[str, str]:
    """Return the document of every passage of the corpus, by ids."""
    return config.run.document_of_passage()


def _all(config: RunConfig, chat: Chat) -> list[Example]:
    """Return the examples of the objective: answers, or windows of the passages' plain texts."""
    run = config.run
    passages = run.passages()
    if config.train.objective == "raw_text":
        windows = config.raw_text
        found = examples.from_windows(passages, chat, windows.window_tokens, windows.overlap)
        require(bool(found), f"{run.passages_folder} holds no passage of two tokens")
        return found
    found = examples.from_answers(passages, run.questions(), run.answers(), chat)
    require(
        bool(found),
        f"{run.answers_folder} holds no answer to train on: all were dropped; look at what "
        "`pdtrain answers` said, or set answers.grounded=false",
    )
    return found


def regularization_examples(config: RunConfig, chat: Chat) -> list[Example]:
    """Return the examples that hold the adapter to its base; none if `retain.weight` is 0."""
    if not config.retain.weight:
        return []
    return examples.from_regularization(config.run.regularization(), chat)


def inputs(config: RunConfig, start: WarmStart | None) -> dict[str, Any]:
    """Return the hashes of all records that decide the adapter.

    Raises:
        ValueError: a stage that training reads has not finished.
    """
    reads = {"passages": config.run.passages_folder}
    if config.train.objective != "raw_text":
        reads |= {"questions": config.run.questions_folder, "answers": config.run.answers_folder}
    if config.retain.weight:
        reads["retain"] = config.run.regularization_folder
    found: dict[str, Any] = {name: output_hash(folder) for name, folder in reads.items()}
    return found | {"start": start.hashes if start else None}
