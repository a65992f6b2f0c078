"""Write the questions about a passage, or about two, with the base model and with examples.

The model is shown a sentence and one of its phrases, and asks for the phrase, or for the subject
that the sentence is true of; or it is shown two sentences that have something in common, of one
passage or of two, and asks what needs both. `question_kinds` has the table of all kinds.

A question must stand alone: the student never sees the passage, so a question that says "the text"
or names nothing could be about anything. What fails the check of its kind is dropped and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

from pdtrain.config import RunConfig
from pdtrain.generation.backend import Backend, open_backend
from pdtrain.models.chat.chat_template import Chat, joined
from pdtrain.records import Passage, Question, seed_for
from pdtrain.synthesis.filters import NearIndex, needs_both, standing_alone, word_set
from pdtrain.synthesis.question_kinds import (
    BLIND,
    CROSS,
    FACT,
    KINDS,
    MULTI,
    UNSAID,
    QuestionKind,
    fault,
    kind_of,
    question_of,
    requests,
)
from pdtrain.synthesis.sentence_writer import multi_hop
from pdtrain.synthesis.sentence_writer import question_examples as examples
from pdtrain.synthesis.sentence_writer.multi_hop import PassagePair, SentencePair
from pdtrain.synthesis.sentence_writer.question_templates import Request
from pdtrain.synthesis.sentence_writer.unanswerable import Mentions
from pdtrain.synthesis.text import first_line, normalise, subject, topic

QUESTION_MARKS = ("?", "？")


class Writer:
    """Write questions with the base model, which is loaded once, and count those it drops.

    Args:
        held_out: texts that must not be asked, normalised.
        dropped: counts the questions that were dropped, by reason.
        backend: of the base; opened from the config by default.
        mentions: of all passages, where what no document says is asked, too.
    """

    def __init__(
        self,
        config: RunConfig,
        held_out: set[str],
        dropped: Counter[str],
        backend: Backend | None = None,
        mentions: Mentions | None = None,
    ) -> None:
        self.config, self.held_out, self.dropped = config, held_out, dropped
        self.backend = backend or open_backend(config, batch_size=128)
        self.chat = self.backend.chat
        self.mentions = mentions
        self.question_marks = question_marks(self.chat)
        self.near_held_out = NearIndex(config.questions.near_duplicate, held_out)

    def about_passage(self, passage: Passage) -> list[Question]:
        """Return the questions about one passage."""
        worded = (self._worded(kind, passage) for kind in KINDS.values() if kind.targets)
        planned = chain(
            chain.from_iterable(worded),
            self._about_sentence_pairs(passage),
            requests(passage, self.config),
            self._blind(passage),
            self._unsaid(passage),
        )
        return self._kept(planned, passage)

    def about_pair(self, pair: PassagePair) -> list[Question]:
        """Return the questions whose teacher reads both passages."""
        asked = []
        for name, turns in groupby(multi_hop.asked_of_names(pair), key=itemgetter(0)):
            phrases = [sentences for _, sentences in turns]
            for turn in range(CROSS.count(self.config.questions)):
                asked.append((name, phrases[turn % len(phrases)]))
        known = f"{pair.first.title}\n{pair.other.title}"
        seed = seed_for(self.config.seed, "questions", pair.first.id, pair.other.id)
        planned = [
            question_of(pair.first, CROSS, request, pair.other.id)
            for request in self._about_both(CROSS, asked, known, seed)
        ]
        both = joined([pair.first, pair.other])
        return self._kept([*planned, *multi_hop.requests(pair, self.config)], both)

    def about(
        self, kind: QuestionKind, passage: Passage, targets: Sequence[tuple[int, str]], seed: int
    ) -> Iterator[Question]:
        """Yield a question about each target, a sentence and a phrase; none is checked yet."""
        spans = [passage.sentences[index] for index, _ in targets]
        prompts = [
            self._prompt(kind, passage.text[start:end], phrase)
            for (start, end), (_, phrase) in zip(spans, targets, strict=True)
        ]
        done = self._first_questions(prompts, seed)
        for (index, phrase), text in zip(targets, done, strict=True):
            whole = text if kind.asks_subject else standing_alone(text, subject(passage))
            yield question_of(passage, kind, Request(whole, index, phrase))

    def _worded(self, kind: QuestionKind, passage: Passage) -> Iterator[Question]:
        """Yield the questions that the model writes about the targets of a kind."""
        assert kind.targets
        targets = list(kind.targets(passage, kind.count(self.config.questions)))
        # facts were asked for first, under a seed that did not name its kind yet
        own = () if kind is FACT else (kind.name,)
        seed = seed_for(self.config.seed, "questions", passage.id, *own)
        yield from self.about(kind, passage, targets, seed)

    def _about_sentence_pairs(self, passage: Passage) -> Iterator[Question]:
        """Yield questions that need two sentences which have something in common."""
        pairs = multi_hop.asked_of_pairs(passage, MULTI.count(self.config.questions))
        seed = seed_for(self.config.seed, "questions", passage.id, MULTI.name)
        asked = [(subject(passage), pair) for pair in pairs]
        for request in self._about_both(MULTI, asked, passage.title, seed):
            yield question_of(passage, MULTI, request)

    def _about_both(
        self, kind: QuestionKind, asked: list[tuple[str, SentencePair]], known: str, seed: int
    ) -> Iterator[Request]:
        """Yield the questions about pairs of sentences that do need both of them.

        Args:
            asked: what each question is about, and its sentences.
            known: words that say nothing of either sentence.
        """
        shown = [(f"{pair.first}\n{pair.second}", pair.phrase) for _, pair in asked]
        prompts = [self._prompt(kind, text, phrase) for text, phrase in shown]
        done = self._first_questions(prompts, seed)
        for (about, pair), text in zip(asked, done, strict=True):
            if needs_both(text, pair.first, pair.second, f"{known}\n{about}"):
                yield Request(standing_alone(text, about), pair.index, pair.phrase)
            else:
                self.dropped["about one sentence alone"] += 1

    def _kept(self, planned: Iterable[Question], passage: Passage) -> list[Question]:
        """Return the questions without a fault that are not held out and are not repeated."""
        seen: set[str] = set()
        # a long subject, which most questions name, must not make them alike
        about = word_set(f"{subject(passage)} {topic(passage)}")
        near = NearIndex(self.config.questions.near_duplicate, without=about)
        kept = []
        for question in planned:
            reason = fault(question, passage, self.held_out)
            key = normalise(question.text)
            if not reason and key in seen:
                reason = "repeated"
            if not reason and self.near_held_out.holds(question.text):
                reason = "nearly a held-out question"
            # two that show a sentence differ in what they leave out of it, perhaps one word
            is_wording = not kind_of(question.kind).shows_sentence
            if not reason and is_wording and near.holds(question.text):
                reason = "nearly repeated"
            if reason:
                self.dropped[reason] += 1
                continue
            seen.add(key)
            if is_wording:
                near.add(question.text)
            kept.append(question)
        return kept

    def _blind(self, passage: Passage) -> Iterator[Question]:
        """Yield questions without a plan, or fewer where repeated calls give too few."""
        wanted, found = BLIND.count(self.config.questions), list[str]()
        if not wanted:
            return
        per_call = self.config.questions.blind_a_call
        call = self._one_blindly if per_call == 1 else self._five_blindly
        for attempt in range(examples.BLIND_ATTEMPTS):
            calls = -(-(wanted - len(found)) // per_call)
            if calls <= 0:
                break
            seed = seed_for(self.config.seed, "questions", passage.id, BLIND.name, attempt)
            found += call(passage, calls, seed)
        if len(found) < wanted:
            self.dropped["wanted and not given"] += wanted - len(found)
        for text in found[:wanted]:
            yield question_of(passage, BLIND, Request(text))

    def _unsaid(self, passage: Passage) -> Iterator[Question]:
        """Yield questions for what no document says."""
        if self.mentions:
            count = UNSAID.count(self.config.questions)
            for request in self.mentions.requests(passage, count, self.config.seed):
                yield question_of(passage, UNSAID, request)

    def _five_blindly(self, passage: Passage, calls: int, seed: int) -> list[str]:
        system = examples.BLIND_SYSTEM if self.config.prompts.system else ""
        messages = [{"role": "user", "content": examples.blind_request(passage.text)}]
        prompt = self.chat.encode(messages, system=system)
        done = self.backend.sample([prompt] * calls, self.config.questions.sampling, seed)
        texts = (examples.questions_between_tags(completion.text) for completion in done)
        return [*chain.from_iterable(texts)]

    def _one_blindly(self, passage: Passage, calls: int, seed: int) -> list[str]:
        prompt = self.chat.few_shot(examples.BLIND_ASK, examples.BLIND_SHOTS, passage.text)
        texts = self._first_questions([prompt] * calls, seed)
        found = [text for text in texts if text.endswith(QUESTION_MARKS)]
        return [standing_alone(text, subject(passage)) for text in found]

    def _first_questions(self, prompts: list[list[int]], seed: int) -> list[str]:
        """Return what the model says to each prompt, up to its first question mark."""
        settings = self.config.questions.sampling
        done = self.backend.sample(prompts, settings, seed, stop_ids=self.question_marks)
        return [one_line(completion.text) for completion in done]

    def _prompt(self, kind: QuestionKind, shown: str, phrase: str) -> list[int]:
        assert kind.few_shot
        shots = [(f"{text}\nAnswer: {answer}", asks) for text, answer, asks in kind.few_shot.shots]
        instruction = kind.few_shot.instruction or self.config.prompts.ask
        return self.chat.few_shot(instruction, shots, f"{shown}\nAnswer: {phrase}")


def question_marks(chat: Chat) -> list[int]:
    """Return the tokens that hold a question mark: a question ends there, whatever follows."""
    vocabulary = chat.tokenizer.get_vocab()
    return sorted(
        i for token, i in vocabulary.items() if any(mark in token for mark in QUESTION_MARKS)
    )


def one_line(text: str) -> str:
    """Return the first line of a text, up to its first question mark."""
    return re.split(r"(?<=[?？])", first_line(text), maxsplit=1)[0]
