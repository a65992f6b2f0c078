"""Let the base make up and answer what holds the adapter to it, for regularization.

The student is trained on them beside the documents' answers, with the same prompt as its teacher.
They hold the adapter to its base on everything that no document is about. Some of the questions are
the base's own, others are fixed requests; texts are opened for the base, which continues them
without a chat. With `retain.reading` some are questions with passages in view: the documents', the
documents' with an answer changed, and bundled texts of invented facts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.generation.backend import Backend, open_backend
from pdtrain.generation.sampling import Completion
from pdtrain.models.base import fingerprint
from pdtrain.processes.shares import ALONE, Share
from pdtrain.progress import say
from pdtrain.records import RegularizationSample, content_id, seed_for
from pdtrain.stage import output_hash
from pdtrain.storage import hash_json
from pdtrain.synthesis.filters import NearIndex
from pdtrain.synthesis.held_out import held_out_texts, read_reading, read_unrelated
from pdtrain.synthesis.retention import invented, reading_practice
from pdtrain.synthesis.retention.reading_practice import Practice
from pdtrain.synthesis.retention.topics import ASK, OPENINGS, REQUESTS, SHOTS, TOPICS
from pdtrain.synthesis.text import first_line, normalise
from pdtrain.synthesis.units import run

VERSION = 4  # part of the input hash: raise it when the same topics would give other answers

TOGETHER = 10  # topics of one group, which are generated together
READ_TOGETHER = 32  # questions with passages in view that are answered together
TURNS = ("question", "text", "request", "question")  # kinds of samples about a topic, in turn

Unit = Callable[["UnrelatedWriter"], list[RegularizationSample]]  # what is made together


def collect(
    config: RunConfig,
    backend: Backend | None = None,
    topics: Sequence[str] = TOPICS,
    share: Share = ALONE,
) -> None:
    """Run the `retain` stage: let the base talk about things that no document is about.

    Args:
        backend: of the base; opened from the config, once there is something to do, by default.
        topics: what the questions and texts are about.
        share: this process's part of the groups of topics.
    """
    if not config.retain.weight:
        say("retain: skipped, retain.weight is 0")
        return
    held_out = {normalise(q) for q in read_unrelated(config.evaluate.unrelated).questions}
    held_out |= held_out_texts(config.evaluate.questions)
    held_out |= {normalise(one.question.question) for one in read_reading(config.evaluate.reading)}
    settings = {
        "version": VERSION,
        "knobs": config.hash_for("retain"),
        "model": fingerprint(config.model),
        "held_out": sorted(held_out),
    }
    number = _number_of_practice(config, len(topics))
    practice = _practice(config, number, settings)

    def work(base: UnrelatedWriter, unit: Unit) -> list[dict[str, Any]]:
        return [one.to_json() for one in unit(base)]

    def open_one() -> UnrelatedWriter:
        return UnrelatedWriter(config, held_out, Counter(), backend)

    units: dict[str, Unit] = {}
    for i in range(0, len(topics), TOGETHER):
        names = topics[i : i + TOGETHER]
        units[hash_json(names)] = partial(UnrelatedWriter.about, first=i, topics=names)
    for kind, (asked, wanted) in practice.items():
        for i in range(0, len(asked), READ_TOGETHER):
            some, name = asked[i : i + READ_TOGETHER], f"{kind} {i}"
            most = math.ceil(wanted * len(some) / len(asked))
            units[name] = partial(UnrelatedWriter.reading, name=name, practice=some, most=most)
    folder = config.run.regularization_folder
    run(config, folder, "retain", settings, units, work, "groups of topics", open_one, share=share)


def _number_of_practice(config: RunConfig, num_topics: int) -> int:
    """Return how many samples are to have passages in view."""
    share = config.retain.reading
    return round(num_topics * config.retain.per_topic * share / (1 - share))


def _practice(
    config: RunConfig, number: int, settings: dict[str, Any]
) -> dict[str, tuple[list[Practice], int]]:
    """Return questions to practise reading on by kind, and how many samples are wanted of each.

    A third of the number is wanted of each kind, and all of it of invented texts where no questions
    are asked about the documents. What decides them is added to the settings.
    """
    if not number:
        return {}
    if config.train.objective == "raw_text":  # for which no questions about the documents are made
        return {"invented": (invented.choose(number, config.seed), number)}
    run, num_invented = config.run, number // 3
    num_changed = (number - num_invented) // 2
    num_plain = number - num_invented - num_changed
    settings["reading"] = [output_hash(run.passages_folder), output_hash(run.questions_folder)]
    plain, changed = reading_practice.choose(config, num_plain, num_changed)
    return {
        "plain": (plain, num_plain),
        "changed": (changed, num_changed),
        "invented": (invented.choose(num_invented, config.seed), num_invented),
    }


class UnrelatedWriter:
    """Make up questions and texts about topics, and let the base answer and continue them.

    Args:
        held_out: texts that must not be asked, normalised.
        dropped: counts the questions that were dropped.
        backend: of the base; opened from the config by default.
    """

    def __init__(
        self,
        config: RunConfig,
        held_out: set[str],
        dropped: Counter[str],
        backend: Backend | None = None,
    ) -> None:
        self.config, self.held_out, self.dropped = config, held_out, dropped
        self.near_held_out = NearIndex(config.questions.near_duplicate, held_out)
        self.backend = backend or open_backend(config)
        self.chat = self.backend.chat

    def about(self, first: int, topics: Sequence[str]) -> list[RegularizationSample]:
        """Return what the base says about each of the topics, which are generated together.

        Args:
            first: index of the first one among all topics; neighbours get different wordings.
        """
        asked = self._questions(topics)
        prompts = [
            one
            for place, topic in enumerate(topics, first)
            for one in self._prompts(place, topic, asked[topic])
        ]
        ids = [
            self.chat.text_ids(text, add_special_tokens=True)
            if kind == "text"
            else self.chat.student(text)
            for kind, text in prompts
        ]
        seed = seed_for(self.config.seed, "retain", *topics)
        done = self.backend.sample(ids, self.config.retain.sampling, seed)
        found = []
        for (kind, prompt), c in zip(prompts, done, strict=True):
            if kind != "text" and self.chat.is_thought(c.token_ids):
                self.dropped["thoughts"] += 1
                continue
            name = content_id(kind, prompt, c.token_ids)
            found.append(RegularizationSample(name, kind, prompt, c.text, c.token_ids))
        return found

    def reading(
        self, name: str, practice: Sequence[Practice], most: int
    ) -> list[RegularizationSample]:
        """Return what the base says to questions with passages in view, where it reads.

        Args:
            name: of these questions, which decides the seed.
            most: samples that are wanted. There are more questions, since not all are read: they
                are asked in turn until there are enough.
        """
        fitting = [self._fitting(one) for one in practice if not self._is_held_out(one.question)]
        kept = [(one, prompt) for one, prompt in fitting if prompt]
        if num_long := len(fitting) - len(kept):
            self.dropped["too long to read"] += num_long
        seed = seed_for(self.config.seed, "retain", "reading", name)
        # greedily, as users mostly ask who have passages at hand: other answers of a small model
        # are hardly about what it reads
        sampling = replace(self.config.retain.sampling, temperature=0.0)
        found = list[RegularizationSample]()
        while kept and len(found) < most:
            num_missing = most - len(found)
            now, kept = kept[:num_missing], kept[num_missing:]
            done = self.backend.sample([prompt for _, prompt in now], sampling, seed)
            for (one, _), c in zip(now, done, strict=True):
                if self.chat.is_thought(c.token_ids):
                    self.dropped["thoughts"] += 1
                elif not one.is_read(c.text):
                    self.dropped["not read by the base"] += 1
                else:
                    found.append(_sample_of(one, c))
        return found

    def _is_held_out(self, question: str) -> bool:
        return normalise(question) in self.held_out or self.near_held_out.holds(question)

    def _fitting(self, practice: Practice) -> tuple[Practice, list[int]]:
        """Return it with as many passages as fit the window, and its prompt; empty if none fits."""
        window = self.backend.window
        most = window and window - self.config.retain.sampling.max_new_tokens
        prompt = self.chat.teacher(practice.in_view, practice.question)
        while most and len(prompt) > most and len(practice.passages) > 1:
            practice = practice.shortened()
            prompt = self.chat.teacher(practice.in_view, practice.question)
        return practice, [] if most and len(prompt) > most else prompt

    def _kinds(self) -> list[str]:
        return [TURNS[i % len(TURNS)] for i in range(self.config.retain.per_topic)]

    def _prompts(self, place: int, topic: str, asked: list[str]) -> Iterator[tuple[str, str]]:
        """Yield (kind, prompt); repeated questions and those that forgetting is measured on go."""
        questions, turns = iter(asked), Counter[str]()
        seen: set[str] = set()
        for kind in self._kinds():
            texts = {"text": OPENINGS, "request": REQUESTS}.get(kind)
            if texts:
                prompt = texts[(place + turns[kind]) % len(texts)].format(topic)
                turns[kind] += 1
            else:
                prompt = next(questions)
            if not prompt or normalise(prompt) in seen or self._is_held_out(prompt):
                self.dropped["empty, repeated or held out"] += 1
                continue
            seen.add(normalise(prompt))
            yield kind, prompt

    def _questions(self, topics: Sequence[str]) -> dict[str, list[str]]:
        """Return the base's own questions by topic, one line each; sampled, so that they differ."""
        count = self._kinds().count("question")
        prompts = [self._ask(topic) for topic in topics for _ in range(count)]
        sampling = SamplingConfig(temperature=1.0, top_k=50, max_new_tokens=32)
        seed = seed_for(self.config.seed, "retain", *topics, "questions")
        done = self.backend.sample(prompts, sampling, seed)
        lines = [first_line(c.text) for c in done]
        return {topic: lines[i * count : (i + 1) * count] for i, topic in enumerate(topics)}

    def _ask(self, topic: str) -> list[int]:
        shots = [(f"Topic: {shown}", question) for shown, question in SHOTS]
        return self.chat.few_shot(ASK, shots, f"Topic: {topic}")


def _sample_of(one: Practice, said: Completion) -> RegularizationSample:
    title, text = one.in_view.title, one.in_view.text
    name = content_id("reading", title, text, one.question, said.token_ids)
    return RegularizationSample(
        name, "reading", one.question, said.text, said.token_ids, title, text
    )
