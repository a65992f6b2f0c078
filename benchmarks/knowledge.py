"""Compare ways to bring documents into a model, on the same questions and answers.

    python benchmarks/knowledge.py configs/quickstart.yaml --seeds 0 1 2 --out runs/knowledge

For each seed, passages, questions and answers are made once. Seven methods are trained on them,
each in a run folder of its own below --out, and evaluated closed book and with retrieval: raw-text
training, supervised fine-tuning on the answers, prompt distillation, the same with labels, both
kinds of distillation held to their base, and the one with labels held to reading as well. On
request (`--methods reverse_kl jsd on_policy`) there are three more: distillation by the reverse KL,
by the Jensen-Shannon divergence, and with half of each step's answers written by the student. Five
others (`sampled_sft mixed_sft mixed focal_sft focal`) train on sampled answers alone, without
quotes or spans: SFT on them as they are, and SFT and distillation on those that `mixed_answers.py`
and `focal_answers.py` make.

`key=value` after the config goes to every run, and `--set METHOD key=value` to one method's runs.
Settings of the data, `retain.per_topic` included, can only be set for every run. The methods with
labels take `loss.labels` from the config, or 0.5 if it has none; those that are held to their base
take `retain.weight` from it, or 0.25; `labels_reading` takes `retain.reading` from it, or 0.5, and
no other method practises reading. What is there already is not made again: the command can be
killed and repeated, and seeds can be added.

Raw text is trained on about as many tokens in all and in each step as the answers have. The table
goes to OUT/knowledge.md, with intervals over seeds and questions together, and its plot to
OUT/knowledge.svg.

With `--budgets 1000 2000 4000`, questions that were planned by coverage are compared with blind
ones instead. Both are trained on as many answer tokens as a budget says, as the config says but
not held to the base. The results go to OUT/planning.md and OUT/planning.svg.
`--set blind questions.blind=60` says how many blind questions are asked about each passage, one a
call; with `questions.blind_a_call=5 questions.sampling.max_new_tokens=256` a call asks for five, as
in the paper.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import focal_answers
import knowledge_planning
import mixed_answers
from knowledge_table import (
    HELD,
    METHODS,
    OF_SAMPLES,
    ON_REQUEST,
    heading,
    minutes_table,
    page,
    plot,
)

from pdtrain import cli
from pdtrain.config import QuestionConfig, RunConfig, load
from pdtrain.evaluation.systems import named
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.run_folder import RunFolder
from pdtrain.storage import read_json, write_atomically, write_json
from pdtrain.training import training_set

SHARED = ("passages", "questions", "answers", "retain")
NO_READING = "retain.reading=0"
ALONE = ["loss.labels=0", "retain.weight=0"]
SAMPLES_ALONE = ["answers.quote=false", "answers.spans=false"]
MIXED_SHARE = 0.2  # of the tokens of mixed answers, which come from the base without the passage
USUAL = [method for method in METHODS if method not in ON_REQUEST]
OVERRIDES = {
    "raw_text": ["train.objective=raw_text", *ALONE],
    "sft": ["train.objective=sft", *ALONE],
    "distillation": ALONE,
    "reverse_kl": [*ALONE, "loss.divergence=reverse_kl"],
    "jsd": [*ALONE, "loss.divergence=jsd"],
    "on_policy": [*ALONE, "rollout.share=0.5"],
    "sampled_sft": ["train.objective=sft", *ALONE, *SAMPLES_ALONE],
    "mixed_sft": ["train.objective=sft", *ALONE, *SAMPLES_ALONE],
    "mixed": [*ALONE, *SAMPLES_ALONE],
    "focal_sft": ["train.objective=sft", *ALONE, *SAMPLES_ALONE],
    "focal": [*ALONE, *SAMPLES_ALONE],
    "labels": ["retain.weight=0"],
    "held": ["loss.labels=0"],
    "labels_held": [],
    "labels_reading": [],
    # without a plan no sentence is known that could check an answer or be the answer
    "blind": [
        *(f"questions.{f.name}=0" for f in fields(QuestionConfig) if f.name.startswith("per_")),
        "questions.blind=60",
        "questions.blind_a_call=1",
    ],
}
# settings of the data, which are made once for all methods
OF_DATA = (
    *(f"{name}." for name in ("model", "corpus", "prompts", "questions", "answers")),
    "retain.per_topic",
    "retain.reading",
    "retain.sampling.",
)


class Bench:
    """Make the runs below one folder by the stages of the command line."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, Path(options.out)
        self.more: dict[str, list[str]] = {}
        for method, *values in options.set or []:
            if method not in OVERRIDES:
                sys.exit(f"--set {method}: expected one of {', '.join(OVERRIDES)}")
            self.more.setdefault(method, []).extend(values)
        config = load(options.config, options.overrides)
        self.labels = [f"loss.labels={config.loss.labels or 0.5}"]
        self.holding = [f"retain.weight={config.retain.weight or 0.25}"]
        self.reading = [
            f"retain.reading={config.retain.reading or 0.5}",
            *(v for v in self.more.get("labels_reading", []) if v.startswith("retain.reading=")),
        ]
        path = self.out / "minutes.json"
        self.minutes: dict[str, float] = read_json(path) if path.exists() else {}

    def arguments(self, folder: Path, seed: int, *more: str) -> list[str]:
        return [
            self.options.config,
            "train.evaluate_every_epochs=0",
            "train.log_every_steps=1",
            *self.options.overrides,
            *more,
            f"seed={seed}",
            f"out_dir={folder}",
        ]

    def stage(self, name: str, arguments: list[str]) -> None:
        run = arguments[-1].removeprefix(f"out_dir={self.out}/")
        with self.timed(f"{run} {name}"):
            if status := cli.main([name, *arguments]):
                sys.exit(status)

    @contextmanager
    def timed(self, key: str) -> Iterator[None]:
        """Keep the minutes of the run that did the work: a repeated stage does nothing.

        Args:
            key: RUN STAGE.
        """
        started = time.perf_counter()
        yield
        minutes = (time.perf_counter() - started) / 60
        self.minutes[key] = max(minutes, self.minutes.get(key, 0.0))
        write_json(self.out / "minutes.json", self.minutes)

    def folder(self, seed: int, name: str) -> Path:
        return self.out / f"seed-{seed}" / name

    def data_seed(self, seed: int) -> int:
        """Return the seed that a run's questions and answers are made with."""
        given: int | None = self.options.data_seed
        return seed if given is None else given

    def data(self, seed: int, name: str, stages: tuple[str, ...], *more: str) -> Path:
        """Make the data of one seed, which all methods share, and return their folder."""
        made_with = self.data_seed(seed)
        folder = self.folder(made_with, name)
        for stage in stages:
            self.stage(stage, self.arguments(folder, made_with, *more))
        return folder

    def trained(self, folder: Path, given: list[str]) -> Path:
        """Train and evaluate the run in a folder."""
        self.stage("train", given)
        self.share_base_predictions(folder)
        self.stage("evaluate", given)
        return folder

    def run(self, method: str, seed: int) -> Path:
        held = any(name in HELD for name in self.options.methods)
        stages, holding = (SHARED, self.holding) if held else (SHARED[:3], ["retain.weight=0"])
        data = self.data(seed, "data", stages, *holding, NO_READING)
        folder, practice = self.folder(seed, method), [NO_READING]
        if method == "labels_reading":
            data, practice = self.with_practice(data, seed), self.reading
        if method in OF_SAMPLES:
            data = self.of_samples(data, seed, method.split("_")[0])
        copy(data, folder)
        more = [*self.labels, *self.holding, *practice, *OVERRIDES[method]]
        more += self.more.get(method, [])
        given = self.arguments(folder, seed, *more)
        if method == "raw_text":
            given = self.arguments(folder, seed, *more, *self.as_many_tokens(given))
        if method in ("labels", *HELD, *ON_REQUEST) and method not in OF_SAMPLES:
            share_teacher(folder)
        return self.trained(folder, given)

    def with_practice(self, data: Path, seed: int) -> Path:
        """Return a copy of the data whose samples that hold the adapter include reading."""
        made_with = self.data_seed(seed)
        folder = self.folder(made_with, "data-reading")
        copy(data, folder, SHARED[:3])
        self.stage("retain", self.arguments(folder, made_with, *self.holding, *self.reading))
        return folder

    def of_samples(self, data: Path, seed: int, kind: str) -> Path:
        """Return a copy of the data whose answers are samples alone, without quotes or spans.

        Args:
            kind: `sampled` as the stage samples them, `mixed` or `focal`.
        """
        made_with = self.data_seed(seed)
        folder = self.folder(made_with, f"data-{kind}")
        copy(data, folder, SHARED[:2])
        given = self.arguments(folder, made_with, "retain.weight=0", NO_READING, *SAMPLES_ALONE)
        if kind == "sampled":
            self.stage("answers", [*given[:-2], "answers.checks=0", *given[-2:]])
            return folder
        config = load(given[0], given[1:])
        with self.timed(f"{folder.relative_to(self.out)} answers"):
            if kind == "mixed":
                mixed_answers.collect(config, MIXED_SHARE)
            else:
                focal_answers.collect(config)
        return folder

    def planned(self, plan: str, budget: int, seed: int) -> Path:
        """Train one plan's questions on a budget of answer tokens, and return the run's folder."""
        is_blind = plan == "blind"
        asked = [*OVERRIDES["blind"], *self.more.get("blind", [])] if is_blind else []
        more = ["retain.weight=0", *asked]
        data = self.data(seed, "blind-data" if is_blind else "data", SHARED[:3], *more)
        folder = self.folder(seed, f"{plan}-{budget}")
        copy(data, folder)
        given = self.arguments(folder, seed, *more, f"train.answer_tokens={budget}")
        tokens = sum(_tokens(load(given[0], [*given[1:], "train.answer_tokens=0"])))
        if tokens < budget:
            sys.exit(f"{data} has {tokens} answer tokens, {budget} are wanted: lower --budgets")
        return self.trained(folder, given)

    def as_many_tokens(self, given: list[str]) -> list[str]:
        """Return settings by which raw text is trained on about as many tokens as the answers."""
        raw = load(given[0], given[1:])
        answers = load(given[0], [g for g in given[1:] if not g.startswith("train.objective=")])
        windows = _tokens(raw)
        spoken = _tokens(answers)
        epochs = answers.train.epochs * sum(spoken) / sum(windows)
        a_step = answers.train.answers_per_step * (sum(spoken) / len(spoken))
        per_step = max(1, round(a_step / (sum(windows) / len(windows))))
        return [
            f"train.epochs={max(1, round(epochs))}",
            f"train.answers_per_step={per_step}",
            f"train.answers_per_micro_batch={per_step}",
        ]

    def share_base_predictions(self, folder: Path) -> None:
        """Copy what other runs have of the systems without an adapter, which are the same.

        The evaluation checks that each file was made from the inputs that it should be.
        """
        run = RunFolder(folder)
        written = {file.stem for file in self.out.glob("seed-*/*/scores/*.jsonl")}
        systems = [name for name in written if (one := named(name)) and not one.with_adapter]
        places = [run.predictions_file(name) for name in systems]
        places += [run.grades_file(name) for name in systems]
        for target in places:
            found = sorted(self.out.glob(f"seed-*/*/{target.relative_to(folder)}"))
            if found and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found[0], target)


def share_teacher(folder: Path) -> None:
    """Copy the teacher's cached distributions from another method's run on the same answers."""
    # the fullest first
    for method in ("labels_reading", "labels_held", "held", "labels", "distillation"):
        source = folder.parent / method / "teacher"
        if source.exists() and not (folder / "teacher").exists():
            shutil.copytree(source, folder / "teacher")


def copy(data: Path, folder: Path, stages: tuple[str, ...] = SHARED) -> None:
    for name in stages:
        if (data / name).exists():
            shutil.copytree(data / name, folder / name, dirs_exist_ok=True)


def _tokens(config: RunConfig) -> list[int]:
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    return [len(example.answer) for example in training_set.chosen_examples(config, chat, None)]


def parser_of(description: str | None, out: str) -> argparse.ArgumentParser:
    """Return a parser of what every comparison of runs takes.

    Args:
        description: the script's docstring.
        out: the default of --out.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="YAML of a run, with evaluate.questions")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", default=out)
    return parser


def read_config(parser: argparse.ArgumentParser, options: argparse.Namespace) -> RunConfig:
    """Return the config that every run begins with; it must name held-out questions."""
    config = load(options.config, options.overrides)
    if not config.evaluate.questions:
        parser.error("the config names no held-out questions: give evaluate.questions=FILE")
    return config


def main() -> None:
    parser = parser_of(__doc__, "runs/knowledge")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=USUAL)
    parser.add_argument(
        "--data-seed", type=int, help="seed of one set of questions and answers for all runs"
    )
    parser.add_argument(
        "--set", nargs="+", action="append", metavar=("METHOD", "key=value"), help="for one method"
    )
    parser.add_argument(
        "--budgets", type=int, nargs="+", help="numbers of answer tokens, to compare plans"
    )
    options = parser.parse_intermixed_args()
    cli._prepare_environment()
    read_config(parser, options)
    is_blind = sum(method == "blind" for method, *_ in options.set or [])
    if options.budgets and (options.methods != USUAL or len(options.set or []) > is_blind):
        parser.error("with --budgets both plans are trained alike: only --set blind is taken")
    if is_blind and not options.budgets:
        parser.error("--set blind needs --budgets")
    for method, *values in options.set or []:
        own = ("retain.reading=",) if method == "labels_reading" else ()
        shared = [v for v in values if method != "blind" and not v.startswith(own)]
        if of_data := [v for v in shared if v.startswith(OF_DATA)]:
            parser.error(
                f"--set {method} {of_data[0]}: all methods have the same data; give it after the "
                "config, for every run"
            )
    bench = Bench(options)
    if options.budgets:
        runs = {
            (plan, budget): [bench.planned(plan, budget, seed) for seed in options.seeds]
            for plan in knowledge_planning.PLANS
            for budget in options.budgets
        }
        top = heading("Questions planned by coverage and blind ones", sys.argv)
        text = f"{knowledge_planning.page(runs, top)}\n\n{minutes_table(bench.minutes)}\n"
        write_atomically(bench.out / "planning.md", text)
        write_atomically(bench.out / "planning.svg", knowledge_planning.svg(runs))
        print(text)
        return
    folders = {
        method: [bench.run(method, seed) for seed in options.seeds]
        for method in METHODS
        if method in options.methods
    }
    text = page(folders, bench.minutes, sys.argv)
    write_atomically(bench.out / "knowledge.md", text)
    write_atomically(bench.out / "knowledge.svg", plot(folders))
    print(text)


if __name__ == "__main__":
    main()
