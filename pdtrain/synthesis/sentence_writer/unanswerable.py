"""Ask about named things what no document says of them, with an answer that says just that.

A model that only ever learns answers learns to answer everything. These questions ask for an
attribute, such as an age or a price, of the passage's subject and of what else it names. An
attribute is left out where a passage that has the name, or one of the same document, holds a word
that goes with it: the answer might stand there. The words are English, as all of this writer.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from zlib import crc32

from pdtrain.records import Passage, content_id, rng_for
from pdtrain.synthesis.sentence_writer.question_templates import Request
from pdtrain.synthesis.text import (
    content_words,
    names,
    normalise,
    stem,
    stems_of,
    subject,
    words,
)

ANSWER = "The documents do not say {}."
PLACES = 1 << 18  # names share a place in the table where their hashes do
MOST_NAMES = 64  # of a passage that are asked about, besides its subject
YEAR = "<year>"  # stands for a number of four digits


class Attribute(NamedTuple):
    """Hold how an attribute of {} is asked for, how it is called, and the words that go with it."""

    question: str
    unsaid: str
    words: str


ATTRIBUTES = (
    Attribute(
        "How old is {}?",
        "how old {} is",
        "age aged old oldest young birth birthday born founded opened built began since " + YEAR,
    ),
    Attribute(
        "Where was {} first seen?", "where {} was first seen", "born birthplace first seen found"
    ),
    Attribute(
        "What does {} weigh?",
        "what {} weighs",
        "weigh weighed weight heavy light kilogram kg pound ton tonne gram ounce",
    ),
    Attribute(
        "How tall is {}?",
        "how tall {} is",
        "tall high height metre meter foot feet inch long short size large small tower",
    ),
    Attribute(
        "Which colour is {}?",
        "which colour {} is",
        "colour color coloured painted red blue green yellow white black brown grey gray golden "
        "silver orange purple pink dark",
    ),
    Attribute(
        "How many children does {} have?",
        "how many children {} has",
        "child children son daughter family heir",
    ),
    Attribute(
        "Who is the mother of {}?", "who the mother of {} is", "mother parent father family born"
    ),
    Attribute(
        "To whom was {} married?",
        "to whom {} was married",
        "married marry marriage wife husband spouse widow wedding bride",
    ),
    Attribute(
        "At which school was {} a pupil?",
        "at which school {} was a pupil",
        "school university college academy studied student pupil degree taught trained education",
    ),
    Attribute(
        "How much money does {} bring in every year?",
        "how much money {} brings in every year",
        "money profit income revenue earn earned earning salary dollar euro cost price sold sale",
    ),
    Attribute(
        "What is the telephone number of {}?",
        "what the telephone number of {} is",
        "telephone phone call number",
    ),
    Attribute(
        "What is the favourite song of {}?",
        "what the favourite song of {} is",
        "song music sing sang tune favourite favorite",
    ),
    Attribute(
        "How many visitors come to see {} every month?",
        "how many visitors come to see {} every month",
        "visitor visit visited tourist guest audience month",
    ),
    Attribute(
        "Which prize has been given to {}?",
        "which prize has been given to {}",
        "prize award awarded medal honour honoured honored trophy won winner",
    ),
    Attribute(
        "Who painted a portrait of {}?",
        "who painted a portrait of {}",
        "paint painted painter portrait picture artist drew",
    ),
    Attribute(
        "What was {} called before?",
        "what {} was called before",
        "named called renamed formerly name nickname known title",
    ),
    Attribute(
        "How far is {} from the capital?",
        "how far {} is from the capital",
        "far distance kilometre kilometer km mile capital",
    ),
    Attribute(
        "Which newspaper wrote about {}?",
        "which newspaper wrote about {}",
        "newspaper paper press journal journalist reporter magazine",
    ),
    Attribute(
        "Why was {} moved to another town?",
        "that {} was moved to another town",
        "moved move town relocated left",
    ),
    Attribute(
        "Who stole {}?", "that anybody stole {}", "stole stolen steal theft thief robbed robber"
    ),
    Attribute(
        "In which year did {} end?",
        "in which year {} ended",
        "ended end closed died death dead sunk wrecked dissolved burned destroyed until last",
    ),
    Attribute(
        "Which illness did {} have?",
        "which illness {} had",
        "illness ill sick disease died death fever doctor hospital patient health",
    ),
    Attribute(
        "How many people work for {}?",
        "how many people work for {}",
        "work worker worked employee employ staff crew team member people person",
    ),
    Attribute(
        "How fast is {}?", "how fast {} is", "fast faster fastest speed slow quick knot per hour"
    ),
    Attribute(
        "Who lent {} the first money?",
        "who lent {} the first money",
        "lent lend loan bank borrowed money paid debt fortune gave",
    ),
    Attribute(
        "On which street does the cousin of {} live?",
        "that {} has a cousin",
        "cousin street lane live lived relative family",
    ),
)
STEMS = tuple(frozenset(map(stem, words(a.words.replace(YEAR, "")))) for a in ATTRIBUTES)


class Mentions:
    """Hold which attributes the passages that have a name, or are of a document, may tell.

    Args:
        passages: all of the run. They are read once, and none is held: the memory is 2 MiB however
            many there are, and names whose hashes share a place lose some questions by that.
    """

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._told = array("Q", bytes(8 * PLACES))
        for passage in passages:
            told = _told(passage)
            for name in (*_things(passage), passage.document_id):
                self._told[_place(name)] |= told

    def unsaid(self, passage: Passage, name: str) -> list[Attribute]:
        """Return the attributes of a thing in a passage that nothing may tell."""
        told = self._told[_place(name)] | self._told[_place(passage.document_id)]
        return [one for number, one in enumerate(ATTRIBUTES) if not told >> number & 1]

    def requests(self, passage: Passage, count: int, seed: int) -> Iterator[Request]:
        """Yield so many questions about a passage's subject and names, in turn, with their answers.

        There are fewer where nothing is left to ask. The answer is the request's phrase.
        """
        things = _things(passage)
        left = {name: self.unsaid(passage, name) for name in things}
        rng = rng_for(seed, "unsaid", passage.id)
        for attributes in left.values():
            rng.shuffle(attributes)
        while count > 0 and any(left.values()):
            for name in things:
                if count > 0 and left[name]:
                    asked = left[name].pop()
                    count -= 1
                    answer = ANSWER.format(asked.unsaid.format(name))
                    yield Request(asked.question.format(name), -1, answer)

    def key(self, passage: Passage) -> str:
        """Return a hash of the passage and of all that decides which questions it gets."""
        told = [
            [name, [a.question for a in self.unsaid(passage, name)]] for name in _things(passage)
        ]
        return content_id(passage.id, told)


def _things(passage: Passage) -> list[str]:
    """Return the subject of a passage and the other names in it, which share no word with it."""
    about = subject(passage)
    known = content_words(about)
    found = {normalise(n): n for n in names(passage.text) if not content_words(n) & known}
    return [*([about] if known else []), *[*found.values()][:MOST_NAMES]]


def _told(passage: Passage) -> int:
    """Return a bit for each attribute that goes with a word of a passage."""
    stems = stems_of(passage.text) | stems_of(passage.title)
    has_year = any(len(word) == 4 and word.isdigit() for word in stems)
    return sum(
        1 << number
        for number, (attribute, known) in enumerate(zip(ATTRIBUTES, STEMS, strict=True))
        if known & stems or (has_year and YEAR in attribute.words)
    )


def _place(name: str) -> int:
    return crc32(normalise(name).encode()) % PLACES
