"""Make training examples of answers, windows of passages, and regularization samples.

Prompts are encoded many at a time, which takes the tokenizer a fraction of the time; an example is
the same as if each were encoded alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any

from pdtrain.models.chat.chat_template import Chat, Prompt, joined
from pdtrain.records import UNSAID, Answer, Passage, Question, RegularizationSample, content_id

PROMPTS_AT_A_TIME = 512  # given to the tokenizer together


@dataclass(frozen=True, slots=True)
class Example:
    """Hold one answer as both sides read it; each prompt ends where the answer begins."""

    answer_id: str
    passage_id: str
    teacher_prompt: tuple[int, ...]
    student_prompt: tuple[int, ...]
    answer: tuple[int, ...]
    other_passage_id: str = ""  # the second passage that the teacher reads, if it reads two
    is_checked: bool = True  # see `records.Answer`
    is_unsaid: bool = False  # the answer says by rule that no document says it
    key: str = field(default="", compare=False, repr=False)  # see `teacher_key`; empty if unknown


def teacher_key(example: Example) -> str:
    """Return the hash of the tokens that the teacher reads and writes: 16 hexadecimal digits."""
    return example.key or content_id(example.teacher_prompt, example.answer)


def from_answers(
    passages: Iterable[Passage],
    questions: Iterable[Question],
    answers: Iterable[Answer],
    chat: Chat,
) -> list[Example]:
    """Return an example of every answer that has a token, in the order of the answers.

    Raises:
        ValueError: an answer's question or passage is not among those given.
    """
    texts = {passage.id: passage for passage in passages}
    asked = {question.id: question for question in questions}
    return list(each_of_answers(texts.get, asked.get, answers, chat))


def each_of_answers(
    passage_of: Callable[[str], Passage | None],
    question_of: Callable[[str], Question | None],
    answers: Iterable[Answer],
    chat: Chat,
) -> Iterator[Example]:
    """Yield an example of every answer that has a token, in the order of the answers.

    Args:
        passage_of: returns the passage with an id, if there is one.
        question_of: returns the question with an id, if there is one.
        answers: the answers.
        chat: makes the prompts.

    Raises:
        ValueError: the question or the passage of an answer is not there.
    """
    asks = _Prompts.of(chat)

    def prompts(answer: Answer) -> tuple[Question, list[Any]]:
        question, passage = question_of(answer.question_id), passage_of(answer.passage_id)
        if question and question.other_passage_id:
            other = passage_of(question.other_passage_id)
            passage = joined([passage, other]) if passage and other else None
        if question is None or passage is None:
            raise ValueError(
                "the answers are of other passages or questions; run `pdtrain questions CONFIG` "
                "and `pdtrain answers CONFIG` first, or `pdtrain run CONFIG` for all"
            )
        teacher = asks.teacher(passage, question.text, question.sentence)
        return question, [teacher, asks.student(question.text)]

    whole = (answer for answer in answers if answer.token_ids)
    while some := list(islice(whole, PROMPTS_AT_A_TIME)):
        asked = [prompts(answer) for answer in some]
        ids = iter(map(tuple, chat.encoded([one for _, pair in asked for one in pair])))
        for answer, (question, _) in zip(some, asked, strict=True):
            yield Example(
                answer.id,
                answer.passage_id,
                next(ids),
                next(ids),
                answer.token_ids,
                question.other_passage_id,
                answer.checked,
                question.kind == UNSAID,
            )


class _Prompts(Chat):
    """Return the prompts of a chat as they are, to be encoded together later."""

    @classmethod
    def of(cls, chat: Chat) -> _Prompts:
        return cls(**{known.name: getattr(chat, known.name) for known in fields(chat)})

    def encoded(self, prompts: Sequence[Prompt]) -> Any:
        return prompts


def _texts_encoded(chat: Chat, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the ids of plain texts, which begin and end as the tokenizer does by itself."""
    return [tuple(ids) for ids in chat.control.encode_all(texts, add_special_tokens=True)]


def from_windows(
    passages: Iterable[Passage], chat: Chat, window_tokens: int, overlap: int
) -> list[Example]:
    """Return the examples of `each_of_windows` as a list."""
    return list(each_of_windows(passages, chat, window_tokens, overlap))


def each_of_windows(
    passages: Iterable[Passage], chat: Chat, window_tokens: int, overlap: int
) -> Iterator[Example]:
    """Yield examples of the passages' plain texts, divided into windows that overlap.

    There is no question and no chat template. A window's first token (the tokenizer's start token,
    where it adds one) is the prompt, and the rest is the answer.

    Args:
        passages: the passages, in the order of the examples.
        chat: holds the tokenizer.
        window_tokens: tokens of a window.
        overlap: tokens that a window shares with the one before it.
    """
    stride, remaining = window_tokens - overlap, iter(passages)
    while some := list(islice(remaining, PROMPTS_AT_A_TIME)):
        texts = [passage.text for passage in some]
        for passage, ids in zip(some, _texts_encoded(chat, texts), strict=True):
            for start in range(0, max(1, len(ids) - overlap), stride):
                window = ids[start : start + window_tokens]
                if len(window) > 1:
                    name = content_id(passage.id, start, window)
                    yield Example(name, passage.id, window[:1], window[:1], window[1:])


def from_regularization(found: Iterable[RegularizationSample], chat: Chat) -> list[Example]:
    """Return the examples of `each_of_regularization` as a list."""
    return list(each_of_regularization(found, chat))


def each_of_regularization(found: Iterable[RegularizationSample], chat: Chat) -> Iterator[Example]:
    """Yield examples of what the base said, with the same prompt on both sides."""
    asks = _Prompts.of(chat)
    whole = (one for one in found if one.token_ids)
    while some := list(islice(whole, PROMPTS_AT_A_TIME)):
        is_text = [one.kind == "text" for one in some]
        opened = [one.prompt for one in some if one.kind == "text"]
        asked: list[Any] = [
            asks.teacher(one.in_view, one.prompt) if one.passages else asks.student(one.prompt)
            for one in some
            if one.kind != "text"
        ]
        of_texts = iter(_texts_encoded(chat, opened))
        of_chats = iter(map(tuple, chat.encoded(asked)))
        for one, plain in zip(some, is_text, strict=True):
            prompt = next(of_texts) if plain else next(of_chats)
            yield Example(one.id, f"retained {plain}", prompt, prompt, one.token_ids)
