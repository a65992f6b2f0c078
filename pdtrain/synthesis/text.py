"""Find phrases and claims in a text, by rules of thumb.

The rules were made for English. Names are found in Latin, Greek and Cyrillic script, which have
capitals. Words are expected in composed form (NFC): a combining mark ends a word.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from functools import lru_cache

from pdtrain.documents.naming.subjects import FUNCTION_WORDS, WORD, subject_of
from pdtrain.documents.naming.subjects import content_words as content_words
from pdtrain.documents.naming.subjects import names as names
from pdtrain.documents.naming.subjects import stem as stem
from pdtrain.documents.naming.subjects import words as words
from pdtrain.records import Passage

KEPT = 64  # passages whose words are remembered while questions about them are checked


def first_line(reply: str) -> str:
    """Return the first line of what a model says, where it is asked for one."""
    return reply.strip().split("\n")[0].strip()


def phrases(sentence: str) -> list[str]:
    """Return what a question about a sentence could ask for, in the order of the sentence.

    These are its names, its numbers and runs of other words. A run ends at a function word, a name
    or a punctuation mark. Of the runs of one word only the sentence's last counts, since most
    others are verbs.
    """
    named = set(names(sentence))
    runs: list[list[str]] = [[]]
    known = "|".join(re.escape(name) for name in sorted(named, key=lambda n: (-len(n), n)))
    pieces = rf"(?<!\w)(?:{known or '(?!)'})(?!\w)|\d+(?:[.,:]\d+)+|[\w'’-]+|[^\w\s]"
    for piece in re.findall(pieces, sentence):
        if piece in named:
            runs += [[piece], []]
        elif not WORD.match(piece) or piece.lower() in FUNCTION_WORDS:
            runs.append([])
        else:
            runs[-1].append(piece)
    runs = [run for run in runs if run]
    found = [
        " ".join(run)
        for place, run in enumerate(runs, 1)
        if len(run) > 1 or run[0] in named or run[0][0].isdigit() or place == len(runs)
    ]
    return list(dict.fromkeys(found))


def beginning(sentence: str, share: float) -> str:
    """Return the first words of a sentence, about a share of them; none where too few are left."""
    ends = [match.end() for match in re.finditer(r"\S+", sentence)]
    num_words = max(3, round(share * len(ends)))
    return sentence[: ends[num_words - 1]].lstrip() if num_words <= len(ends) - 2 else ""


def claims(text: str) -> set[str]:
    """Return the stems of a text's names and numbers, which its writer must know from somewhere."""
    named = {stem(w) for name in names(text) for w in words(name)} - FUNCTION_WORDS
    return named | {stem(w) for w in words(text) if w[0].isdigit()}


ARTICLES = re.compile(r"\b(a|an|the)\b")


PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Normalise a text as SQuAD does: lower case, no punctuation, no articles, single blanks."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return SQuAD's token F1, from 0 to 1: the best over the gold answers."""
    return max(_f1(normalise(prediction).split(), normalise(a).split()) for a in answers)


def _f1(predicted: list[str], gold: list[str]) -> float:
    common = sum((Counter(predicted) & Counter(gold)).values())
    if not common:
        return float(predicted == gold)
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


# --- What a passage says, and about what --------------------------------------------------------


def sentences_of(passage: Passage) -> list[str]:
    """Return the texts of a passage's sentences."""
    return [passage.text[start:end] for start, end in passage.sentences]


def phrases_in_turn(sentence: str, title: str) -> list[str]:
    """Return the phrases of a sentence in the order in which to ask for them, the last first.

    Each comes twice, except those of the title, which most sentences name: they come last and
    once. Whoever asks for more goes through the list again.
    """
    found = [phrase for phrase in phrases(sentence)[::-1] if content_words(phrase)]
    low = title.lower()
    known = [phrase for phrase in found if phrase.lower() in low]
    others = [phrase for phrase in found if phrase.lower() not in low]
    return [*others, *others, *known]


def subject_in_turn(sentence: str, passage: Passage) -> list[str]:
    """Return what a sentence calls the passage's subject; nothing where it does not name it.

    A sentence that opens with "it" or "he" may be about anything that was named before.
    """
    found = [phrase for phrase in phrases(sentence) if content_words(phrase)]
    return [phrase for phrase in found if phrase.lower() in passage.title.lower()]


def subject(passage: Passage) -> str:
    """Return what the passage is about, as `subject_of` says; not what tells it from others."""
    return _subject(passage.title, passage.text)


_subject = lru_cache(maxsize=KEPT)(subject_of)


def topic(passage: Passage) -> str:
    """Return what a request about all of the passage calls it; empty where it has no such name."""
    return subject(passage) if passage.topic is None else passage.topic


def among(found: Iterable[str], known: Iterable[Set[str]]) -> set[str]:
    """Return those words that are in any of some sets, in time that the words alone decide.

    A passage's words are many, and a set of all that is known would be made for every question.
    """
    sets = list(known)
    return {word for word in found if any(word in one for one in sets)}


@lru_cache(maxsize=KEPT)
def stems_of(text: str) -> frozenset[str]:
    """Return the stems of all words of a passage's text, which every question is held against."""
    return frozenset(stem(word) for word in words(text))


@lru_cache(maxsize=KEPT)
def content_words_of(text: str) -> frozenset[str]:
    """Return the content words of a passage's text, which every question is held against."""
    return frozenset(content_words(text))
