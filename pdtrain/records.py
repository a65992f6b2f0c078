"""Define the records of the data sets: frozen, each with an id made of content and parent."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Self

from pdtrain.files.shapes import ROUNDS, expect


def content_id(*parts: object) -> str:
    """Return 64 bits of SHA-256 over the parts, in hexadecimal; the same on every machine."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def rng_for(seed: int, *names: object) -> random.Random:
    """Return a generator of random numbers for a named use, such as `"questions", passage.id`.

    It is the same on every machine, and does not depend on what else was drawn before.
    """
    return random.Random(seed_for(seed, *names))


def seed_for(seed: int, *names: object) -> int:
    """Return a 63-bit seed for a named use, so that a new use changes no other one's numbers."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


PLAIN = {"str": str, "str | None": str, "int": int, "bool": bool, "bool | None": bool}


class Record:
    """Turn a record into a JSON object and back."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as one JSON object."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the record of a JSON object; unknown keys, such as of later versions, are ignored.

        Raises:
            ValueError: a key is missing, or a value is of another kind.
        """
        known = fields(cls)  # type: ignore[arg-type]
        required = [f.name for f in known if f.default is f.default_factory is MISSING]
        if missing := [name for name in required if name not in found]:
            raise ValueError(
                f"a {cls.__name__} without {', '.join(missing)}: not written by pdtrain"
            )
        values = {f.name: found[f.name] for f in known if f.name in found}
        for name, value in values.items():
            if not _fits(value, cls.__annotations__[name]):
                raise ValueError(
                    f"a {cls.__name__} whose {name} is no {cls.__annotations__[name]}: not written "
                    "by pdtrain; delete the folder of that stage, and run it again"
                )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _fits(value: Any, kind: str) -> bool:
    """Tell whether a JSON value is of a field's kind; whoever wrote the file may have lied."""
    if kind in PLAIN:
        return type(value) is PLAIN[kind]
    if not isinstance(value, list | tuple):
        return not kind.startswith("tuple")
    if kind == "tuple[int, ...]":  # of token ids, which become 32-bit numbers
        return not value or ({*map(type, value)} == {int} and 0 <= min(value) <= max(value) < 2**31)
    if kind == "tuple[str, ...]":
        return {*map(type, value)} <= {str}
    return all(isinstance(one, list | tuple) and {*map(type, one)} == {int} for one in value)


@dataclass(frozen=True, slots=True)
class Passage(Record):
    """Hold a piece of a document, of whole sentences, that the teacher may read."""

    id: str
    document_id: str  # path below the corpus folder, with the record's id or number in a data set
    title: str
    text: str
    start: int  # characters into the document's plain text
    end: int
    num_tokens: int
    sentences: tuple[tuple[int, int], ...]  # character spans within `text`
    section: tuple[str, ...] = ()  # the headings that it stands under and does not hold
    # what requests about all of it call it; None for its subject, empty where nothing tells it from
    # other passages
    topic: str | None = None

    @property
    def heading(self) -> str:
        """Return the title, if there is one, followed by the section's headings."""
        return ": ".join(part for part in (self.title, *self.section) if part)

    def to_json(self) -> dict[str, Any]:
        """Return the passage as one JSON object, without a section or topic if there is none."""
        found = asdict(self)
        if not self.section:
            del found["section"]
        if self.topic is None:
            del found["topic"]
        return found


UNSAID = "unsaid"  # the kind of questions that no document answers; their answers say just that


@dataclass(frozen=True, slots=True)
class Question(Record):
    """Hold a question about a passage, or about two."""

    id: str  # hash of its content and of its passage's id
    passage_id: str
    text: str
    kind: str  # which prompt asked it
    sentence: int  # index of the sentence it was asked about, or -1 for the whole passage
    phrase: str = ""  # words of the sentence that the answer should hold; empty for any
    other_passage_id: str = ""  # a second passage that the teacher must read; empty for none

    def to_json(self) -> dict[str, Any]:
        """Return the question as one JSON object, without the second passage if there is none."""
        found = asdict(self)
        if not self.other_passage_id:
            del found["other_passage_id"]
        return found


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """Hold an answer to a question.

    `token_ids` are the ids that were sampled, with the end-of-turn token if it was sampled. Those
    of a quoted answer are the ids of its passage's sentence and the end-of-turn token.
    """

    id: str
    question_id: str
    passage_id: str
    text: str
    token_ids: tuple[int, ...]
    finished: bool  # False where the limit of tokens ended the answer, not the teacher
    # True where the base says about the same without the passage; None where it was not asked
    known: bool | None = None
    # False where it stands in for answers that were dropped, so that nothing says that it fits its
    # question
    checked: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the answer as one JSON object, without what is not known of it."""
        found = asdict(self)
        if self.known is None:
            del found["known"]
        if self.checked:
            del found["checked"]
        return found


@dataclass(frozen=True, slots=True)
class RegularizationSample(Record):
    """Hold a prompt that teaches nothing of the documents, and what the base itself says to it.

    For the kind "text" the prompt is the beginning of a text that the base went on with; for other
    kinds it is a question. For the kind "reading" both sides read passages before it.
    """

    id: str
    kind: str
    prompt: str
    text: str
    token_ids: tuple[int, ...]
    title: str = ""  # of the passages in view
    passages: str = ""  # the passages in view as one text; empty where there are none

    def to_json(self) -> dict[str, Any]:
        """Return the sample as one JSON object, without passages if there are none."""
        found = asdict(self)
        if not self.passages:
            del found["title"], found["passages"]
        return found

    @property
    def in_view(self) -> Passage:
        """Return the passages in view as the one that stands in the prompt."""
        name = content_id(self.title, self.passages)
        return Passage(name, "", self.title, self.passages, 0, len(self.passages), 0, ())


@dataclass(frozen=True, slots=True)
class TestQuestion(Record):
    """Hold a held-out question, which is never trained on."""

    __test__ = False  # or pytest would take it for a test case because of its name

    id: str
    document: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Hold a mean over n questions with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


NAME = re.compile(r"[\w@.+-]+")  # of a system or a metric
Scores = dict[str, dict[str, Score]]  # by system, then by metric


def table_of_scores(table: Any) -> Scores:
    """Return a table of scores, whose names are words and whose values are numbers.

    Raises:
        ValueError: it is something else, which a report would show.
    """
    try:
        found = {
            system: {metric: Score(**score) for metric, score in scores.items()}
            for system, scores in table.items()
        }
    except (TypeError, AttributeError):
        found = {"": {}}
    names = {*found, *(metric for scores in found.values() for metric in scores)}
    values = [v for scores in found.values() for s in scores.values() for v in astuple(s)]
    if not all(map(NAME.fullmatch, names)) or not all(type(v) in (int, float) for v in values):
        raise ValueError(
            "the table of scores is not what the evaluation writes; run `pdtrain evaluate CONFIG` "
            "again"
        )
    return found


def check_rounds(path: Path, found: Mapping[str, Any]) -> None:
    """Check the summary of the rounds: its form, and that the best is one of them.

    Raises:
        ValueError: it is not what the rounds write.
    """
    best, rounds = found.get("best"), found.get("rounds") or ()
    if type(best) is not int or best < 0 or best >= max(1, len(rounds)):
        raise ValueError(
            f"{path} names no round of this run as the best; delete it and run "
            "`pdtrain rounds CONFIG` again"
        )
    remedy = "delete it and run `pdtrain rounds CONFIG` again"
    expect(path, found, ROUNDS, remedy)
