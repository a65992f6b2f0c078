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

# Short texts of invented facts, which nobody can know without reading them, and questions that they
# answer: what the base is shown when it makes up others.
TELL = "Write a short text of invented facts about the topic. Give names and numbers."
WONDER = "Write a question that the text answers."
TALES = (
    (
        "soup",
        "Every spring the village of Harrowick cooks a soup of forty-one herbs. Old Wenna Tarp has "
        "led the cooking since 1987, and nobody else may add the salt. What is left over goes to "
        "the ducks.",
        "Who leads the cooking of the soup in Harrowick?",
    ),
    (
        "tunnels",
        "The Brannoch tunnel is 740 metres long and was dug by two brothers with wooden spades. "
        "Halfway through there is a small kitchen, where walkers can rest for an hour. Its lamps "
        "are fed with fish oil.",
        "How long is the Brannoch tunnel?",
    ),
    (
        "feathers",
        "The collector Ismay Dorrel owns a feather of every bird on the island of Tusk. She keeps "
        "them in a drawer of cherry wood, sorted by weight. The heaviest comes from the grey marsh "
        "hen.",
        "Where does Ismay Dorrel keep her feathers?",
    ),
)
