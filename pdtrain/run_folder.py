"""Name every file of a run folder in one place, with a typed reader for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdtrain.files.checked_lines import read_checked_lines
from pdtrain.files.manifests import is_finished
from pdtrain.files.shapes import expect
from pdtrain.progress import warn
from pdtrain.records import (
    Answer,
    Passage,
    Question,
    RegularizationSample,
    Scores,
    check_rounds,
    table_of_scores,
)
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    misfits,
    read_checked,
    read_headed,
    read_json,
    read_shards,
    sha256_file,
)


@dataclass(frozen=True)
class RunFolder:
    """Give the path of everything that a run writes, and read it.

    Readers of stages (`passages`, `questions`, `answers`, `regularization`) yield records one by
    one, checked against their manifest's hashes. They raise ValueError where the stage has not
    finished or a shard was changed.

    Args:
        path: the folder itself, such as runs/handbook.
        has_rounds: True where the run's config asks for rounds after training (`rounds.most`).
    """

    path: Path
    has_rounds: bool = False

    # --- Files and folders ------------------------------------------------------------------

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def stop_file(self) -> Path:
        """Return the path of the file whose presence asks a run to save its work and end."""
        return self.path / "STOP"

    @property
    def deepspeed_file(self) -> Path:
        """Return the path of the settings that DeepSpeed was given."""
        return self.path / "deepspeed.json"

    @property
    def passages_folder(self) -> Path:
        return self.path / "passages"

    @property
    def questions_folder(self) -> Path:
        return self.path / "questions"

    @property
    def answers_folder(self) -> Path:
        return self.path / "answers"

    @property
    def regularization_folder(self) -> Path:
        return self.path / "retain"

    @property
    def tokens_folder(self) -> Path:
        """Return the folder of the training data as tokens, which training maps."""
        return self.path / "tokens"

    @property
    def passages_page(self) -> Path:
        """Return the path of the page that `pdtrain inspect` writes."""
        return self.path / "passages.html"

    @property
    def coverage_file(self) -> Path:
        return self.path / "coverage.json"

    @property
    def thinking_file(self) -> Path:
        """Return the path of what was found out about the base's thoughts before the run."""
        return self.path / "thinking.json"

    @property
    def teacher_folder(self) -> Path:
        return self.path / "teacher"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics_folder(self) -> Path:
        return self.path / "metrics"

    @property
    def metrics_file(self) -> Path:
        """Return the path of what training logged, one line a logged step."""
        return self.metrics_folder / "metrics.jsonl"

    @property
    def adapter(self) -> Path:
        """Return the folder of the adapter that `train` wrote, in PEFT's format.

        Rounds start from it; `best_adapter` is the one to use.
        """
        return self.path / "adapter"

    @property
    def rounds_folder(self) -> Path:
        return self.path / "rounds"

    @property
    def quiz_folder(self) -> Path:
        return self.rounds_folder / "quiz"

    @property
    def rounds_file(self) -> Path:
        return self.rounds_folder / "rounds.json"

    def round(self, number: int) -> RunFolder:
        """Return the folder of a round after training, which is laid out like a run's."""
        return RunFolder(self.rounds_folder / str(number))

    @property
    def trained_on_file(self) -> Path:
        """Return the path of the ids of the answers that a round was trained on."""
        return self.path / "trained_on.json"

    @property
    def scores_folder(self) -> Path:
        return self.path / "scores"

    @property
    def scores_file(self) -> Path:
        return self.path / "scores.json"

    @property
    def scores_by_age_file(self) -> Path:
        """Return the path of the scores on new and on old documents, after a warm start."""
        return self.path / "scores_by_age.json"

    def predictions_file(self, system: str) -> Path:
        return self.scores_folder / f"{system}.jsonl"

    def grades_file(self, system: str) -> Path:
        """Return the path of the judge's grades of a system's predictions."""
        return self.scores_folder / f"{system}.judged.jsonl"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def report_folder(self) -> Path:
        return self.path / "report"

    @property
    def report_page(self) -> Path:
        return self.path / "report.html"

    @property
    def report_table(self) -> Path:
        return self.path / "report.md"

    # --- Readers ----------------------------------------------------------------------------

    def passages(self) -> Iterator[Passage]:
        """Yield the passages in the order of the documents."""
        return map(Passage.from_json, read_shards(self.passages_folder))

    def questions(self) -> Iterator[Question]:
        """Yield the questions, passage by passage."""
        return map(Question.from_json, read_shards(self.questions_folder))

    def answers(self) -> Iterator[Answer]:
        """Yield the answers, passage by passage."""
        return map(Answer.from_json, read_shards(self.answers_folder))

    @property
    def learned_folders(self) -> list[Path]:
        """Return the folders of the answers that the adapter to use has learned.

        They are the run's own and those of the rounds up to the best one, as far as they are there.
        """
        found = self.rounds() if self.has_rounds else None
        rounds = range(1, found["best"] + 1) if found else ()
        folders = [self.answers_folder, *(self.round(i).answers_folder for i in rounds)]
        return [folder for folder in folders if is_finished(folder)]

    def learned_answers(self) -> Iterator[Answer]:
        """Yield the answers that the adapter to use has learned, of which it may recite."""
        for folder in self.learned_folders:
            yield from map(Answer.from_json, read_shards(folder))

    def regularization(self) -> Iterator[RegularizationSample]:
        """Yield the samples that hold the adapter to its base."""
        return map(RegularizationSample.from_json, read_shards(self.regularization_folder))

    def document_of_passage(self) -> dict[str, str]:
        """Return the id of the document of every passage, by the passage's id."""
        records = read_shards(self.passages_folder)
        return {record["id"]: record["document_id"] for record in records}

    @property
    def best_adapter(self) -> Path | None:
        """Return the folder of the adapter to use: that of the best round, if the run has rounds.

        None where the rounds have not finished, or started from another adapter than the one that
        is there now.
        """
        if not self.has_rounds:
            return self.adapter
        found, weights = self.rounds(), self.adapter / ADAPTER_WEIGHTS
        if found is None or not weights.exists() or sha256_file(weights) != found["adapter"]:
            return None
        return self.round(found["best"]).adapter if found["best"] else self.adapter

    def rounds(self) -> dict[str, Any] | None:
        """Return the summary of the rounds; None where they have not finished."""
        has_finished = read_checked(self.rounds_folder / "manifest.json") is not None
        if not has_finished or (found := read_checked(self.rounds_file)) is None:
            return None
        check_rounds(self.rounds_file, found)
        return found

    def metrics(self) -> list[dict[str, float]]:
        """Return what training logged, one object a logged step; empty where it logged nothing.

        Raises:
            ValueError: a line is damaged.
        """
        lines, damaged = read_checked_lines(self.metrics_file)
        if damaged:
            raise ValueError(f"{self.metrics_file}, line {damaged[0]} is damaged")
        return lines

    def whole_metrics(self) -> list[dict[str, float]]:
        """Return what training logged, without lines that are damaged, which is said.

        A bad last line, which a kill cuts short, goes without a word, for it is logged again.
        """
        lines, damaged = read_checked_lines(self.metrics_file)
        if damaged and damaged[-1] == len(lines) + len(damaged):
            damaged.pop()
        if damaged:
            warn(f"{self.metrics_file}: {len(damaged)} lines are damaged and left out")
        return lines

    def scores(self) -> Scores:
        """Return the table of the evaluation, by system and metric.

        Raises:
            ValueError: the file is missing or damaged.
        """
        self._check_table(self.scores_file)
        return table_of_scores(read_json(self.scores_file))

    def scores_by_age(self) -> dict[str, Scores]:
        """Return the table on "new" and "old" documents; empty where there was no warm start."""
        if not self.scores_by_age_file.exists():
            return {}
        self._check_table(self.scores_by_age_file)
        tables = read_json(self.scores_by_age_file)
        remedy = "run `pdtrain evaluate CONFIG` again"
        expect(self.scores_by_age_file, tables, {str: object}, remedy)
        return {age: table_of_scores(table) for age, table in tables.items()}

    def _check_table(self, path: Path) -> None:
        tables = (read_checked(self.scores_folder / "manifest.json") or {}).get("tables", {})
        if path.name in tables and misfits(self.path, {path.name: tables[path.name]}):
            raise ValueError(
                f"{path} is damaged: it is not what the evaluation wrote; run `pdtrain evaluate "
                "CONFIG` again, which makes it again from the predictions"
            )

    def predictions(self, system: str) -> list[dict[str, Any]]:
        """Return what a system answered, question by question, with its grades.

        A line has `judged` where a judge has read this very answer, and None there where it gave no
        clear verdict, which `unjudged` says as 1. The grades of an earlier adapter's answers are
        left out, and questions without gold answers are not graded.
        """
        header, *lines = read_headed(self.predictions_file(system))
        judged = self.grades_file(system)
        of, *grades = read_headed(judged) if judged.exists() else [{}]
        if of.get("of") != header["inputs"]:
            return lines
        by_id = {
            grade["id"]: {"judged": grade["judged"], "unjudged": float(grade["judged"] is None)}
            for grade in grades
        }
        return [line | by_id.get(line["id"], {}) for line in lines]

    def are_scores_stale(self, adapter: Path) -> bool:
        """Return True where the scores are of another adapter than the one in this folder."""
        manifest, weights = self.scores_folder / "manifest.json", adapter / ADAPTER_WEIGHTS
        if (found := read_checked(manifest)) is None or not weights.exists():
            return False
        return bool(found.get("adapter") != sha256_file(weights))
