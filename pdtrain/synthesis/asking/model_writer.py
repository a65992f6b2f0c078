"""Let a capable model write the questions about a passage, with citations that are checked.

It is asked for several questions at a time, as JSON, in the language of the text. Each question
names the sentences that answer it and quotes one of them. What quotes something else is dropped,
and sentences that too few questions cite are asked about again. No check knows a language: texts
are compared by letters, and whether a question stands alone is for the model to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pdtrain.config import QuestionConfig, RunConfig, SamplingConfig
from pdtrain.generation.backend import Backend, guided, open_backend
from pdtrain.generation.sampling import Completion
from pdtrain.models.chat.chat_template import joined
from pdtrain.records import Passage, Question, seed_for
from pdtrain.synthesis.asking import replies, templates
from pdtrain.synthesis.asking.script import folded, grams, is_foreign, language_of, letters
from pdtrain.synthesis.asking.templates import OF_PAIRS, OF_PASSAGES, OF_SENTENCES
from pdtrain.synthesis.filters import NearIndex
from pdtrain.synthesis.question_kinds import kind_of, question_of
from pdtrain.synthesis.sentence_writer.multi_hop import PassagePair
from pdtrain.synthesis.sentence_writer.question_templates import Request
from pdtrain.synthesis.text import normalise, sentences_of, topic

VERSION = 4  # part of the input hash: raise it when the same passages would get other questions
PAIR_VERSION = 3  # the same of pairs of passages
ATTEMPTS = 3  # rounds in which sentences that are cited too rarely are asked about again
SENTENCES_A_CALL = 5
LONGEST_QUESTION = 400  # characters
LEAST_REPLY = 0.25  # share of questions.model_tokens below which a reply would hold too little
END_OF_THOUGHT = 32  # tokens, at most, between a thought and the reply
HALF_LETTER = re.compile("[\ud800-\udfff]")  # JSON may spell one, which no UTF-8 holds
YES_OR_NO = SamplingConfig(temperature=0, max_new_tokens=4)
OF_WHOLE = ("overview",)  # kinds that ask about all of a passage
# kinds whose answer is not in the text: what they quote need not hold it
WITHOUT_ANSWER = ("application", "false_premise", "unanswerable", *OF_PAIRS)


def settings(knobs: QuestionConfig) -> dict[str, Any]:
    """Return what decides the questions of this writer, beside what decides those of any."""
    prompts = templates.read(knobs.prompts)
    found = {
        "version": VERSION,
        "prompts": prompts.hash,
        "knobs": [knobs.model_per_sentence, knobs.model_per_passage, knobs.model_tokens],
        "language": knobs.language,
    }
    if knobs.model_per_pair:  # so that other runs keep their hash
        found["pairs"] = [PAIR_VERSION, knobs.model_per_pair, prompts.pair_hash]
    return found


class Asked(NamedTuple):
    """Hold a prompt for questions, and the kinds that its reply may have."""

    prompt: list[int]
    kinds: dict[str, str]


class ModelWriter:
    """Write questions with a capable model, and count those that are dropped.

    Args:
        held_out: texts that must not be asked, normalised.
        dropped: counts what was dropped, by reason.
        backend: of the base; opened from the config by default.

    Raises:
        ValueError: the model's window has no room for a reply, however short a passage is.
    """

    def __init__(
        self,
        config: RunConfig,
        held_out: set[str],
        dropped: Counter[str],
        backend: Backend | None = None,
    ) -> None:
        self.config, self.dropped = config, dropped
        self.backend = backend or open_backend(config, batch_size=128)
        self.guided = guided(self.backend, replies.SCHEMA, config)
        self.pair_guided = guided(self.backend, replies.PAIR_SCHEMA, config)
        self.chat = self.backend.chat
        self.prompts = templates.read(config.questions.prompts)
        # what is held out is normalised
        self.near_held_out = NearIndex(
            config.questions.near_duplicate, held_out, sets=lambda text: grams(normalise(text))
        )
        self.held_out = held_out
        self._refuse_small_window()

    def about_passage(self, passage: Passage) -> list[Question]:
        """Return the questions about one passage."""
        language = self.config.questions.language or language_of(passage.text)
        wanted = self.config.questions.model_per_sentence
        cited: Counter[int] = Counter()
        near = NearIndex(self.config.questions.near_duplicate, sets=grams)
        kept: list[Question] = []
        seen: set[str] = set()
        for attempt in range(ATTEMPTS):
            weak = [i for i in range(len(passage.sentences)) if cited[i] < wanted]
            asked = self._fitting(self._asked(passage, weak, language, attempt))
            if not asked:
                break
            prompts = [one.prompt for one in asked]
            seed = seed_for(self.config.seed, "questions", passage.id, "model", attempt)
            done = self.guided.sample(prompts, self._sampling(min(map(self._room, prompts))), seed)
            found = [
                (question, places)
                for one, completion in zip(asked, done, strict=True)
                for question, places in self._questions(passage, one, completion, language)
                if self._is_new(question, near, seen)
            ]
            for question, places in self._standing_alone(found):
                kept.append(question)
                if question.kind in OF_SENTENCES:  # what the text does not say covers no sentence
                    cited.update(places)
        if left := sum(cited[i] < min(1, wanted) for i in range(len(passage.sentences))):
            self.dropped["sentences that no question cites"] += left
        return kept

    def about_pair(self, pair: PassagePair) -> list[Question]:
        """Return the questions that need two passages; there may be none."""
        both = joined([pair.first, pair.other])
        own, language = self.config.questions, self.config.questions.language
        language = language or language_of(both.text)
        text = self.prompts.fill(
            "pair.md",
            first=pair.first.heading,
            other=pair.other.heading,
            numbered=_numbered(both),
            language=_told(own.language, language),
            each=own.model_per_pair,
            kinds=_listed(OF_PAIRS),
        )
        asked = Asked(self._encode(text), OF_PAIRS)
        if not self._has_room(asked.prompt):
            self.dropped["two texts too long to be asked about at once"] += 1
            return []
        seed = seed_for(self.config.seed, "questions", pair.id, "model")
        sampling = self._sampling(self._room(asked.prompt))
        (done,) = self.pair_guided.sample([asked.prompt], sampling, seed)
        if done.text.strip() == "[]":
            self.dropped["two texts with nothing in common"] += 1
            return []
        near = NearIndex(own.near_duplicate, sets=grams)
        border, seen = len(pair.first.sentences), set[str]()
        found = []
        for question, places in self._questions(both, asked, completion=done, language=language):
            if not (places[0] < border <= places[-1]):
                self.dropped["citing one of two texts alone"] += 1
            elif self._is_new(question, near, seen):
                request = Request(question.text, -1)
                kind = kind_of(question.kind)
                found.append((question_of(pair.first, kind, request, pair.other.id), places))
        return [question for question, _ in self._standing_alone(found)]

    def _sampling(self, most: int) -> SamplingConfig:
        """Return how replies of so many tokens at most are sampled."""
        own = self.config.questions.sampling
        return SamplingConfig(own.temperature, own.top_k, own.top_p, most)

    def _room(self, prompt: Sequence[int]) -> int:
        """Return how many tokens a reply may have: as many as are wanted, or as the window has."""
        wanted, window = self.config.questions.model_tokens, self.backend.window
        thought = self.config.model.thought_tokens
        before = len(prompt) + (thought + END_OF_THOUGHT if thought else 0)
        return min(wanted, window - before) if window else wanted

    def _has_room(self, prompt: Sequence[int]) -> bool:
        return self._room(prompt) >= LEAST_REPLY * self.config.questions.model_tokens

    def _fitting(self, asked: Iterable[Asked]) -> list[Asked]:
        """Return the requests that leave room for a reply, and count the others."""
        found = list(asked)
        kept = [one for one in found if self._has_room(one.prompt)]
        if left := len(found) - len(kept):
            self.dropped["requests with no room for questions.model_tokens in the window"] += left
        return kept

    def _refuse_small_window(self) -> None:
        kinds = _listed(OF_SENTENCES)
        told = {"title": "", "numbered": "", "language": "", "focus": 1, "each": 1, "count": 1}
        prompt = self._encode(self.prompts.fill("sentences.md", **told, kinds=kinds))
        if self._has_room(prompt):
            return
        wanted, thought = self.config.questions.model_tokens, self.config.model.thought_tokens
        thinks = f", a thought of up to {thought}" if thought else ""
        raise ValueError(
            f"a request for questions of {len(prompt)} tokens without any passage{thinks} and a "
            f"quarter of questions.model_tokens={wanted} do not fit the model's window of "
            f"{self.backend.window}; lower questions.model_tokens"
            f"{' or model.thinking_budget' if thought else ''}"
        )

    def _asked(
        self, passage: Passage, weak: Sequence[int], language: str, attempt: int
    ) -> Iterator[Asked]:
        """Yield what to ask for in one round: sentences in groups and, at first, the whole."""
        own = self.config.questions
        told = {
            "title": passage.topic or passage.heading,
            "numbered": _numbered(passage),
            "language": _told(own.language, language),
        }
        for first in range(0, len(weak), SENTENCES_A_CALL):
            group = weak[first : first + SENTENCES_A_CALL]
            each = own.model_per_sentence
            text = self.prompts.fill(
                "sentences.md",
                **told,
                focus=", ".join(str(i + 1) for i in group),
                each=each,
                count=each * len(group),
                kinds=_listed(OF_SENTENCES),
            )
            yield Asked(self._encode(text), OF_SENTENCES)
        if attempt == 0 and own.model_per_passage:
            # what has no name of its own cannot be asked about as a whole
            without = () if topic(passage) or not passage.title else OF_WHOLE
            kinds = {name: what for name, what in OF_PASSAGES.items() if name not in without}
            text = self.prompts.fill(
                "whole.md", **told, each=own.model_per_passage, kinds=_listed(kinds)
            )
            yield Asked(self._encode(text), kinds)

    def _encode(self, text: str) -> list[int]:
        return self.chat.encode([{"role": "user", "content": text}], system="")

    def _questions(
        self, passage: Passage, asked: Asked, completion: Completion, language: str
    ) -> Iterator[tuple[Question, list[int]]]:
        """Yield the sound questions of a reply, each with the sentences that it cites."""
        found, reason = replies.items(completion.text, is_finished=completion.finished)
        if reason:
            self.dropped[f"replies: {reason}"] += 1
        for item in found:
            made = self._made(passage, asked.kinds, item, language)
            if isinstance(made, str):
                self.dropped[made] += 1
            else:
                yield made

    def _made(
        self, passage: Passage, kinds: dict[str, str], item: dict[str, Any], language: str
    ) -> tuple[Question, list[int]] | str:
        """Return a question and the sentences that it cites, or the reason why there is none."""
        kind, text, quote = (item.get(name) for name in ("kind", "question", "quote"))
        if not (isinstance(kind, str) and isinstance(text, str) and isinstance(quote, str)):
            return "without a known kind, a question or a quote"
        if kind not in kinds:
            return "without a known kind, a question or a quote"
        if HALF_LETTER.search(text):
            return "with letters that are none"
        text, places = " ".join(text.split()), _places(item.get("sentences"), passage)
        if not 3 <= len(text) <= LONGEST_QUESTION:
            return "too short or too long"
        if not places:
            return "citing no sentence of the text"
        sentences = sentences_of(passage)
        quoted, shown = letters(quote), letters(" ".join(sentences[i] for i in places))
        if not quoted or quoted not in shown:
            return "quoting what its sentences do not say"
        if kind not in WITHOUT_ANSWER and quoted in letters(text):
            return "giving its answer away"
        is_translated = bool(self.config.questions.language) and language_of(passage.text) not in (
            "",
            language,
        )
        source = f"{passage.heading}\n{passage.text}"
        if is_foreign(text, source, language, is_translated=is_translated):
            return "in another language"
        if normalise(text) in self.held_out or self.near_held_out.holds(text):
            return "equal to a held-out question, or nearly"
        sentence = places[0] if kind in OF_SENTENCES and len(places) == 1 else -1
        return question_of(passage, kind_of(str(kind)), Request(text, sentence)), places

    def _is_new(self, question: Question, near: NearIndex, seen: set[str]) -> bool:
        if folded(question.text) in seen or near.holds(question.text):
            self.dropped["repeated, or nearly"] += 1
            return False
        seen.add(folded(question.text))
        near.add(question.text)
        return True

    def _standing_alone(
        self, found: list[tuple[Question, list[int]]]
    ) -> Iterator[tuple[Question, list[int]]]:
        """Yield the questions that the model understands without the text."""
        texts = [self.prompts.fill("alone.md", question=question.text) for question, _ in found]
        prompts = [self._encode(text) for text in texts]
        done = self.backend.sample(prompts, YES_OR_NO, seed=0) if prompts else []
        for one, said in zip(found, done, strict=True):
            if replies.is_no(said.text):
                self.dropped["not standing alone"] += 1
            else:
                yield one


def _numbered(passage: Passage) -> str:
    lines = (f"[{i}] {text}" for i, text in enumerate(sentences_of(passage), 1))
    return "\n".join(lines)


def _told(wanted: str, language: str) -> str:
    """Return what is said behind "in the language of the text".

    Args:
        wanted: the language that the user asks for, if any.
        language: that of the text, if it is known.
    """
    if wanted:
        return f"; but if that is not the language {wanted} (ISO 639-1), write them in {wanted}"
    return f" (ISO 639-1: {language})" if language else ""


def _listed(kinds: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {what}" for name, what in kinds.items())


def _places(numbers: Any, passage: Passage) -> list[int]:
    """Return the indices of the sentences that a question cites; none where one is not there."""
    if not isinstance(numbers, list) or not all(type(one) is int for one in numbers):
        return []
    places = sorted({one - 1 for one in numbers})
    return places if all(0 <= one < len(passage.sentences) for one in places) else []
