"""Summarise rounds: recall by passage, which round's adapter is best, and when to stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from math import sqrt
from typing import Any

from pdtrain.config import RoundsConfig
from pdtrain.records import Passage
from pdtrain.training.rounds.quiz import QuizItem

ROUNDING = 1e-9  # 0.57 - 0.56 is a little less than 0.01


@dataclass(frozen=True)
class RoundResult:
    """Hold what the student knew after a round, and how much was new in the round."""

    known: set[str]  # ids of the quiz's questions that it answered
    num_questions: int = 0  # new questions
    num_answers: int = 0  # new answers to them


def by_passage(asked: Iterable[tuple[str, str]], known: set[str]) -> dict[str, tuple[int, int]]:
    """Return the numbers of known and of asked questions of each passage.

    Args:
        asked: (passage, question) ids of what the teacher knows.
        known: ids of the questions that the student answered.
    """
    all_of: Counter[str] = Counter()
    known_of: Counter[str] = Counter()
    for passage_id, question_id in asked:
        all_of[passage_id] += 1
        known_of[passage_id] += question_id in known
    return {passage_id: (known_of[passage_id], n) for passage_id, n in all_of.items()}


def best(known: Sequence[Set[str]]) -> int:
    """Return the number of the round whose adapter is taken, the earliest where chance may decide.

    A later round is taken where it gained more facts than it lost by at least the root of their
    sum: the standard error of this difference if each change went either way (McNemar, 1947).

    Args:
        known: ids of the questions that the student answered, after training and after each round.
    """
    taken = 0
    for number in range(1, len(known)):
        gained = len(known[number] - known[taken])
        lost = len(known[taken] - known[number])
        if gained > lost and gained - lost >= sqrt(gained + lost):
            taken = number
    return taken


def why_to_stop(recoveries: Sequence[float], settings: RoundsConfig) -> str:
    """Return the reason why no further round follows; empty where one does.

    Args:
        recoveries: the share of facts that the student knows after training, and after each round.
        settings: the limits of the rounds.
    """
    if recoveries[-1] == 1:
        return "the student knows all that its teacher knows"
    if len(recoveries) > 1 and recoveries[-1] - recoveries[-2] < settings.least_gain - ROUNDING:
        return f"recovery grew by less than rounds.least_gain={settings.least_gain:g}"
    if len(recoveries) > settings.most:
        return f"rounds.most={settings.most} are done"
    return ""


def summarise(
    passages: Iterable[Passage],
    items: Sequence[QuizItem],
    results: Sequence[RoundResult],
    reason: str,
) -> dict[str, Any]:
    """Return the content of `rounds.json`; recall is of the facts that the teacher knows."""
    goal = [(item.question.passage_id, item.question.id) for item in items if item.is_known]
    num_unasked = sum(not item.question.text for item in items)
    recoveries = [len(result.known) / len(goal) for result in results]
    tables = [by_passage(goal, result.known) for result in results]
    asked = by_passage(goal, set())
    return {
        "best": best([result.known for result in results]),
        "stopped": reason,
        "facts": {
            "quizzed": len(items) - num_unasked,
            "unquizzed": num_unasked,
            "missed_by_teacher": len(items) - num_unasked - len(goal),
        },
        "rounds": [
            {
                "round": number,
                "recovery": recovery,
                "known": len(result.known),
                "missed": len(goal) - len(result.known),
                "new_questions": result.num_questions,
                "new_answers": result.num_answers,
            }
            for number, (result, recovery) in enumerate(zip(results, recoveries, strict=True))
        ],
        "passages": [
            {
                "passage": passage.id,
                "document": passage.document_id,
                "title": passage.title,
                "asked": asked.get(passage.id, (0, 0))[1],
                "known": [table.get(passage.id, (0, 0))[0] for table in tables],
            }
            for passage in passages
        ],
    }
