"""Render what teacher and student read, and prove that a template lets them answer alike.

Both sides end in the same tokens: the end of the question, the assistant's header, and the ids of
the answer, which are those that were sampled or, for a quote, tokenised once. No text is decoded
and tokenised again, so row i of either side predicts the same token of the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from pdtrain.config import PromptConfig
from pdtrain.models.chat import thinking
from pdtrain.records import Passage, content_id

# sentinels that no template contains and that survive a template's strip() of the content
PASSAGE, QUESTION, ANSWER = "Passage sentinel 7142.", "Question sentinel 2957?", "Answer 8836."

TODAY = re.compile(r"""strftime_now\s*\(\s*(['"])([^'"]*)\1\s*\)""")
ASKS_DATE = re.compile(r"strftime_now\s*\(")


@dataclass(frozen=True)
class Chat:
    """Turn prompts into token ids with one tokenizer. Make it with `prove`, which checks it."""

    tokenizer: Tokenizer
    prompts: PromptConfig
    stop_ids: tuple[int, ...]  # any of these ends an answer; the first is the template's own

    def student(self, question: str) -> list[int]:
        """Return the prompt of the question alone, up to where the answer begins."""
        return self.encode([{"role": "user", "content": question}])

    def teacher(self, passage: Passage, question: str, sentence: int = -1) -> list[int]:
        """Return the prompt of the question and the passage, up to where the answer begins.

        Args:
            sentence: index of the passage's sentence that the prompt repeats; -1 for none.
        """
        focus = ""
        if sentence >= 0:
            start, end = passage.sentences[sentence]
            focus = self.prompts.focus.format(sentence=passage.text[start:end])
        content = self.prompts.teacher.format(
            title=passage.heading, passage=passage.text, focus=focus, question=question
        )
        return self.encode([{"role": "user", "content": content}])

    def encode(self, messages: list[dict[str, str]], system: str | None = None) -> list[int]:
        """Return the ids of a chat, up to where the assistant's next answer begins.

        Args:
            messages: each with its "role" and "content".
            system: goes before them; `prompts.system` by default, and nothing where empty.
        """
        system = self.prompts.system if system is None else system
        text = render(self.tokenizer, messages, system, add_generation_prompt=True)
        return self.ids(text)

    def few_shot(
        self, instruction: str, shots: Sequence[tuple[str, str]], request: str
    ) -> list[int]:
        """Return the ids of worked examples and a request, up to where its answer begins.

        The instruction is the system text, or opens the first example where `prompts.system` is
        empty, perhaps because the template has no system role.

        Args:
            shots: (what the user says, what the assistant answers) of every example.
        """
        messages = []
        for asked, answer in shots:
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": request})
        if self.prompts.system:
            return self.encode(messages, system=instruction)
        messages[0]["content"] = f"{instruction}\n\n{messages[0]['content']}"
        return self.encode(messages, system="")

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text without special tokens; a template writes its own."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens and blanks around it."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    def is_thought(self, token_ids: Sequence[int]) -> bool:
        """Return whether a reply is a thought, or names a channel, instead of an answer."""
        return thinking.is_thought(str(self.tokenizer.decode(list(token_ids))))


def joined(passages: Sequence[Passage]) -> Passage:
    """Join several passages into one, which the teacher's prompt has room for.

    The passages stand in order, with a blank line between them and under the title of the first
    one. So a prompt with the joined passage begins as a prompt with the first one alone does, and
    the sentences of the first one keep their indices.
    """
    first, text, sentences = passages[0], "", list[tuple[int, int]]()
    for passage in passages:
        text += "\n\n" if text else ""
        sentences += [(len(text) + start, len(text) + end) for start, end in passage.sentences]
        text += passage.text
    name = content_id(*(passage.id for passage in passages))
    num_tokens = sum(passage.num_tokens for passage in passages)
    return replace(
        first,
        id=name,
        text=text,
        start=0,
        end=len(text),
        num_tokens=num_tokens,
        sentences=tuple(sentences),
    )


def titled(passages: Sequence[Passage]) -> list[Passage]:
    """Return passages in which those of a further document open with its title.

    The title of the first one stands above all of them when they are joined.
    """
    found = list(passages[:1])
    for before, passage in pairwise(passages):
        if passage.title and passage.document_id != before.document_id:
            passage = replace(passage, text=f"{passage.title}\n\n{passage.text}", sentences=())
        found.append(passage)
    return found


def render(
    tokenizer: Tokenizer,
    messages: list[dict[str, str]],
    system: str,
    *,
    add_generation_prompt: bool,
) -> str:
    """Return what the chat template makes of some messages, as text.

    Args:
        system: the system text; empty for none.
    """
    if system:
        messages = [{"role": "system", "content": system}, *messages]
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(text)


def with_date(tokenizer: Tokenizer, today: str) -> Tokenizer:
    """Return the tokenizer with one day's date in its chat template, if that asks for today's.

    Templates of Llama 3.2, SmolLM3, gpt-oss and others call `strftime_now("%d %b %Y")`: prompts,
    and with them the teacher's cache, would change at midnight. An export has the same date, so
    that the adapter is served with the prompts that it was trained on.

    Args:
        today: YYYY-MM-DD.

    Raises:
        ValueError: a format that is not written out, so that the date cannot be put in.
    """
    template = tokenizer.get_chat_template()
    if not ASKS_DATE.search(template):
        return tokenizer
    day = datetime.fromisoformat(today)
    dated = copy(tokenizer)  # whoever passed it may want another date
    dated.chat_template = TODAY.sub(lambda call: repr(day.strftime(call[2])), template)
    if ASKS_DATE.search(dated.chat_template):
        raise ValueError(
            "the chat template writes today's date in a format that it computes, so prompts would "
            "change at midnight; write the format out in the model's chat_template.jinja, as in "
            'strftime_now("%d %b %Y")'
        )
    return dated


def prove(tokenizer: Tokenizer, prompts: PromptConfig, eos_ids: int | Sequence[int] | None) -> Chat:
    """Check with sentinels that the template fits prompt distillation, and find its end of turn.

    Args:
        eos_ids: the model's own end-of-sequence ids, if it has any; they end an answer too.

    Raises:
        ValueError: the template drops or refuses the system text, changes passage or question,
            shows the student the passage, or renders what follows the question differently for
            teacher and student.
    """
    tokenizer = with_date(tokenizer, prompts.date)
    user = prompts.teacher.format(title="Title", passage=PASSAGE, focus="", question=QUESTION)
    teacher = _render_checked(tokenizer, user, prompts)
    student = _render_checked(tokenizer, QUESTION, prompts)
    for side, text, wanted in (
        ("teacher", teacher, (PASSAGE, QUESTION)),
        ("student", student, (QUESTION,)),
    ):
        for sentinel in wanted:
            if text.count(sentinel) != 1:
                raise ValueError(
                    f"the chat template shows the {side} the {sentinel.split()[0].lower()} "
                    f"{text.count(sentinel)} times, expected once: it rewrites its content, which "
                    "prompt distillation cannot use; choose another model or template"
                )
    if PASSAGE in student:
        raise ValueError("the chat template shows the student the passage; it must not see it")
    after = [text.split(QUESTION)[1] for text in (teacher, student)]
    if not prompts.teacher.endswith("{question}"):
        # the teacher may be told more after the question; the assistant's header must still agree
        after = [text[-len(min(after, key=len)) :] for text in after]
    if after[0] != after[1]:
        raise ValueError(
            "the chat template continues differently after the question for teacher and student: "
            f"{after[0]!r} and {after[1]!r}; both must put the same header before the answer"
        )
    return Chat(tokenizer, prompts, _stop_ids(tokenizer, student, prompts, eos_ids))


def _render_checked(tokenizer: Tokenizer, content: str, prompts: PromptConfig) -> str:
    system = prompts.system
    messages = [{"role": "user", "content": content}]
    advice = "set prompts.system='' to leave the system text out, or use another model"
    try:
        text = render(tokenizer, messages, system, add_generation_prompt=True)
    except Exception as error:  # a template raises whatever its author chose
        if not system:
            raise
        raise ValueError(
            f"the chat template refuses a system message ({error}); {advice}"
        ) from None
    if system and system.strip() not in text:
        raise ValueError(f"the chat template has no system role and drops its text; {advice}")
    return text


def _stop_ids(
    tokenizer: Tokenizer, prompt: str, prompts: PromptConfig, eos_ids: Any
) -> tuple[int, ...]:
    """Return the first token that the template writes after an answer, and the model's own ends."""
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
    ]
    whole = render(tokenizer, messages, prompts.system, add_generation_prompt=False)
    after = whole.split(ANSWER)[-1]
    stops: list[int] = []
    first = tokenizer(after, add_special_tokens=False)["input_ids"][:1] if after else []
    added = tokenizer.added_tokens_decoder  # holds special tokens that have no role's name, too
    if first and (first[0] in tokenizer.all_special_ids or _is_special(added.get(first[0]))):
        stops += first
    if tokenizer.eos_token_id is not None:
        stops.append(tokenizer.eos_token_id)
    stops += [eos_ids] if isinstance(eos_ids, int) else list(eos_ids or [])
    if not stops:
        raise ValueError(
            "neither the chat template nor the tokenizer names a token that ends an answer; "
            "set tokenizer.eos_token"
        )
    return tuple(dict.fromkeys(stops))


def _is_special(token: Any) -> bool:
    return bool(getattr(token, "special", False))


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Count the leading tokens that all sequences share; each keeps at least one of its own."""
    if not sequences:
        return 0
    low, high = min(map(list, sequences)), max(map(list, sequences))
    most = min(map(len, sequences)) - 1
    for index in range(most):
        if low[index] != high[index]:
            return index
    return max(most, 0)
