"""List the systems of the evaluation: who answers, and which passages it reads first.

A system is one line of the evaluation's table. A new one is an entry in `SYSTEMS`; where it reads
passages that no other system reads, `context` finds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdtrain.config import EvaluateConfig

Context = Literal["none", "gold", "bm25", "dense", "own"]
Measured = Literal["answers", "reading", "forgetting"]

RETRIEVERS: dict[Context, str] = {"bm25": "BM25", "dense": "dense retrieval"}


@dataclass(frozen=True)
class System:
    """Describe one line of the evaluation's table.

    Attributes:
        name: the name in `scores.json` and of the files in `scores/`.
        with_adapter: True where the adapter answers, False where the base answers alone.
        context: the passages before the question: none of them, the gold passage (the one that
            the question is about), what BM25 or dense retrieval finds for it, or the passage that
            the question comes with, where it is about something else than the documents.
        label: a short name for people.
        text: a longer name, which says what is put before the question.
        measures: "answers" to held-out questions, "reading" of passages that have nothing to do
            with the documents, or "forgetting": the distance between the adapter and its base on
            texts that have nothing to do with them either.
        num_passages: how many passages a retriever puts before the question.
    """

    name: str
    with_adapter: bool
    context: Context
    label: str
    text: str
    measures: Measured = "answers"
    num_passages: int = 1

    @property
    def role(self) -> Literal["base", "teacher", "adapter"]:
        """Return who answers; the teacher is the base that reads the gold passage."""
        if self.with_adapter:
            return "adapter"
        return "teacher" if self.context == "gold" else "base"

    @property
    def retriever(self) -> str:
        """Return the name of what finds the passages; empty where nothing has to be found."""
        return RETRIEVERS.get(self.context, "")


BASE = System("base_closed_book", False, "none", "base", "base, closed book")
TEACHER = System("teacher_open_book", False, "gold", "teacher", "base, open book (the teacher)")
ADAPTER = System("adapter_closed_book", True, "none", "adapter", "adapter, closed book")
ADAPTER_OPEN_BOOK = System(
    "adapter_open_book", True, "gold", "adapter that reads", "adapter, open book"
)
BASE_READING = System(
    "base_unrelated_reading",
    with_adapter=False,
    context="own",
    label="base reads",
    text="base, reading passages about other things",
    measures="reading",
)
ADAPTER_READING = System(
    "adapter_unrelated_reading",
    with_adapter=True,
    context="own",
    label="adapter reads",
    text="adapter, reading passages about other things",
    measures="reading",
)
UNRELATED_TEXT = System(
    "unrelated_text",
    with_adapter=True,
    context="none",
    label="unrelated text",
    text="texts that have nothing to do with the documents",
    measures="forgetting",
)
UNRELATED_QUESTIONS = System(
    "unrelated_questions",
    with_adapter=True,
    context="none",
    label="unrelated questions",
    text="the base's answers to questions that have nothing to do with the documents",
    measures="forgetting",
)


def searching(*, with_adapter: bool, context: Context, num_passages: int) -> System:
    """Return the system that reads so many retrieved passages before it answers.

    `base_rag` reads one passage, `base_rag_3` reads three.

    Args:
        context: "bm25" or "dense".
    """
    who = "adapter" if with_adapter else "base"
    name = f"{who}_dense_rag" if context == "dense" else f"{who}_rag"
    label = f"{who} + dense search" if context == "dense" else f"{who} + search"
    text = f"{who} + {RETRIEVERS[context]}"
    if num_passages > 1:
        name, label = f"{name}_{num_passages}", f"{label} ({num_passages})"
        text = f"{text}, {num_passages} passages"
    return System(name, with_adapter, context, label, text, num_passages=num_passages)


BASE_BM25 = searching(with_adapter=False, context="bm25", num_passages=1)
ADAPTER_BM25 = searching(with_adapter=True, context="bm25", num_passages=1)

# by name, in the order of the table; those that read several passages come from `searching`
SYSTEMS = {
    system.name: system
    for system in (
        BASE,
        TEACHER,
        BASE_BM25,
        ADAPTER,
        ADAPTER_OPEN_BOOK,
        ADAPTER_BM25,
        searching(with_adapter=False, context="dense", num_passages=1),
        searching(with_adapter=True, context="dense", num_passages=1),
        BASE_READING,
        ADAPTER_READING,
        UNRELATED_TEXT,
        UNRELATED_QUESTIONS,
    )
}


def named(name: str) -> System | None:
    """Return the system of a name; None where this version knows none of it."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    stem, _, number = name.rpartition("_")
    one = SYSTEMS.get(stem)
    if one is None or not one.retriever or not number.isdecimal() or int(number) < 2:
        return None
    return searching(with_adapter=one.with_adapter, context=one.context, num_passages=int(number))


def counterpart(system: System) -> System | None:
    """Return the base that reads what an adapter reads; None for a system without an adapter."""
    if not system.with_adapter or system.measures == "forgetting":
        return None
    if system.retriever:
        return searching(
            with_adapter=False, context=system.context, num_passages=system.num_passages
        )
    bases = {
        ADAPTER.name: BASE,
        ADAPTER_OPEN_BOOK.name: TEACHER,
        ADAPTER_READING.name: BASE_READING,
    }
    return bases.get(system.name)


def answering_systems(config: EvaluateConfig) -> list[System]:
    """Return the systems that are asked the held-out questions.

    Retrieval takes part once for each number of passages in `evaluate.rag_passages`, and dense
    retrieval where `evaluate.dense` names a model for it.
    """
    found: list[System] = []
    for system in SYSTEMS.values():
        if system.measures != "answers" or (system.context == "dense" and not config.dense):
            continue
        if not system.retriever:
            found.append(system)
            continue
        found += [
            searching(with_adapter=system.with_adapter, context=system.context, num_passages=number)
            for number in config.rag_passages
        ]
    return found
