"""The nouns: small frozen records, each with an id made of its content and the id of its parent."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import Tensor

    from pdkernels import TopK
    from pdtrain.models.attention.packed import Layout


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
class Retained(Record):
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
class Side:
    """One side of a twin: groups of branches, each group behind a prefix, packed into one row.

    ids: (T,) int64, group after group, in each the prefix and then its branches.
    positions: (T,) int64; every branch counts on from its prefix's end.
    rows: (N,) int64, where in T the hidden states are whose next token is an answer token.
    layout: how many tokens the prefix and each branch of each group have.
    """

    ids: Tensor
    positions: Tensor
    rows: Tensor
    layout: Layout


@dataclass(frozen=True, slots=True)
class TwinBatch:
    """The same answers seen twice.

    Row i of either side predicts the same token of the same answer. `targets` (N,) int64 holds
    that token, `weights` (N,) fp32 the row's weight in the loss: 1, or 1 / answer length, or 0
    for the rows of a filler. `topk` stands for the teacher's side when its distributions were
    cached; without a student the batch asks for the teacher's distributions alone.
    """

    answer_ids: tuple[str, ...]
    student: Side | None
    teacher: Side | None
    targets: Tensor
    weights: Tensor
    topk: TopK | None = None
    is_retained: bool = False  # it holds the adapter to its base, and teaches no document

    @property
    def num_answer_tokens(self) -> int:
        """Those that count: a filler has none."""
        return int((self.weights > 0).sum())

    @property
    def is_filler(self) -> bool:
        return not self.num_answer_tokens

    @property
    def total_weight(self) -> float:
        return float(self.weights.double().sum())


@dataclass(frozen=True, slots=True)
class StepStats:
    """One optimizer step, over all ranks."""

    loss: float  # nats per unit of weight: per answer token unless loss.average says otherwise
    grad_norm: float  # before clipping
    learning_rate: float
    answer_tokens: int
    student_tokens: int  # prompts and answers that the student read
    teacher_tokens: int  # and the teacher, every shared passage once; 0 where it was cached
    padding_tokens: int  # more than these: read by ranks to stay in step, for nothing
    teacher_mass: float  # probability of the teacher's top-k, weighted as the loss is
    retain_loss: float = 0.0  # the part of what holds the adapter to its base, unweighted


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over n questions with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int
