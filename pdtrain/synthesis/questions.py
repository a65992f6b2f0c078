"""Run the `questions` stage: passages → questions, passage by passage and pair by pair."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.generation.backend import Backend
from pdtrain.models.base import fingerprint, window
from pdtrain.progress import say
from pdtrain.records import Passage
from pdtrain.stage import output_hash, run_units
from pdtrain.storage import sha256_file
from pdtrain.synthesis import coverage
from pdtrain.synthesis.held_out import held_out_texts
from pdtrain.synthesis.multi_hop import PassagePair, passage_pairs
from pdtrain.synthesis.writer import Writer

VERSION = 7  # part of the input hash: raise it when the same passages would get other questions


def ask(config: RunConfig, backend: Backend | None = None) -> None:
    """Run the `questions` stage: ask about every passage of the run.

    Args:
        backend: of the base; opened from the config, once there is something to do, by default.
    """
    if config.train.objective == "raw_text":
        say("questions: skipped, train.objective=raw_text reads passages alone")
        return
    output_hash(config.run.passages_folder)  # or an error that says what to run
    passages = list(config.run.passages())
    held_out = held_out_texts(config.evaluate.questions)
    settings = {
        "version": VERSION,
        "knobs": config.hash_for("questions"),
        "has_system": bool(config.prompts.system),
        "model": fingerprint(config.model),
        "held_out": sha256_file(Path(config.evaluate.questions)) if held_out else "",
    }
    writer: Writer | None = None
    dropped: Counter[str] = Counter()

    def work(_: str, unit: Passage | PassagePair) -> list[dict[str, Any]]:
        nonlocal writer
        writer = writer or Writer(config, held_out, dropped, backend)
        if isinstance(unit, PassagePair):
            found = writer.about_pair(unit)
        else:
            found = writer.about_passage(unit)
        return [question.to_json() for question in found]

    pairs = passage_pairs(passages, config, backend.window if backend else window(config.model))
    units: dict[str, Passage | PassagePair] = {passage.id: passage for passage in passages}
    units |= {pair.id: pair for pair in pairs}
    folder = config.run.questions_folder
    unit_name = "passages and pairs of them" if pairs else "passages"
    if run_units(folder, "questions", settings, units, work, unit_name) and dropped:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common())
        say(f"questions: dropped {dropped.total()}: {reasons}")
    coverage.report(config.run, "questions")
