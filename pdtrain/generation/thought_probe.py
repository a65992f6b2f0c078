"""Ask the base a few plain questions before a run, and refuse one whose replies are thoughts.

What a chat template says is not always what a model does. A model that thinks all the same would
cost hours of generation and leave questions and answers that are cut-off thoughts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.generation.backend import Backend, open_backend
from pdtrain.generation.sampling import Completion
from pdtrain.generation.thoughts import ThinkingBackend
from pdtrain.models.base import find_thinking, fingerprint, load_tokenizer
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.models.chat.template import is_open
from pdtrain.models.chat.thinking import Thinking, first_mark
from pdtrain.models.placement import give_back_memory
from pdtrain.progress import say, warn
from pdtrain.storage import hash_json, read_checked, write_checked

VERSION = 2  # part of the hash: raise it when the same model would be judged otherwise

QUESTIONS = (
    "What is the capital of France?",
    "Name a colour.",
    "How many days are there in a week?",
)
# a mark is what a reply begins with; only a template that knows thoughts needs to show more
TOKENS, TOKENS_OF_A_THINKER = 16, 48


def check(config: RunConfig, backend: Backend | None = None) -> None:
    """Refuse a base whose replies are thoughts; what was found is kept in the run folder.

    Nothing is loaded where the same base was found to be silent with the same settings before.

    Args:
        backend: of the base; opened from the config, if it must be asked, by default.

    Raises:
        ValueError: replies are thoughts, names of channels, or nothing; it says what to set.
    """
    thinking = find_thinking(config.model)
    settings = [VERSION, fingerprint(config.model), asdict(thinking), asdict(config.prompts)]
    inputs = hash_json([*settings, config.model.thinking, config.model.thinking_budget])
    path = config.run.thinking_file
    if (read_checked(path) or {}).get("inputs") == inputs:
        return
    opened = backend or open_backend(config)
    knows_thoughts = bool(thinking.off or thinking.opener or thinking.end)
    sampling = SamplingConfig(
        temperature=0, max_new_tokens=TOKENS_OF_A_THINKER if knows_thoughts else TOKENS
    )
    silent = prove(load_tokenizer(config.model), config.prompts, None)
    found = _replies(silent, opened, sampling)
    del opened, backend
    give_back_memory()  # the first stage may need it for something else
    _refuse_thoughts(config, thinking, silent, found)
    if knows_thoughts:
        say(f"thinking: replies are no thoughts ({thinking.found})")
        if not any(reply.finished for reply in found):
            warn(
                f"thinking: no reply of the base ended within {sampling.max_new_tokens} tokens; "
                "read some of its answers before you train on them"
            )
    write_checked(path, {"inputs": inputs, **asdict(thinking)})


def _replies(silent: Chat, backend: Backend, sampling: SamplingConfig) -> list[Completion]:
    """Return replies to prompts without a thought and, with thinking on, to those with one."""
    prompts = [silent.student(question) for question in QUESTIONS]
    if not isinstance(backend, ThinkingBackend):
        return backend.sample(prompts, sampling, seed=0)
    thinking = [backend.chat.student(question) for question in QUESTIONS]
    found = backend.base.sample(prompts, sampling, seed=0)
    return [*found, *backend.sample(thinking, sampling, seed=0)]


def _refuse_thoughts(
    config: RunConfig, thinking: Thinking, silent: Chat, found: Sequence[Completion]
) -> None:
    prompt = str(silent.tokenizer.decode(silent.student(QUESTIONS[0])))
    thoughts = [reply for reply in found if silent.is_thought(reply.token_ids)]
    mark = _common_mark(silent, found)
    if mark:
        thoughts = list(found)  # no answer to plain questions begins so
    if is_open(prompt.rpartition(QUESTIONS[0])[2]):
        thoughts = list(found)  # whatever they say
    is_mute = not any(reply.text for reply in found) and bool(thinking.end)
    if not thoughts and not is_mute:
        return
    what = "empty" if is_mute else "thoughts, or name a channel, and no answers"
    what += f": they begin with {mark}" if mark else ""
    raise ValueError(
        f"model.thinking={config.model.thinking}: {len(thoughts) or len(found)} of {len(found)} "
        f"replies of {config.model.name} to plain questions are {what} "
        f"({thinking.found}); {_advice(config, thinking)}"
    )


def _common_mark(silent: Chat, found: Sequence[Completion]) -> str:
    """Return the mark that all replies begin with, known or not; empty where they do not."""
    texts = (
        silent.tokenizer.decode([i for i in reply.token_ids if i not in silent.stop_ids])
        for reply in found
    )
    marks = {first_mark(str(text)) for text in texts}
    return marks.pop() if len(marks) == 1 else ""


def _advice(config: RunConfig, thinking: Thinking) -> str:
    asked = config.model.thinking
    if asked == "template":
        return "set model.thinking=auto"
    if asked == "auto" and _off_says_more(config, thinking):
        return "set model.thinking=off, which also writes an empty thought into the prompt"
    if not thinking.end:
        return (
            "its chat template names no marks of a thought: write an empty one, as the model's "
            "authors show it, into its chat_template.jinja, or take another model"
        )
    rest = "set the template's own switch by model.chat_template_kwargs, or take another model"
    on = "set model.thinking=on, which cuts thoughts off; " if asked in ("auto", "off") else ""
    return on + rest


def _off_says_more(config: RunConfig, thinking: Thinking) -> bool:
    model = replace(config.model, thinking="off")
    return find_thinking(model).opener != thinking.opener
