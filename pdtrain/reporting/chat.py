"""`pdtrain chat`: the base and the adapter answer the same question, side by side, closed book.

What is asked and answered goes to the terminal alone, never to a file.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.evaluation.retrieval import BM25
from pdtrain.generation.huggingface import Generator
from pdtrain.models.adapter import load_trained
from pdtrain.models.lora import adapter_off
from pdtrain.progress import say
from pdtrain.records import Passage
from pdtrain.stage import output_hash
from pdtrain.storage import read_shards

NARROW = 60  # columns of text beside each other need a terminal at least this wide
HELP = "/open shows the teacher with a passage in view; /quit, an empty line or Ctrl-D ends"


def talk(config: RunConfig) -> None:
    """Answers questions from standard input, a line each, until it ends or an empty line comes."""
    panel = Panel.load(config)
    if sys.stdin.isatty():
        say(f"{config.folder}: ask away. {HELP}")
    for line in lines():
        if line == "/open":
            panel.open_book = not panel.open_book
            say(f"the teacher with a passage in view: {'on' if panel.open_book else 'off'}")
        elif line.startswith("/"):
            say(f"{line.split()[0]} is no command. {HELP}")
        else:
            try:
                show(panel.answers(line))
            except ValueError as error:  # the question or its passage is too long: ask another
                say(str(error))


def lines() -> Iterator[str]:
    """Questions without blanks around them; a prompt is shown where a person types them."""
    while True:
        try:
            line = input("\n> ") if sys.stdin.isatty() else sys.stdin.readline()
        except EOFError:
            return
        if not line.strip() or line.strip() == "/quit":
            return
        yield line.strip()


@dataclass
class Panel:
    """Who answers: one model, with the adapter on or off."""

    config: RunConfig
    generator: Generator
    open_book: bool = False
    _index: BM25 | None = None

    @classmethod
    def load(cls, config: RunConfig) -> Panel:
        model, chat = load_trained(config)
        return cls(config, Generator(model, chat, batch_size=1))

    def answers(self, question: str) -> dict[str, str]:
        """Greedy answers by who gave them; the teacher only when the book is open."""
        chat, model = self.generator.chat, self.generator.model
        closed = chat.student(question)
        adapter = self._answer(closed)
        with adapter_off(model):
            given = {"base": self._answer(closed), "adapter": adapter}
            if self.open_book:
                passage = self._find(question)
                given[f"teacher, reading {passage.title!r}"] = self._answer(
                    chat.teacher(passage, question)
                )
        return given

    def _answer(self, prompt: list[int]) -> str:
        greedy = SamplingConfig(
            temperature=0, max_new_tokens=self.config.answers.sampling.max_new_tokens
        )
        (completion,) = self.generator([prompt], greedy, seed=0)
        return completion.text + ("" if completion.finished else " …")

    def _find(self, question: str) -> Passage:
        if self._index is None:
            folder = self.config.folder / "passages"
            output_hash(folder)  # says what to run when it is not there
            self._index = BM25([Passage.from_json(row) for row in read_shards(folder)])
        return self._index(question, 1)[0]


def show(answers: Mapping[str, str]) -> None:
    """Columns on a wide terminal; elsewhere a line each, for programs and narrow windows."""
    width = shutil.get_terminal_size().columns
    clean = {printable(who): printable(text) or "(nothing)" for who, text in answers.items()}
    if sys.stdout.isatty() and width >= NARROW:
        print(columns(clean, width))
    else:
        print("\n".join(f"{who}: {text}" for who, text in clean.items()), flush=True)


def columns(answers: Mapping[str, str], width: int) -> str:
    each = (width - 3 * (len(answers) - 1)) // len(answers)
    heads = [textwrap.wrap(who, each) for who in answers]
    texts = [textwrap.wrap(text, each) for text in answers.values()]
    rule = [["─" * each for _ in answers]]
    rows = [*zip_longest(*heads, fillvalue=""), *rule, *zip_longest(*texts, fillvalue="")]
    return "\n".join(" │ ".join(cell.ljust(each) for cell in row).rstrip() for row in rows)


def printable(text: str) -> str:
    """One line without control characters: a model or a document may hold terminal escapes."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
