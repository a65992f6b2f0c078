"""Find questions and their answers in the columns that data sets have for them.

The columns are those of TRL (messages, or prompt and completion), of SQuAD and its kin (question,
answers, context), of multiple choice (question, choices, and which of them is right), of Alpaca
(instruction, input, output) and of ShareGPT (conversations).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUESTIONS = {  # the column of the question, and those that may hold its answer
    "question": ("answers", "answer", "response", "answerKey"),
    "prompt": ("completion", "response"),
    "instruction": ("output", "response"),
    "query": ("response", "answer", "answers"),
}
CHOICES = ("choices", "options")
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}
CONTEXTS = ("context", "passage")
SAID = ("text", "value", "aliases", "answer")  # what an object that is an answer holds it under
TWO_TEXTS = re.compile(r"""['"]\s+['"]""")  # Python would join them
ASKS, ANSWERS = ("user", "human"), ("assistant", "gpt")
MISSING = frozenset(("nan", "NaT", "<NA>"))  # as pandas writes it; "NaN" may be an answer
ABOUT = ("id", "title", "document")
COLUMNS = (
    *CHATS,
    *QUESTIONS,
    *dict.fromkeys(name for names in QUESTIONS.values() for name in names),
    *CHOICES,
    *CONTEXTS,
    "input",
    *ABOUT,
)


@dataclass(frozen=True)
class GivenQuestion:
    """Hold a question of a data set with its answers."""

    question: str
    answers: tuple[str, ...]  # none where the data set says that there is none
    context: str = ""  # the text that answers it, if the record has it
    title: str = ""  # of the context
    document: str = ""  # the name of the document that it is about, if the record says so
    id: str = ""

    @property
    def text(self) -> str:
        """Return the text that is to be learned: the context, or the question with its answer.

        It is empty where there is neither: a question alone says nothing.
        """
        asked = [self.question, *self.answers[:1]] if self.answers else []
        return self.context or "\n\n".join(asked)


def is_question(names: Sequence[str]) -> bool:
    """Return whether columns of these names hold questions and answers."""
    chat = any(name in names for name in CHATS)
    pairs = QUESTIONS.items()
    return chat or any(q in names and any(a in names for a in answers) for q, answers in pairs)


def articles_of(found: Any) -> list[Mapping[str, Any]]:
    """Return the articles of a JSON file like SQuAD's, with their paragraphs; none of another."""
    articles = found.get("data") if isinstance(found, Mapping) else None
    if not isinstance(articles, list) or not all(map(_is_article, articles)):
        return []
    return [
        {**article, "title": article["title"].replace("_", " ")}
        if isinstance(article.get("title"), str)
        else article
        for article in articles
    ]


def _is_article(value: Any) -> bool:
    paragraphs = value.get("paragraphs") if isinstance(value, Mapping) else None
    return isinstance(paragraphs, list) and all(
        isinstance(one, Mapping) and isinstance(one.get("context"), str) for one in paragraphs
    )


def asked_in(articles: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """Yield the questions of articles, each with the paragraph that answers it.

    What stands in the place of a question and is no object comes as it is.
    """
    for article in articles:
        for paragraph in article["paragraphs"]:
            about = {"context": paragraph["context"], "title": article.get("title")}
            for asked in paragraph.get("qas") or []:
                yield about | dict(asked) if isinstance(asked, Mapping) else asked


def question_of(record: Mapping[str, Any]) -> GivenQuestion | None:
    """Return the question of a record with its answers; None where it holds none.

    Of a chat, this is the first question and its answer: what follows often makes sense only after
    what was said before.
    """
    found = next((pair for pair in _pairs(record) if pair[0]), None)
    if found is None:
        return None
    question, answers = found
    about = {name: _line(record.get(name)) for name in ABOUT}
    return GivenQuestion(question, tuple(answers), _context(record), **about)


def chat_of(record: Mapping[str, Any]) -> str:
    """Return what both sides of a chat say, a paragraph a turn; nothing where there is none."""
    for column, keys in CHATS.items():
        said = [text for who, text in _turns(record.get(column), *keys) if who in ASKS + ANSWERS]
        if said:
            return "\n\n".join(said)
    return ""


def _pairs(record: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for column, keys in CHATS.items():
        yield _first_turn(_turns(record.get(column), *keys))
    for column, names in QUESTIONS.items():
        asked = record.get(column)
        there = [name for name in names if name in record]
        if not there or asked is None:
            continue
        name = next((name for name in there if not is_empty(record[name])), there[0])
        if isinstance(asked, str):
            more = record.get("input") if column == "instruction" else None
            said = _unwrapped(record[name]) if name == "answers" else record[name]
            given = _turns(said, "role", "content")
            answers = [text for _, text in given[:1]] or _chosen(record, said) or _answers(said)
            if not (answers or given or is_empty(said)):
                continue  # they are in a form that is not known
            yield "\n\n".join([asked.strip(), *_texts(more)]), answers
        else:  # both are chats
            given = _turns(record[name], "role", "content")
            yield _first_turn([*_turns(asked, "role", "content"), *given])


def _turns(value: Any, who: str, what: str) -> list[tuple[str, str]]:
    """Return the turns of a chat as (role, text); none where the value is no chat."""
    if not isinstance(value, list | tuple):
        return []
    return [
        (str(turn[who]), "\n\n".join(_texts(turn[what])))
        for turn in value
        if isinstance(turn, Mapping) and who in turn and what in turn
    ]


def _first_turn(turns: Sequence[tuple[str, str]]) -> tuple[str, list[str]]:
    place = next((n for n, (role, _) in enumerate(turns) if role in ASKS), None)
    if place is None or place + 1 >= len(turns) or turns[place + 1][0] not in ANSWERS:
        return "", []
    return turns[place][1], _texts(turns[place + 1][1])


def _chosen(record: Mapping[str, Any], key: Any) -> list[str]:
    """Return the text of the choice that a key names; none where the record has no such choice.

    A key is a label such as "B", or the place of the choice, from 0.
    """
    choices = next((found for name in CHOICES if (found := record.get(name))), None)
    key = next(iter(key), None) if isinstance(key, list | tuple) and len(key) == 1 else key
    if isinstance(choices, Mapping) and {"text", "label"} <= choices.keys():
        labels, texts = choices["label"] or (), choices["text"] or ()
        choices = dict(zip(map(str, labels), texts, strict=False))
    if isinstance(choices, Mapping):
        return _texts(choices.get(str(key)))
    if not isinstance(choices, list | tuple) or isinstance(key, bool) or key in choices:
        return []
    if isinstance(key, str):
        key = LABELS.find(key.upper()) if len(key) == 1 else -1
    is_place = isinstance(key, int | float) and key in range(len(choices))
    return _texts(choices[int(key)]) if is_place else []


def _answers(value: Any) -> list[str]:
    """Return the answers of a value, which may be true or false where it is asked whether.

    What programs write for a missing value is none; "none" may be an answer.
    """
    if isinstance(value, bool):
        return [in_words(value)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _answers(one)]
    return [text for text in _texts(value) if text not in MISSING]


def _unwrapped(value: Any) -> Any:
    """Return the list of texts, or the object of answers, that a cell of a table writes out.

    What is none, such as a text in square brackets, stays as it is.
    """
    is_one = isinstance(value, str) and value.strip().startswith(("[", "{"))
    if not is_one or TWO_TEXTS.search(value):
        return value
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    is_list = isinstance(found, list) and all(isinstance(one, str) for one in found)
    is_object = isinstance(found, dict) and isinstance(found.get("text"), list)
    return found if is_list or is_object else value


def in_words(value: object) -> str:
    """Return a value as an answer says it: "yes" for true."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def is_empty(value: Any) -> bool:
    """Return whether a value says that there is no answer: nothing, no text, or a list of none."""
    if isinstance(value, Mapping):
        known = [value[name] for name in SAID if name in value]
        return all(map(is_empty, known)) if known else not value
    if isinstance(value, str):
        return not value.strip() or value.strip() in MISSING
    if isinstance(value, list | tuple):
        return all(map(is_empty, value))
    return value is None or value != value


def _texts(value: Any) -> list[str]:
    """Return the texts of a value: one, a list of them, or a mapping that holds them."""
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    if isinstance(value, bool) or value is None or value != value:
        return []
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, Mapping):
        names = SAID[:1] if _texts(value.get(SAID[0])) else SAID
        return list(dict.fromkeys(text for name in names for text in _texts(value.get(name))))
    if isinstance(value, Sequence):
        return [text for one in value for text in _texts(one)]
    return []


def _context(record: Mapping[str, Any]) -> str:
    """Return the text that a record gives with its question; lists of paragraphs are joined."""
    for column in CONTEXTS:
        value = record.get(column)
        if isinstance(value, Mapping):  # HotpotQA: sentences by paragraph
            paragraphs = value.get("sentences") or value.get("contexts") or []
            value = ["".join(one) if isinstance(one, list) else one for one in paragraphs]
        if texts := _texts(value):
            return "\n\n".join(texts)
    return ""


def _line(value: Any) -> str:
    return " ".join(str(value).split()) if isinstance(value, str | int) else ""
