"""Score the adapter on held-out questions, beside its base, its teacher and retrieval."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pdtrain.config import RunConfig
from pdtrain.evaluation.ages import write_scores_by_age
from pdtrain.evaluation.batches import FOLDER
from pdtrain.evaluation.examination import Examination, is_of, system_keys
from pdtrain.evaluation.grading.grades import judge_inputs, write_grades
from pdtrain.evaluation.scores import (
    advice,
    as_json,
    cut_short,
    faults,
    harm,
    measuring,
    recitals,
    summarise_system,
)
from pdtrain.evaluation.systems import System
from pdtrain.files.durable import remove
from pdtrain.files.manifests import manifest_of
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.adapter import trained
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.processes.shares import ALONE, Share
from pdtrain.progress import say
from pdtrain.records import Scores, TestQuestion
from pdtrain.run_folder import RunFolder
from pdtrain.stage import is_current, mark_finished, output_hash, say_current
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    hash_json,
    misfits,
    read_json,
    sha256_file,
    sums,
    warn_of_damage,
    write_json,
)
from pdtrain.synthesis.held_out import read_questions

SYSTEMS_FILE = f"{FOLDER}/systems.json"  # those that an evaluation which has not ended asks


def score(config: RunConfig, share: Share = ALONE) -> None:
    """Run the `evaluate` stage: write every system's predictions, then `scores.json`.

    A system answers again only when something that decides its answers has changed, so that those
    without the adapter outlive another training. Where the config names no held-out questions, the
    stage is skipped, and says so.

    Args:
        share: this process's part of what is asked. The first one does all the rest.

    Raises:
        ValueError: there is no trained adapter, or the file of questions cannot be read.
    """
    if not config.evaluate.questions:
        say("evaluate: skipped, evaluate.questions names no held-out questions")
        return
    run = config.run
    questions = read_questions(config.evaluate.questions, config.evaluate.limit)
    keys = system_keys(config)
    if not share.leads:
        _take_part(config, questions, keys, share)
        return
    adapter = trained(config)
    warm_start = _learned_since_warm_start(config)
    inputs = _inputs(config, keys, warm_start)
    wanted = [run.scores_file, *([run.scores_by_age_file] if warm_start else [])]
    whole = all(path.exists() for path in wanted) and not _misfits(run)
    if is_current(run.scores_folder, inputs) and whole:
        say_current("evaluate", run.scores_folder)
        return
    if asked := _to_be_asked(run, keys):
        by_name = {system.name: key for system, key in asked.items()}
        share.tell(run.scores_folder / SYSTEMS_FILE, {"systems": by_name})
        Examination(config, questions, share).write(asked)
    if config.evaluate.judge.url:
        write_grades(config, {s: key for s, key in keys.items() if s.measures == "answers"})
    known = recitals(run, keys)
    table = {system.name: summarise_system(config, system, known) for system in keys}
    write_json(run.scores_file, as_json(table))
    if warm_start:
        write_scores_by_age(config, questions, warm_start, known)
    else:  # a table of an adapter that was here before
        remove(run.scores_by_age_file)
    shutil.rmtree(run.scores_folder / FOLDER, ignore_errors=True)
    mark_finished(
        run.scores_folder,
        inputs,
        sorted(path.name for path in run.scores_folder.glob("*.jsonl") if path.is_file()),
        tables=sums(run.path, [path.name for path in wanted]),
        adapter=sha256_file(adapter / ADAPTER_WEIGHTS),
    )
    _say_scores(table)
    if text := cut_short(run, config.evaluate.max_new_tokens):
        say(f"evaluate: {text}")


def _to_be_asked(run: RunFolder, keys: Mapping[System, str]) -> dict[System, str]:
    """Return the systems to be asked: those whose predictions are missing, or are of other inputs.

    Which batches there are depends on who is asked. So an evaluation that was killed while it wrote
    the predictions asks all that it had begun with, which costs nothing any more.
    """
    missing = {s: key for s, key in keys.items() if not is_of(run.predictions_file(s.name), key)}
    path, begun = run.scores_folder / SYSTEMS_FILE, {}
    with suppress(OSError, ValueError):  # it is not there, or a loss of power came before its end
        begun = read_json(path)["systems"]
    again = {s: key for s, key in keys.items() if begun.get(s.name) == key}
    is_same = len(again) == len(begun) and missing.keys() <= again.keys()
    return again if missing and is_same else missing


def _take_part(
    config: RunConfig,
    questions: Sequence[TestQuestion],
    keys: Mapping[System, str],
    share: Share,
) -> None:
    """Do a share of the asking that the first process says is to be done, if there is any."""
    if told := share.hear(config.run.scores_folder / SYSTEMS_FILE):
        asked = {system: key for system, key in keys.items() if system.name in told["systems"]}
        Examination(config, questions, share).write(asked)


def _misfits(run: RunFolder) -> bool:
    """Tell whether a table of scores is not what the evaluation wrote, which is said."""
    tables = (manifest_of(run.scores_folder) or {}).get("tables", {})
    found = misfits(run.path, tables)
    for name, fault in found.items():
        warn_of_damage(run.path / name, fault, "it is made again from the predictions")
    return bool(found)


def _inputs(
    config: RunConfig, keys: Mapping[System, str], warm_start: LearnedPassages | None
) -> str:
    by_name = {system.name: key for system, key in keys.items()}
    new = [warm_start.new, warm_start.documents] if warm_start else []
    known = [output_hash(folder) for folder in config.run.learned_folders]  # what may be recited
    return hash_json([by_name, config.hash_for("evaluate"), known, *judge_inputs(config), *new])


def _learned_since_warm_start(config: RunConfig) -> LearnedPassages | None:
    """Return what the adapter has learned if its training started from another one, else None.

    Rounds learn no further passages, so the record of the adapter before them holds for theirs.
    """
    learned = learned_passages.read(config.run.adapter)
    return learned if learned and learned.started_from else None


def _say_scores(table: Scores) -> None:
    gold = [
        f"{system} {scores['gold_in_answer'].value:.3f}"
        for system, scores in measuring(table, "answers").items()
    ]
    distances = [
        f"{system} {scores['kl_to_base'].value:.4f}"
        for system, scores in measuring(table, "forgetting").items()
    ]
    say(f"evaluate: gold_in_answer {', '.join(gold)}")
    say(f"evaluate: nats per token between base and adapter: {', '.join(distances)}")
    for system, text in harm(table).items():
        say(f"evaluate: {system} is {text}")
    for system, texts in faults(table).items():
        for text in texts:
            say(f"evaluate: {system} {text}")
    if text := advice(table):
        say(f"evaluate: {text}")
