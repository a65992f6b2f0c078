"""Find the names in a text, and what a passage is called where all of it is asked about.

The rules were made for English. Names are found in Latin, Greek and Cyrillic script, which have
capitals. Words are expected in composed form (NFC): a combining mark ends a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import regex

from pdtrain.documents.document import Document
from pdtrain.documents.words import ONE_LETTER
from pdtrain.records import Passage, content_id

UPPER = r"\b[A-ZÀ-ÖØ-ÞΑ-ΩЀ-Я]"
NAME = re.compile(rf"{UPPER}[\w'’-]*(?:\s+(?:(?:of|the|and|de|von|van)\s+)?{UPPER}[\w'’-]*)*")
WORD = re.compile(r"\w+(?:['’]\w+)*")
BARE_WORD = regex.compile(r"[\w\p{M}]+(?:['’][\w\p{M}]+)*")  # in any script
# words of English questions and answers that say nothing about their subject
FUNCTION_WORDS = frozenset(
    (
        "a about also an and any are as at be been being by can could did do does for from had "
        "each every has have her his how i in is it its like me must my no not of on or our she "
        "should so some such "
        "than that the their them there these they this those to up us was we were what when "
        "where which who whom whose why will with would you your he if into out over then very "
        "tell name called named answer question one sentence"
    ).split()
)
HEADINGS_NAMED = 2  # of those above a passage, the innermost


def words(text: str) -> list[str]:
    """Return the words of a text, as they are written."""
    return WORD.findall(text)


def content_words(text: str) -> set[str]:
    """Return the stems of the words that are not function words."""
    return {stem(w) for w in words(text) if w.lower() not in FUNCTION_WORDS}


def stem(word: str) -> str:
    """Return a word in lower case, without a possessive or plural s."""
    word = re.sub(r"['’]s?$", "", word.lower())
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def names(text: str) -> list[str]:
    """Return the runs of capitalised words, such as "Tobias Wells", in order and once each.

    A word that opens a sentence counts only in front of another capitalised one.
    """
    return list(dict.fromkeys(_names(text)))


def _names(text: str) -> Iterator[str]:
    for match in NAME.finditer(text):
        name = re.sub(r"['’]s$", "", match.group())
        if _opens_sentence(text, match.start()):
            name = re.sub(r"^(?:The|A|An|In|On|At|For|Every|Many|It|He|She|They)\s+", "", name)
            if " " not in name:
                continue
        yield name


def _opens_sentence(text: str, start: int) -> bool:
    """Return whether nothing, a line break or the end of a sentence stands before a place."""
    before = start
    while before and text[before - 1].isspace():
        before -= 1
        if text[before] == "\n":
            return True
    return not before or text[before - 1] in ".!?:"


def subject_of(title: str, text: str) -> str:
    """Return what a text with a title is about, as it writes it: "the Copper Heron" where it does.

    A title that the text never mentions, such as a file's name, gives way to the first name in the
    text. It is empty where there is neither.
    """
    bare = title.removeprefix("The ")
    if not _shares_words(bare, text):
        return next(_names(text), title)
    if re.search(rf"\bthe {re.escape(bare)}\b", text, re.IGNORECASE):
        return f"the {bare}"
    return title


def _shares_words(title: str, text: str) -> bool:
    """Return whether a title and a text have a content word in common."""
    wanted = content_words(title)
    low = text.lower()
    found = [word for word in wanted if word in low]
    # most titles stand in their texts or do not; the words are found where it is not clear, but in
    # scripts that put no blanks between them
    return any(map(ONE_LETTER.search, found)) or (
        bool(found) and not wanted.isdisjoint(content_words(text))
    )


def with_topics(document: Document, passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages of a document with their topics, which differ from one another.

    A passage that is not called by the document's title alone is called by the headings that it
    stands under or begins with, too. Where two would be called alike, the later one has no topic.
    """
    opening = {
        block.start: document.text[block.start : block.end]
        for block in document.blocks
        if block.kind == "heading"
    }
    found: list[Passage] = []
    seen: set[str] = set()
    for passage in passages:
        usual = topic = subject_of(passage.title, passage.text)
        place = [*passage.section, *([opening[passage.start]] if passage.start in opening else [])]
        if len(passages) > 1 and place and is_titled(passage, usual):
            topic = ": ".join([passage.title, *place[-HEADINGS_NAMED:]])
        if bare(topic) in seen:
            topic = ""
        seen.add(bare(topic))
        found.append(passage if topic == usual else with_topic(passage, topic))
    return found


def bare(topic: str) -> str:
    """Return the words of a topic without case, marks and an article, which tell none apart."""
    return " ".join(BARE_WORD.findall(topic.casefold())).removeprefix("the ")


def is_titled(passage: Passage, topic: str) -> bool:
    """Return whether a topic begins with the title, and is not a name that the text has instead."""
    title = bare(passage.title)
    return bool(title) and bare(topic).startswith(title)


def with_topic(passage: Passage, topic: str) -> Passage:
    """Return a passage that requests about all of it call so, under an id of its own."""
    return replace(passage, id=content_id(passage.id, topic), topic=topic)


def topic_of(passage: Passage) -> str:
    """Return what a request about all of a passage calls it; empty where it has no such name."""
    known = passage.topic
    return subject_of(passage.title, passage.text) if known is None else known
