"""Write a judge's grades of the predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.examination import is_of
from pdtrain.evaluation.grading import judge
from pdtrain.evaluation.systems import System
from pdtrain.processes.interrupt import end_if_asked
from pdtrain.progress import at_work, progress, say
from pdtrain.storage import hash_json, read_jsonl, write_headed


def judge_inputs(config: RunConfig) -> list[Any]:
    """Return what decides the grades, apart from the predictions; empty where nobody judges."""
    return [judge.VERSION, config.hash_for("judge")] if config.evaluate.judge.url else []


def write_grades(config: RunConfig, keys: Mapping[System, str]) -> None:
    """Have a judge grade the predictions of each system; the same answer is graded once.

    A grade that is unclear counts as wrong; how many were is said.

    Args:
        keys: the systems, each with the hash of what decided its predictions.

    Raises:
        Stopped: the run's stop file is there; the grades of finished systems are kept.
        ValueError: the judge cannot be reached; the grades of finished systems are kept.
    """
    ask = judge.Judge(config.evaluate.judge)
    known: dict[tuple[str, str], bool | None] = {}
    num_unclear = 0
    with progress("judge", len(keys), "systems") as advance:
        for system, key in keys.items():
            path = config.run.grades_file(system.name)
            inputs = hash_json([key, judge_inputs(config)])
            if not is_of(path, inputs):
                lines = [line for line in config.run.predictions(system.name) if line["answers"]]
                marks = [(line["id"], line["prediction"]) for line in lines]
                by_mark = dict(zip(marks, lines, strict=True))
                new = {mark: line for mark, line in by_mark.items() if mark not in known}
                known |= dict(zip(new, ask(list(new.values())), strict=True))
                grades = [{"id": mark[0], "judged": known[mark]} for mark in marks]
                write_headed(path, {"inputs": inputs, "system": system.name, "of": key}, grades)
            _, *grades = read_jsonl(path)
            num_unclear += sum(line["judged"] is None for line in grades)
            advance()
            end_if_asked(config.run.stop_file, at_work())
    if num_unclear:
        say(f"evaluate: {num_unclear} of the judge's grades were unclear and count as wrong")
