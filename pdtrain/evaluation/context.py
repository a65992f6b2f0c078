"""Put before a question what a system reads first: the gold passage, or what retrieval finds."""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from typing import Any, Protocol

from pdtrain.config import RunConfig
from pdtrain.evaluation.retrieval import BM25, Dense, fingerprint
from pdtrain.evaluation.systems import RETRIEVERS, Context
from pdtrain.models.chat_template import Chat, joined
from pdtrain.records import Passage, TestQuestion
from pdtrain.stage import output_hash


def context_inputs(config: RunConfig, context: Context) -> list[Any]:
    """Return what decides, besides the question, which passages stand before it."""
    needs: list[Any] = [] if context == "none" else [output_hash(config.run.passages_folder)]
    if context in RETRIEVERS:
        needs.append(config.hash_for("retrieval"))
    if context == "dense":
        needs.append(fingerprint(config.evaluate.dense))
    return needs


class Retriever(Protocol):
    """Find passages for a question, as `retrieval.BM25` and `retrieval.Dense` do."""

    passages: list[Passage]

    def __call__(self, question: str, k: int) -> list[Passage]: ...


class Contexts:
    """Put passages of a run before a question, as the context of a system says."""

    def __init__(self, config: RunConfig, needed: Set[Context]) -> None:
        passages = list(config.run.passages())
        self.num_retrieved = config.evaluate.rag_passages
        self.bm25 = BM25(passages)
        self.retrievers: dict[Context, Retriever] = {"bm25": self.bm25}
        if "dense" in needed:
            self.retrievers["dense"] = Dense(passages, config.evaluate.dense)

    def prompt(self, context: Context, question: TestQuestion, chat: Chat) -> list[int]:
        """Return the token ids of the prompt: the passages, if any, and the question."""
        if context == "none":
            return chat.student(question.question)
        if context == "gold":
            return chat.teacher(gold_passage(question, self.bm25), question.question)
        found = self.retrievers[context](question.question, self.num_retrieved)
        return chat.teacher(joined(found), question.question)


def gold_passage(question: TestQuestion, bm25: Retriever) -> Passage:
    """Return the passage that a question is about.

    It is a passage of the question's document that holds a gold answer; among several the one that
    BM25 ranks first. Where none holds an answer, any passage of the document may be it.

    Args:
        question: its `document` is a document's id, its file name without the ending, or its title,
            in any case; where it names none, all passages may be it.
    """
    wanted = question.document.lower()
    own = [p for p in bm25.passages if wanted in _names(p)]
    among = own or bm25.passages
    holding = [p for p in among if any(a.lower() in p.text.lower() for a in question.answers)]
    among = holding or among
    if len(among) == 1:
        return among[0]
    allowed = {passage.id for passage in among}
    ranked = bm25(question.question, len(bm25.passages))
    return next(passage for passage in ranked if passage.id in allowed)


def _names(passage: Passage) -> set[str]:
    """Return what a question may call the passage's document."""
    name = passage.document_id.lower()
    path, record, *_ = [*re.split(r"\.(?:jsonl|parquet|arrow):", name, maxsplit=1), ""]
    return {name, passage.title.lower(), Path(path).stem, record or path}
