"""Render a chat template with variables, and read off what it writes round thoughts and replies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta, nodes
from transformers import PreTrainedTokenizerBase as Tokenizer

# sentinels that no template contains and that survive a template's strip() of the content
SAID, THOUGHT, REPLY = "Question sentinel 4031?", "Thought sentinel 6177.", "Reply sentinel 9254."
QUESTION = ({"role": "user", "content": SAID},)

# what opens and what closes a thought, in the templates of this and the last years
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought\n", "<channel|>"),
)
OPENS = tuple(opening.strip() for opening, _ in MARKS)
CLOSES = tuple(close for _, close in MARKS)
# marks as templates write them, of thoughts, channels and messages
MARK = re.compile(
    "|".join(map(re.escape, (*OPENS, *CLOSES))) + r"|<\|[^<>|]+\|>|</?[\w:]*(?:think|thought)\w*>"
)
# what looks like a mark, known or not
TAG = r"<\|?/?[\w:]+\|?>|\[/?[A-Z_]{3,}\]|◁/?\w+▷"
# what marks of thoughts that no list here knows are called
SOUNDS = re.compile(
    r"think|thought|reason|reflect|deliberat|scratch|analysis|monologue|cot\b|思|推理",
    re.IGNORECASE,
)
# a word in the text of a message by which some templates turn thoughts on or off
SLASHED = re.compile(r"\s*(/\w+)\s*")
# a tag that transformers adds to Jinja, for templates that mark what is trained on
GENERATION_TAG = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
# what transformers itself passes to a template
GIVEN_ALWAYS = {"messages", "add_generation_prompt", "raise_exception", "strftime_now"}


class Template:
    """Hold a tokenizer's chat template with the variables that the user gave.

    Attributes:
        given: the user's variables; every rendering has them unless it says otherwise.
        variables: names that the template uses and does not always set itself, `messages` among
            them; empty where Jinja cannot read it.
    """

    def __init__(self, tokenizer: Tokenizer, given: Mapping[str, Any]) -> None:
        self.tokenizer, self.given = tokenizer, dict(given)
        self.source = tokenizer.get_chat_template()
        self.variables = _variables(self.source)

    def names(self, known: tuple[str, ...]) -> list[str]:
        """Return which of some names the template uses as variables, in their order."""
        return [name for name in known if name in self.variables]

    def words(self, name: str) -> list[str]:
        """Return the texts that the template compares a variable with, in their order."""
        return _compared(self.source).get(name, [])

    def prompt(self, **variables: Any) -> str | None:
        """Return the prompt of a question; None where the template refuses the variables."""
        return rendered(self.tokenizer, QUESTION, {**self.given, **variables})

    def header(self, variables: Mapping[str, Any]) -> str:
        """Return what a prompt writes behind the question; the user's variables are not added."""
        return after_question(rendered(self.tokenizer, QUESTION, variables))

    def own_reply(self, variables: Mapping[str, Any]) -> str | None:
        """Return what the template writes between its header and a reply without a thought.

        Returns:
            None where it does not repeat the header of a prompt before a reply.
        """
        header, text = self.header(variables), self._reply(variables)
        if text is None or not text.startswith(header):
            return None
        return text[len(header) : text.index(REPLY)]

    def own_thought(self, variables: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return what the template writes between its header and a thought, and after it.

        Returns:
            None where it does not show thoughts.
        """
        header, text = self.header(variables), self._reply(variables, with_thought=True)
        if text is None or text.count(THOUGHT) != 1 or not text.startswith(header):
            return None
        before, _, rest = text[len(header) :].partition(THOUGHT)
        return before, rest.partition(REPLY)[0]

    def marks(self) -> tuple[str, str] | None:
        """Return what opens and what closes a thought, where the template names either."""
        named = ((o, c) for o, c in MARKS if o.strip() in self.source or c in self.source)
        return next(named, None)

    def own_marks(self, variables: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return the marks that the template itself writes next to a thought, whatever they are."""
        before, after = self.own_thought(variables) or ("", "")
        opening = re.search(rf"(?:{TAG})\s*$", self.header(variables) + before)
        close = re.match(rf"\s*({TAG})", after)
        return (opening[0].strip(), close[1]) if opening and close else None

    def unknown_opening(self, variables: Mapping[str, Any]) -> str:
        """Return the mark that a header ends with, that sounds like a thought, and no reply has.

        It is empty where there is none.
        """
        header, reply = self.header(variables), self._reply(variables)
        found = re.search(rf"(?:{TAG})\s*$", header)
        mark = found[0].strip() if found else ""
        is_end = re.match(r"\W*(?:/|end)", mark, re.IGNORECASE)
        has_it = reply is None or mark in reply
        return mark if SOUNDS.search(mark) and not is_end and not has_it else ""

    def end_of(self, mark: str) -> str:
        """Return what ends a thought that an unknown mark opens: `</plan>` for `<plan>`.

        Of those that are possible, it is one that the tokenizer or the template knows.
        """
        if mark in OPENS:
            return CLOSES[OPENS.index(mark)]
        before, name, after = re.findall(r"(\W+)([\w:]+)(\W+)", mark)[0]
        possible = [f"{before}{sign}{name}{after}" for sign in ("/", "end_", "END_", "end_of_")]
        known = self.tokenizer.get_added_vocab()
        return next((one for one in possible if one in known or one in self.source), possible[0])

    def _reply(self, variables: Mapping[str, Any], *, with_thought: bool = False) -> str | None:
        """Return what stands between a question and the end of the reply to it."""
        message = {"role": "assistant", "content": REPLY}
        if with_thought:  # templates take it under one of these names
            message |= dict.fromkeys(("thinking", "reasoning_content", "reasoning"), THOUGHT)
        messages = (*QUESTION, message)
        text = rendered(self.tokenizer, messages, variables, add_generation_prompt=False)
        return after_question(text) if text and text.count(REPLY) == 1 else None


def rendered(
    tokenizer: Tokenizer,
    messages: tuple[dict[str, str], ...],
    variables: Mapping[str, Any],
    *,
    add_generation_prompt: bool = True,
) -> str | None:
    """Return what a template makes of messages; None where it refuses them or the variables."""
    try:
        return str(
            tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **variables,
            )
        )
    except Exception:  # a template raises whatever its author chose
        return None


def after_question(text: str | None) -> str:
    """Return what a text holds behind the question; all of it where the question is not there."""
    return (text or "").rpartition(SAID)[2]


def is_open(header: str) -> bool:
    """Return whether a header ends inside a thought."""
    return max(map(header.rfind, OPENS)) > max(map(header.rfind, CLOSES))


def is_closed(header: str) -> bool:
    """Return whether a header holds a thought that has ended."""
    return max(map(header.rfind, CLOSES)) > max(map(header.rfind, OPENS))


def _parsed(source: str) -> nodes.Template:
    """Return the tree of a template; an empty one where Jinja cannot read it."""
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return environment.parse(GENERATION_TAG.sub("", source))
    except TemplateSyntaxError:
        return environment.parse("")


def switches_in_text(source: str) -> set[str]:
    """Return the words such as `/no_think` that a template looks for in the texts of messages."""
    tree = _parsed(source)
    looked_for = (
        constant.value
        for node in tree.find_all((nodes.Compare, nodes.Call, nodes.Filter))
        for constant in node.find_all(nodes.Const)
    )
    texts = (value for value in looked_for if isinstance(value, str))
    return {found[1] for text in texts if (found := SLASHED.fullmatch(text))}


def _variables(source: str) -> set[str]:
    return set(meta.find_undeclared_variables(_parsed(source)))


def _compared(source: str) -> dict[str, list[str]]:
    """Return the texts that each variable is compared with, methods and filters put aside."""
    found: dict[str, list[str]] = {}
    for comparison in _parsed(source).find_all(nodes.Compare):
        sides = [comparison.expr, *(operand.expr for operand in comparison.ops)]
        constants = [
            c.value
            for side in sides
            for c in (side, *side.find_all(nodes.Const))
            if isinstance(c, nodes.Const)
        ]
        for name in filter(None, map(_name, sides)):
            words = (value for value in constants if isinstance(value, str))
            found[name] = list(dict.fromkeys((*found.get(name, ()), *words)))
    return found


def _name(side: nodes.Node) -> str:
    """Return the variable of a side of a comparison, perhaps `name | lower` or `name.lower()`."""
    while True:
        if isinstance(side, nodes.Name):
            return str(side.name)
        if isinstance(side, nodes.Filter) and side.node is not None:
            side = side.node
        elif isinstance(side, nodes.Call) and isinstance(side.node, nodes.Getattr):
            side = side.node.node
        else:
            return ""
