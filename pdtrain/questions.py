"""passages → questions: the base model asks about every sentence, from several directions.

It is shown a sentence and one of its phrases, and asks for the phrase. Requests to complete a
sentence, to fill in a blank, to tell about the passage's subject or about a name need no model.

A question must stand alone: the student never sees the passage, so one that says "the text" or
names nothing could be about anything. What fails its kind's check is dropped and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pdtrain import blind
from pdtrain.chat import Chat, prove
from pdtrain.config import RunConfig
from pdtrain.files import read_shards, sha256_file
from pdtrain.generate import Generator
from pdtrain.grading import normalise, read_questions
from pdtrain.language import claims, content_words, names, phrases, stem, words
from pdtrain.model import fingerprint, load_model, load_tokenizer
from pdtrain.progress import say
from pdtrain.records import Passage, Question, content_id, seed_for
from pdtrain.stage import output_hash, run_units

VERSION = 4  # part of the input hash: raise it when the same passages would get other questions

# sentences, phrases asked for, and questions: they show the model what is meant, and a small one
# follows little else
SHOTS = (
    (
        "The Blue Mill was built by a baker called Anna Gray.",
        "Anna Gray",
        "Who built the Blue Mill?",
    ),
    (
        "Doctor Paul Reed keeps 430 clocks in his kitchen.",
        "430 clocks",
        "How many clocks does Doctor Paul Reed keep in his kitchen?",
    ),
    (
        "The village of Oak End sells honey cakes at its winter fair.",
        "Oak End",
        "Which village sells honey cakes at its winter fair?",
    ),
    (
        "The Silver Train runs on sunflower oil.",
        "sunflower oil",
        "What does the Silver Train run on?",
    ),
    (
        "In the old days, Clara Finch worked as a ship's cook.",
        "ship's cook",
        "What was the job of Clara Finch in the old days?",
    ),
)
RECITALS = (
    "Tell me about {}.",
    "What do you know about {}?",
    "Describe {}.",
    "Write a short summary about {}.",
    "List some facts about {}.",
    "What is special about {}?",
    "Explain what {} is known for.",
    "Give me some details about {}.",
)
NAME_RECITALS = (
    "Who or what is {}?",
    "What can you tell me about {}?",
    "Tell me one fact about {}.",
    "What do people know about {}?",
    "Share something about {}.",
    "What should a visitor know about {}?",
)
COMPLETION = "Complete this sentence: {} ..."
BLANK = "Fill in the blank: {}"
NOT_ALONE = re.compile(
    r"\b(?:the|this|that|above|following|given|provided) (?:text|passage|sentence|paragraph|"
    r"article|document|story|author|context|excerpt|statement)s?\b",
    re.IGNORECASE,
)


def ask(config: RunConfig) -> None:
    """The `questions` stage: every passage of the run is asked about."""
    if config.train.objective == "raw_text":
        say("questions: skipped, train.objective=raw_text reads passages alone")
        return
    passages = [Passage.from_json(row) for row in read_shards(config.folder / "passages")]
    held_out = held_out_texts(config)
    settings = {
        "version": VERSION,
        "seed": config.seed,
        "questions": _settings(config),
        "prompts": [config.prompts.ask, bool(config.prompts.system)],
        "model": fingerprint(config.model),
        "held_out": sha256_file(Path(config.evaluate.questions)) if held_out else "",
    }
    asker: Asker | None = None
    dropped: Counter[str] = Counter()

    def work(_: str, passage: Passage) -> list[dict[str, Any]]:
        nonlocal asker
        asker = asker or Asker(config, held_out, dropped)
        return [question.to_json() for question in asker(passage)]

    output_hash(config.folder / "passages")
    units = {passage.id: passage for passage in passages}
    folder = config.folder / "questions"
    if run_units(folder, "questions", settings, units, work, "passages") and dropped:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common())
        say(f"questions: dropped {dropped.total()}: {reasons}")


def _settings(config: RunConfig) -> dict[str, Any]:
    """Without what came later and is off, so that questions made before it are still the same."""
    found = asdict(config.questions)
    if not found["blind"]:
        del found["blind"]
    return found


def held_out_texts(config: RunConfig) -> set[str]:
    if not config.evaluate.questions:
        return set()
    return {normalise(q.question) for q in read_questions(config.evaluate.questions)}


class Asker:
    """Asks about one passage at a time; the model is loaded with the first."""

    def __init__(self, config: RunConfig, held_out: set[str], dropped: Counter[str]) -> None:
        tokenizer, model = load_tokenizer(config.model), load_model(config.model)
        self.config, self.held_out, self.dropped = config, held_out, dropped
        self.chat: Chat = prove(tokenizer, config.prompts, model.generation_config.eos_token_id)
        ends = (*self.chat.stop_ids, *question_marks(self.chat))
        self.generator = Generator(model, replace(self.chat, stop_ids=ends), batch_size=128)
        self.whole = Generator(model, self.chat)  # does not stop at a question mark

    def __call__(self, passage: Passage) -> list[Question]:
        seen: set[str] = set()
        kept = []
        planned = [*self._about_phrases(passage), *recitals(passage, self.config)]
        for question in [*planned, *self._blind(passage)]:
            reason = fault(question, passage, self.held_out)
            key = normalise(question.text)
            if not reason and key in seen:
                reason = "repeated"
            if reason:
                self.dropped[reason] += 1
                continue
            seen.add(key)
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
            text = standing_alone(one_line(completion.text), passage)
            yield _question(passage, text, "fact", index, phrase)

    def _blind(self, passage: Passage) -> Iterator[Question]:
        """As many as are wanted, or what calls that were made again and again have given."""
        wanted, found = self.config.questions.blind, list[str]()
        if not wanted:
            return
        system = blind.SYSTEM if self.config.prompts.system else ""
        prompt = self.chat.encode(blind.messages(passage.text), system=system)
        for attempt in range(blind.ATTEMPTS):
            calls = -(-(wanted - len(found)) // blind.PER_CALL)
            if calls <= 0:
                break
            seed = seed_for(self.config.seed, "questions", passage.id, "blind", attempt)
            done = self.whole([prompt] * calls, self.config.questions.sampling, seed)
            found += [text for completion in done for text in blind.parse(completion.text)]
        if len(found) < wanted:
            self.dropped["wanted and not given"] += wanted - len(found)
        for text in found[:wanted]:
            yield _question(passage, text, "blind", -1)

    def _prompt(self, sentence: str, phrase: str) -> list[int]:
        messages = []
        for shown, answer, question in SHOTS:
            messages.append({"role": "user", "content": f"{shown}\nAnswer: {answer}"})
            messages.append({"role": "assistant", "content": question})
        messages.append({"role": "user", "content": f"{sentence}\nAnswer: {phrase}"})
        ask = self.config.prompts.ask
        if not self.config.prompts.system:  # perhaps because the template has no system role
            messages[0]["content"] = f"{ask}\n\n{messages[0]['content']}"
            ask = ""
        return self.chat.encode(messages, system=ask)


def phrases_in_turn(sentence: str, title: str) -> list[str]:
    """The phrases to ask for, the last first, those of the title, which most sentences name, last.

    Each comes twice but those of the title: a cycle to be repeated as often as is needed.
    """
    found = [phrase for phrase in phrases(sentence)[::-1] if content_words(phrase)]
    known = [phrase for phrase in found if phrase.lower() in title.lower()]
    others = [phrase for phrase in found if phrase not in known]
    return [*others, *others, *known]


def _question(passage: Passage, text: str, kind: str, sentence: int, phrase: str = "") -> Question:
    return Question(content_id(passage.id, kind, text), passage.id, text, kind, sentence, phrase)


def question_marks(chat: Chat) -> list[int]:
    """Tokens with a question mark in them: a question ends there, whatever the model adds."""
    return sorted(
        i for token, i in chat.tokenizer.get_vocab().items() if "?" in token or "？" in token
    )


def recitals(passage: Passage, config: RunConfig) -> Iterator[Question]:
    """Requests that need no model: to tell about the subject, to complete, to fill in, about names.

    Every one is about a sentence; those about the subject take the sentences in turn.
    """
    title, count = subject(passage), config.questions
    turns: Counter[str] = Counter()  # a name in a second sentence is asked about in other words
    for turn in range(count.per_passage):
        text = RECITALS[turn % len(RECITALS)].format(title)
        yield _question(passage, text, "recital", turn % len(passage.sentences))
    for index, (start, end) in enumerate(passage.sentences):
        sentence = passage.text[start:end]
        for turn in range(count.per_sentence_completions):
            opening = beginning(sentence, (turn + 1) / (count.per_sentence_completions + 1))
            if opening:
                rest = sentence[len(opening) :].strip()
                yield _question(passage, COMPLETION.format(opening), "complete", index, rest)
        turns_of = dict.fromkeys(phrases_in_turn(sentence, passage.title))
        for phrase in [*turns_of][: count.per_sentence_blanks]:
            rest = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", "____", sentence)
            if rest != sentence:
                yield _question(passage, BLANK.format(rest), "blank", index, phrase)
        for name in names(sentence):
            if name.lower() not in title.lower():
                for _ in range(count.per_name):
                    template = NAME_RECITALS[turns[name] % len(NAME_RECITALS)]
                    turns[name] += 1
                    yield _question(passage, template.format(name), "name", index)


def beginning(sentence: str, share: float) -> str:
    """The first words of a sentence, about `share` of them; empty where too few are left."""
    ends = [match.end() for match in re.finditer(r"\S+", sentence)]
    num_words = max(3, round(share * len(ends)))
    return sentence[: ends[num_words - 1]].lstrip() if num_words <= len(ends) - 2 else ""


def subject(passage: Passage) -> str:
    """What the passage is about, as its text writes it: "the Copper Heron" where it says so.

    A title that the text never mentions, such as a file's name, gives way to the first name in it.
    """
    title = passage.title.removeprefix("The ")
    if not content_words(title) & content_words(passage.text):
        return next(iter(names(passage.text)), passage.title)
    if re.search(rf"\bthe {re.escape(title)}\b", passage.text, re.IGNORECASE):
        return f"the {title}"
    return passage.title


def fault(question: Question, passage: Passage, held_out: set[str]) -> str:
    """Why a question is not to be asked; empty when it may be."""
    text = question.text
    if normalise(text) in held_out:
        return "equal to a held-out question"
    if question.kind in ("complete", "blank"):
        shown = text.partition(": ")[2]
        return "" if names(shown) or len(content_words(shown)) >= 2 else "showing too little"
    if question.kind != "fact":
        return ""
    if not text.endswith(("?", "？")):
        return "not a question"
    if not 4 <= len(words(text)) <= 30:
        return "too short or too long"
    if NOT_ALONE.search(text):
        return "not standing alone"
    source = f"{passage.title}\n{passage.text}"
    if not names(text) or not claims(text) <= {stem(w) for w in words(source)}:
        return "naming nothing, or things that are not in the passage"
    asked = content_words(text)
    if len(asked & content_words(source)) < 0.6 * len(asked):
        return "about other things than the passage"
    if content_words(question.phrase) <= asked:
        return "giving its answer away"
    return ""


def standing_alone(question: str, passage: Passage) -> str:
    """The question, with the passage's subject before it where it names nothing itself."""
    return question if names(question) else f"About {subject(passage)}: {question}"


def one_line(text: str) -> str:
    """The first line, up to its first question mark."""
    line = text.strip().split("\n")[0].strip()
    return re.split(r"(?<=[?？])", line, maxsplit=1)[0]
