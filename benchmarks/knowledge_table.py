"""Write the page of `benchmarks/knowledge.py`: scores, recovery, forgetting and differences."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import comparison
from comparison import Sample
from knowledge_plot import svg

from pdtrain.evaluation.grading.metrics import METRICS, RECOVERED
from pdtrain.evaluation.scores import markdown_table
from pdtrain.evaluation.systems import (
    BASE,
    BASE_BM25,
    SYSTEMS,
    TEACHER,
    UNRELATED_QUESTIONS,
    UNRELATED_TEXT,
    Measured,
    System,
    counterpart,
    named,
)
from pdtrain.records import Score
from pdtrain.run_folder import RunFolder

METHODS = {  # in the order in which they are trained: each takes the teacher of those before it
    "distillation": "prompt distillation",
    "reverse_kl": "prompt distillation by the reverse KL",
    "jsd": "prompt distillation by the Jensen-Shannon divergence",
    "on_policy": "prompt distillation, half of the answers by the student",
    "labels": "prompt distillation with labels",
    "held": "prompt distillation, held to its base",
    "labels_held": "prompt distillation with labels, held to its base",
    "labels_reading": "prompt distillation with labels, held to its base and to reading",
    "sft": "SFT on the same answers",
    "sampled_sft": "SFT on sampled answers alone",
    "mixed_sft": "SFT on answers of mixed tokens (MixSD)",
    "mixed": "prompt distillation on answers of mixed tokens",
    "focal_sft": "SFT on rewrites for the question (focal rewriting)",
    "focal": "prompt distillation on rewrites for the question",
    "raw_text": "raw-text training",
}
OF_SAMPLES = ("sampled_sft", "mixed_sft", "mixed", "focal_sft", "focal")  # on answers of their own
ON_REQUEST = ("reverse_kl", "jsd", "on_policy", *OF_SAMPLES)  # other ways to teach
# each beside the same, not held
HELD = {"held": "distillation", "labels_held": "labels", "labels_reading": "labels"}
Folders = dict[str, list[Path]]  # a method's runs, a seed each


@dataclass(frozen=True)
class Entry:
    """Name a line of the tables: a system in the runs of one method, or of all if it has none."""

    folders: list[Path]
    system: System

    def sample(self, metric: str) -> Sample:
        return comparison.read(self.folders, self.system.name, metric)


def page(folders: Folders, minutes: dict[str, float], command: list[str]) -> str:
    """Return the page as Markdown.

    Args:
        folders: the run folders of each method, a seed each.
        minutes: how long each stage of each run took, by "RUN STAGE".
        command: the command line that made the runs.
    """
    entries = entries_of(folders)
    num_seeds = max(map(len, folders.values()))
    n = entries[BASE.text].sample(RECOVERED[0]).values_SQ.shape[1]
    parts = [
        heading("Knowledge: ways to bring documents into a model", command),
        f"{n} held-out questions, {num_seeds} seeds. Intervals: 95 %, bootstrap over seeds and "
        "questions together; with three seeds a third of the seeds' variance is missing from them, "
        "as from any bootstrap of three. Systems without an adapter have no seed.",
        score_table(entries),
        "Recovered: (system − base) / (teacher − base).",
        "## How they answer",
        _table_of(entries, [m.name for m in METRICS.values() if m.describes == "manner"]),
        "`gain` is gold_in_answer less that of the base that reads the same. The questions of "
        "`invented` are those that the documents do not answer: it is the share that was answered "
        "all the same. `recited`: word for word a training answer, without a gold answer; "
        "`repeated`: given word for word to at least three questions.",
        "## Reading about other things",
        _reading(folders),
        "Questions about passages that have nothing to do with the documents. Of those that the "
        "passage does not answer, `invented` is the share that was answered all the same.",
        "## Forgetting",
        _forgetting(folders),
        "KL(base ‖ adapter), nats per token, and perplexity before and after.",
        "## Differences on the same questions",
        _differences(entries),
        minutes_table(minutes),
    ]
    return "\n\n".join(parts) + "\n"


def entries_of(folders: Folders) -> dict[str, Entry]:
    """Return the lines of the tables by their labels: the base's, then each method's."""
    first = next(iter(folders.values()))[:1]
    answering = answered_by(sorted({folder for runs in folders.values() for folder in runs}))
    found = {}
    for system in answering:
        if not system.with_adapter and _has_answered(first[0], system):
            found[system.text] = Entry(first, system)
    for system in answering:
        for method in reversed(METHODS):
            runs = folders.get(method, [])
            if system.with_adapter and runs and _has_answered(runs[0], system):
                found[_label(METHODS[method], system)] = Entry(runs, system)
    return found


def answered_by(folders: Iterable[Path], measured: Measured = "answers") -> list[System]:
    """Return the systems that some run has the predictions of, in the order of the table."""
    files = {file.stem for folder in folders for file in RunFolder(folder).scores_folder.glob("*")}
    systems = [system for name in files if (system := named(name))]
    order = list(SYSTEMS.values())

    def place(system: System) -> tuple[int, int]:
        one = next(s for s in order if (s.with_adapter, s.context) == _reads(system))
        return order.index(one), system.num_passages

    return sorted((s for s in systems if s.measures == measured), key=place)


def _reads(system: System) -> tuple[bool, str]:
    return system.with_adapter, system.context


def _label(method: str, system: System) -> str:
    """Return the method, and what its adapter reads first."""
    before = system.text.removeprefix(system.role)  # " + BM25, 3 passages" or ", open book"
    return method if system.context == "none" else method + before


def _has_answered(folder: Path, system: System) -> bool:
    return RunFolder(folder).predictions_file(system.name).exists()


def score_table(entries: dict[str, Entry]) -> str:
    """Return the scores of all entries, and what of the teacher's lead each recovers."""
    metrics = _metrics_of_all(entries)
    cells = [["", *metrics, *(f"recovered {metric}" for metric in RECOVERED)]]
    for label, entry in entries.items():
        samples = {metric: entry.sample(metric) for metric in metrics}
        shares = [
            comparison.recovered(
                samples[metric],
                entries[BASE.text].sample(metric),
                entries[TEACHER.text].sample(metric),
            )
            for metric in RECOVERED
        ]
        cells.append([label, *map(_mean, samples.values()), *map(cell, shares)])
    return markdown_table(cells)


def _metrics_of_all(entries: dict[str, Entry]) -> list[str]:
    """Return what rightness is measured by; a judge's grade only where it has read them all."""
    lines = [
        line
        for entry in entries.values()
        for folder in entry.folders
        for line in RunFolder(folder).predictions(entry.system.name)
    ]
    found = []
    graded = [line for line in lines if line.get("answers") != []]  # those that have an answer
    for metric in METRICS.values():
        if "answers" not in metric.measures or metric.describes != "rightness":
            continue
        if metric.name == "judged":  # None where the judge gave no clear verdict
            is_whole = all(metric.name in line for line in graded)
        else:
            is_whole = all(line.get(metric.name) is not None for line in graded)
        if graded and is_whole:
            found.append(metric.name)
    return found


def _reading(folders: Folders) -> str:
    """Return how the base and each method's adapter read passages about other things."""
    names = [m.name for m in METRICS.values() if "reading" in m.measures]
    entries = {}
    systems = answered_by([one for runs in folders.values() for one in runs], "reading")
    for system in systems:
        for method, runs in folders.items():
            if not system.with_adapter and method != next(iter(folders)):
                continue  # one base for all
            if _has_answered(runs[0], system):
                label = METHODS[method] if system.with_adapter else "base"
                entries[label] = Entry(runs if system.with_adapter else runs[:1], system)
    return _table_of(entries, names) if entries else "Not measured in these runs."


def _table_of(entries: dict[str, Entry], names: list[str]) -> str:
    """Return the metrics with these names; a column that no entry has a value of is left out."""
    samples = {(label, n): entry.sample(n) for label, entry in entries.items() for n in names}
    present = [n for n in names if not all(samples[label, n].is_empty for label in entries)]
    lines = [[label, *(_mean(samples[label, name]) for name in present)] for label in entries]
    return markdown_table([["", *present], *lines])


def _mean(sample: Sample) -> str:
    return "" if sample.is_empty else cell(comparison.mean(sample))


def plot(folders: Folders) -> str:
    """Draw the table's two most telling metrics as an SVG."""
    entries = entries_of(folders)
    panels = []
    for name in ("gold_log_likelihood", "gold_in_answer"):
        metric = METRICS[name]
        title = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
        scores = {label: comparison.mean(entry.sample(name)) for label, entry in entries.items()}
        panels.append((title, scores))
    without = {label for label, entry in entries.items() if not entry.system.with_adapter}
    return svg(panels, plain=without)


def _forgetting(folders: Folders) -> str:
    cells = [["", "text", "perplexity of text", "questions", "perplexity of answers"]]
    for method in reversed(METHODS):
        if method not in folders:
            continue
        line = [METHODS[method]]
        for system in (UNRELATED_TEXT, UNRELATED_QUESTIONS):
            entry = Entry(folders[method], system)
            before, after = (
                _perplexity(entry.sample(METRICS[name].perplexity_of))
                for name in ("base_perplexity", "adapter_perplexity")
            )
            line += [cell(comparison.mean(entry.sample("kl_to_base"))), f"{before} → {after}"]
        cells.append(line)
    return markdown_table(cells)


def _perplexity(sample: Sample) -> str:
    value = comparison.score([sample], lambda nats: float(2.718281828459045**-nats), 1).value
    return f"{value:.2f}"


def _differences(entries: dict[str, Entry]) -> str:
    pd, labels = METHODS["distillation"], METHODS["labels"]
    sft, raw, rag = METHODS["sft"], METHODS["raw_text"], BASE_BM25.text
    held = [(METHODS[name], METHODS[other]) for name, other in HELD.items()]
    ways = (pd, labels, *(label for label, _ in held))
    pairs = [(ours, other) for ours in ways for other in (sft, raw, rag)]
    pairs += [  # what an adapter that reads is worth beside the base that reads the same
        (label, base.text)
        for label, entry in entries.items()
        if entry.system.context != "none" and (base := counterpart(entry.system))
    ]
    pairs += [(METHODS[name], pd) for name in (*ON_REQUEST, "labels")]
    pairs += [*held, (METHODS["labels_reading"], METHODS["labels_held"])]
    cells = [["", *RECOVERED]]
    for label, other in pairs:
        if label in entries and other in entries:
            found = [
                comparison.difference(entries[label].sample(metric), entries[other].sample(metric))
                for metric in RECOVERED
            ]
            cells.append([f"{label} − {other}", *map(cell, found)])
    texts = [markdown_table(cells)]
    for label, other in (*held, (labels, sft)):
        if label in entries and other in entries:
            questions, text = (
                comparison.ratio(
                    Entry(entries[label].folders, system).sample("kl_to_base"),
                    Entry(entries[other].folders, system).sample("kl_to_base"),
                )
                for system in (UNRELATED_QUESTIONS, UNRELATED_TEXT)
            )
            texts.append(
                f"KL to the base, {label} / {other}: {cell(questions)} on questions, {cell(text)} "
                "on text"
            )
    return "\n\n".join(texts)


def cell(score: Score) -> str:
    if score.value != score.value:
        return "–"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def heading(title: str, command: list[str]) -> str:
    return f"# {title}\n\nCommand: `{' '.join(['python', *command])}`. {_versions()}"


def minutes_table(minutes: dict[str, float]) -> str:
    runs = list(dict.fromkeys(key.split()[0] for key in minutes))
    stages = list(dict.fromkeys(key.split()[1] for key in minutes))
    cells = [["", *stages]]
    for run in runs:
        found = [minutes.get(f"{run} {stage}") for stage in stages]
        cells.append([run, *("" if m is None else f"{m:.1f}" for m in found)])
    return f"## Minutes of each stage\n\n{markdown_table(cells)}"


def _versions() -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    return (
        f"Commit {commit or 'unknown'}, Python {platform.python_version()}, {packages}, "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )
