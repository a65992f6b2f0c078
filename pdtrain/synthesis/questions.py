"""Run the `questions` stage: passages → questions, passage by passage and pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.files.spans import Renamed
from pdtrain.generation.backend import Backend
from pdtrain.models.base import fingerprint, window
from pdtrain.processes.shares import ALONE, Share
from pdtrain.progress import say
from pdtrain.records import Passage
from pdtrain.stage import output_hash
from pdtrain.storage import sha256_file
from pdtrain.synthesis import coverage
from pdtrain.synthesis.asking import model_writer
from pdtrain.synthesis.asking.model_writer import ModelWriter
from pdtrain.synthesis.asking.related import related_pairs
from pdtrain.synthesis.given import Given, hash_of
from pdtrain.synthesis.held_out import held_out_texts
from pdtrain.synthesis.sentence_writer.multi_hop import PassagePair, asks_of_pairs, passage_pairs
from pdtrain.synthesis.sentence_writer.unanswerable import Mentions
from pdtrain.synthesis.sentence_writer.writer import Writer
from pdtrain.synthesis.units import Nobody, run, stored_passages

AnyWriter = Writer | ModelWriter | Nobody
VERSION = 8  # part of the input hash: raise it when the same passages would get other questions
GIVEN_VERSION = 5  # the same of given questions


def ask(config: RunConfig, backend: Backend | None = None, share: Share = ALONE) -> None:
    """Run the `questions` stage: ask about every passage of the run.

    Args:
        backend: of the base; opened from the config, once there is something to do, by default.
        share: this process's part of the passages.
    """
    if config.train.objective == "raw_text":
        say("questions: skipped, train.objective=raw_text reads passages alone")
        return
    output_hash(config.run.passages_folder)  # or an error that says what to run
    passages = stored_passages(config.run)
    held_out = held_out_texts(config.evaluate.questions)
    is_by_model = config.question_writer == "model"
    settings: dict[str, Any] = {
        "version": VERSION,
        "knobs": config.hash_for("questions"),
        "has_system": bool(config.prompts.system),
        "model": fingerprint(config.model),
        "held_out": sha256_file(Path(config.evaluate.questions)) if held_out else "",
    }
    source = config.questions.given
    given = Given(config, list(passages.values()), held_out) if source else None
    is_generated = given is None or config.questions.given_and_generated
    if given:
        settings["given"] = [hash_of(source), is_generated, GIVEN_VERSION]

    if is_by_model and is_generated:
        settings["writer"] = model_writer.settings(config.questions)
    mentions = None
    if config.questions.per_passage_unanswerable and is_generated and not is_by_model:
        settings["unanswerable"] = config.questions.per_passage_unanswerable
        mentions = Mentions(passages.values())

    def work(writer: AnyWriter, unit: Passage | PassagePair) -> list[dict[str, Any]]:
        if isinstance(writer, Nobody):
            assert given and isinstance(unit, Passage), "without a writer all questions are given"
            return [question.to_json() for question in given.about(unit)]
        if isinstance(unit, Passage):
            written = writer.about_passage(unit)
            found = given.before(written, unit) if given else written
        else:
            found = writer.about_pair(unit)
        return [question.to_json() for question in found]

    def open_one() -> AnyWriter:
        if not is_generated:
            return Nobody(Counter())
        if is_by_model:
            return ModelWriter(config, held_out, Counter(), backend)
        return Writer(config, held_out, Counter(), backend, mentions)

    units: Mapping[str, Passage | PassagePair] = passages
    if mentions:  # a document that says more changes what is asked about other passages
        renamed: Mapping[str, Passage] = Renamed(passages, mentions.key)
        units = renamed
    pairs = []
    if is_generated and (config.questions.model_per_pair if is_by_model else asks_of_pairs(config)):
        most = backend.window if backend else window(config.model)
        paired = related_pairs if is_by_model else passage_pairs
        pairs = paired(list(passages.values()), config, most)
        units = {**units, **{pair.id: pair for pair in pairs}}
    folder = config.run.questions_folder
    unit_name = "passages and pairs of them" if pairs else "passages"
    is_new = run(
        config, folder, "questions", settings, units, work, unit_name, open_one, share=share
    )
    if is_new and given:
        say(f"questions: {given.line()}")
    if share.leads:
        coverage.report(config.run, "questions")
