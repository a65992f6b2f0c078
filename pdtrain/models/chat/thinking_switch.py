"""Find the variable by which a chat template turns thoughts off, by rendering with its values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pdtrain.models.chat.template import GIVEN_ALWAYS, Template, after_question, is_closed, is_open

# names under which templates take a switch, most usual first; others are found by their sound
SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "reasoning", "use_thinking", "think")
EFFORTS = ("reasoning_effort", "reasoning_strength", "thinking_effort", "thinking_level")
BUDGETS = ("thinking_budget", "reasoning_budget", "max_thinking_tokens")
SOUNDS = re.compile(r"think|thought|reason", re.IGNORECASE)

# a name that turns thoughts off by being true, and a value that does
NEGATIVE = re.compile(r"^(?:no|not|disable|skip|without|suppress|hide)_|_(?:off|disabled)$")
QUIET = re.compile(
    r"(?:none|off|no|false|never|disabled?|skip|fast|instant|direct|chat|plain"
    r"|(?:no|non|not|without)[-_ ]?(?:think|thinking|thoughts?|reason|reasoning))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Switch:
    """Hold a variable of a template and the values that turn thoughts off and on."""

    name: str
    off: Any
    on: Any

    def is_on(self, value: Any) -> bool:
        """Return whether a value of the user's turns thoughts on."""
        return bool(value != self.off if isinstance(self.off, str) else bool(value) != self.off)


def find(template: Template) -> Switch | None:
    """Return the template's switch, found by rendering with its values; None without one."""
    known = {*SWITCHES, *EFFORTS, *BUDGETS}
    sounding = sorted(
        name
        for name in template.variables - known - GIVEN_ALWAYS
        if any(SOUNDS.search(text) for text in (name, *template.words(name)))
    )
    for name in [*template.names(SWITCHES), *sounding]:
        if found := of_words(template, name) or _true_or_false(template, name):
            return found
    return None


def _true_or_false(template: Template, name: str) -> Switch | None:
    """Return a switch that takes true and false; None where neither, or only one, is silent."""
    no, yes = (template.prompt(**{name: value}) for value in (False, True))
    if no == yes:
        return None  # it does nothing here
    without, with_it = after_question(no), after_question(yes)
    is_plain = not any(f(h) for f in (is_open, is_closed) for h in (without, with_it))
    if yes is not None and (
        (is_closed(with_it) and not is_closed(without))
        or (is_open(without) and not is_open(with_it))
        or (is_plain and NEGATIVE.search(name))
    ):
        return Switch(name, off=True, on=False)
    if no is None or is_open(without):
        return None
    return Switch(name, off=False, on=True)


def of_words(template: Template, name: str) -> Switch | None:
    """Return a switch that takes words, by those that the template compares it with."""
    prompts = {word: template.prompt(**{name: word}) for word in template.words(name)}
    headers = {word: after_question(prompt) for word, prompt in prompts.items() if prompt}
    silent = [word for word, header in headers.items() if is_closed(header)] or [
        word for word, header in headers.items() if QUIET.fullmatch(word) and not is_open(header)
    ]
    loud = [word for word in headers if word not in silent]
    other = template.prompt(**{name: "of another kind"})
    if not silent or {prompts[word] for word in (silent[0], *loud)} | {other} == {other}:
        return None  # whatever the variable says, the prompt is the same
    return Switch(name, off=silent[0], on=loud[0] if loud else True)
