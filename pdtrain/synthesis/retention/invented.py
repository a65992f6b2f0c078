"""Let the base make up short texts of invented facts, and questions about them, to read.

Nobody knows such facts without reading them. So an adapter that is held to its base on these
questions, with the text in view, is held to reading itself, and not to what the base remembers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from pdtrain.config import SamplingConfig
from pdtrain.documents.sentences import sentence_spans
from pdtrain.generation.backend import Backend
from pdtrain.records import Passage, Question
from pdtrain.synthesis.filters import ungrounded
from pdtrain.synthesis.retention.reading_practice import Practice
from pdtrain.synthesis.retention.topics import TALES, TELL, WONDER
from pdtrain.synthesis.text import first_line, normalise

TEXT = SamplingConfig(temperature=0.7, top_k=50, max_new_tokens=96)
QUESTION = SamplingConfig(temperature=0.0, max_new_tokens=32)
ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟", "\u06d4")  # of a sentence that was not cut
LEAST_SENTENCES = 2  # of a text: less is not worth reading


def write(
    backend: Backend,
    topics: Sequence[str],
    seeds: tuple[int, int],
    is_held_out: Callable[[str], bool],
    dropped: Counter[str],
) -> list[Practice]:
    """Return a question and the text that it is about for each topic that gave one.

    Args:
        backend: of the base.
        topics: one for each text; a topic may be there repeatedly.
        seeds: of the texts and of the questions.
        is_held_out: says whether a question must not be asked.
        dropped: counts what is too short, held out, or the same as an example or another one.
    """
    chat = backend.chat
    told = [(f"Topic: {topic}", text) for topic, text, _ in TALES]
    prompts = [chat.few_shot(TELL, told, f"Topic: {topic}") for topic in topics]
    texts = [_whole(one.text) for one in backend.sample(prompts, TEXT, seeds[0])]
    known = {normalise(text) for _, text, _ in TALES}
    kept = []
    for topic, text in zip(topics, texts, strict=True):
        if len(sentence_spans(text)) < LEAST_SENTENCES or normalise(text) in known:
            dropped["texts too short or repeated"] += 1
            continue
        known.add(normalise(text))
        kept.append((topic, text))
    wondered = [(text, question) for _, text, question in TALES]
    prompts = [chat.few_shot(WONDER, wondered, text) for _, text in kept]
    asked = backend.sample(prompts, QUESTION, seeds[1])
    seen = {normalise(question) for _, _, question in TALES}
    found = []
    for (topic, text), one in zip(kept, asked, strict=True):
        question = first_line(one.text)
        if not question or normalise(question) in seen or is_held_out(question):
            dropped["empty, repeated or held out"] += 1
            continue
        seen.add(normalise(question))
        passage = _passage(topic, text)
        found.append(Practice(question, (passage,), partial(_is_read, question, passage)))
    return found


def _is_read(question: str, passage: Passage, answer: str) -> bool:
    """Return whether an answer says what the text says; both are English, as was asked for."""
    return not ungrounded(passage, Question("", "", question, "", -1), answer)


def _whole(text: str) -> str:
    """Return a text's first paragraph up to its last sentence, which the limit may have cut."""
    line = first_line(text)
    spans = sentence_spans(line)
    ended = [end for start, end in spans if line[start:end].rstrip("\"'”’)»」』").endswith(ENDS)]
    return line[: ended[-1]] if ended else ""


def _passage(topic: str, text: str) -> Passage:
    spans = tuple(sentence_spans(text))
    title = topic[:1].upper() + topic[1:]
    return Passage("", "", title, text, 0, len(text), 0, spans)
