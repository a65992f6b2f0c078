"""List the systems of the evaluation: who answers, and which passages it reads first.

A system is one line of the evaluation's table. A new one is an entry in `SYSTEMS`; where it reads
passages that no other system reads, `context` finds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdtrain.config import EvaluateConfig

Context = Literal["none", "gold", "bm25", "dense"]
Measured = Literal["answers", "forgetting"]

RETRIEVERS: dict[Context, str] = {"bm25": "BM25", "dense": "dense retrieval"}


@dataclass(frozen=True)
class System:
    """Describe one line of the evaluation's table.

    Attributes:
        name: the name in `scores.json` and of the files in `scores/`.
        with_adapter: True where the adapter answers, False where the base answers alone.
        context: the passages before the question: none of them, the gold passage (the one that
            the question is about), or what BM25 or dense retrieval finds for it.
        label: a short name for people.
        text: a longer name, which says what is put before the question.
        measures: "answers" to held-out questions, or "forgetting": the distance between the
            adapter and its base on texts that have nothing to do with the documents.
    """

    name: str
    with_adapter: bool
    context: Context
    label: str
    text: str
    measures: Measured = "answers"

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

# by name, in the order of the table
SYSTEMS = {
    system.name: system
    for system in (
        BASE,
        TEACHER,
        System("base_rag", False, "bm25", "base + search", "base + BM25"),
        ADAPTER,
        System("adapter_rag", True, "bm25", "adapter + search", "adapter + BM25"),
        System("base_dense_rag", False, "dense", "base + dense search", "base + dense retrieval"),
        System(
            "adapter_dense_rag",
            True,
            "dense",
            "adapter + dense search",
            "adapter + dense retrieval",
        ),
        UNRELATED_TEXT,
        UNRELATED_QUESTIONS,
    )
}


def answering_systems(config: EvaluateConfig) -> list[System]:
    """Return the systems that are asked the held-out questions.

    Dense retrieval takes part where `evaluate.dense` names a model for it.
    """
    return [
        system
        for system in SYSTEMS.values()
        if system.measures == "answers" and (system.context != "dense" or config.dense)
    ]
