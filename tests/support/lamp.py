"""Hold two passages with facts, and fake a model that asks and answers about them.

It asks well, but in words drawn at random, so that a question may come again.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from fake_backend import OPENINGS, FakeBackend, shown_and_answer

from pdtrain.records import Answer, Passage, Question, content_id

TEXTS = {
    "lamp.txt": (
        "The Vell lamp",
        ["The Vell lamp burns rape oil.", "It hangs in the north tower."],
    ),
    "pier.txt": ("The Osk pier", ["The Osk pier is held by iron chains."]),
}
FACTS = {  # of a passage's document: sentence, phrase, what is asked
    "lamp.txt": [
        (0, "rape oil", "what is burnt by the Vell lamp"),
        (1, "north tower", "where does the Vell lamp hang"),
    ],
    "pier.txt": [(0, "iron chains", "what holds up the Osk pier")],
}
PHRASES = tuple(phrase for facts in FACTS.values() for _, phrase, _ in facts)


def passages() -> list[Passage]:
    found = []
    for document, (title, sentences) in TEXTS.items():
        text, spans = " ".join(sentences), []
        for sentence in sentences:
            start = text.index(sentence)
            spans.append((start, start + len(sentence)))
        name = content_id(document, text)
        found.append(Passage(name, document, title, text, 0, len(text), 20, tuple(spans)))
    return found


def question(passage: Passage, sentence: int, phrase: str, opening: str) -> Question:
    asks = {(s, p): text for s, p, text in FACTS[passage.document_id]}
    text = f"{opening} {asks[sentence, phrase]}?"
    name = content_id(passage.id, "fact", text)
    return Question(name, passage.id, text, "fact", sentence, phrase)


def all_questions() -> list[Question]:
    """Return every question that the model can ask."""
    return [
        question(passage, sentence, phrase, opening)
        for passage in passages()
        for sentence, phrase, _ in FACTS[passage.document_id]
        for opening in OPENINGS
    ]


def backend(knows: Collection[str] = PHRASES) -> FakeBackend:
    """Return a model that asks for a phrase in one of many ways, and answers the ones it knows."""
    asks = {phrase: text for facts in FACTS.values() for _, phrase, text in facts}

    def reply(prompt: str, rng: random.Random) -> str:
        if found := shown_and_answer(prompt):
            return f"{rng.choice(OPENINGS)} {asks[found[1]]}?"
        wanted = next(phrase for phrase, text in asks.items() if text in prompt)
        return f"By {wanted}." if wanted in knows else "Nobody knows."

    return FakeBackend(reply)


def records() -> tuple[list[Passage], list[Question], list[Answer]]:
    """Return what the first stages leave: two questions about each fact, one answer to each."""
    rng, asked, answers = random.Random(0), [], []
    for passage in passages():
        for sentence, phrase, _ in FACTS[passage.document_id]:
            asked += [question(passage, sentence, phrase, o) for o in OPENINGS[:2]]
    for one in asked:
        ids = tuple(rng.randrange(4, 300) for _ in range(1 + rng.randrange(6)))
        answers.append(Answer(content_id(one.id, ids), one.id, one.passage_id, "-", ids, True))
    return passages(), asked, answers
