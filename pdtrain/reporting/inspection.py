"""Show passages as the teacher will read them, in the terminal and as a page: `pdtrain inspect`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pdtrain import __version__
from pdtrain.config import PromptConfig, RunConfig
from pdtrain.progress import say, show_line
from pdtrain.records import Passage
from pdtrain.storage import read_json, write_atomically
from pdtrain.synthesis.text import sentences_of

IN_TERMINAL = 3  # passages
ON_PAGE = 200
QUESTION = "[the question]"
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # turn text around them, unseen


class Shown(NamedTuple):
    """Hold a passage and its place among all."""

    number: int  # from 1
    passage: Passage
    prompt: str  # what the teacher reads, with a placeholder for the question


def inspect(config: RunConfig, count: int | None = None, to: TextIO | None = None) -> None:
    """Print some passages of the run, evenly spaced, and write a page with more of them.

    Args:
        config: of a run whose passages are there.
        count: how many are printed; the page has at least as many.
        to: where they are printed; standard output by default.
    """
    out = to or sys.stdout
    total: int = read_json(config.run.passages_folder / "manifest.json")["num_records"]
    printed = _evenly(total, IN_TERMINAL if count is None else count)
    on_page = set(printed) | set(_evenly(total, ON_PAGE))
    shown = [
        Shown(number + 1, passage, prompt_of(passage, config.prompts))
        for number, passage in enumerate(config.run.passages())
        if number in on_page
    ]
    for one in shown:
        if one.number - 1 in printed:
            for line in lines_of(one, total):
                show_line(line, out)
    write_atomically(config.run.passages_page, page(config, shown, total))
    say(f"inspect: {len(shown)} of {total} passages on the page {config.run.passages_page}")


def _evenly(total: int, count: int) -> list[int]:
    """Return so many indices that lie evenly between 0 and the total."""
    count = max(0, min(total, count))
    return [number * total // count for number in range(count)]


def prompt_of(passage: Passage, prompts: PromptConfig) -> str:
    """Return the teacher's side of the prompt about a whole passage, without the chat template."""
    return prompts.teacher.format(
        title=passage.heading, passage=passage.text, focus="", question=QUESTION
    )


def lines_of(shown: Shown, total: int) -> Iterator[str]:
    """Yield the lines that the terminal shows of a passage, without control characters."""
    passage = shown.passage
    where = " · ".join(part for part in (passage.document_id, passage.heading) if part)
    size = f"{passage.num_tokens} tokens, {len(passage.sentences)} sentences"
    yield visible(f"── passage {shown.number} of {total} · {where} · {size}")
    yield from visible(shown.prompt).split("\n")
    yield ""


def visible(text: str) -> str:
    """Return the text with characters shown by number that would steer a terminal."""

    def shown(character: str) -> str:
        is_safe = character in "\n\t" or (ord(character) >= 32 and not 127 <= ord(character) < 160)
        is_safe = is_safe and character not in BIDI
        return character if is_safe else f"<U+{ord(character):04X}>"

    return "".join(map(shown, text))


def page(config: RunConfig, shown: list[Shown], total: int) -> str:
    """Return the page: self-contained, without scripts, with every text escaped."""
    environment = Environment(
        loader=PackageLoader("pdtrain.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("pdtrain.reporting").joinpath("templates/style.css").read_text("utf-8")
    return environment.get_template("passages.html").render(
        name=config.name,
        system=config.prompts.system,
        style=Markup(style),
        version=__version__,
        total=total,
        shown=[(one, _parts(one)) for one in shown],
        files=_summary(config),
    )


def _parts(shown: Shown) -> list[tuple[str, bool]]:
    """Return the prompt in pieces, and of each whether it is a sentence of the passage.

    Sentences are what is asked about and quoted, so that it should be seen where they end.
    """
    passage, prompt = shown.passage, visible(shown.prompt)
    parts, place = [], 0
    for sentence in sentences_of(passage):
        text = visible(sentence)
        start = prompt.find(text, place)
        if start < 0:  # the prompt was given another form
            continue
        parts += [(prompt[place:start], False), (text, True)]
        place = start + len(text)
    parts.append((prompt[place:], False))
    return [part for part in parts if part[0]]


def _summary(config: RunConfig) -> dict[str, Any]:
    path = config.run.passages_folder / "report.json"
    return read_json(path)["summary"] if path.exists() else {}
