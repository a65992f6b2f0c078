"""Work on a stage's passages with a base that is opened once, several of them at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pdtrain.config import RunConfig
from pdtrain.files.spans import Stored
from pdtrain.generation.ledger import Ledger
from pdtrain.generation.workers import units_at_once
from pdtrain.processes.shares import ALONE, Share
from pdtrain.progress import say
from pdtrain.records import Passage, Question
from pdtrain.run_folder import RunFolder
from pdtrain.stage import run_units


def stored_passages(run: RunFolder) -> Stored[Passage]:
    """Return a run's passages by id, each read when it is needed."""

    def made(records: list[dict[str, Any]]) -> Passage:
        return Passage.from_json(records[0])

    return Stored(run.passages_folder, lambda record: str(record.get("id")), made)


def stored(run: RunFolder) -> tuple[Stored[Passage], Stored[list[Question]]]:
    """Return a run's passages by id, and its questions by what the teacher reads for them."""

    def made(records: list[dict[str, Any]]) -> list[Question]:
        return [Question.from_json(record) for record in records]

    return stored_passages(run), Stored(run.questions_folder, read_with, made)


def read_with(question: Mapping[str, Any]) -> str:
    """Return what the teacher reads for a question: the id of a passage, or those of two."""
    return f"{question.get('passage_id', '')} {question.get('other_passage_id', '')}".strip()


def refuse_others(asked: Iterable[str], passages: Collection[str]) -> None:
    """Check that the passages which the teacher reads for questions are there.

    Args:
        asked: what it reads, as `read_with` returns it.
        passages: the ids of those that are there.

    Raises:
        ValueError: a question is about a passage that is not there.
    """
    if any(name not in passages for read in asked for name in read.split()):
        raise ValueError(
            "the questions are of other passages; run `pdtrain questions CONFIG` first"
        )


class Counts(Protocol):
    """Do a stage's work with the base, and count what is dropped."""

    dropped: Counter[str]


@dataclass
class Nobody:
    """Stand for who asks the base where nothing is to be asked."""

    dropped: Counter[str]


Asks = TypeVar("Asks", bound=Counts)
Unit = TypeVar("Unit")


class Desk(Generic[Asks]):
    """Lend each unit one who asks the base, and add up what they drop.

    Args:
        open_one: opens the first, once there is something to do; the others share its base.
    """

    def __init__(self, open_one: Callable[[], Asks]) -> None:
        self.dropped: Counter[str] = Counter()
        self._open, self._lock = open_one, threading.Lock()
        self._first: Asks | None = None

    @contextmanager
    def lend(self) -> Iterator[Asks]:
        """Lend one, whose counts are its own meanwhile."""
        with self._lock:
            self._first = self._first or self._open()
            mine = copy(self._first)
        mine.dropped = Counter()
        yield mine
        with self._lock:
            self.dropped.update(mine.dropped)

    def tell(self, name: str) -> None:
        """Say what the texts of the stage's prompts spelt that is read as text."""
        if chat := getattr(self._first, "chat", None):
            chat.control.tell(name)


def run(
    config: RunConfig,
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    units: Mapping[str, Unit],
    work: Callable[[Asks, Unit], list[dict[str, Any]]],
    unit_name: str,
    open_one: Callable[[], Asks],
    *,
    share: Share = ALONE,
) -> bool:
    """Bring a stage up to date, as `stage.run_units` does, and tell how many texts were dropped.

    Args:
        work: makes the records of a unit, with one who asks the base.
        open_one: opens who asks the base.

    Returns:
        True where this process has written the stage's output.
    """
    desk, ledger = Desk(open_one), Ledger(folder)

    def one(key: str, unit: Unit) -> list[dict[str, Any]]:
        with ledger.unit(key), desk.lend() as mine:
            return work(mine, unit)

    is_new = run_units(
        folder,
        name,
        settings,
        units,
        one,
        unit_name,
        share=share,
        at_once=units_at_once(config),
        on_done=ledger.finish,
        about=ledger.about,
        stop_file=config.run.stop_file,
    )
    if dropped := desk.dropped:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common())
        say(f"{name}: dropped {dropped.total()}: {reasons}")
    desk.tell(name)
    return is_new and share.leads
