"""Choose what a run trains on from the records that its stages left, and hash those records."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdtrain.config import RunConfig, require
from pdtrain.distillation.examples import Example
from pdtrain.distillation.tokens import source
from pdtrain.distillation.tokens.source import Source
from pdtrain.distillation.tokens.table import (
    Columns,
    ExampleTable,
    answer_ids,
    columns,
    take,
)
from pdtrain.distributed.world import find_world
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.models.base import window
from pdtrain.models.chat.chat_template import Chat
from pdtrain.progress import say
from pdtrain.records import rng_for
from pdtrain.stage import output_hash
from pdtrain.training.warm_start import WarmStart

PATIENCE_SECONDS = 60.0  # a shared folder may show late what another machine has written


@dataclass(frozen=True)
class TrainingSet:
    """Hold what one training reads.

    Args:
        examples: the answers, each as both sides read it.
        regularization: examples that hold the adapter to its base; may be empty.
        learned: returns the passages that the adapter has learned once it is trained on these; None
            where that is not known. The first rank alone needs it.
    """

    examples: Sequence[Example]
    regularization: Sequence[Example]
    learned: Callable[[], LearnedPassages | None]


def of_run(config: RunConfig, chat: Chat, start: WarmStart | None) -> TrainingSet:
    """Return what a run trains on, from the records that its stages left."""
    chosen = chosen_examples(config, chat, start)
    return TrainingSet(
        chosen,
        regularization_examples(config, chat),
        lambda: passages_learned(config, chosen, chat, start),
    )


def chosen_examples(config: RunConfig, chat: Chat, start: WarmStart | None) -> Sequence[Example]:
    """Return the examples of the objective, with at most `train.answer_tokens` answer tokens.

    After a warm start these are the examples that it has not learned, and some of the others.
    """
    return within(_chosen(config, chat, start), config.train.answer_tokens, config.seed)


def within(found: Sequence[Example], num_tokens: int, seed: int) -> Sequence[Example]:
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
        return found
    shuffled = array("i", range(len(found)))
    rng_for(seed, "answer tokens").shuffle(shuffled)
    order, lengths = np.array(shuffled), columns(found).answer
    order = order[lengths[order] <= num_tokens]
    ends = lengths[order].cumsum(dtype=np.int64)
    taken = np.sort(order[ends <= num_tokens])
    require(
        len(taken) > 0,
        f"train.answer_tokens={num_tokens} is less than any answer has; raise it, or 0 for all",
    )
    return take(found, taken)


def _chosen(config: RunConfig, chat: Chat, start: WarmStart | None) -> Sequence[Example]:
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
    num_new = int(_are_new(columns(found), known.passages).sum())
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


def selected(
    found: Sequence[Example], known: set[str], replay: float, seed: int
) -> Sequence[Example]:
    """Return the examples of unknown passages, and `replay` times as many others, drawn at random.

    They keep their order, and are the same on every rank. Where no passage is unknown, all examples
    are returned.

    Args:
        found: the examples.
        known: the ids of the passages that the warm start has learned.
        replay: how many of the others are drawn, for each example of an unknown passage.
        seed: the run's seed.
    """
    is_new = _are_new(columns(found), known)
    others = np.flatnonzero(~is_new)
    num_new = len(found) - len(others)
    if not num_new:
        return found
    taken = min(len(others), round(replay * num_new))
    is_new[others[rng_for(seed, "replay").sample(range(len(others)), taken)]] = True
    return take(found, np.flatnonzero(is_new))


def _are_new(of: Columns, known: set[str]) -> NDArray[np.bool_]:
    """Tell of each example if the teacher reads an unknown passage; one of two is enough."""
    is_known = np.array([name in known for name in [*of.names, ""]]) | np.array(
        [not name for name in [*of.names, ""]]
    )
    return ~(is_known[of.passages] & is_known[of.others])


def _read(of: Columns) -> list[str]:
    """Return the passages that the teacher reads, each once, in the order of the examples."""
    both = np.stack([of.passages, of.others], axis=1).ravel()
    found, first = np.unique(both, return_index=True)
    names = [of.names[i] for i in found[np.argsort(first)] if i >= 0]
    return [name for name in names if name]


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
        whole = _all(config, chat)
        is_taken = np.isin(answer_ids(whole), answer_ids(chosen))
        incomplete = set(_read(columns(take(whole, np.flatnonzero(~is_taken)))))
    for passage in _read(columns(chosen)):
        if passage not in known | incomplete:
            documents.setdefault(of_passage[passage], []).append(passage)
            new.append(passage)
    if start is None:
        return LearnedPassages(None, documents, [])
    return LearnedPassages(start.hashes[0], documents, new)


def _documents(config: RunConfig) -> dict[str, str]:
    """Return the document of every passage of the corpus, by ids."""
    return config.run.document_of_passage()


def _all(config: RunConfig, chat: Chat) -> ExampleTable:
    """Return the examples of the objective: answers, or windows of the passages' plain texts."""
    if config.train.objective == "raw_text":
        most, size = window(config.model), config.raw_text.window_tokens
        require(
            most is None or size <= most,
            f"raw_text.window_tokens={size} is more than the model reads, which is {most} tokens; "
            "lower it",
        )
    found, run = _table(config, source.of_objective(config), chat), config.run
    if config.train.objective == "raw_text":
        require(len(found) > 0, f"{run.passages_folder} holds no passage of two tokens")
    require(
        len(found) > 0,
        f"{run.answers_folder} holds no answer to train on: all were dropped; look at what "
        "`pdtrain answers` said, or set answers.grounded=false",
    )
    return found


def regularization_examples(config: RunConfig, chat: Chat) -> Sequence[Example]:
    """Return the examples that hold the adapter to its base; none if `retain.weight` is 0."""
    if not config.retain.weight:
        return []
    return _table(config, source.of_regularization(config), chat)


def _table(config: RunConfig, of: Source, chat: Chat) -> ExampleTable:
    """Return the examples of a source; the first rank has made them, before the others read."""
    patience = 0.0 if find_world().is_first else PATIENCE_SECONDS
    return source.table(config, of, chat, patience_seconds=patience)


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
