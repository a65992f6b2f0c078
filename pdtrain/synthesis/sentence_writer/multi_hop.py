"""Choose what goes together in a question about two: pairs of sentences, pairs of passages."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pdtrain.config import RunConfig
from pdtrain.records import Passage, Question, content_id, rng_for
from pdtrain.synthesis.question_kinds import COMPARE, CROSS, question_of
from pdtrain.synthesis.sentence_writer.question_templates import COMPARISONS, ENTITIES, Request
from pdtrain.synthesis.text import (
    content_words,
    names,
    phrases_in_turn,
    sentences_of,
    subject,
    topic,
    words,
)

CALENDAR = frozenset(
    (
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May "
        "June July August September October November December"
    ).split()
)  # names that connect nothing
TEMPLATE_TOKENS = 256  # of the chat template and a question, at most


@dataclass(frozen=True)
class SentencePair:
    """Hold two sentences and what to ask for: a phrase of one of them that the other lacks."""

    first: str
    second: str
    index: int  # in the passage, of the sentence that has the phrase
    phrase: str


@dataclass(frozen=True)
class PassagePair:
    """Hold two passages that are asked about together: names of both, or a comparison."""

    first: Passage
    other: Passage
    names: tuple[str, ...]
    is_compared: bool

    @property
    def id(self) -> str:
        """Return the hash of all that decides what is asked."""
        return content_id("pair", self.first.id, self.other.id, self.names, self.is_compared)


def sentence_pairs(passage: Passage) -> list[tuple[int, int]]:
    """Pair each sentence with the next that shares a name or the subject with it.

    Returns:
        Indices of the sentences, each of which is in one pair at most.
    """
    known = content_words(subject(passage))
    about = [_mentions(sentence, known) for sentence in sentences_of(passage)]
    waiting: dict[str, deque[int]] = defaultdict(deque)  # by name, the sentences to go with
    for place, mentioned in enumerate(about):
        for name in mentioned:
            waiting[name].append(place)
    found, taken = [], set[int]()
    for first, mentioned in enumerate(about):
        others = set[int]()
        for name in mentioned:
            places = waiting[name]
            while places and (places[0] <= first or places[0] in taken):
                places.popleft()  # of no use to any sentence that follows either
            others.update([places[0]] if places else [])
        if first not in taken and others:
            taken |= {first, min(others)}
            found.append((first, min(others)))
    return found


def _mentions(sentence: str, known: set[str]) -> set[str]:
    """Return the names in a sentence, and "" for the passage's subject.

    Args:
        known: the content words of the subject.
    """
    is_about = bool(known) and known <= content_words(sentence)
    return {*names(sentence), *([""] if is_about else [])}


def asked_of_pairs(passage: Passage, per_pair: int) -> Iterator[SentencePair]:
    """Yield `per_pair` times what to ask for of every pair, phrases of the second first."""
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
    """Return the phrases that neither the other sentence nor what is known gives away."""
    told = content_words(f"{other}\n{known}")
    turns = dict.fromkeys(phrases_in_turn(sentence, known))
    return [phrase for phrase in turns if not content_words(phrase) <= told]


def asks_of_pairs(config: RunConfig) -> bool:
    """Return whether any questions are about two passages."""
    return any(kind.count(config.questions) for kind in (CROSS, COMPARE))


def passage_pairs(
    passages: Sequence[Passage], config: RunConfig, window: int | None = None
) -> list[PassagePair]:
    """Pair each passage with the next that has the same name in it, for every name.

    So there are few pairs, however many passages have a name. For comparisons, each passage goes
    with the next one that shares a name with it, or else with the next one; two passages about
    the same subject are not compared. The teacher reads both passages, so a pair is left out where
    both together have more tokens than half a micro-batch, or leave no room for a question and
    its answer in the model's window.

    Args:
        window: tokens that the model can read; None where it has no limit.
    """
    asks_names, asks_comparisons = (bool(k.count(config.questions)) for k in (CROSS, COMPARE))
    if not asks_of_pairs(config):
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
    compared = _compared(passages, set(shared)) if asks_comparisons else set()
    asked = set(shared) if asks_names else set()
    return [
        PassagePair(
            passages[a],
            passages[b],
            tuple(sorted(shared[a, b])) if (a, b) in asked else (),
            (a, b) in compared,
        )
        for a, b in sorted(asked | compared)
        if fit_together(passages[a], passages[b], config, window)
    ]


def fit_together(first: Passage, other: Passage, config: RunConfig, window: int | None) -> bool:
    """Return whether the teacher can read both, one sentence again, a question and an answer."""
    both = first.num_tokens + other.num_tokens
    prompts = config.prompts
    texts = len(prompts.system + prompts.teacher + prompts.focus)  # characters, so tokens at most
    more = texts + TEMPLATE_TOKENS + config.model.thought_tokens
    more += config.answers.sampling.max_new_tokens
    more += max(_longest(first), _longest(other))
    is_in_window = not window or both + more <= window
    return is_in_window and both <= config.train.tokens_per_micro_batch // 2


def _longest(passage: Passage) -> int:
    """Estimate the tokens of the longest sentence, which the teacher may be shown again."""
    share = max(end - start for start, end in passage.sentences) / max(1, len(passage.text))
    return math.ceil(share * passage.num_tokens)


def _compared(passages: Sequence[Passage], shared: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return the pairs of neighbours that can be compared.

    Args:
        shared: pairs of passages that have a name in common.
    """
    subjects = [topic(passage) for passage in passages]
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
    """Yield each name with a sentence of either passage that has it, and phrases of the first."""
    both = [sentences_of(passage) for passage in (pair.first, pair.other)]
    for name in pair.names:
        places = [[i for i, s in enumerate(sentences) if name in names(s)] for sentences in both]
        if all(places):
            first, second = both[0][places[0][0]], both[1][places[1][0]]
            known = f"{pair.first.title}\n{pair.other.title}\n{name}"
            for phrase in own_phrases(first, second, known):
                yield name, SentencePair(first, second, places[0][0], phrase)


def requests(pair: PassagePair, config: RunConfig) -> Iterator[Question]:
    """Yield the questions about two passages that need no model: about names, and comparisons."""
    first, other = pair.first, pair.other.id
    # a name that stands in many passages is asked about in other words by the next pair
    begin = rng_for(config.seed, "entities", first.id, other).randrange(len(ENTITIES))
    for name in pair.names:
        for turn in range(CROSS.count(config.questions)):
            text = ENTITIES[(begin + turn) % len(ENTITIES)].format(name)
            yield question_of(first, CROSS, Request(text), other)
    for turn in range(COMPARE.count(config.questions) if pair.is_compared else 0):
        template = COMPARISONS[turn % len(COMPARISONS)]
        text = template.format(topic(first), topic(pair.other))
        yield question_of(first, COMPARE, Request(text), other)
