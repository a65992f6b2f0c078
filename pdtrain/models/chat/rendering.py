"""Render a chat with a tokenizer's template, with the date of the run, and find its end of turn."""

from __future__ import annotations

import re
from copy import copy
from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from pdtrain.config import PromptConfig
from pdtrain.progress import printable

# sentinels that no template contains and that survive a template's strip() of the content
QUESTION, ANSWER = "Question sentinel 2957?", "Answer 8836."

TODAY = re.compile(r"""strftime_now\s*\(\s*(['"])([^'"]*)\1\s*\)""")
ASKS_DATE = re.compile(r"strftime_now\s*\(")


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


def render_checked(tokenizer: Tokenizer, content: str, prompts: PromptConfig) -> str:
    """Return what the template makes of one message.

    Raises:
        ValueError: it refuses the system text, or drops it.
    """
    system = prompts.system
    messages = [{"role": "user", "content": content}]
    advice = "set prompts.system='' to leave the system text out, or use another model"
    try:
        text = render(tokenizer, messages, system, add_generation_prompt=True)
    except Exception as error:  # a template raises whatever its author chose
        if not system or not _renders(tokenizer, messages):
            raise ValueError(
                f"the chat template fails on a question ({printable(str(error))}); mend it in the "
                "model's chat_template.jinja, or use another model"
            ) from None
        raise ValueError(
            f"the chat template refuses a system message ({printable(str(error))}); {advice}"
        ) from None
    if system and system.strip() not in text:
        raise ValueError(f"the chat template has no system role and drops its text; {advice}")
    return text


def _renders(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> bool:
    try:
        render(tokenizer, messages, "", add_generation_prompt=True)
    except Exception:  # a template raises whatever its author chose
        return False
    return True


def find_stop_ids(
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
