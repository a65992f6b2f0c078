"""Divide what systems are asked into batches, so that several processes can share them.

A batch is what the model would read together anyway. So whoever works on it gets the same numbers,
to the last bit, as one process that works on all of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pdtrain.config import SamplingConfig
from pdtrain.evaluation import forgetting
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.processes.shares import Share
from pdtrain.stage import run_units
from pdtrain.storage import hash_json, read_shards

# what is asked: answers to prompts, log-likelihoods of continuations, or how far adapter and base
# are apart on texts, or on the base's answers to questions
Task = Literal["answer", "score", "compare texts", "compare answers"]
Ids = array  # of token ids, in a ninth of a list's memory
Item = tuple[Ids, Ids] | str  # a prompt and what continues it, or a text
Result = dict[str, Any]  # of an item, as JSON
FOLDER = "batches"  # in that of the scores, of what was found out until the evaluation has ended


@dataclass(frozen=True)
class Batch:
    """Hold items that the model reads together, as a unit of work."""

    task: Task
    with_adapter: bool
    items: Sequence[Item]

    @property
    def key(self) -> str:
        """Return the hash of the content."""
        items = [one if isinstance(one, str) else [list(ids) for ids in one] for one in self.items]
        return hash_json([self.task, self.with_adapter, items])

    def work(self, student: HuggingFaceBackend, max_new_tokens: int) -> list[Result]:
        """Return a result for each item.

        Args:
            max_new_tokens: of an answer.
        """
        if self.task.startswith("compare"):
            pairs_of = forgetting.texts if self.task == "compare texts" else forgetting.answers
            return forgetting.compare(student.model, pairs_of(student, _texts(self.items)))
        pairs = [item for item in self.items if not isinstance(item, str)]
        prompts = [list(ids) for ids, _ in pairs]
        with nullcontext() if self.with_adapter else student.without_adapter():
            if self.task == "score":
                continuations = [list(ids) for _, ids in pairs]
                found = student.log_likelihoods(prompts, continuations)
                return [{"log_likelihood": value} for value in found]
            greedy = SamplingConfig(temperature=0, max_new_tokens=max_new_tokens)
            done = student.sample(prompts, greedy, seed=0)
            return [{"ids": list(one.token_ids), "finished": one.finished} for one in done]


@dataclass(frozen=True)
class Group:
    """Hold what one system is asked, and which of the items make a batch.

    Args:
        batches: places of items, as `HuggingFaceBackend.batches` returns them.
    """

    task: Task
    with_adapter: bool
    items: Sequence[Item]
    batches: Sequence[Sequence[int]]

    @classmethod
    def of_prompts(
        cls,
        task: Task,
        with_adapter: bool,
        prompts: Sequence[Sequence[int]],
        continuations: Iterable[Sequence[int]],
        student: HuggingFaceBackend,
    ) -> Group:
        """Return the group of prompts and of what continues them, if anything does."""
        pairs = zip(prompts, continuations, strict=True)
        items = [(Ids("l", prompt), Ids("l", after)) for prompt, after in pairs]
        return cls(task, with_adapter, items, student.batches(prompts))

    @classmethod
    def of_texts(cls, task: Task, texts: Sequence[str], student: HuggingFaceBackend) -> Group:
        """Return the group of texts, or questions, on which adapter and base are compared."""
        read = [student.chat.student(text) for text in texts]  # questions are answered in batches
        return cls(task, True, texts, student.batches(read))

    def units(self) -> Iterator[Batch]:
        """Yield the batches."""
        for places in self.batches:
            yield Batch(self.task, self.with_adapter, [self.items[i] for i in places])

    def results(self, found: Mapping[str, list[Result]]) -> list[Result]:
        """Return the result of each item.

        Args:
            found: the results of batches, by key.
        """
        by_place: dict[int, Result] = {}
        for places, batch in zip(self.batches, self.units(), strict=True):
            by_place |= dict(zip(places, found[batch.key], strict=True))
        return [by_place[i] for i in range(len(self.items))]


def work_on(
    folder: Path,
    settings: Mapping[str, Any],
    groups: Iterable[Group],
    student: HuggingFaceBackend,
    max_new_tokens: int,
    share: Share,
    stop_file: Path | None = None,
) -> dict[str, list[Result]]:
    """Work on this process's share of all batches.

    Args:
        folder: of what is kept of batches that are done, until all are.
        settings: all that decides a result beside the batch.
        stop_file: the run's, which is looked for after each batch.

    Returns:
        The results of all batches by key, once all processes have done theirs; on a process that
        does not lead, nothing.
    """
    units = {batch.key: batch for group in groups for batch in group.units()}

    def work(_: str, batch: Batch) -> list[Result]:
        return batch.work(student, max_new_tokens)

    run_units(
        folder,
        "evaluate",
        settings,
        units,
        work,
        "batches",
        share=share,
        made_name="results",
        stop_file=stop_file,
    )
    if not share.leads:
        return {}
    records = read_shards(folder)
    return {key: [next(records) for _ in batch.items] for key, batch in units.items()}


def _texts(items: Sequence[Item]) -> list[str]:
    return [item for item in items if isinstance(item, str)]
