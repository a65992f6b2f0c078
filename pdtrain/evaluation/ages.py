"""Score questions about new documents and about old ones apart, after a warm start.

An adapter whose training started from another adapter has learned some documents before that start
and some after it. Its scores on the new documents say whether the training was long enough, its
scores on the old ones whether it forgot them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Literal

from pdtrain.config import RunConfig
from pdtrain.evaluation.context import gold_passage
from pdtrain.evaluation.grading.manner import Mark
from pdtrain.evaluation.retrieval import BM25
from pdtrain.evaluation.scores import as_json, summarise_system
from pdtrain.evaluation.systems import ADAPTER, answering_systems
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.progress import say
from pdtrain.records import Scores, TestQuestion
from pdtrain.storage import write_json

Age = Literal["new", "old"]  # of a document


def questions_by_age(
    config: RunConfig, questions: Sequence[TestQuestion], learned: LearnedPassages
) -> dict[Age, set[str]]:
    """Return the ids of the questions about new documents and about old ones.

    A document is new where one of its passages was added or replaced since the warm start, or
    where none of its passages was learned.

    Args:
        learned: what the adapter has learned, before and after its warm start.
    """
    passages = list(config.run.passages())
    known, new, bm25 = learned.passages, set(learned.new), BM25(passages)
    documents = {p.document_id for p in passages} - {
        p.document_id for p in passages if p.id in known
    }
    documents |= {p.document_id for p in passages if p.id in new}
    found: dict[Age, set[str]] = {"new": set(), "old": set()}
    for question in questions:
        is_new = gold_passage(question, bm25).document_id in documents
        found["new" if is_new else "old"].add(question.id)
    return found


def write_scores_by_age(
    config: RunConfig,
    questions: Sequence[TestQuestion],
    learned: LearnedPassages,
    known: Set[Mark] | None,
) -> None:
    """Write `scores_by_age.json`, in which an age that nobody asked about has no systems.

    Args:
        learned: what the adapter has learned, before and after its warm start.
        known: what `scores.recitals` returned.
    """
    systems = answering_systems(config.evaluate)
    table: dict[Age, Scores] = {
        age: {s.name: summarise_system(config, s, known, ids) for s in systems if ids}
        for age, ids in questions_by_age(config, questions, learned).items()
    }
    write_json(
        config.run.scores_by_age_file, {age: as_json(scores) for age, scores in table.items()}
    )
    said = []
    for age, scores in table.items():
        gold = scores.get(ADAPTER.name, {}).get("gold_in_answer")
        if gold:
            said.append(f"{age} documents {gold.value:.3f} ({gold.n} questions)")
        elif scores:
            said.append(f"of {age} documents nothing was asked that they answer")
        else:
            said.append(f"{age} documents were not asked about")
    say(f"evaluate: gold_in_answer of {ADAPTER.name}, {', '.join(said)}")
