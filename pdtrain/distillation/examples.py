"""Make training examples of answers, windows of passages, and regularization samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pdtrain.models.chat_template import Chat, joined
from pdtrain.records import Answer, Passage, Question, RegularizationSample, content_id


@dataclass(frozen=True, slots=True)
class Example:
    """Hold one answer as both sides read it; each prompt ends where the answer begins."""

    answer_id: str
    passage_id: str
    teacher_prompt: tuple[int, ...]
    student_prompt: tuple[int, ...]
    answer: tuple[int, ...]
    other_passage_id: str = ""  # the second passage that the teacher reads, if it reads two


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

    def example(answer: Answer) -> Example:
        question = asked.get(answer.question_id)
        other = question.other_passage_id if question else ""
        if question is None or not {answer.passage_id, other or answer.passage_id} <= texts.keys():
            raise ValueError(
                "the answers are of other passages or questions; run `pdtrain questions CONFIG` "
                "and `pdtrain answers CONFIG` first, or `pdtrain run CONFIG` for all"
            )
        passage = texts[answer.passage_id]
        if other:
            passage = joined([passage, texts[other]])
        return Example(
            answer.id,
            answer.passage_id,
            tuple(chat.teacher(passage, question.text, question.sentence)),
            tuple(chat.student(question.text)),
            answer.token_ids,
            other,
        )

    return [example(answer) for answer in answers if answer.token_ids]


def from_windows(
    passages: Iterable[Passage], chat: Chat, window_tokens: int, overlap: int
) -> list[Example]:
    """Return examples of the passages' plain texts, divided into windows that overlap.

    There is no question and no chat template. A window's first token (the tokenizer's start token,
    where it adds one) is the prompt, and the rest is the answer.

    Args:
        passages: the passages, in the order of the examples.
        chat: holds the tokenizer.
        window_tokens: tokens of a window.
        overlap: tokens that a window shares with the one before it.
    """
    found = []
    for passage in passages:
        ids = tuple(chat.tokenizer(passage.text)["input_ids"])
        stride = window_tokens - overlap
        for start in range(0, max(1, len(ids) - overlap), stride):
            window = ids[start : start + window_tokens]
            if len(window) > 1:
                name = content_id(passage.id, start, window)
                found.append(Example(name, passage.id, window[:1], window[:1], window[1:]))
    return found


def from_regularization(found: Iterable[RegularizationSample], chat: Chat) -> list[Example]:
    """Return examples of what the base said without a passage; both sides read the same."""

    def example(one: RegularizationSample) -> Example:
        is_text = one.kind == "text"
        prompt = tuple(
            chat.tokenizer(one.prompt)["input_ids"] if is_text else chat.student(one.prompt)
        )
        return Example(one.id, f"retained {is_text}", prompt, prompt, one.token_ids)

    return [example(one) for one in found if one.token_ids]
