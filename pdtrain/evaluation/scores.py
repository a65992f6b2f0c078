"""Summarise predictions as scores, and print scores as tables in Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.grading import manner
from pdtrain.evaluation.grading.metrics import (
    METRICS,
    RECOVERED,
    answer_metrics,
    forgetting_metrics,
    recovered,
    summarise,
    summarise_all,
)
from pdtrain.evaluation.systems import Measured, System, counterpart, named
from pdtrain.records import Score, Scores, seed_for
from pdtrain.run_folder import RunFolder

READ_WORSE = (
    "retain.weight, retain.reading and retain.per_step hold an adapter to reading as its base "
    "does, the higher they are the more: docs/evaluation.md"
)


def recitals(run: RunFolder, systems: Iterable[System]) -> set[manner.Mark] | None:
    """Return which of the systems' answers are training answers; None where there are no such.

    The training answers, of which there may be millions, are read once for all systems.
    """
    if not run.learned_folders:
        return None
    answering = [system for system in systems if system.measures != "forgetting"]
    among = {m for one in answering for m in manner.recitable(run.predictions(one.name))}
    return manner.learned(among, (answer.text for answer in run.learned_answers()))


def summarise_system(
    config: RunConfig,
    system: System,
    known: Set[manner.Mark] | None,
    among: Set[str] | None = None,
) -> dict[str, Score]:
    """Return the metrics of a system whose predictions are written.

    A metric that no line has a value of is left out, such as `gain` of a system without an adapter.

    Args:
        known: what `recitals` returned.
        among: ids of the questions that count; all of them by default.
    """
    lines = config.run.predictions(system.name)
    if system.measures != "forgetting":
        lines = with_manner(config.run, system, lines, known)
    if among is not None:
        lines = [line for line in lines if line["id"] in among]
    num_samples = config.evaluate.bootstrap_samples
    if system.measures == "forgetting":
        return forgetting_scores(lines, num_samples, config.seed)
    names = [metric.name for metric in answer_metrics(config.evaluate, system.measures)]
    columns = {n: [float(v) for line in lines if (v := line.get(n)) is not None] for n in names}
    measured = {name: values for name, values in columns.items() if values}
    return summarise_all(measured, num_samples, config.seed)


def with_manner(
    run: RunFolder,
    system: System,
    lines: list[dict[str, Any]],
    known: Set[manner.Mark] | None,
) -> list[dict[str, Any]]:
    """Return the lines of predictions with `repeated`, `recited` and `gain`.

    These need other lines, the training answers, or the predictions of the base that reads the
    same; where a run lacks them, the metric is left out.

    Args:
        known: what `recitals` returned.
    """
    added: dict[str, Sequence[float | None]] = {"repeated": manner.repeated(lines)}
    if known is not None:
        added["recited"] = manner.recited(lines, known)
    base = counterpart(system)
    if base and run.predictions_file(base.name).exists():
        added["gain"] = manner.gains(lines, run.predictions(base.name))
    return [
        line | {name: values[i] for name, values in added.items()} for i, line in enumerate(lines)
    ]


def cut_short(run: RunFolder, most: int) -> str:
    """Return a sentence on training answers that are longer than an answer may be here, or "".

    Args:
        most: `evaluate.max_new_tokens`.
    """
    lengths = Counter(len(answer.token_ids) for answer in run.learned_answers())
    longer = sum(count for length, count in lengths.items() if length > most)
    if not longer:
        return ""
    return (
        f"{longer} of {lengths.total()} training answers have more than "
        f"evaluate.max_new_tokens={most} tokens: an adapter that gives them is cut off and counts "
        f"as not finished. evaluate.max_new_tokens={max(lengths)} lets it end them"
    )


def forgetting_scores(
    lines: Sequence[dict[str, Any]], num_samples: int, seed: int
) -> dict[str, Score]:
    """Return the metrics of forgetting: means over all tokens, with intervals over texts.

    Args:
        lines: what `forgetting.compare` returned, one line a text.
        num_samples: bootstrap samples.
    """
    weights = [line["num_tokens"] for line in lines]

    def mean(name: str) -> Score:
        values = [line[name] for line in lines]
        return summarise(values, num_samples, seed_for(seed, name), weights)

    def perplexity(name: str) -> Score:
        found = mean(name)
        return Score(math.exp(-found.value), math.exp(-found.high), math.exp(-found.low), found.n)

    return {
        metric.name: perplexity(metric.perplexity_of) if metric.perplexity_of else mean(metric.name)
        for metric in forgetting_metrics()
    }


def as_json(table: Scores) -> dict[str, dict[str, dict[str, float]]]:
    """Return a table as it stands in `scores.json`."""
    return {
        system: {metric: asdict(found) for metric, found in scores.items()}
        for system, scores in table.items()
    }


def measuring(table: Scores, measured: Measured) -> Scores:
    """Return the systems of a table that measure answers, reading, or forgetting."""
    return {
        name: scores
        for name, scores in table.items()
        if (system.measures if (system := named(name)) else "answers") == measured
    }


def table_text(table: Scores) -> str:
    """Return the whole result with 95 % intervals, and what share of the teacher was recovered."""
    shares = [(metric, recovered(table, metric)) for metric in RECOVERED]
    lines = [
        f"recovered {metric}, (adapter - base) / (teacher - base): "
        + (f"{share:.2f}" if share is not None else "undefined, the teacher is no better")
        for metric, share in shares
    ]
    answered = measuring(table, "answers")
    parts = [_table(_of(answered, "rightness"), "system"), "\n".join(lines)]
    parts += [f"{system}: {text}" for system, text in harm(table).items()]
    parts += [f"{system} {text}" for system, texts in faults(table).items() for text in texts]
    parts.append(_table(_of(answered, "manner"), "how it answers"))
    if reading := measuring(table, "reading"):
        parts.append(_table(reading, "reading about other things"))
    if unrelated := measuring(table, "forgetting"):
        parts += [_table(unrelated, "forgetting"), f"kl_to_base: {METRICS['kl_to_base'].text}"]
    return "\n\n".join(part for part in parts if part)


def harm(table: Scores) -> dict[str, str]:
    """Return a sentence for each system whose adapter answers worse than the base, by system.

    Worse means that the whole interval of `gain` lies below 0.
    """
    return {
        name: f"worse than the base that reads the same, by {-gain.value:.3f} of gold_in_answer "
        f"[{-gain.high:.3f}, {-gain.low:.3f}]"
        for name, scores in table.items()
        if (gain := scores.get("gain")) and gain.high < 0
    }


def faults(table: Scores) -> dict[str, list[str]]:
    """Return sentences on how an adapter answers in a worse manner than its base, by system.

    Both read the same. Worse means that the two intervals lie apart, which is stricter than an
    interval of the difference.
    """
    found: dict[str, list[str]] = {}
    for name, scores in table.items():
        system = named(name)
        base = counterpart(system) if system else None
        of_base = table.get(base.name, {}) if base else {}
        for metric in METRICS.values():
            ours, theirs = scores.get(metric.name), of_base.get(metric.name)
            if not metric.fault or not ours or not theirs:
                continue
            worse, better = (ours, theirs) if metric.more_is_better else (theirs, ours)
            if worse.high < better.low:
                text = f"{metric.fault} than the base that reads the same: {metric.name} "
                found.setdefault(name, []).append(f"{text}{_cell(ours)} against {_cell(theirs)}")
    return found


def advice(table: Scores) -> str:
    """Return what helps an adapter that reads worse than its base; empty where none does."""
    worse = map(named, [*harm(table), *faults(table)])
    return READ_WORSE if any(system and system.context != "none" for system in worse) else ""


def _of(table: Scores, describes: str) -> Scores:
    """Return the metrics that describe this; those of an older version count as rightness."""
    return {
        system: {
            name: score
            for name, score in scores.items()
            if (METRICS[name].describes if name in METRICS else "rightness") == describes
        }
        for system, scores in table.items()
    }


def ages_text(by_age: Mapping[str, Scores]) -> str:
    """Return a table with each system on new documents and on old ones, one below the other."""
    table = {
        f"{system}, {age}": by_age[age][system]
        for system in dict.fromkeys(system for found in by_age.values() for system in found)
        for age in by_age
        if system in by_age[age]
    }
    return _table(_of(table, "rightness"), "system, documents")


def _table(table: Scores, head: str) -> str:
    present = {metric for scores in table.values() for metric in scores}
    metrics = [name for name in METRICS if name in present]
    metrics += sorted(present - {*metrics})  # of an older version
    if not metrics:
        return ""
    cells = [[head, *metrics, "n"]]
    for system, scores in table.items():
        values = [_cell(scores.get(metric)) for metric in metrics]
        cells.append([system, *values, str(max((score.n for score in scores.values()), default=0))])
    return markdown_table(cells)


def _cell(s: Score | None) -> str:
    return f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" if s else ""


def markdown_table(cells: list[list[str]]) -> str:
    """Return a Markdown table whose columns are aligned, so that it reads well as plain text.

    Args:
        cells: the lines of the table, all equally long; the first one holds the headings.
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in cells]
    rule = ["-" * width for width in widths]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])
