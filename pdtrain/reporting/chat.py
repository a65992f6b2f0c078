"""Let the base and the adapter answer the same questions, side by side, without a passage.

Questions and answers go to the terminal alone, never to a file.
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
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.progress import say, show_line, warn
from pdtrain.records import Passage
from pdtrain.stage import output_hash

MIN_WIDTH = 60  # of a terminal on which answers stand in columns
HELP = "/open shows the teacher with a passage in view; /quit, an empty line or Ctrl-D ends"


def chat(config: RunConfig) -> None:
    """Answer the questions on standard input, one a line, until it ends or a line is empty."""
    session = ChatSession.load(config)
    if sys.stdin.isatty():
        say(f"{config.folder}: ask away. {HELP}")
    for line in read_questions():
        if line == "/open":
            session.open_book = not session.open_book
            say(f"the teacher with a passage in view: {'on' if session.open_book else 'off'}")
        elif line.startswith("/"):
            say(f"{line.split()[0]} is no command. {HELP}")
        else:
            try:
                show(session.answer(line))
            except ValueError as error:  # the question or its passage is too long: ask another
                warn(str(error))


def read_questions() -> Iterator[str]:
    """Yield the lines of standard input; a prompt is shown where a person types them."""
    while True:
        try:
            line = input("\n> ") if sys.stdin.isatty() else sys.stdin.readline()
        except EOFError:
            return
        if not line.strip() or line.strip() == "/quit":
            return
        yield line.strip()


@dataclass
class ChatSession:
    """Hold one model that answers with its adapter on and off.

    With `open_book` the base answers once more, as the teacher: with the passage in its prompt
    that BM25 finds for the question.
    """

    config: RunConfig
    student: HuggingFaceBackend
    open_book: bool = False
    _index: BM25 | None = None

    @classmethod
    def load(cls, config: RunConfig) -> ChatSession:
        """Load the base and the run's adapter."""
        return cls(config, HuggingFaceBackend.of_student(config, batch_size=1))

    def answer(self, question: str) -> dict[str, str]:
        """Return the greedy answers of base, adapter and, with `open_book`, the teacher.

        Raises:
            ValueError: the question or its passage does not fit the model.
        """
        chat = self.student.chat
        closed = chat.student(question)
        adapter = self._generate(closed)
        with self.student.without_adapter():
            answers = {"base": self._generate(closed), "adapter": adapter}
            if self.open_book:
                passage = self._find(question)
                answers[f"teacher, reading {passage.title!r}"] = self._generate(
                    chat.teacher(passage, question)
                )
        chat.control.tell("chat")
        return answers

    def _generate(self, prompt: list[int]) -> str:
        greedy = SamplingConfig(
            temperature=0, max_new_tokens=self.config.answers.sampling.max_new_tokens
        )
        (completion,) = self.student.sample([prompt], greedy, seed=0)
        return completion.text + ("" if completion.finished else " …")

    def _find(self, question: str) -> Passage:
        if self._index is None:
            run = self.config.run
            output_hash(run.passages_folder)  # raises what to run where there are none
            self._index = BM25(list(run.passages()))
        return self._index(question, 1)[0]


def show(answers: Mapping[str, str]) -> None:
    """Print the answers in columns on a wide terminal; elsewhere one a line.

    Args:
        answers: by the name of who answered.
    """
    width = shutil.get_terminal_size().columns
    clean = {printable(who): printable(text) or "(nothing)" for who, text in answers.items()}
    if sys.stdout.isatty() and width >= MIN_WIDTH:
        show_line(columns(clean, width))
    else:
        show_line("\n".join(f"{who}: {text}" for who, text in clean.items()))


def columns(answers: Mapping[str, str], width: int) -> str:
    """Set answers beside each other, each below its heading, in lines of at most `width`."""
    each = (width - 3 * (len(answers) - 1)) // len(answers)
    heads = [textwrap.wrap(who, each) for who in answers]
    texts = [textwrap.wrap(text, each) for text in answers.values()]
    rule = [["─" * each for _ in answers]]
    lines = [*zip_longest(*heads, fillvalue=""), *rule, *zip_longest(*texts, fillvalue="")]
    return "\n".join(" │ ".join(cell.ljust(each) for cell in line).rstrip() for line in lines)


def printable(text: str) -> str:
    """Return a text as one line without control characters.

    A model's answer and a document's title may hold terminal escapes.
    """
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
