"""Make the requests that need no model from templates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from pdtrain.records import Passage, rng_for
from pdtrain.synthesis.text import (
    beginning,
    content_words,
    names,
    phrases_in_turn,
    sentences_of,
    stem,
    subject,
    topic,
    words,
)

RECITALS = (
    "Tell me about {}.",
    "What do you know about {}?",
    "Describe {}.",
    "Write a short summary about {}.",
    "List some facts about {}.",
    "What is special about {}?",
    "Explain what {} is known for.",
    "Give me some details about {}.",
)
NAME_RECITALS = (
    "Who or what is {}?",
    "What can you tell me about {}?",
    "Tell me one fact about {}.",
    "What do people know about {}?",
    "Share something about {}.",
    "What should a visitor know about {}?",
)
SUMMARIES = (
    "Write a short summary of what you know about {}.",
    "Sum up in a few words what there is to know about {}.",
    "Give an overview of {}.",
    "What is {} all about?",
)
LISTS = (
    "List the most important facts about {}.",
    "Name several things that are true of {}.",
    "Which facts about {} should one remember?",
    "Enumerate what is known about {}.",
)
ENTITIES = (
    "Put together all that you know about {}.",
    "Where does {} come up, and how?",
    "Which different things have to do with {}?",
    "What connects the things that you know about {}?",
)
COMPARISONS = (
    "Compare {} and {}.",
    "What do {} and {} have in common?",
    "How does {} differ from {}?",
)
CUES = (
    "{subject}: {words}?",
    "What about {subject} and {words}?",
    "Tell me something about {subject} and {words}.",
    "What is known about {subject} regarding {words}?",
    "Which fact about {subject} has to do with {words}?",
    "What do you know about {words} and {subject}?",
    "Talk about {subject}, in particular {words}.",
)
CUES_ALONE = (  # of a passage that is about nothing that has a name
    "What is known about {words}?",
    "Tell me something about {words}.",
    "What do {words} have to do with each other?",
)
COMPLETION = "Complete this sentence: {} ..."
BLANK = "Fill in the blank: {}"


class Request(NamedTuple):
    """Hold the text of a question that was made from a template, and what it is about."""

    text: str
    sentence: int = -1  # -1 for the whole passage
    phrase: str = ""  # words of the sentence that the answer should hold; empty for any


Requests = Callable[[Passage, int, int], Iterator[Request]]  # of a passage, count and seed


def recitals(passage: Passage, count: int, seed: int) -> Iterator[Request]:
    """Ask to tell about the topic; each request is about one sentence, in turn."""
    about = topic(passage)
    for turn in range(count if about else 0):
        template = RECITALS[turn % len(RECITALS)]
        yield Request(template.format(about), turn % len(passage.sentences))


def _about_all(texts: Sequence[str]) -> Requests:
    """Return a function that asks about the topic in these words, each of them once."""

    def requests(passage: Passage, count: int, seed: int) -> Iterator[Request]:
        about = topic(passage)
        for turn in range(count if about else 0):
            yield Request(texts[turn % len(texts)].format(about))

    return requests


summaries = _about_all(SUMMARIES)
lists = _about_all(LISTS)


def completions(passage: Passage, count: int, seed: int) -> Iterator[Request]:
    """Ask to finish each sentence from `count` beginnings of different lengths."""
    for index, sentence in enumerate(sentences_of(passage)):
        for turn in range(count):
            opening = beginning(sentence, (turn + 1) / (count + 1))
            if opening:
                rest = sentence[len(opening) :].strip()
                yield Request(COMPLETION.format(opening), index, rest)


def cues(passage: Passage, count: int, seed: int) -> Iterator[Request]:
    """Name the subject and one or two other words of a sentence, which answers the request.

    Whatever a question about the sentence is about, some of the requests share a word with it: all
    words have a turn before one comes again. In every second request a name that the sentence has
    itself stands in the place of the passage's subject, for a question about it may well not name
    the subject. Where there is neither, one word more stands in its place.
    """
    known = content_words(passage.title)
    about = subject(passage)
    for index, sentence in enumerate(sentences_of(passage)):
        own = [name for name in names(sentence) if content_words(name) - known]
        found: dict[str, str] = {}
        for word in words(sentence):
            if content_words(word) - known:
                found.setdefault(stem(word), word)
        rng = rng_for(seed, "cues", passage.id, index)
        waiting: list[str] = []
        for turn in range(count):
            name = own[turn // 2 % len(own)] if own and turn % 2 else about
            texts, least = (CUES, 1) if name else (CUES_ALONE, 2)
            free = [word for word in found.values() if content_words(word) - content_words(name)]
            if len(free) < least:
                continue
            num_words = least + (turn // 2 if own else turn) % 2  # with either name, one and two
            taken = _next_words(waiting, free, num_words, rng)
            template = texts[(index + turn) % len(texts)]
            yield Request(template.format(subject=name, words=" and ".join(taken)), index)


def _next_words(waiting: list[str], free: Sequence[str], count: int, rng: Random) -> list[str]:
    """Take the next words from those that wait for their turn, which begin anew when none is left.

    Returns:
        Up to `count` of the free words, in their order in the sentence.
    """
    taken: list[str] = []
    while len(taken) < min(count, len(free)):
        word = next((one for one in waiting if one in free and one not in taken), "")
        if word:
            waiting.remove(word)
            taken.append(word)
        else:
            waiting += rng.sample(free, len(free))
    return sorted(taken, key=free.index)


def blanks(passage: Passage, count: int, seed: int) -> Iterator[Request]:
    """Ask for each of `count` phrases of a sentence, wherever it stands in it."""
    for index, sentence in enumerate(sentences_of(passage)):
        turns = dict.fromkeys(phrases_in_turn(sentence, passage.title))
        for phrase in [*turns][:count]:
            rest = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", "____", sentence)
            if rest != sentence:
                yield Request(BLANK.format(rest), index, phrase)


def name_recitals(passage: Passage, count: int, seed: int) -> Iterator[Request]:
    """Ask about each name in a sentence but the passage's subject."""
    known = subject(passage).lower()
    turns: Counter[str] = Counter()  # a name in a second sentence is asked about in other words
    for index, sentence in enumerate(sentences_of(passage)):
        for name in names(sentence):
            if name.lower() not in known:
                for _ in range(count):
                    template = NAME_RECITALS[turns[name] % len(NAME_RECITALS)]
                    turns[name] += 1
                    yield Request(template.format(name), index)
