"""Find out how a chat template lets a model think, and keep the model from thinking.

A *thought* is what a model writes before its answer, between marks such as `<think>` and
`</think>`. It is no answer: questions and answers that are cut-off thoughts are worth nothing, and
an adapter that has learned behind one kind of header must be served behind the same. What a
template does is found out by rendering it with its switches on and off, not by the model's name.
The settings are then written into a copy of the template as defaults, so that whatever renders a
prompt, here or from an exported folder, gets the same one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from pdtrain.config import ModelConfig
from pdtrain.models.chat import thinking_switch
from pdtrain.models.chat.template import (
    CLOSES,
    GIVEN_ALWAYS,
    MARK,
    MARKS,
    OPENS,
    QUESTION,
    TAG,
    Template,
    after_question,
    is_closed,
    is_open,
    rendered,
)
from pdtrain.models.chat.thinking_switch import BUDGETS, EFFORTS

# what a reply begins with that is no answer: a thought, or the name of a channel or recipient
OPENINGS = (*OPENS, "<|channel|>", "<|channel>", "to=self<|message|>", "to=user<|message|>")


@dataclass(frozen=True)
class Thinking:
    """Say what keeps a model from thinking, what lets it think, and how a thought ends.

    Attributes:
        off: variables of the template for prompts without a thought, the user's own included.
        opener: what follows the assistant's header in such prompts: an empty thought, the rest of
            one, or what opens the channel of the answer.
        on: variables for prompts that let the model think.
        skip: what follows the header of such a prompt where the model shall not think after all.
        end: the mark that ends a thought; empty where none is known.
        after: what stands between that mark and the answer.
        found: what was found and is done about it, for messages.
    """

    off: Mapping[str, Any]
    opener: str
    on: Mapping[str, Any]
    skip: str
    end: str
    after: str
    found: str


def find(tokenizer: Tokenizer, config: ModelConfig) -> Thinking:
    """Find out what a tokenizer's chat template needs so that `model.thinking` holds.

    Raises:
        ValueError: `model.chat_template_kwargs` names a variable that the template does not have,
            or contradicts `model.thinking`; or the template cannot do what is asked.
    """
    template = Template(tokenizer, config.chat_template_kwargs)
    _refuse_unknown(template)
    if config.thinking == "template":
        return Thinking(template.given, "", template.given, "", "", "", "the template as it is")
    off, switch = _switched_off(template, config)
    opener = _opener(template, off, is_forced=not switch or config.thinking == "off")
    on = _switched_on(template, config) if config.thought_tokens else off
    skip = _opener(template, on, is_forced=True)
    end, after = _end_of_thought(template, on)
    if config.thought_tokens and not end:
        raise ValueError(
            f"model.thinking={config.thinking}: the chat template holds no mark that ends a "
            "thought, so that a thought could not be cut off; set model.thinking=auto"
        )
    found = _in_words(template, off, switch, opener)
    return Thinking(off, opener, on, skip, end, after, found)


def silenced(tokenizer: Tokenizer, thinking: Thinking) -> Tokenizer:
    """Return the tokenizer with a template whose prompts end where an answer begins."""
    return _written_into(tokenizer, thinking.off, thinking.opener)


def let_think(tokenizer: Tokenizer, thinking: Thinking) -> Tokenizer:
    """Return the tokenizer with a template whose prompts let the model think first."""
    return _written_into(tokenizer, thinking.on, "")


def is_thought(text: str) -> bool:
    """Return whether a reply, special tokens included, is a thought or names its channel."""
    return text.lstrip().startswith(OPENINGS) or any(close in text for close in CLOSES)


def without_thought(text: str) -> str:
    """Return what a reply says behind its thought; nothing where the thought has no end.

    A prompt may open the thought, so that the reply holds the mark of its end alone.
    """
    ends = [place + len(close) for close in CLOSES if (place := text.rfind(close)) >= 0]
    if ends:
        return text[max(ends) :]
    return "" if text.lstrip().startswith(OPENS) else text


def first_mark(text: str) -> str:
    """Return the mark, of whatever kind, that a reply begins with; empty where it begins so not."""
    found = re.match(TAG, text.lstrip())
    return found[0] if found else ""


def _written_into(tokenizer: Tokenizer, variables: Mapping[str, Any], opener: str) -> Tokenizer:
    """Return a copy whose template has defaults for variables, and ends prompts with a text.

    Raises:
        ValueError: the template renders otherwise with defaults than with the variables passed.
    """
    if not variables and not opener:
        return tokenizer
    defaults = "".join(
        # Python's literals of JSON's types are Jinja's as well
        f"{{%- if {name} is not defined -%}}{{%- set {name} = {value!r} -%}}{{%- endif -%}}"
        for name, value in variables.items()
    )
    # an empty expression, for Jinja drops a line break behind a tag, and the last of a template
    begin, source = f"{defaults}{{{{ '' }}}}", tokenizer.get_chat_template().removesuffix("\n")
    end = f"{{% if add_generation_prompt %}}{{{{ {opener!r} }}}}{{% endif %}}" if opener else ""
    written = copy(tokenizer)  # whoever passed it may want it as it was
    written.chat_template = begin + source + end
    wanted = rendered(tokenizer, QUESTION, variables)
    if wanted is None or rendered(written, QUESTION, {}) != wanted + opener:
        raise ValueError(
            f"the chat template cannot be given {', '.join(variables) or 'another end'} as a "
            "default: it renders otherwise then; write it into the model's chat_template.jinja "
            "and set model.thinking=template"
        )
    return written


def _refuse_unknown(template: Template) -> None:
    unknown = sorted(template.given.keys() - template.variables)
    if template.variables and unknown:
        known = ", ".join(sorted(template.variables - GIVEN_ALWAYS)) or "none"
        raise ValueError(
            f"model.chat_template_kwargs names {', '.join(unknown)}, which the model's chat "
            f"template does not use; its variables are: {known}"
        )


def _switched_off(template: Template, config: ModelConfig) -> tuple[dict[str, Any], str]:
    """Return the variables that turn thoughts off, and the switch's name; empty without one.

    Raises:
        ValueError: the user's own variables turn thoughts on.
    """
    plain, given = template.prompt(), template.given
    if switch := thinking_switch.find(template):
        name = switch.name
        if name in given and switch.is_on(given[name]) and not config.thought_tokens:
            raise ValueError(
                f"model.chat_template_kwargs.{name}={given[name]!r} lets the model think, and "
                f"model.thinking={config.thinking} does not; set model.thinking=on"
            )
        is_default = template.prompt(**{name: switch.off}) == plain
        return ({**given} if is_default else {**given, name: switch.off}), name
    values = dict.fromkeys(template.names(BUDGETS), (0,))
    words = dict.fromkeys(template.names(EFFORTS), ("none", "off", 0))
    for name, quiet in (*values.items(), *words.items()):
        for value in quiet if name not in given else ():
            off = template.prompt(**{name: value})
            if off != plain and is_closed(after_question(off)):
                return {**given, name: value}, name
    for name in template.names(EFFORTS):
        level = thinking_switch.of_words(template, name) if name not in given else None
        if level:
            is_default = template.prompt(**{name: level.off}) == plain
            return ({**given} if is_default else {**given, name: level.off}), name
    return {**given}, ""


def _opener(template: Template, off: Mapping[str, Any], *, is_forced: bool) -> str:
    """Return what must follow a prompt's header so that the answer comes next.

    A thought that the header opens is always ended.

    Args:
        is_forced: also write an empty thought, or open the answer's channel, where the header opens
            no thought.
    """
    header, thought = template.header(off), template.own_thought(off)
    if is_closed(header):
        return ""
    own_marks = template.own_marks(off)
    if is_open(header) or (own_marks and header.rstrip().endswith(own_marks[0])):
        if thought and not thought[0].strip():
            return thought[1]
        close = next(c for o, c in MARKS if o.strip() in header)
        return _closing(header, close)
    if unknown := template.unknown_opening(off):
        return _closing(header, template.end_of(unknown))
    if not is_forced:
        return ""
    for own in (template.own_reply(off), "".join(thought or ())):
        if own and (MARK.search(own) or (own_marks and own_marks[0] in own)):
            return own
    if marks := template.marks():
        return "".join(marks) if marks[0].endswith("\n") else "{}\n\n{}\n\n".format(*marks)
    return ""


def _closing(header: str, close: str) -> str:
    """Return what ends the thought that a header opens, and leaves it empty."""
    return f"\n{close}\n\n" if header.endswith("\n") else f"\n\n{close}\n\n"


def _switched_on(template: Template, config: ModelConfig) -> dict[str, Any]:
    """Return the variables that let the model think as much as is asked for.

    Raises:
        ValueError: the template knows no such level.
    """
    on, level = dict(template.given), config.thinking
    if switch := thinking_switch.find(template):
        on.setdefault(switch.name, switch.on)
    for name in template.names(BUDGETS):
        on.setdefault(name, config.thinking_budget)
    if level == "on":
        return on
    for name in template.names(EFFORTS):
        if name in on:  # given by the user
            if on[name] != level:
                raise ValueError(
                    f"model.thinking={level} and model.chat_template_kwargs.{name}={on[name]!r} "
                    "contradict each other; give one of them"
                )
            return on
        other = "high" if level == "low" else "low"
        asked, changed = (template.prompt(**on, **{name: value}) for value in (level, other))
        if asked is not None and asked != changed:
            return {**on, name: level}
    if (name := f"{level}_effort") in template.variables:
        return {**on, name: True}
    raise ValueError(
        f"model.thinking={level}: the chat template knows no such level; set model.thinking=on, "
        "and pass what it does know by model.chat_template_kwargs"
    )


def _end_of_thought(template: Template, on: Mapping[str, Any]) -> tuple[str, str]:
    """Return the mark that ends a thought and what follows it; empty where none is known."""
    thought = template.own_thought(on)
    if thought and (mark := MARK.match(thought[1].lstrip())):
        return mark[0], thought[1].lstrip()[mark.end() :]
    if thought and (own := template.own_marks(on)):
        return own[1], thought[1].lstrip()[len(own[1]) :]
    if unknown := template.unknown_opening(on):
        return template.end_of(unknown), "\n\n"
    if marks := template.marks():
        return marks[1], "" if marks[0].endswith("\n") else "\n\n"
    return "", ""


def _in_words(template: Template, off: Mapping[str, Any], switch: str, opener: str) -> str:
    parts = []
    if switch:
        value = f"={off[switch]!r}" if switch in off else ", which is off by default"
        parts.append(f"the template's switch {switch}{value}")
    elif is_closed(template.header(off)):
        parts.append("the template's own empty thought")
    if opener:
        is_empty = any(close in opener for close in CLOSES) or opener.startswith("\n")
        parts.append(
            "an empty thought in the prompt" if is_empty else "the open channel of the answer"
        )
    return " and ".join(parts) or "nothing to turn off"
