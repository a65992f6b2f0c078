"""Count how questions and answers cover the passages, by sentence and by kind.

`coverage.json` in the run folder has the counts of every passage, and no text. Of a large corpus it
has those of the passages that are covered least, for nobody could read or load the others.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pdtrain.files.manifests import is_finished, manifest_of
from pdtrain.files.shapes import misplaced
from pdtrain.files.spans import NOWHERE, Index, Stored
from pdtrain.progress import say
from pdtrain.run_folder import RunFolder
from pdtrain.stage import output_hash
from pdtrain.storage import read_checked, read_shards, write_checked

STAGES = ("questions", "answers")
ANEW = "delete the folder {} of the run and run `pdtrain run CONFIG` again"
NOT_THERE = "which its passage does not have; run `pdtrain run CONFIG` again"
# what is counted of the records: whoever made a run folder wrote them
PASSAGE = {"id": str, "document_id": str, "title": str, "text": str, "sentences": [[int]]}
QUESTION = {"id": str, "passage_id": str, "kind": str, "sentence": int}
ANSWER = {"passage_id": str, "question_id": str}
MOST_PASSAGES = 10_000  # that `coverage.json` has


@dataclass
class Counts:
    """Count the questions, or the answers, of one passage: about each sentence, of each kind."""

    per_sentence: list[int]
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, question: dict[str, Any]) -> None:
        """Count one question, or an answer to it."""
        self.kinds[question["kind"]] += 1
        if question["sentence"] >= len(self.per_sentence):
            raise ValueError(f"a question is about sentence {question['sentence']}, {NOT_THERE}")
        if question["sentence"] >= 0:
            self.per_sentence[question["sentence"]] += 1


@dataclass
class PassageCoverage:
    """Hold the counts of one passage, and its sentences for those who show them."""

    passage_id: str
    document: str
    title: str
    sentences: list[str]
    questions: Counts
    answers: Counts

    def to_json(self) -> dict[str, Any]:
        """Return the counts, without any text."""
        return {
            "passage": self.passage_id,
            "document": self.document,
            "sentences": len(self.sentences),
            "questions": dict(self.questions.kinds),
            "answers": dict(self.answers.kinds),
            "questions_per_sentence": self.questions.per_sentence,
            "answers_per_sentence": self.answers.per_sentence,
        }


def measure(
    passages: Iterable[dict[str, Any]],
    questions: Iterable[dict[str, Any]],
    answers: Iterable[dict[str, Any]],
) -> list[PassageCoverage]:
    """Count the records of the three stages passage by passage, in the order of the passages.

    Records of an earlier corpus, whose stage was not run again, are left out.
    """
    found: dict[str, PassageCoverage] = {}
    for record in passages:
        _check("passages", record, PASSAGE)
        if any(len(span) != 2 for span in record["sentences"]):
            raise ValueError(f"passages: a sentence has no two ends; {ANEW.format('passages')}")
        sentences = [record["text"][start:end] for start, end in record["sentences"]]
        counts = (Counts([0] * len(sentences)) for _ in STAGES)
        found[record["id"]] = PassageCoverage(
            record["id"], record["document_id"], record["title"], sentences, *counts
        )
    about: dict[str, dict[str, Any]] = {}  # of a question: what its answers count towards
    for record in questions:
        _check("questions", record, QUESTION)
        if record["passage_id"] in found:
            about[record["id"]] = {"kind": record["kind"], "sentence": record["sentence"]}
            found[record["passage_id"]].questions.add(record)
    for record in answers:
        _check("answers", record, ANSWER)
        if record["passage_id"] in found and record["question_id"] in about:
            found[record["passage_id"]].answers.add(about[record["question_id"]])
    return list(found.values())


def _check(stage: str, record: dict[str, Any], shape: Any) -> None:
    if (place := misplaced(record, shape)) is not None:
        raise ValueError(
            f"{stage}: {place or 'a record'} has another form than pdtrain writes; "
            f"{ANEW.format(stage)}"
        )


def read(run: RunFolder, stages: Iterable[str] = STAGES) -> list[PassageCoverage]:
    """Count a run's finished stages; a stage that has not finished counts nothing."""
    folders = {"questions": run.questions_folder, "answers": run.answers_folder}
    done = [name for name in stages if is_finished(folders[name])]
    records = (read_shards(folders[name]) if name in done else () for name in STAGES)
    return measure(read_shards(run.passages_folder), *records)


def report(run: RunFolder, stage: str) -> None:
    """Write `coverage.json` at the end of a stage, and say it in one line.

    Nothing happens where the file is about the same output already. After `questions` the answers
    of an earlier run are not counted.
    """
    stages = STAGES[: STAGES.index(stage) + 1]
    names = ("passages", *stages)
    of = {name: output_hash(run.path / name) for name in names}
    path = run.coverage_file
    known = (read_checked(path) or {}).get("of", {})
    if {name: known.get(name) for name in names} == of:
        return
    num_passages = (manifest_of(run.passages_folder) or {}).get("num_records", 0)
    if num_passages > MOST_PASSAGES:
        tally = Tally.of_run(run, stages)
        passages, said = list(tally.least_covered(run, stage, MOST_PASSAGES)), tally.line(stage)
    else:
        found = read(run, stages)
        passages = [passage.to_json() for passage in found]
        said = line(found, lambda passage: getattr(passage, stage))
    write_checked(path, {"of": of, "passages": passages})
    say(f"{stage}: {said}")


def line(found: Iterable[PassageCoverage], of: Callable[[PassageCoverage], Counts]) -> str:
    """Return one line about all passages.

    For example "24 about 3 sentences: 8.0 a sentence (least 2), 0 sentences without; by kind: …".
    """
    counts = [of(passage) for passage in found]
    per_sentence = [n for one in counts for n in one.per_sentence]
    return _line(per_sentence, sum((one.kinds for one in counts), Counter()))


def _line(per_sentence: Sequence[int], kinds: Counter[str]) -> str:
    total = sum(per_sentence)
    whole = kinds.total() - total
    parts = [
        f"{total} about {len(per_sentence)} sentences: "
        f"{total / max(len(per_sentence), 1):.1f} a sentence "
        f"(least {min(per_sentence, default=0)}), {per_sentence.count(0)} sentences without"
    ]
    parts += [f"{whole} about whole passages"] if whole else []
    parts += ["by kind: " + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())]
    return "; ".join(parts)


class Tally:
    """Count as `measure` does, in eight bytes a sentence and some tens a passage.

    Args:
        passages: their records.
    """

    def __init__(self, passages: Iterable[dict[str, Any]]) -> None:
        self._ids, self._ends = Index(), array("q", [0])  # of each passage's sentences among all
        for record in passages:
            _check("passages", record, PASSAGE)
            self._ids.add(record["id"])
            self._ends.append(self._ends[-1] + len(record["sentences"]))
        self._per_sentence = {stage: array("I", [0]) * self._ends[-1] for stage in STAGES}
        # by kind, of each passage
        self._kinds: dict[str, dict[str, array[int]]] = {stage: {} for stage in STAGES}

    @classmethod
    def of_run(cls, run: RunFolder, stages: Sequence[str]) -> Tally:
        """Count the records of a run's stages; a stage that has not finished counts nothing."""
        tally = cls(read_shards(run.passages_folder))
        if "questions" not in stages or not is_finished(run.questions_folder):
            return tally
        for record in read_shards(run.questions_folder):
            _check("questions", record, QUESTION)
            tally.add("questions", record)
        if "answers" in stages and is_finished(run.answers_folder):
            asked = Stored(run.questions_folder, _passage_of, lambda records: records)
            for passage_id, answers in groupby(read_shards(run.answers_folder), _passage_of):
                about = {one["id"]: one for one in asked.get(passage_id, ())}
                for answer in answers:
                    _check("answers", answer, ANSWER)
                    if answer["question_id"] in about:
                        tally.add("answers", about[answer["question_id"]])
        return tally

    def add(self, stage: str, question: dict[str, Any]) -> None:
        """Count a question, or an answer to it; not where its passage is of an earlier corpus."""
        number = self._ids.find(question["passage_id"])
        if number == NOWHERE:
            return
        kinds = self._kinds[stage]
        if question["kind"] not in kinds:
            kinds[question["kind"]] = array("I", [0]) * self._ids.num_added
        kinds[question["kind"]][number] += 1
        if question["sentence"] >= 0:
            place = self._ends[number] + question["sentence"]
            if place >= self._ends[number + 1]:
                raise ValueError(
                    f"a question is about sentence {question['sentence']}, {NOT_THERE}"
                )
            self._per_sentence[stage][place] += 1

    def line(self, stage: str) -> str:
        """Return one line about all passages, as the function `line` does."""
        kinds = Counter({kind: sum(counts) for kind, counts in self._kinds[stage].items()})
        return _line(self._per_sentence[stage], kinds)

    def least_covered(self, run: RunFolder, stage: str, most: int) -> Iterator[dict[str, Any]]:
        """Yield the counts of the passages whose least covered sentence is covered least.

        They come in the order of the corpus, as `PassageCoverage.to_json` gives them.
        """
        own = (i for i in range(self._ids.num_added) if i not in self._ids.repeated)
        chosen = set(
            heapq.nsmallest(most, own, key=lambda i: min(self._counts(stage, i), default=0))
        )
        for number, record in enumerate(read_shards(run.passages_folder)):
            if number in chosen:
                yield {
                    "passage": record["id"],
                    "document": record["document_id"],
                    "sentences": len(record["sentences"]),
                    **{name: self._kinds_of(name, number) for name in STAGES},
                    **{f"{name}_per_sentence": self._counts(name, number) for name in STAGES},
                }

    def _counts(self, stage: str, number: int) -> list[int]:
        return list(self._per_sentence[stage][self._ends[number] : self._ends[number + 1]])

    def _kinds_of(self, stage: str, number: int) -> dict[str, int]:
        kinds = self._kinds[stage].items()
        return {kind: counts[number] for kind, counts in kinds if counts[number]}


def _passage_of(record: dict[str, Any]) -> str:
    return str(record.get("passage_id"))
