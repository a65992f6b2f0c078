"""passages → questions: the base model asks about every sentence, from several directions.

It is shown a sentence and one of its phrases, and asks for the phrase; or for the subject that the
sentence is true of; or it is shown two sentences that have something in common, of a passage or of
two, and asks what needs both. Requests to complete a sentence, to fill in a blank, to tell about
the passage's subject or about a name, to sum up, list and compare need no model.

A question must stand alone: the student never sees the passage, so one that says "the text" or
names nothing could be about anything. What fails its kind's check is dropped and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.generation.huggingface import Generator
from pdtrain.models.base import fingerprint, load_model, load_tokenizer, window
from pdtrain.models.chat_template import Chat, joined, prove
from pdtrain.progress import say
from pdtrain.records import Passage, Question, seed_for
from pdtrain.stage import output_hash, run_units
from pdtrain.storage import sha256_file
from pdtrain.synthesis import blind_questions, coverage
from pdtrain.synthesis.filters import (
    SHOWING,
    NearIndex,
    fault,
    needs_both,
    standing_alone,
    word_set,
)
from pdtrain.synthesis.held_out import held_out_texts
from pdtrain.synthesis.multi_hop import (
    PassagePair,
    SentencePair,
    asked_of_names,
    asked_of_pairs,
    passage_pairs,
    requests,
)
from pdtrain.synthesis.question_kinds import (
    PAIR_ASK,
    PAIR_SHOTS,
    REVERSE_ASK,
    REVERSE_SHOTS,
    SHOTS,
    phrases_in_turn,
    question_of,
    recitals,
    subject,
    subject_in_turn,
)
from pdtrain.synthesis.text import normalise

VERSION = 7  # part of the input hash: raise it when the same passages would get other questions


def ask(config: RunConfig) -> None:
    """The `questions` stage: every passage of the run is asked about."""
    if config.train.objective == "raw_text":
        say("questions: skipped, train.objective=raw_text reads passages alone")
        return
    output_hash(config.run.passages_folder)  # or an error that says what to run
    passages = list(config.run.passages())
    held_out = held_out_texts(config.evaluate.questions)
    settings = {
        "version": VERSION,
        "knobs": config.hash_for("questions"),
        "has_system": bool(config.prompts.system),
        "model": fingerprint(config.model),
        "held_out": sha256_file(Path(config.evaluate.questions)) if held_out else "",
    }
    asker: Asker | None = None
    dropped: Counter[str] = Counter()

    def work(_: str, unit: Passage | PassagePair) -> list[dict[str, Any]]:
        nonlocal asker
        asker = asker or Asker(config, held_out, dropped)
        found = asker.about_both(unit) if isinstance(unit, PassagePair) else asker(unit)
        return [question.to_json() for question in found]

    pairs = passage_pairs(passages, config, window(config.model))
    units: dict[str, Passage | PassagePair] = {passage.id: passage for passage in passages}
    units |= {pair.id: pair for pair in pairs}
    folder = config.run.questions_folder
    unit_name = "passages and pairs of them" if pairs else "passages"
    if run_units(folder, "questions", settings, units, work, unit_name) and dropped:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common())
        say(f"questions: dropped {dropped.total()}: {reasons}")
    coverage.report(config.run, "questions")


class Asker:
    """Asks about one passage at a time; the model is loaded with the first."""

    def __init__(self, config: RunConfig, held_out: set[str], dropped: Counter[str]) -> None:
        tokenizer, model = load_tokenizer(config.model), load_model(config.model)
        self.config, self.held_out, self.dropped = config, held_out, dropped
        self.near_held_out = NearIndex(config.questions.near_duplicate, held_out)
        self.chat: Chat = prove(tokenizer, config.prompts, model.generation_config.eos_token_id)
        ends = (*self.chat.stop_ids, *question_marks(self.chat))
        self.generator = Generator(model, replace(self.chat, stop_ids=ends), batch_size=128)
        self.whole = Generator(model, self.chat)  # does not stop at a question mark

    def __call__(self, passage: Passage) -> list[Question]:
        facts, reverse = self._about_phrases(passage), self._about_subject(passage)
        planned = [*facts, *reverse, *self._of_pairs(passage), *recitals(passage, self.config)]
        return self._kept([*planned, *self._blind(passage)], passage)

    def about_both(self, pair: PassagePair) -> list[Question]:
        """Questions whose teacher reads both passages."""
        asked = []
        for name, turns in groupby(asked_of_names(pair), key=itemgetter(0)):
            phrases = [sentences for _, sentences in turns]
            for turn in range(self.config.questions.per_entity):
                asked.append((name, phrases[turn % len(phrases)]))
        known = f"{pair.first.title}\n{pair.other.title}"
        seed = seed_for(self.config.seed, "questions", pair.first.id, pair.other.id)
        planned = [
            question_of(pair.first, text, "cross", sentences.index, sentences.phrase, pair.other.id)
            for text, sentences in self._worded(asked, known, seed)
        ]
        both = joined([pair.first, pair.other])
        return self._kept([*planned, *requests(pair, self.config)], both)

    def _of_pairs(self, passage: Passage) -> Iterator[Question]:
        """Of two sentences that have something in common, what needs both."""
        pairs = asked_of_pairs(passage, self.config.questions.per_pair)
        seed = seed_for(self.config.seed, "questions", passage.id, "multi")
        asked = [(subject(passage), pair) for pair in pairs]
        for text, pair in self._worded(asked, passage.title, seed):
            yield question_of(passage, text, "multi", pair.index, pair.phrase)

    def _worded(
        self, asked: list[tuple[str, SentencePair]], known: str, seed: int
    ) -> Iterator[tuple[str, SentencePair]]:
        """Questions about pairs of sentences, each with what it is about."""
        prompts = [
            self._prompt(f"{pair.first}\n{pair.second}", pair.phrase, PAIR_SHOTS, PAIR_ASK)
            for _, pair in asked
        ]
        done = self.generator(prompts, self.config.questions.sampling, seed) if prompts else []
        for (about, pair), completion in zip(asked, done, strict=True):
            text = one_line(completion.text)
            if needs_both(text, pair, f"{known}\n{about}"):
                yield standing_alone(text, about), pair
            else:
                self.dropped["about one sentence alone"] += 1

    def _kept(self, planned: Iterable[Question], passage: Passage) -> list[Question]:
        """Without what has a fault, is held out or was asked before, in nearly these words."""
        seen: set[str] = set()
        # a long subject, which most of them name, must not make them alike
        about = word_set(subject(passage))
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
            is_wording = question.kind not in SHOWING
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

    def _about_phrases(self, passage: Passage) -> Iterator[Question]:
        """Every sentence is asked about its phrases in turn."""
        facts = []
        for index, (start, end) in enumerate(passage.sentences):
            turns = phrases_in_turn(passage.text[start:end], passage.title)
            for turn in range(self.config.questions.per_sentence if turns else 0):
                facts.append((index, turns[turn % len(turns)]))
        yield from self.about(passage, facts, seed_for(self.config.seed, "questions", passage.id))

    def about(
        self, passage: Passage, facts: Sequence[tuple[int, str]], seed: int
    ) -> Iterator[Question]:
        """A question about each (sentence, phrase); none of them is checked yet."""
        spans = [passage.sentences[index] for index, _ in facts]
        prompts = [
            self._prompt(passage.text[start:end], phrase)
            for (start, end), (_, phrase) in zip(spans, facts, strict=True)
        ]
        done = self.generator(prompts, self.config.questions.sampling, seed)
        for (index, phrase), completion in zip(facts, done, strict=True):
            text = standing_alone(one_line(completion.text), subject(passage))
            yield question_of(passage, text, "fact", index, phrase)

    def _about_subject(self, passage: Passage) -> Iterator[Question]:
        """Every sentence about the passage's subject is asked which subject it is true of."""
        asked = []
        for index, (start, end) in enumerate(passage.sentences):
            sentence = passage.text[start:end]
            turns = subject_in_turn(sentence, passage)
            for turn in range(self.config.questions.per_sentence_reverse if turns else 0):
                asked.append((index, sentence, turns[turn % len(turns)]))
        prompts = [
            self._prompt(sentence, phrase, REVERSE_SHOTS, REVERSE_ASK)
            for _, sentence, phrase in asked
        ]
        seed = seed_for(self.config.seed, "questions", passage.id, "reverse")
        done = self.generator(prompts, self.config.questions.sampling, seed) if prompts else []
        for (index, _, phrase), completion in zip(asked, done, strict=True):
            yield question_of(passage, one_line(completion.text), "reverse", index, phrase)

    def _blind(self, passage: Passage) -> Iterator[Question]:
        """As many as are wanted, or what calls that were made again and again have given."""
        wanted, found = self.config.questions.blind, list[str]()
        if not wanted:
            return
        per_call = self.config.questions.blind_a_call
        call = self._one_blindly if per_call == 1 else self._five_blindly
        for attempt in range(blind_questions.ATTEMPTS):
            calls = -(-(wanted - len(found)) // per_call)
            if calls <= 0:
                break
            seed = seed_for(self.config.seed, "questions", passage.id, "blind", attempt)
            found += call(passage, calls, seed)
        if len(found) < wanted:
            self.dropped["wanted and not given"] += wanted - len(found)
        for text in found[:wanted]:
            yield question_of(passage, text, "blind", -1)

    def _five_blindly(self, passage: Passage, calls: int, seed: int) -> list[str]:
        system = blind_questions.SYSTEM if self.config.prompts.system else ""
        prompt = self.chat.encode(blind_questions.messages(passage.text), system=system)
        done = self.whole([prompt] * calls, self.config.questions.sampling, seed)
        return [text for completion in done for text in blind_questions.parse(completion.text)]

    def _one_blindly(self, passage: Passage, calls: int, seed: int) -> list[str]:
        is_system = bool(self.config.prompts.system)
        messages = blind_questions.messages_of_one(passage.text, is_system=is_system)
        prompt = self.chat.encode(messages, system=blind_questions.ONE if is_system else "")
        done = self.generator([prompt] * calls, self.config.questions.sampling, seed)
        texts = [one_line(completion.text) for completion in done]
        found = [text for text in texts if text.endswith(("?", "？"))]
        return [standing_alone(text, subject(passage)) for text in found]

    def _prompt(
        self,
        sentence: str,
        phrase: str,
        shots: tuple[tuple[str, str, str], ...] = SHOTS,
        ask: str = "",
    ) -> list[int]:
        messages = []
        for shown, answer, question in shots:
            messages.append({"role": "user", "content": f"{shown}\nAnswer: {answer}"})
            messages.append({"role": "assistant", "content": question})
        messages.append({"role": "user", "content": f"{sentence}\nAnswer: {phrase}"})
        ask = ask or self.config.prompts.ask
        if not self.config.prompts.system:  # perhaps because the template has no system role
            messages[0]["content"] = f"{ask}\n\n{messages[0]['content']}"
            ask = ""
        return self.chat.encode(messages, system=ask)


def question_marks(chat: Chat) -> list[int]:
    """Tokens with a question mark in them: a question ends there, whatever the model adds."""
    return sorted(
        i for token, i in chat.tokenizer.get_vocab().items() if "?" in token or "？" in token
    )


def one_line(text: str) -> str:
    """The first line, up to its first question mark."""
    line = text.strip().split("\n")[0].strip()
    return re.split(r"(?<=[?？])", line, maxsplit=1)[0]
