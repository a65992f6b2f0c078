"""Answer questions with the base model, which has the passage in view, and keep its token ids.

Where a question asks for a sentence of the passage as it stands, or no sampled answer passed the
checks, the sentence that the question is about is the answer: a small teacher often rambles, and
what the student is to learn are the teacher's distributions on the sentence, which it has in view.
With `answers.quote=asked` that holds for requests alone, not for questions for one fact. A sentence
in place of answers that were dropped is marked as not checked, and so is a phrase (`answers.spans`)
that a question was written for while the teacher's own answers to it were dropped: nothing says
that they fit the question.

An answer must come from the passage (`ungrounded`). Where the question asked for a phrase, the
answer must hold it. Where it asked for none, `answers.checks` further samples must agree with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.documents.words import ONE_LETTER, holds, words
from pdtrain.files.spans import Renamed
from pdtrain.generation.backend import Backend, open_backend
from pdtrain.generation.sampling import Completion
from pdtrain.models.base import fingerprint
from pdtrain.models.chat.chat_template import joined
from pdtrain.processes.shares import ALONE, Share
from pdtrain.progress import say
from pdtrain.records import Answer, Passage, Question, content_id, seed_for
from pdtrain.stage import output_hash
from pdtrain.storage import hash_json
from pdtrain.synthesis import agreement, coverage
from pdtrain.synthesis.filters import ungrounded
from pdtrain.synthesis.given import answer_ids
from pdtrain.synthesis.question_kinds import GIVEN, kind_of
from pdtrain.synthesis.text import content_words
from pdtrain.synthesis.units import read_with, refuse_others, run, stored

VERSION = 8  # part of the input hash: raise it when the same questions would get other answers
GIVEN_VERSION = 2  # the same of sampled answers to given questions


def collect(config: RunConfig, backend: Backend | None = None, share: Share = ALONE) -> None:
    """Run the `answers` stage: answer every question of the run `answers.per_question` times.

    Args:
        backend: of the base; opened from the config, once there is something to do, by default.
        share: this process's part of the passages.
    """
    if config.train.objective == "raw_text":
        say("answers: skipped, train.objective=raw_text reads passages alone")
        return
    output_hash(config.run.questions_folder)  # or an error that says what to run
    passages, asked = stored(config.run)
    _collect(config.run.answers_folder, config, passages, asked, backend, share)
    if share.leads:
        coverage.report(config.run, "answers")
        if config.answers.mark_known:
            agreement.say_known(config.run.answers_folder)


def collect_into(
    folder: Path,
    config: RunConfig,
    passages: Mapping[str, Passage],
    questions: Iterable[Question],
    backend: Backend | None = None,
    share: Share = ALONE,
) -> None:
    """Answer these questions and write the answers to a folder, as a stage that can be resumed.

    Args:
        passages: all that the questions are about, by id.
        questions: to be answered; those that the teacher reads the same passages for go together.
        backend: of the base; opened from the config, once there is something to do, by default.
        share: this process's part of them.
    """
    asked: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        asked[read_with(question.to_json())].append(question)
    _collect(folder, config, passages, asked, backend, share)


def _collect(
    folder: Path,
    config: RunConfig,
    passages: Mapping[str, Passage],
    asked: Mapping[str, list[Question]],
    backend: Backend | None,
    share: Share,
) -> None:
    """Answer questions, grouped by what the teacher reads for them."""
    refuse_others(asked, passages)

    def work(teacher: Teacher, questions: list[Question]) -> list[dict[str, Any]]:
        first, other = questions[0].passage_id, questions[0].other_passage_id
        passage = joined([passages[first], passages[other]]) if other else passages[first]
        return [answer.to_json() for answer in teacher.answer(passage, questions)]

    def open_one() -> Teacher:
        return Teacher(config, Counter(), backend)

    units = Renamed(asked, lambda own: hash_json([q.to_json() for q in own]))
    unit_name = "passages and pairs of them" if any(" " in read for read in asked) else "passages"
    run(config, folder, "answers", settings(config), units, work, unit_name, open_one, share=share)


def settings(config: RunConfig) -> dict[str, Any]:
    """Return everything but passages and questions that decides the answers."""
    found = {
        "version": VERSION,
        "knobs": config.hash_for("answers"),
        "model": fingerprint(config.model),
    }
    if config.questions.given_answers == "sample":  # so that other runs keep their hash
        found["given_answers"] = ["sample", GIVEN_VERSION]
    if config.answers.mark_known:
        found["mark_known"] = True
    if not config.answers.unfinished:
        found["unfinished"] = False
    if config.answers.agreement == "judge":
        found["agreement"] = agreement.settings(config)
    return found


class Teacher:
    """Answer all questions about one passage at a time, so that the passage is read once.

    Args:
        dropped: counts the answers that were dropped, by reason.
        backend: of the base; opened from the config by default.
    """

    def __init__(
        self, config: RunConfig, dropped: Counter[str], backend: Backend | None = None
    ) -> None:
        self.config, self.dropped = config, dropped
        self.backend = backend or open_backend(config, batch_size=128)
        self.chat = self.backend.chat

    def answer(self, passage: Passage, questions: list[Question]) -> list[Answer]:
        """Return the answers that were kept; a question may have several, or none."""
        settings = self.config.answers
        quotes = {q.id: self._quote(passage, q) for q in questions}
        kept = {a.id: a for q in questions if kind_of(q.kind).quoted and (a := quotes[q.id])}
        kept |= {a.id: a for q in questions if (a := self._given(passage, q))}
        kept |= {a.id: a for q in questions if kind_of(q.kind).stated and (a := self._stated(q))}
        answered = {answer.question_id for answer in kept.values()}
        asked = [q for q in questions if q.id not in answered for _ in range(settings.per_question)]
        sentences = {q.id: q.sentence for q in questions}
        sure = {
            q.id for q in questions if q.phrase or kind_of(q.kind).quoted or not settings.checks
        }
        # a greedy answer would be the same again
        for attempt in range(settings.attempts if settings.sampling.temperature else 1):
            prompts = [self.chat.teacher(passage, q.text, q.sentence) for q in asked]
            seed = seed_for(self.config.seed, "answers", passage.id, attempt)
            again = []
            for question, completion in zip(
                asked, self.backend.sample(prompts, settings.sampling, seed), strict=True
            ):
                reason = self._fault(passage, question, completion)
                answer = _answer(question, completion)
                if reason:
                    again.append(question)
                elif answer.id in kept:
                    reason = "repeated"
                if reason:
                    self.dropped[reason] += 1
                else:
                    kept[answer.id] = answer
            # those that a further sample may yet drop do not count
            count = Counter(
                sentences[a.question_id] for a in kept.values() if a.question_id in sure
            )
            enough = settings.enough_per_sentence
            asked = [q for q in again if q.sentence < 0 or count[q.sentence] < enough]
        self._drop_inconsistent(passage, questions, kept)
        own = defaultdict[str, list[str]](list)
        for answer in kept.values():
            own[answer.question_id].append(answer.text)
        left = [
            replace(a, checked=kind_of(q.kind) is GIVEN and a == self._stated(q))
            for q in questions
            if q.id not in own and (a := quotes[q.id])
        ]
        found = [*kept.values(), *left]
        found += self._spans(questions, {answer.id for answer in found}, own)
        is_marked = settings.mark_known
        return agreement.marked(found, questions, self.config, self.backend) if is_marked else found

    def _spans(
        self, questions: list[Question], known: set[str], own: Mapping[str, list[str]]
    ) -> Iterator[Answer]:
        """Yield the phrase that a question was written for as one more answer, if it is not known.

        This holds also where the teacher said something else: its distributions along the phrase
        then say how little it thinks of it. The phrase is checked where such an answer holds it,
        and where a data set gives it.

        Args:
            known: ids of answers that are there.
            own: the texts of the answers that were kept, by question id.
        """
        for question in questions if self.config.answers.spans else ():
            spanned = kind_of(question.kind).spanned
            if spanned and (answer := self._stated(question)) and answer.id not in known:
                texts = own.get(question.id, [])
                if not self.config.answers.grounded:  # else `_fault` has looked for the phrase
                    texts = _saying(question.phrase, texts)
                yield replace(answer, checked=bool(texts) or kind_of(question.kind) is GIVEN)

    def _stated(self, question: Question) -> Answer | None:
        """Return the phrase of a question as its answer, if it has one that may stand there."""
        ids = self.chat.text_ids(question.phrase)
        if not ids or set(ids) & set(self.chat.stop_ids):
            return None
        ids = [*ids, self.chat.stop_ids[0]]
        return _answer(question, Completion(self.chat.text(ids), tuple(ids), True))

    def _drop_inconsistent(
        self, passage: Passage, questions: list[Question], kept: dict[str, Answer]
    ) -> None:
        """Drop sampled answers to questions for no phrase that further samples do not agree with.

        A question that is left without an answer is answered by its sentence, if it has one.
        """
        settings = self.config.answers
        # greedy samples would be the same again
        checks = settings.checks if settings.sampling.temperature else 0
        free = {q.id: q for q in questions if not q.phrase and not kind_of(q.kind).quoted}
        found = [a for a in kept.values() if checks and a.question_id in free]
        asked = [free[a.question_id] for a in found]
        prompts = [self.chat.teacher(passage, q.text, q.sentence) for q in asked]
        seed = seed_for(self.config.seed, "answers", passage.id, "checks")
        again = [prompt for prompt in prompts for _ in range(checks)]
        done = self.backend.sample(again, settings.sampling, seed) if again else []
        texts = [completion.text for completion in done]
        samples = [texts[i * checks : (i + 1) * checks] for i in range(len(found))]
        sound = agreement.consistent(found, samples, free, self.config, self.backend)
        for answer, is_sound in zip(found, sound, strict=True):
            if not is_sound:
                self.dropped["answered inconsistently"] += 1
                del kept[answer.id]

    def _given(self, passage: Passage, question: Question) -> Answer | None:
        """Return the answer that a data set gives to its own question, if it is to be kept."""
        ids = answer_ids(self.config, self.backend, passage, question)
        return _answer(question, Completion(self.chat.text(ids), tuple(ids), True)) if ids else None

    def _quote(self, passage: Passage, question: Question) -> Answer | None:
        """Return the sentence that the question is about, as the answer to it.

        Returns:
            None where the question is about no sentence, where it asks for one fact and only
            requests are quoted, and where the sentence could not have been sampled: it is too long,
            or holds the text of a token that ends an answer.
        """
        settings = self.config.answers
        is_quoted = kind_of(question.kind).requests if settings.quote == "asked" else settings.quote
        if not is_quoted or question.sentence < 0:
            return None
        sentence = passage.text[slice(*passage.sentences[question.sentence])]
        if kind_of(question.kind).asks_subject and not _holds(sentence, question.phrase):
            return None  # it calls its subject "it"
        ids = self.chat.text_ids(sentence)
        if len(ids) >= settings.sampling.max_new_tokens or set(ids) & set(self.chat.stop_ids):
            return None
        ids = [*ids, self.chat.stop_ids[0]]
        return _answer(question, Completion(self.chat.text(ids), tuple(ids), True))

    def _fault(self, passage: Passage, question: Question, completion: Completion) -> str:
        if not completion.text:
            return "empty"
        if self.chat.is_thought(completion.token_ids):
            return "thoughts"
        if not completion.finished and not self.config.answers.unfinished:
            return "unfinished"
        kind = kind_of(question.kind)
        if not self.config.answers.grounded or kind.any_language:
            return ""
        if kind is GIVEN and ONE_LETTER.search(passage.text):
            return ""  # no blanks part the words that would be compared
        return ungrounded(passage, question, completion.text)


def _answer(question: Question, completion: Completion) -> Answer:
    return Answer(
        content_id(question.id, completion.token_ids),
        question.id,
        question.passage_id,
        completion.text,
        completion.token_ids,
        completion.finished,
    )


def _saying(phrase: str, texts: Iterable[str]) -> list[str]:
    """Return the texts in which the words of a phrase stand one after the other."""
    return [text for text in texts if holds(words(text), words(phrase))]


def _holds(text: str, phrase: str) -> bool:
    return content_words(phrase) <= content_words(text)
