"""What a run trains on, as its stages left it, and the hash of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pdtrain import rows
from pdtrain.chat import Chat
from pdtrain.config import RunConfig, require
from pdtrain.files import read_shards
from pdtrain.records import Answer, Passage, Question, Retained
from pdtrain.rows import Example
from pdtrain.stage import output_hash


def examples(config: RunConfig, chat: Chat) -> list[Example]:
    """What the objective asks for: answers, or windows of the passages as they stand."""
    folder = config.folder
    passages = map(Passage.from_json, read_shards(folder / "passages"))
    if config.train.objective == "raw_text":
        cut = config.raw_text
        found = rows.windows(passages, chat, cut.window_tokens, cut.overlap)
        require(bool(found), f"{folder / 'passages'} holds no passage of two tokens")
        return found
    questions = map(Question.from_json, read_shards(folder / "questions"))
    answers = map(Answer.from_json, read_shards(folder / "answers"))
    found = rows.examples(passages, questions, answers, chat)
    require(
        bool(found),
        f"{folder / 'answers'} holds no answer to train on: all were dropped; look at what "
        "`pdtrain answers` said, or set answers.grounded=false",
    )
    return found


def retained(config: RunConfig, chat: Chat) -> list[Example]:
    """What holds the adapter to its base, if anything is to."""
    if not config.retain.weight:
        return []
    found: Iterator[Retained] = map(Retained.from_json, read_shards(config.folder / "retain"))
    return rows.retained(found, chat)


def inputs(config: RunConfig) -> dict[str, Any]:
    """All of it that decides the adapter. What a run does not use is not in it, so that knobs
    that came later leave the hashes of earlier runs alone."""
    is_raw = config.train.objective == "raw_text"
    reads = ("passages",) if is_raw else ("passages", "questions", "answers")
    found: dict[str, Any] = {"answers": [output_hash(config.folder / name) for name in reads]}
    if is_raw:
        found["raw_text"] = asdict(config.raw_text)
    if config.rollout.share:
        found["rollout"] = asdict(config.rollout)
    if config.retain.weight:
        made = output_hash(config.folder / "retain")
        found["retain"] = [config.retain.weight, config.retain.per_step, made]
    return found
