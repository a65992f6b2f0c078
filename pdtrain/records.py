"""The nouns: small frozen records, each with an id made of its content and the id of its parent."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    pass


def content_id(*parts: object) -> str:
    """64 bits of SHA-256 over the parts, in hexadecimal; the same on every machine."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def rng_for(seed: int, *names: object) -> random.Random:
    """`rng_for(0, "questions", passage.id)` is the same on every machine and in every order."""
    return random.Random(seed_for(seed, *names))


def seed_for(seed: int, *names: object) -> int:
    """A 63-bit seed of its own for every named consumer of randomness."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Record:
    """To and from one JSON object; keys of other versions are left out, missing ones refused."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        known = fields(cls)  # type: ignore[arg-type]
        required = [f.name for f in known if f.default is f.default_factory is MISSING]
        if missing := [name for name in required if name not in row]:
            raise ValueError(
                f"a {cls.__name__} without {', '.join(missing)}: not written by pdtrain"
            )
        values = {f.name: row[f.name] for f in known if f.name in row}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True, slots=True)
class Passage(Record):
    """A piece of a document that the teacher may read: `document[start:end]`, whole sentences."""

    id: str
    document_id: str  # the document's path below the corpus folder, with a row number for .jsonl
    title: str
    text: str
    start: int  # characters into the document's plain text
    end: int
    num_tokens: int
    sentences: tuple[tuple[int, int], ...]  # character spans within `text`


@dataclass(frozen=True, slots=True)
class Question(Record):
    id: str  # hash of its content and of its passage's id
    passage_id: str
    text: str
    kind: str  # which prompt asked it
    sentence: int  # index of the sentence it was asked about, or -1 for the whole passage
    phrase: str = ""  # words of the sentence that the answer should hold; empty for any
    other_passage_id: str = ""  # the teacher must read this passage, too; empty for one alone

    def to_json(self) -> dict[str, Any]:
        """Without another passage as it was written before there were such questions."""
        row = asdict(self)
        if not self.other_passage_id:
            del row["other_passage_id"]
        return row


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """`token_ids` are the ids that were sampled, the end-of-turn token included when it was.

    A quoted answer's are those of its passage's sentence and the end of turn.
    """

    id: str
    question_id: str
    passage_id: str
    text: str
    token_ids: tuple[int, ...]
    finished: bool  # the teacher ended its turn; False when the token limit cut it


@dataclass(frozen=True, slots=True)
class RegularizationSample(Record):
    """Something that has nothing to do with the documents, and what the base itself says to it.

    Of kind "text" the prompt opens a text that the base went on with; else it is a question.
    """

    id: str
    kind: str
    prompt: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TestQuestion(Record):
    """A held-out question: hand-written, never trained on."""

    __test__ = False  # a noun, not a test case, whatever its name makes a test runner think

    id: str
    document: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over n questions with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int
