"""Define the knobs of questions, answers and prompts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Literal

from pdtrain.schema.checks import ASKS_MODEL, decides, require
from pdtrain.schema.generation import SamplingConfig


def how_many(default: int, wordings: int | None = None) -> Any:
    """Return a knob that says how many questions of one kind are asked for.

    Args:
        wordings: of the kind's requests, if its count has a limit: a larger count would only repeat
            them.
    """
    return field(default=default, metadata={"wordings": wordings})


@dataclass(frozen=True)
class QuestionConfig:
    """Say how many questions of each kind are asked, and which are dropped."""

    per_sentence: int = how_many(8)  # questions about each sentence that ask for one of its phrases
    # questions that ask which subject a sentence is true of, if it names one
    per_sentence_reverse: int = how_many(1)
    per_sentence_completions: int = how_many(2)  # requests to finish a sentence from its beginning
    # requests to fill in a phrase that is left out of a sentence
    per_sentence_blanks: int = how_many(2)
    # requests that name a sentence's subject, or a name in it, and a word or two of it, its answer
    per_sentence_cues: int = how_many(0)
    # requests to tell about the passage's subject, which take its sentences in turn
    per_passage: int = how_many(8, wordings=8)
    per_name: int = how_many(2)  # requests about each person, place or thing that the passage names
    # requests to sum up all that the passage says
    per_passage_summaries: int = how_many(1, wordings=4)
    per_passage_lists: int = how_many(1, wordings=4)  # requests to list the passage's facts
    # questions about each two sentences of a passage that share a name or the subject
    per_pair: int = how_many(1)
    # for each name that occurs in several passages: this many requests and this many questions
    # about it in each of these passages and the next one; the teacher reads both
    per_entity: int = how_many(1)
    # requests to compare the passage's subject with that of another passage; a small teacher
    # compares badly
    per_passage_comparisons: int = how_many(0)
    # questions about each passage's subject and names for what no document says of them; the
    # answer says so. They are asked and answered by rules for English, without the model
    per_passage_unanswerable: int = field(default=0, metadata={"wordings": None, **decides()})
    # questions about each passage that are asked without a plan, as the paper does
    blind: int = how_many(0)
    # blind questions that one call asks for: 5 as in the paper, or 1, after examples, for a model
    # that is too small for 5
    blind_a_call: int = 5
    # who writes them. sentence: rules of thumb for plain English, and a small model's wording; the
    # knobs above are its. model: a capable model, as JSON, in the language of the text; the six
    # knobs below are its. auto: sentence for the embedded model, else model
    writer: Literal["auto", "sentence", "model"] = field(default="sentence", metadata=decides())
    # questions that cite each sentence, at least; sentences with fewer are asked about again
    model_per_sentence: int = field(default=3, metadata=decides())
    # questions of each kind about whole passages, such as lists, summaries and unanswerable ones
    model_per_passage: int = field(default=1, metadata=decides())
    # questions of each kind about two passages that share rare words: one that needs both, and a
    # comparison; the teacher reads both
    model_per_pair: int = field(default=0, metadata=decides())
    model_tokens: int = field(default=1536, metadata=decides())  # a reply has at most this many
    # language to write in by ISO 639-1, such as de; empty: that of each passage
    language: str = field(default="", metadata=decides())
    # folder of prompts that take the place of the package's, in pdtrain/synthesis/asking/prompts
    prompts: str = field(default="", metadata=decides())
    # a question is dropped if its words are at least this similar to those of another question
    # about its passage, or of a held-out one (Jaccard similarity of the sets of word stems, without
    # articles); 1 drops only equal questions
    near_duplicate: float = field(default=0.9, metadata=decides("questions", "retain", "quiz"))
    # a data set of questions and answers about the documents, which are asked instead of generated
    # ones: .jsonl, .json, .csv, .parquet or .arrow, or a folder of these. docs/own-documents.md has
    # the columns
    given: str = field(default="", metadata=decides())
    # ask the generated ones, too
    given_and_generated: bool = field(default=False, metadata=decides())
    # what the student learns of a given question: `keep` its own answer, as it stands, `sample`
    # what the teacher says when it reads the passage
    given_answers: Literal["keep", "sample"] = field(default="keep", metadata=decides())
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.8, top_k=50, max_new_tokens=40),
        metadata=decides("questions", "quiz"),
    )

    def __post_init__(self) -> None:
        only_given = bool(self.given) and not self.given_and_generated
        require(
            min(self.counts().values()) >= 0 and (sum(self.counts().values()) > 0 or only_given),
            f"questions.{', '.join(self.counts())} must be >= 0 and not all 0, got "
            f"{', '.join(map(str, self.counts().values()))}",
        )
        for f in fields(self):
            value, most = getattr(self, f.name), f.metadata.get("wordings")
            require(
                most is None or value <= most,
                f"questions.{f.name} must be at most {most}, for there are so many wordings, got "
                f"{value}; questions.per_sentence asks for more of each sentence",
            )
        for name, least in (
            ("model_per_sentence", 1),
            ("model_per_passage", 0),
            ("model_per_pair", 0),
            ("model_tokens", 64),
        ):
            value = getattr(self, name)
            require(value >= least, f"questions.{name} must be at least {least}, got {value}")
        require(
            not self.language or re.fullmatch("[a-z]{2}", self.language) is not None,
            "questions.language must be a code of two lower-case letters (ISO 639-1), such as de, "
            f"or empty for the language of each passage, got {self.language!r}",
        )
        require(
            self.blind_a_call in (1, 5),
            f"questions.blind_a_call must be 5, as in the paper, or 1, got {self.blind_a_call}",
        )
        require(
            0 < self.near_duplicate <= 1,
            "questions.near_duplicate must be in (0, 1], 1 to drop equal questions alone, got "
            f"{self.near_duplicate}",
        )

    def counts(self) -> dict[str, int]:
        """Return the knobs that say how many questions of a kind are asked for."""
        return {f.name: getattr(self, f.name) for f in fields(self) if "wordings" in f.metadata}


@dataclass(frozen=True)
class AnswerConfig:
    """Say how questions are answered and which answers are kept."""

    per_question: int = 1  # answers sampled to each question; the same text twice is kept once
    # a request for a whole sentence, and a question whose sampled answers were all dropped, is
    # answered by the sentence itself; the student then learns the teacher's distributions on it
    # (and a share of its own tokens, see loss.labels_for). asked: a request is, but no question for
    # one fact, so that reciting is learned where it is asked for
    quote: Literal[True, False, "asked"] = True
    # a question that asks for a phrase of a sentence is also answered by that phrase alone, so that
    # the teacher's distributions along a short answer are learned beside those along a sentence;
    # train.objective=sft learns the phrase as given, and loss.labels a share of it; see
    # loss.labels_for
    spans: bool = False
    grounded: bool = True  # drop answers that are not about the sentence that was asked about
    # keep sampled answers that sampling.max_new_tokens cut off, which have no end to be learned; if
    # false, they are dropped, as those that fail a check are
    unfinished: bool = field(default=True, metadata=decides())
    attempts: int = 3  # how often a question is put to the teacher until an answer is kept
    # further samples of each answer to a question that asks for no phrase and is not quoted; the
    # answer is dropped if fewer than half of them agree with it
    checks: int = 1
    # whether two answers agree, here and for `mark_known`, is told by their words (or letters, in
    # questions of a capable model's writer), or asked of the base as a judge
    agreement: Literal["words", "judge"] = field(default="words", metadata=decides())
    # no further attempts are made once a sentence has this many answers, quotes included
    enough_per_sentence: int = 6
    # ask the base each question without its passage, too, and mark the answers that say about the
    # same as `known`; they are kept, and trained on like the others
    mark_known: bool = field(default=False, metadata=decides())
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.5, top_k=50, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        for name in ("per_question", "attempts", "enough_per_sentence"):
            value = getattr(self, name)
            require(value > 0, f"answers.{name} must be > 0, got {value}")
        require(self.checks >= 0, f"answers.checks must be >= 0 (0 is off), got {self.checks}")


@dataclass(frozen=True)
class PromptConfig:
    """Hold the texts that are put before the model.

    `teacher` is filled with {title}, {passage}, {focus} and {question}. {focus} is the text `focus`
    with the {sentence} that a generated question is about, and is empty for other questions.
    """

    # system text of both sides
    system: str = field(
        default="Answer the question in one short sentence.",
        metadata=decides(
            "answers", "retain", "teacher", "train", "predictions", "forgetting", "quiz"
        ),
    )
    # what the teacher reads
    teacher: str = (
        "{passage}\n\n{focus}Using only the text above, answer in one short sentence: {question}"
    )
    # what points the teacher to the sentence that a question is about
    focus: str = "{sentence}\n\n"
    # the request for a question; the examples that follow it show what is meant
    ask: str = field(
        default="Write a question about the sentence. The given answer must answer it.",
        metadata=decides("questions", "quiz"),
    )

    # YYYY-MM-DD, for chat templates that write today's date: a prompt must not change at midnight,
    # nor differ between ranks
    date: str = field(
        default="2026-01-01",
        metadata=decides(*ASKS_MODEL),
    )

    def __post_init__(self) -> None:
        try:
            date.fromisoformat(self.date)
        except ValueError:
            raise ValueError(
                f"prompts.date must be a date such as 2026-01-31, got {self.date!r}"
            ) from None
        try:
            self.teacher.format(title="", passage="", focus="", question="")
            self.focus.format(sentence="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                "prompts.teacher may hold {title}, {passage}, {focus} and {question}, and "
                f"prompts.focus {{sentence}}; write other braces twice. Found {error}"
            ) from None
        for name in ("passage", "question"):
            require(
                self.teacher.count(f"{{{name}}}") == 1,
                f"prompts.teacher must contain {{{name}}} once, which the teacher then sees once",
            )
