"""List general topics that no document is about, and how they are asked about and opened."""

from __future__ import annotations

TOPICS = (
    "volcanoes",
    "cooking rice",
    "chess",
    "public libraries",
    "elephants",
    "glass",
    "the Roman Empire",
    "train journeys",
    "growing tomatoes",
    "photography",
    "rivers",
    "coffee",
    "earthquakes",
    "the human heart",
    "mountains",
    "poetry",
    "airports",
    "museums",
    "swimming",
    "salt",
    "cats",
    "deserts",
    "money",
    "the telephone",
    "winter",
    "fractions",
    "friendship",
    "electric cars",
    "soap",
    "football",
    "dictionaries",
    "dreams",
    "whales",
    "newspapers",
    "building a house",
    "learning a language",
    "telling jokes",
    "writing an email",
    "dragons",
    "sleep",
)
SHOTS = (
    ("trains", "What is the fastest train in the world?"),
    ("cheese", "How is cheese made from milk?"),
    ("the sun", "Why does the sun look red in the evening?"),
    ("history", "Who was the first person to sail around the world?"),
)
ASK = "Write a question about the topic."
REQUESTS = (
    "Tell me something interesting about {}.",
    "Explain {} to a child.",
    "Write two sentences about {}.",
    "Why do people care about {}?",
    "List three things that have to do with {}.",
)
OPENINGS = (
    "Many people have heard of {}, but",
    "The first thing to know about {} is that",
    "Last year I read a book about {}. It",
    "Here is a short introduction to {}.",
    "When we talk about {}, we",
)
