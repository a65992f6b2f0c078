"""Choose what a run trains on from what its stages left, and hash it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pdtrain.config import RunConfig, require
from pdtrain.distillation import examples
from pdtrain.distillation.examples import Example
from pdtrain.models import learnt_passages
from pdtrain.models.chat_template import Chat
from pdtrain.models.learnt_passages import Learnt
from pdtrain.progress import say
from pdtrain.records import rng_for
from pdtrain.stage import output_hash
from pdtrain.training.warm_start import WarmStart


@dataclass(frozen=True)
class TrainingSet:
    """What one training reads.

    Args:
        examples: the answers, each as both sides read it.
        regularization: what holds the adapter to its base; may be empty.
        learnt: the passages that the adapter has learnt once it is trained on these; None where
            that is not known.
    """

    examples: list[Example]
    regularization: list[Example]
    learnt: Learnt | None


def of_run(config: RunConfig, chat: Chat, start: WarmStart | None) -> TrainingSet:
    """Return what a run trains on, from the records that its stages left."""
    chosen = chosen_examples(config, chat, start)
    return TrainingSet(
        chosen, regularization_examples(config, chat), passages_learnt(config, chosen, chat, start)
    )


def chosen_examples(config: RunConfig, chat: Chat, start: WarmStart | None) -> list[Example]:
    """Return all that the objective asks for, or with a warm start what that has not learnt and
    some of the rest; of this no more than `train.answer_tokens`."""
    return within(_chosen(config, chat, start), config.train.answer_tokens, config.seed)


def within(found: Sequence[Example], num_tokens: int, seed: int) -> list[Example]:
    """As many as have no more than `num_tokens` answer tokens together, drawn at random; all where
    it is 0. In the order they came in. An answer that is longer than that alone is left out. The
    draw for a smaller number is part of that for a larger one where it leaves out none, so that
    budgets can be compared."""
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
    begun, known = start.folder, start.learnt
    if known is None:
        say(
            f"train: {begun} has no {learnt_passages.DOCUMENTS} to say what it has learnt, so all "
            f"{len(found)} answers are trained on"
        )
        return found
    chosen = selected(found, known.passages, config.train.replay, config.seed)
    num_new = sum(_is_new(e, known.passages) for e in found)
    if num_new:
        say(
            f"train: {num_new} answers of passages that {begun} has not learnt, and "
            f"{len(chosen) - num_new} of {len(found) - num_new} others (train.replay)"
        )
    else:
        say(f"train: {begun} has learnt every passage, so all {len(found)} answers are trained on")
    if gone := known.passages - _documents(config).keys():
        say(
            f"train: {begun} has learnt {len(gone)} passages that are not in the corpus any more, "
            "and an adapter that goes on from it still knows them; to be rid of them train from "
            "scratch (train.start='')"
        )
    return chosen


def selected(found: Sequence[Example], known: set[str], replay: float, seed: int) -> list[Example]:
    """Those of unknown passages, and `replay` times as many of the others, drawn at random; all
    where no passage is unknown. In the order they came in, the same on every rank."""
    others = [i for i, e in enumerate(found) if not _is_new(e, known)]
    num_new = len(found) - len(others)
    if not num_new:
        return list(found)
    taken = min(len(others), round(replay * num_new))
    again = set(rng_for(seed, "replay").sample(others, taken))
    return [e for i, e in enumerate(found) if _is_new(e, known) or i in again]


def _is_new(example: Example, known: set[str]) -> bool:
    """Whether its teacher reads a passage that is not known: one of two is enough."""
    return not known.issuperset(_read(example))


def _read(example: Example) -> tuple[str, ...]:
    """The passages that its teacher reads."""
    return tuple(filter(None, (example.passage_id, example.other_passage_id)))


def passages_learnt(
    config: RunConfig, chosen: Sequence[Example], chat: Chat, start: WarmStart | None
) -> Learnt:
    """Return what the adapter has learnt once it is trained on these, with what the start had.

    A passage is learnt where none of its answers was left out for `train.answer_tokens`.
    """
    before = start.learnt if start else None
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
    return Learnt(start.hashes[0], documents, new) if start else Learnt(None, documents, [])


def _documents(config: RunConfig) -> dict[str, str]:
    """The document of every passage of the corpus."""
    return config.run.document_of_passage()


def _all(config: RunConfig, chat: Chat) -> list[Example]:
    """What the objective asks for: answers, or windows of the passages as they stand."""
    run = config.run
    passages = run.passages()
    if config.train.objective == "raw_text":
        cut = config.raw_text
        found = examples.from_windows(passages, chat, cut.window_tokens, cut.overlap)
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
    """What holds the adapter to its base, if anything is to."""
    if not config.retain.weight:
        return []
    return examples.from_regularization(config.run.regularization(), chat)


def inputs(config: RunConfig, start: WarmStart | None) -> dict[str, Any]:
    """Return hashes of all records that decide the adapter."""
    reads = {"passages": config.run.passages_folder}
    if config.train.objective != "raw_text":
        reads |= {"questions": config.run.questions_folder, "answers": config.run.answers_folder}
    if config.retain.weight:
        reads["retain"] = config.run.regularization_folder
    found: dict[str, Any] = {name: output_hash(folder) for name, folder in reads.items()}
    return found | {"start": start.hashes if start else None}
