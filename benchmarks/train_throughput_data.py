"""Answers to train on, made of real passages without a model: every sentence is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from pdtrain.config import RunConfig, from_dict
from pdtrain.distillation.examples import Example, from_answers
from pdtrain.documents.document import Document
from pdtrain.documents.splitting import split_document
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.records import Answer, Passage, Question, content_id, rng_for
from pdtrain.synthesis.question_kinds import fault, requests

WORDS = (150, 250)  # of a passage
ANSWER_TOKENS = (10, 40)
# ways to ask for a sentence: to complete it, to fill in a blank, to say something about its subject
WAYS = {
    "per_sentence": 0,
    "per_sentence_reverse": 0,
    "per_sentence_completions": 12,
    "per_sentence_blanks": 8,
    "per_passage_summaries": 0,
    "per_passage_lists": 0,
}


@dataclass(frozen=True)
class Workload:
    """Examples passage by passage, as many of each; and what the passages are."""

    config: RunConfig
    groups: list[list[Example]]
    vocab: int
    words: list[int]

    @property
    def examples(self) -> list[Example]:
        return [example for group in self.groups for example in group]

    def first(self, num_passages: int, per_passage: int | None = None) -> Workload:
        """Return a smaller workload: the first passages, and the first questions of each."""
        groups = [group[:per_passage] for group in self.groups[:num_passages]]
        return replace(self, groups=groups, words=self.words[:num_passages])


def config(**sections: dict[str, object]) -> RunConfig:
    """A run on the embedded model with the paper's loss: temperature 2, the mean by answer."""
    values: dict[str, object] = {
        "questions": WAYS | {"per_passage": 8, "per_name": 2},
        "model": {"device": "cpu", "dtype": "float32"},
        "loss": {"temperature": 2.0, "average": "answer"},
        "teacher": {"cache": False},  # the benchmark keeps caches of its own
    }
    return from_dict(values | sections)


def read_workload(path: Path, config: RunConfig, num_passages: int, per_passage: int) -> Workload:
    """The first passages of 150 to 250 words that give so many questions.

    Raises:
        ValueError: there are too few such passages.
    """
    tokenizer = load_tokenizer(config.model)
    chat = prove(tokenizer, config.prompts, None)
    groups, words = [], []
    for passage in passages(path, chat):
        examples = asked(passage, config, chat)
        if len(examples) >= per_passage:
            groups.append(examples[:per_passage])
            words.append(len(passage.text.split()))
        if len(groups) == num_passages:
            return Workload(config, groups, len(tokenizer), words)
    raise ValueError(
        f"{path} holds {len(groups)} passages of {WORDS[0]} to {WORDS[1]} words with "
        f"{per_passage} questions or more; {num_passages} were asked for"
    )


def passages(path: Path, chat: Chat) -> Iterator[Passage]:
    count = lambda text: len(chat.ids(text))  # noqa: E731
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = " ".join(row["passage"].split())
        if WORDS[0] <= len(text.split()) <= WORDS[1]:
            document = Document(row["id"], row.get("title", ""), text)
            yield from islice(split_document(document, 10**6, count), 1)


def asked(passage: Passage, config: RunConfig, chat: Chat) -> list[Example]:
    """Requests for the passage's sentences, mixed; each is answered by its sentence.

    The questions that stand in the file are for evaluation, and none of them is used.
    """
    questions, answers, seen = [], [], set()
    for question in requests(passage, config):
        start, end = passage.sentences[question.sentence]
        ids = (*chat.ids(passage.text[start:end]), chat.stop_ids[0])
        key = (question.text, ids)
        if not ANSWER_TOKENS[0] <= len(ids) <= ANSWER_TOKENS[1] or key in seen:
            continue
        if not fault(question, passage, set()):
            seen.add(key)
            questions.append(question)
            answers.append(_answer(question, ids))
    rng_for(0, passage.id).shuffle(answers)
    return from_answers([passage], questions, answers, chat)


def _answer(question: Question, ids: tuple[int, ...]) -> Answer:
    name = content_id(question.id, ids)
    return Answer(name, question.id, question.passage_id, "", ids, True)
