"""Two passages with facts, and a stand-in for the base that asks about them: it asks well, but
in words drawn at random, so that a question of its can come again."""

from __future__ import annotations

import random

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
OPENINGS = [
    f"{a} {b}".strip() for a in ("And", "So", "Then", "Or") for b in ("", "is it", "was it")
]


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


def about(self, kind, passage, targets, seed):
    """In the place of `Writer.about`."""
    rng = random.Random(seed)
    return [question(passage, *target, rng.choice(OPENINGS)) for target in targets]


def lesson() -> tuple[list[Passage], list[Question], list[Answer]]:
    """What the first stages leave: two questions about each fact, one answer to each."""
    rng, asked, answers = random.Random(0), [], []
    for passage in passages():
        for sentence, phrase, _ in FACTS[passage.document_id]:
            asked += [question(passage, sentence, phrase, o) for o in OPENINGS[:2]]
    for one in asked:
        ids = tuple(rng.randrange(4, 300) for _ in range(1 + rng.randrange(6)))
        answers.append(Answer(content_id(one.id, ids), one.id, one.passage_id, "-", ids, True))
    return passages(), asked, answers
