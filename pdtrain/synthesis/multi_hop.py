"""What questions about two things are about: pairs of sentences, and pairs of passages."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pdtrain.config import RunConfig
from pdtrain.records import Passage, Question, content_id, rng_for
from pdtrain.synthesis.question_kinds import (
    COMPARISONS,
    ENTITIES,
    phrases_in_turn,
    question_of,
    sentences_of,
    subject,
)
from pdtrain.synthesis.text import content_words, names, words

CALENDAR = frozenset(
    (
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May "
        "June July August September October November December"
    ).split()
)  # names that connect nothing
AROUND = 256  # tokens of the chat template and a question, at most


@dataclass(frozen=True)
class SentencePair:
    """Two sentences and what to ask for: a phrase of one of them that the other lacks."""

    first: str
    second: str
    index: int  # in the passage, of the sentence that has the phrase
    phrase: str


@dataclass(frozen=True)
class PassagePair:
    """Two passages that are asked about together: names that both have, or a comparison."""

    first: Passage
    other: Passage
    names: tuple[str, ...]
    is_compared: bool

    @property
    def id(self) -> str:
        return content_id("pair", self.first.id, self.other.id, self.names, self.is_compared)


def sentence_pairs(passage: Passage) -> list[tuple[int, int]]:
    """Sentences that share a name or the subject, the next such one; each in one pair at most."""
    about = [_mentions(sentence, passage) for sentence in sentences_of(passage)]
    found, taken = [], set[int]()
    for first, mentioned in enumerate(about):
        others = range(first + 1, len(about))
        second = next((i for i in others if i not in taken and mentioned & about[i]), None)
        if first not in taken and second is not None:
            taken |= {first, second}
            found.append((first, second))
    return found


def _mentions(sentence: str, passage: Passage) -> set[str]:
    """The names in a sentence, and "" for the passage's subject."""
    known = content_words(subject(passage))
    is_about = bool(known) and known <= content_words(sentence)
    return {*names(sentence), *([""] if is_about else [])}


def asked_of_pairs(passage: Passage, per_pair: int) -> Iterator[SentencePair]:
    """What to ask for of every pair of sentences, phrases of the second first."""
    sentences = sentences_of(passage)
    for first, second in sentence_pairs(passage) if per_pair else ():
        turns = [
            (index, phrase)
            for index, lacks in ((second, first), (first, second))
            for phrase in own_phrases(sentences[index], sentences[lacks], passage.title)
        ]
        for turn in range(per_pair if turns else 0):
            index, phrase = turns[turn % len(turns)]
            yield SentencePair(sentences[first], sentences[second], index, phrase)


def own_phrases(sentence: str, other: str, known: str) -> list[str]:
    """Phrases that neither the other sentence nor what is known gives away."""
    told = content_words(f"{other}\n{known}")
    turns = dict.fromkeys(phrases_in_turn(sentence, known))
    return [phrase for phrase in turns if not content_words(phrase) <= told]


def passage_pairs(
    passages: Sequence[Passage], config: RunConfig, window: int | None = None
) -> list[PassagePair]:
    """Of each name, the passages that hold it, each with the next one: few, however many hold it.

    And, where comparisons are asked for, each passage with the next that shares a name with it, or
    else the next one; those of the same subject are not compared. Passages that together have
    more tokens than half a micro-batch may have, or than leave room for a question and its answer
    in the model's window of so many tokens, are left apart: the teacher reads both.
    """
    count = config.questions
    if not count.per_entity and not count.per_passage_comparisons:
        return []
    where: dict[str, list[int]] = defaultdict(list)
    for place, passage in enumerate(passages):
        for name in names(passage.text):
            if any(len(word) > 1 and word not in CALENDAR for word in words(name)):
                where[name].append(place)
    shared: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, places in where.items():
        for pair in pairwise(places):
            shared[pair].append(name)
    compared = _compared(passages, set(shared)) if count.per_passage_comparisons else set()
    asked = set(shared) if count.per_entity else set()
    return [
        PassagePair(
            passages[a],
            passages[b],
            tuple(sorted(shared[a, b])) if (a, b) in asked else (),
            (a, b) in compared,
        )
        for a, b in sorted(asked | compared)
        if _fit(passages[a], passages[b], config, window)
    ]


def _fit(first: Passage, other: Passage, config: RunConfig, window: int | None) -> bool:
    """Whether a teacher can read both, a sentence of them once more, a question and an answer."""
    both = first.num_tokens + other.num_tokens
    prompts = config.prompts
    texts = len(prompts.system + prompts.teacher + prompts.focus)  # characters, so tokens at most
    more = texts + AROUND + config.answers.sampling.max_new_tokens
    more += max(_longest(first), _longest(other))
    is_in_window = not window or both + more <= window
    return is_in_window and both <= config.train.tokens_per_micro_batch // 2


def _longest(passage: Passage) -> int:
    """Tokens of its longest sentence, about: the teacher is shown one of them once more."""
    share = max(end - start for start, end in passage.sentences) / max(1, len(passage.text))
    return math.ceil(share * passage.num_tokens)


def _compared(passages: Sequence[Passage], shared: set[tuple[int, int]]) -> set[tuple[int, int]]:
    subjects = [subject(passage) for passage in passages]
    # a file's name says nothing to a teacher who reads both texts
    known = [
        bool(content_words(about) & content_words(passage.text))
        for about, passage in zip(subjects, passages, strict=True)
    ]
    following = {place: place + 1 for place in range(len(passages) - 1)}
    following |= {
        a: b for a, b in sorted(shared, reverse=True) if subjects[a] != subjects[b]
    }  # the nearest comes last
    return {
        (a, b) for a, b in following.items() if subjects[a] != subjects[b] and known[a] and known[b]
    }


def asked_of_names(pair: PassagePair) -> Iterator[tuple[str, SentencePair]]:
    """Each name with a sentence of either passage that holds it, and phrases of the first."""
    both = [sentences_of(passage) for passage in (pair.first, pair.other)]
    for name in pair.names:
        places = [[i for i, s in enumerate(sentences) if name in names(s)] for sentences in both]
        if all(places):
            first, second = both[0][places[0][0]], both[1][places[1][0]]
            known = f"{pair.first.title}\n{pair.other.title}\n{name}"
            for phrase in own_phrases(first, second, known):
                yield name, SentencePair(first, second, places[0][0], phrase)


def requests(pair: PassagePair, config: RunConfig) -> Iterator[Question]:
    """Those about two passages that need no model: all about a name, comparisons."""
    first, other, count = pair.first, pair.other.id, config.questions
    # a name that stands in many passages is asked about in other words by the next pair
    begin = rng_for(config.seed, "entities", first.id, other).randrange(len(ENTITIES))
    for name in pair.names:
        for turn in range(count.per_entity):
            text = ENTITIES[(begin + turn) % len(ENTITIES)].format(name)
            yield question_of(first, text, "cross", -1, other=other)
    for turn in range(count.per_passage_comparisons if pair.is_compared else 0):
        template = COMPARISONS[turn % len(COMPARISONS)]
        text = template.format(subject(first), subject(pair.other))
        yield question_of(first, text, "compare", -1, other=other)
