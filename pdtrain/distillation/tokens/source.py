"""Tokenise what a run trains on once, and map it.

The stage that writes answers has this done, so that no rank waits for it later; where it has not
been done, or for other answers, whoever reads them first does it, under a lock. The shards are
bound to the tokenizer, the chat template, the prompts with their date, and the records.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.distillation import examples
from pdtrain.distillation.examples import Example
from pdtrain.distillation.tokens import shards
from pdtrain.distillation.tokens.record_index import RecordIndex
from pdtrain.distillation.tokens.table import ExampleTable
from pdtrain.files.durable import make_folder
from pdtrain.files.manifests import is_finished, manifest_of
from pdtrain.models.base import fingerprint, load_tokenizer
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.progress import detail, say
from pdtrain.records import Passage, Question
from pdtrain.stage import output_hash
from pdtrain.storage import hash_json

VERSION = 3  # part of the input hash; raise it when the same records give other examples
NO_MATTER = 0  # which token ends an answer decides nothing here


@dataclass(frozen=True)
class Source:
    """Say where some examples come from.

    Args:
        name: of the folder below `tokens/`, and for messages.
        reads: the folders of the stages whose records it is made of; the last one's are counted.
        knobs: what of the config decides the examples, beside the prompts.
        make: yields the examples.
    """

    name: str
    reads: tuple[Path, ...]
    knobs: tuple[object, ...]
    make: Callable[[Chat], Iterator[Example]]

    @property
    def is_there(self) -> bool:
        """Return whether the stages that it reads have finished."""
        return all(map(is_finished, self.reads))


def of_objective(config: RunConfig) -> Source:
    """Return the source of a run's training: answers, or windows of the passages' plain texts."""
    run, windows = config.run, config.raw_text
    if config.train.objective == "raw_text":
        sizes = (windows.window_tokens, windows.overlap)
        return Source(
            "raw_text",
            (run.passages_folder,),
            sizes,
            lambda chat: examples.each_of_windows(run.passages(), chat, *sizes),
        )

    def of_answers(chat: Chat) -> Iterator[Example]:
        passages = RecordIndex(run.passages_folder, Passage)
        questions = RecordIndex(run.questions_folder, Question)
        return examples.each_of_answers(passages.get, questions.get, run.answers(), chat)

    reads = (run.passages_folder, run.questions_folder, run.answers_folder)
    return Source("answers", reads, (), of_answers)


def of_regularization(config: RunConfig) -> Source:
    """Return the source of what holds the adapter to its base."""
    run = config.run
    return Source(
        "retain",
        (run.regularization_folder,),
        (),
        lambda chat: examples.each_of_regularization(run.regularization(), chat),
    )


def prepare(config: RunConfig) -> None:
    """Tokenise all that the run will train on, as far as its stages have finished.

    One process does this, after a stage or before training; it does nothing where all is done.
    """
    sources = [of_objective(config)]
    sources += [of_regularization(config)] if config.retain.weight else []
    chat: Chat | None = None
    for source in sources:
        folder = config.run.tokens_folder / source.name
        if not source.is_there or _is_known(folder, _known_by(config, source)):
            continue
        chat = chat or prove(load_tokenizer(config.model), config.prompts, NO_MATTER)
        table(config, source, chat)


def table(
    config: RunConfig, source: Source, chat: Chat, *, patience_seconds: float = 0.0
) -> ExampleTable:
    """Return the examples of a source, mapped; tokenise them if that has not been done.

    Args:
        config: names the run folder.
        source: where they come from.
        chat: makes the prompts.
        patience_seconds: how long to wait for what another machine has written, which a shared
            folder may show late; above 0 the files are not compared with their hashes either, for
            the first rank does that.

    Raises:
        ValueError: a stage has not finished, or its records do not fit one another.
    """
    folder = config.run.tokens_folder / source.name
    parts = _parts(source, chat)
    inputs = hash_json(parts)
    give_up = time.monotonic() + patience_seconds
    while (found := shards.find_current(folder, inputs, checked=not patience_seconds)) is None:
        if time.monotonic() >= give_up:
            found = _make(folder, source, chat, parts, known_by=_known_by(config, source))
            break
        time.sleep(1.0)
    names: list[str] = found["passages"]
    return ExampleTable([(shard, names) for shard in shards.mapped(folder, found)])


def _make(
    folder: Path, source: Source, chat: Chat, parts: dict[str, str], *, known_by: str
) -> dict[str, Any]:
    """Write the shards, unless another process did while this one waited; return the manifest."""
    from filelock import FileLock  # the commands' help does without

    inputs = hash_json(parts)
    make_folder(folder)
    with FileLock(folder / ".lock"):
        if found := shards.find_current(folder, inputs, checked=True):
            return found
        if before := manifest_of(folder):
            known = before.get("parts") or {}
            differ = [name for name, part in parts.items() if known.get(name) != part]
            say(f"tokens: {folder} is made again: {_reason(differ)}")
        about = {"inputs": inputs, "known_by": known_by, "parts": parts}
        total = (manifest_of(source.reads[-1]) or {}).get("num_records", 0)
        started = time.monotonic()
        found = shards.write(folder, about, source.make(chat), total)
        chat.control.tell("tokens")
        detail(f"tokens: {folder} written in {time.monotonic() - started:.1f} s")
        return found


def _reason(differ: list[str]) -> str:
    if not differ:
        return "a file was damaged or is missing"
    return f"{' and '.join(differ)} {'has' if len(differ) == 1 else 'have'} changed"


def _parts(source: Source, chat: Chat) -> dict[str, str]:
    """Return the hashes of all that decides the examples, by name."""
    tokenizer = chat.tokenizer
    others = {
        known.name: repr(getattr(chat, known.name))
        for known in fields(chat)
        if known.name not in ("tokenizer", "prompts", "stop_ids")
    }
    return {
        "the version": hash_json(VERSION),
        "the tokenizer": hash_json([type(tokenizer).__name__, _vocabulary(tokenizer)]),
        "the chat template": hash_json([tokenizer.get_chat_template(), others, chat.student("?")]),
        "the prompts or their date": hash_json(asdict(chat.prompts)),
        "what was said": hash_json([list(map(output_hash, source.reads)), source.knobs]),
    }


def _vocabulary(tokenizer: Any) -> Any:
    """Return all that decides how a tokenizer divides texts, as JSON."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return tokenizer.get_vocab()
    found = json.loads(fast.to_str())
    return {k: v for k, v in found.items() if k not in ("truncation", "padding")}  # set by calls


def _known_by(config: RunConfig, source: Source) -> str:
    """Return a hash that is found without loading a tokenizer, to see that nothing changed."""
    records = [output_hash(folder) for folder in source.reads] if source.is_there else []
    prompts = asdict(config.prompts)
    return hash_json([VERSION, fingerprint(config.model), prompts, records, source.knobs])


def _is_known(folder: Path, known_by: str) -> bool:
    return (manifest_of(folder) or {}).get("known_by") == known_by
