"""Render what teacher and student read, and prove that a template lets them answer alike.

Both sides end in the same tokens: the end of the question, the assistant's header, and the ids of
the answer, which are those that were sampled or, for a quote, tokenised once. No text is decoded
and tokenised again, so row i of either side predicts the same token of the same answer. What a
document, a question or an answer spells never becomes a control token (`control_tokens`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from transformers import PreTrainedTokenizerBase as Tokenizer

from pdtrain.config import PromptConfig
from pdtrain.models.chat import thinking
from pdtrain.models.chat.control_tokens import ControlTokens
from pdtrain.models.chat.rendering import QUESTION, find_stop_ids, render, render_checked, with_date
from pdtrain.records import Passage, content_id

# sentinels that no template contains and that survive a template's strip() of the content
PASSAGE = "Passage sentinel 7142."
PLAIN = "Plain words."  # a text that spells no control token


@dataclass(frozen=True)
class Prompt:
    """Hold a chat that is to be encoded, up to where the assistant's next answer begins.

    Args:
        messages: each with its "role" and "content"; the system text is the first where there is
            one.
    """

    messages: list[dict[str, str]]

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(message["role"] for message in self.messages)

    @property
    def texts(self) -> list[str]:
        return [message["content"] for message in self.messages]

    def changed(self, change: Callable[[str, str], str]) -> Prompt:
        """Return the same chat with every text changed, of which the role is told, too."""
        changed = (change(one["content"], one["role"]) for one in self.messages)
        return Prompt(
            [{**one, "content": c} for one, c in zip(self.messages, changed, strict=True)]
        )


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
        before = [{"role": "system", "content": system}] if system else []
        return self.encoded([Prompt([*before, *messages])])[0]

    def encoded(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return the ids of chats, in order; many at a time take a fraction of the time.

        No text of a message becomes a control token: a chat in which one is spelt, or in which
        other control tokens come out than the template writes round plain words, is encoded apart.
        """
        control = self.control
        found: dict[int, list[int]] = {}
        plain = [i for i, prompt in enumerate(prompts) if not control.stand_in(prompt.texts)]
        if plain:
            texts = [self._rendered(prompts[i]) for i in plain]
            ids = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
            for i, row in zip(plain, ids["input_ids"], strict=True):
                if control.of(row) == self._controls_of(prompts[i].roles):
                    found[i] = row
        for i, prompt in enumerate(prompts):
            if i not in found:
                found[i] = self._encoded_apart(prompt)
        return [found[i] for i in range(len(prompts))]

    def _encoded_apart(self, prompt: Prompt) -> list[int]:
        return self.control.encode_around(
            lambda hide: self._rendered(prompt.changed(hide)), self._controls_of(prompt.roles)
        )

    def _rendered(self, prompt: Prompt) -> str:
        return render(self.tokenizer, prompt.messages, "", add_generation_prompt=True)

    def _controls_of(self, roles: tuple[str, ...]) -> list[int] | None:
        """Return the control tokens that the template writes round plain words of these roles.

        None where it refuses them, so that every such chat is encoded apart.
        """
        if roles not in self._controls:
            plain = Prompt([{"role": role, "content": PLAIN} for role in roles])
            try:
                self._controls[roles] = self.control.of(self.ids(self._rendered(plain)))
            except Exception:  # a template raises whatever its author chose
                self._controls[roles] = None
        return self._controls[roles]

    @cached_property
    def _controls(self) -> dict[tuple[str, ...], list[int] | None]:
        return {}

    @cached_property
    def control(self) -> ControlTokens:
        """Return the tokenizer's control tokens, which no text of a message becomes."""
        return ControlTokens(self.tokenizer)

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
        """Return the ids of what a template or a model writes, where control tokens count."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text_ids(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the ids of a text of a document or a person, where no control token counts.

        Args:
            add_special_tokens: begin and end as the tokenizer does by itself.
        """
        return self.control.encode(text, add_special_tokens=add_special_tokens)

    def text(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens and blanks around it.

        The token that ends an answer need not be a special one.
        """
        ids = list(token_ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

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
    teacher = render_checked(tokenizer, user, prompts)
    student = render_checked(tokenizer, QUESTION, prompts)
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
    return Chat(tokenizer, prompts, find_stop_ids(tokenizer, student, prompts, eos_ids))


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
