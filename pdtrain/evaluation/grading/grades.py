"""Write a judge's grades of the predictions.

Each grade is on the disk before the next one is waited for: an evaluation that ends early has paid
for nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.batches import FOLDER
from pdtrain.evaluation.examination import is_of
from pdtrain.evaluation.grading import judge
from pdtrain.evaluation.grading.judge import Grade, Judge, Line
from pdtrain.evaluation.systems import System
from pdtrain.files.durable import make_folder
from pdtrain.files.journal import Journal, Reader
from pdtrain.processes.interrupt import end_if_asked
from pdtrain.progress import at_work, progress, say, warn
from pdtrain.run_folder import RunFolder
from pdtrain.storage import hash_json, read_jsonl, write_headed

MOST_UNCLEAR = 0.2  # share of the replies from which on something is wrong with the judge
UNGRADED = "those answers count as `unjudged`, neither right nor wrong"
Mark = str  # hash of what the judge reads: the same is graded once


def judge_inputs(config: RunConfig) -> list[Any]:
    """Return what decides the grades, apart from the predictions; empty where nobody judges."""
    return [judge.VERSION, config.hash_for("judge")] if config.evaluate.judge.url else []


def write_grades(config: RunConfig, keys: Mapping[System, str]) -> None:
    """Have a judge grade the predictions of each system; the same answer is graded once.

    What it gave no clear verdict on is not graded; how much that was is said.

    Args:
        keys: the systems, each with the hash of what decided its predictions.

    Raises:
        Stopped: the run's stop file is there; the grades that were given are kept.
        ValueError: the judge cannot be reached, or takes no requests; the grades that it gave are
            kept.
    """
    run, settings = config.run, hash_json(judge_inputs(config))
    folder = run.scores_folder / FOLDER / "judge"
    make_folder(folder)
    inputs = {system: hash_json([key, judge_inputs(config)]) for system, key in keys.items()}
    paths = {system: run.grades_file(system.name) for system in keys}
    current = [system for system in keys if is_of(paths[system], inputs[system])]
    known = dict(_known(run, current, Reader(folder, settings)))
    ask = Judge(config.evaluate.judge, has_answered=bool(known))
    with progress("judge", len(keys), "systems") as advance, Journal(folder, settings) as journal:
        for system, key in keys.items():
            if system not in current:
                lines = _gradable(run, system)
                known |= _new_grades(ask, lines, known, journal, run.stop_file)
                grades = [{"id": line["id"], **known[_mark(line)]} for line in lines]
                about = {"inputs": inputs[system], "system": system.name, "of": key}
                write_headed(paths[system], about, grades)
            advance()
            end_if_asked(config.run.stop_file, at_work())
    _say_not_graded(paths.values(), config.evaluate.judge.max_new_tokens)


def _gradable(run: RunFolder, system: System) -> list[Line]:
    return [line for line in run.predictions(system.name) if line["answers"]]


def _mark(line: Line) -> Mark:
    return hash_json(judge.messages(line))


def _known(run: RunFolder, systems: Iterable[System], kept: Reader) -> Iterator[tuple[Mark, Grade]]:
    """Yield the grades that an earlier evaluation has paid for.

    Requests that the judge refused are made again for systems that are not finished.

    Args:
        systems: those whose grades are all there.
        kept: of grades of other systems.
    """
    for mark, span in kept.new():
        yield mark, span.records()[0]
    for system in systems:
        _, *grades = read_jsonl(run.grades_file(system.name))
        by_id = {grade.pop("id"): grade for grade in grades}
        for line in _gradable(run, system):
            grade = by_id.get(line["id"], judge.NOT_GRADED)
            if "refused" not in grade:
                yield _mark(line), grade


def _new_grades(
    ask: Judge,
    lines: Iterable[Line],
    known: Mapping[Mark, Grade],
    journal: Journal,
    stop_file: Path,
) -> dict[Mark, Grade]:
    """Return the grades of those lines that have none yet, which the journal then holds.

    Raises:
        Stopped: the stop file is there.
    """
    new = {mark: line for line in lines if (mark := _mark(line)) not in known}
    found = {}
    for mark, grade in ask.grades(new):
        if "refused" not in grade:
            journal.add(mark, [grade])
        found[mark] = grade
        end_if_asked(stop_file, at_work())
    return found


def _say_not_graded(paths: Iterable[Path], most: int) -> None:
    """Tell the user how many answers have no grade.

    Args:
        most: `evaluate.judge.max_new_tokens`.
    """
    grades = [line for path in paths for line in list(read_jsonl(path))[1:]]
    num_refused = sum("refused" in grade for grade in grades)
    num_unclear = sum(grade["judged"] is None for grade in grades) - num_refused
    if num_refused:
        say(f"evaluate: the judge refused {num_refused} of {len(grades)} requests; {UNGRADED}")
    if num_unclear:
        say(
            f"evaluate: {num_unclear} of {len(grades)} replies of the judge hold no clear verdict; "
            f"{UNGRADED}"
        )
    if num_unclear > MOST_UNCLEAR * len(grades):
        warn(
            f"evaluate: the judge was clear about too few answers for `judged` to be trusted; "
            f"evaluate.judge.max_new_tokens={most} may be too low for a judge that thinks: raise "
            "it, and all answers are graded again"
        )
