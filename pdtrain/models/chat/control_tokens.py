"""Keep the text of documents, questions and answers text, whatever control tokens it spells.

A *control token* is one that a chat template writes between texts, such as `<|im_end|>`, `</s>` or
`[INST]`. A tokenizer makes one of every place where it stands, also where a document quotes it, and
then the document could end a turn and begin another. Here the text of messages is hidden while the
template is rendered, and what the template itself wrote is then given to a copy of the tokenizer in
which every control token has a secret name. So whatever else spells one is ordinary text, and all
the rest becomes the same ids as ever. A text that spells none never comes this way. Words such as
`/no_think`, by which some templates turn thoughts off, are hidden from the template likewise, but
for those of a system text, which the user writes.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from pdtrain.models.chat.spelt import Spelt, pattern_of
from pdtrain.models.chat.template import MARKS, switches_in_text

# elements of HTML, which some vocabularies hold as tokens: they are text like any other
HTML = re.compile(r"</?(table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote|strong|em|b|i|u|s|sub|sup|code)>")  # fmt: skip  # noqa: E501
SHAPE = re.compile(r"[^\w\s].*\w.*[^\w\s]", re.DOTALL)  # of a token that is written between texts
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # what a byte that has no token of its own becomes


class ControlTokens(Spelt):
    """Know a tokenizer's control tokens, and make ids of texts in which none of them counts.

    Attributes:
        ids: the control tokens' ids.
        names: id by what a text spells.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.names = control_names(tokenizer)
        # what an unknown character becomes is no sign that one was spelt
        own = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        unknown: set[Any] = {tokenizer.unk_token_id}.difference(own)
        self.ids = frozenset(self.names.values()) - unknown
        super().__init__(self.names)
        switches = switches_in_text(_template(tokenizer))
        self._in_messages = pattern_of([*self.names, *switches]) if switches else self.pattern
        # nobody who wrote a document can know these marks
        secret = secrets.token_hex(8)
        self._names_by_mark = {f"\ue000{secret}n{i}\ue001": name for name, i in self.names.items()}
        self._marks = {name: mark for mark, name in self._names_by_mark.items()}
        self._hidden = re.compile(f"\ue000{secret}h([0-9]+)\ue001")
        self._hide = f"\ue000{secret}h{{}}\ue001"

    def of(self, ids: Iterable[int]) -> list[int]:
        """Return those of the ids that are control tokens, in their order."""
        return list(filter(self.ids.__contains__, ids))

    def stand_in(self, texts: Iterable[str]) -> bool:
        """Return whether any of the texts spells a control token, or a word for the template."""
        return any(map(self._in_messages.search, texts))

    def encode_around(
        self, render: Callable[[Callable[[str, str], str]], str], own: list[int] | None = None
    ) -> list[int]:
        """Return the ids of a rendered chat in which only the template's control tokens count.

        Args:
            render: renders the chat, with every text of a message, and its role, passed through
                the function that it is given.
            own: the control tokens that the template writes, if they are known. Where it makes
                others of what it takes out of a text, the texts are put in as they are.
        """
        taken: list[str] = []

        def hide(text: str, role: str = "") -> str:
            del role
            taken.append(text)
            return self._hide.format(len(taken) - 1)

        def hide_spelt(text: str, role: str = "") -> str:
            pattern = self.pattern if role == "system" else self._in_messages
            return pattern.sub(lambda found: hide(found[0]), text)

        hidden = render(hide_spelt)
        self.num_texts += bool(taken)
        self.spelt.update(taken)
        if own is not None and self._spelt_in(hidden) != own:
            whole = render(hide)
            if self._spelt_in(whole) == own:
                hidden = whole
                self.num_texts += 1
        marked = self.pattern.sub(lambda found: self._marks[found[0]], hidden)
        return self._ids(self._hidden.sub(lambda found: taken[int(found[1])], marked))

    def _spelt_in(self, text: str) -> list[int]:
        return self.of(self.names[name] for name in self.pattern.findall(text))

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the ids of a text in which no control token counts.

        Args:
            add_special_tokens: begin and end as the tokenizer does by itself.
        """
        return self.encode_all([text], add_special_tokens=add_special_tokens)[0]

    def encode_all(
        self, texts: Sequence[str], *, add_special_tokens: bool = False
    ) -> list[list[int]]:
        """Return what `encode` returns for each text; many at a time take less time."""
        if not texts:
            return []
        own = self._around if add_special_tokens else []
        ids = self.tokenizer(
            list(texts), add_special_tokens=add_special_tokens, return_attention_mask=False
        )
        found: list[list[int]] = ids["input_ids"]
        for i, text in enumerate(texts):
            spelt = self.pattern.findall(text)
            if spelt or self.of(found[i]) != own:
                self.spelt.update(spelt)
                self.num_texts += 1
                found[i] = self._ids(text, add_special_tokens=add_special_tokens)
        return found

    def count(self, text: str) -> int:
        """Return how many tokens `encode` makes of a text; it does not count for `tell`."""
        if self.pattern.search(text):
            return len(self._ids(text))
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _around(self) -> list[int]:
        """Return the control tokens that the tokenizer puts round every text."""
        return self.of(self.tokenizer("a")["input_ids"])

    def _ids(self, marked: str, *, add_special_tokens: bool = False) -> list[int]:
        if self.renamed is None:
            return self._by_pieces(marked, add_special_tokens)
        ids: list[int] = self.renamed.encode(marked, add_special_tokens=add_special_tokens).ids
        return ids

    @cached_property
    def renamed(self) -> Any:
        """Return the tokenizer with secret names; None where it is not of the fast kind."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        return with_names(fast, self._marks) if fast is not None else None

    def _by_pieces(self, marked: str, add_special_tokens: bool) -> list[int]:
        """Encode piece by piece, for a tokenizer whose parts cannot be renamed.

        A spelt control token is divided behind its first character, so that neither part is one.
        """
        marks = "|".join(map(re.escape, self._names_by_mark)) or r"(?!)"
        ids: list[int] = []
        for piece in re.split(f"({marks})", marked):
            if piece in self._names_by_mark:
                ids.append(self.names[self._names_by_mark[piece]])
                continue
            start = 0
            for found in self.pattern.finditer(piece):
                ids += self._plain(piece[start : found.start() + 1])
                start = found.start() + 1
            ids += self._plain(piece[start:])
        if add_special_tokens and hasattr(self.tokenizer, "build_inputs_with_special_tokens"):
            ids = list(self.tokenizer.build_inputs_with_special_tokens(ids))
        return ids

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return ids


def control_names(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of a tokenizer's control tokens by what a text must spell.

    They are its special tokens, and those that were added to its vocabulary and look like a mark.
    A special token that a text spells anyway, such as an exclamation mark that fills up batches,
    is none.
    """
    marks = {mark.strip() for pair in MARKS for mark in pair}
    found = {
        str(token.content): i
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special or token.content in marks or _is_mark(token.content)
    }
    for name in map(str, tokenizer.all_special_tokens):
        if isinstance(i := tokenizer.convert_tokens_to_ids(name), int):
            found.setdefault(name, i)
    return {
        name: i
        for name, i in found.items()
        if name.strip() and not BYTE.fullmatch(name) and not _is_ordinary(tokenizer, name, i)
    }


def _template(tokenizer: Tokenizer) -> str:
    """Return a tokenizer's chat template; nothing where it has none."""
    found = getattr(tokenizer, "chat_template", None)
    return str((found.get("default") if isinstance(found, dict) else found) or "")


def _is_ordinary(tokenizer: Tokenizer, name: str, token_id: int) -> bool:
    """Return whether a token comes of its text even where no special token counts."""
    if SHAPE.fullmatch(name):
        return False
    ids = tokenizer(name, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return bool(ids == [token_id])


def _is_mark(name: str) -> bool:
    return bool(SHAPE.fullmatch(name)) and not HTML.fullmatch(name)


def with_names(fast: Any, names: dict[str, str]) -> Any:
    """Return a copy of a tokenizer of the tokenizers library whose tokens have other names.

    Args:
        fast: the tokenizer.
        names: new name by old name.
    """
    from tokenizers import Tokenizer as Fast

    saved = json.loads(fast.to_str())
    for token in saved["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = saved["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): i for piece, i in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), *rest] for piece, *rest in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if merges := model.get("merges"):
        model["merges"] = [merge for merge in merges if not _names_any(merge, names)]
    copy = Fast.from_str(json.dumps(saved))
    copy.no_truncation()
    copy.no_padding()
    return copy


def _names_any(merge: str | Sequence[str], names: dict[str, str]) -> bool:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first in names or second in names or first + second in names
