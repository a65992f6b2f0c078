"""Run stages, read runs and ask trained adapters from Python; the command line uses this too.

    import pdtrain

    run = pdtrain.run(pdtrain.load_config("handbook.yaml", "train.epochs=3"))
    print(run.scores()["adapter_closed_book"]["gold_in_answer"].value)
    print(run.load_adapter().ask("Who built the Blue Mill?"))

Modules are imported when they are needed: `import pdtrain` does not import torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdtrain.config import RunConfig, dump, load, load_run, store
from pdtrain.distributed.world import find_world, raise_if_told
from pdtrain.files.durable import sweep
from pdtrain.files.ownership import refuse_another
from pdtrain.processes.leading import GOODBYE_SECONDS, Follower, Leader
from pdtrain.processes.shares import Share
from pdtrain.progress import be_silent, detail, say
from pdtrain.records import Answer, Passage, Question, Scores
from pdtrain.run_folder import RunFolder
from pdtrain.stage import ASK_THE_BASE, ON_ALL_RANKS, SHARED, STAGES, TOKENISED, WITHOUT_MODEL
from pdtrain.storage import run_lock

if TYPE_CHECKING:
    from pdtrain.generation.huggingface import HuggingFaceBackend


def load_config(path: Path | str, *overrides: str) -> RunConfig:
    """Return the config of a YAML file, with overrides as the command line takes them.

    Args:
        path: of the YAML file. Paths of inputs in it are relative to its folder.
        overrides: `key=value` texts such as "train.epochs=3" or "out_dir=runs/mine".

    Raises:
        ValueError: the file is not there, a key is unknown, or a value has a wrong type or is out
            of range.
    """
    return load(path, list(overrides))


def run(config: RunConfig) -> Run:
    """Run all stages in order and return the run; stages that are up to date do nothing.

    Raises:
        ValueError: an input, the model or this machine does not allow it; the message says what to
            do. Finished work is kept.
        Stopped: a signal or the run's stop file asked for it; the same call goes on from there.
    """
    run_stages(config, list(STAGES))
    return Run(config)


def run_stage(config: RunConfig, name: str) -> Run:
    """Run one stage, such as "train", and return the run; the stages before it must be done.

    Raises:
        ValueError: no stage has this name, a stage before it has not finished, or as for `run`.
    """
    known = STAGES | ON_ALL_RANKS
    if name not in known:
        raise ValueError(f"{name!r} is not a stage; expected one of {', '.join(known)}")
    run_stages(config, [name])
    return Run(config)


def open_run(folder: Path | str, *repeated: str) -> Run:
    """Return the run in a folder, with the config that it was made with.

    Args:
        folder: the run folder.
        repeated: settings that the folder asks for and that count only when repeated, such as
            "model.trust_remote_code=true": they may run code or send text elsewhere.

    Raises:
        ValueError: the folder holds no run, or does not ask for what is repeated.
    """
    return Run(load_run(folder, repeated))


def run_stages(config: RunConfig, names: Sequence[str], *, keep_config: bool = False) -> None:
    """Run stages in the order given.

    Under a launcher every rank calls this: all ranks train and teach, and share the files that are
    read and what is asked in questions, answers, retain and evaluation. The first does the rest.

    Args:
        config: the run's config.
        names: of the stages.
        keep_config: leave the config that the run folder holds, from which this one was read.
    """
    if "train" in names and config.train.start:  # otherwise a wrong path would show hours later
        import_module("pdtrain.training.warm_start").of_config(config)
    world = find_world()
    hear: Callable[[], object] = int
    told: Callable[[], str] = str
    if world.is_first and world.num_ranks > 1 and _connecting(config, names):
        # before the first stage: who waits for this rank sees that it lives, and hears if it fails
        hear = import_module("pdtrain.distributed.meeting").meet(world).raise_if_lost
    elif world.is_first and world.num_ranks > 1 and SHARED & set(names):
        told = import_module("pdtrain.distributed.meeting").listen(world)
    if not world.is_first:
        be_silent()
        _follow(config, names, keep_config=keep_config)
        return
    if set(names) - WITHOUT_MODEL:
        import_module("pdtrain.planning.fit").refuse(config, names, world)
    with run_lock(config.folder):
        refuse_another(config)
        for path in sweep(config.folder):
            detail(f"removed {path}, which a killed run had left")
        if not keep_config:
            store(config)
        if config.notes:
            say(config.notes.strip())
        with _leading(config, names, hear, told) as leader:
            if ASK_THE_BASE & set(names):  # before the first stage, which may take hours
                import_module("pdtrain.generation.thought_probe").check(config)
            for name in names:
                started = time.monotonic()
                hear()
                _run_first(config, name, leader, keep_config=keep_config)
                _give_back_memory(name)
                if name in TOKENISED:  # neither stage may know how training reads its records
                    import_module("pdtrain.distillation.tokens.source").prepare(config)
                detail(f"{name}: {time.monotonic() - started:.1f} s")


def _connecting(config: RunConfig, names: Sequence[str]) -> set[str]:
    """Return the stages that train, for which all ranks of a launcher are connected."""
    rounds = {"rounds"} if config.rounds.most else set()
    return (ON_ALL_RANKS.keys() | rounds) & set(names)


def _leading(
    config: RunConfig,
    names: Sequence[str],
    hear: Callable[[], object],
    told: Callable[[], str],
) -> AbstractContextManager[Leader | None]:
    """Return what tells the other ranks of a launcher where this one is, if they share a stage."""
    num_ranks = find_world().num_ranks
    connecting = _connecting(config, names)
    if num_ranks == 1 or not (SHARED | {"rounds"} & connecting) & set(names):
        return nullcontext()
    seconds = 0 if connecting else GOODBYE_SECONDS  # 0: all meet anyway
    return Leader(config.folder, num_ranks, goodbye_seconds=seconds, hear=hear, told=told)


def _run_first(config: RunConfig, name: str, leader: Leader | None, *, keep_config: bool) -> None:
    """Run a stage on the first rank, and with the others where all take part."""
    if name in _connecting(config, [name]):
        _run_chosen(config, name, leader, keep_config=keep_config)
    elif leader and name in SHARED & WITHOUT_MODEL:
        _do_share(config, name, leader.begin(name))
    elif name in SHARED - WITHOUT_MODEL:
        world, workers = find_world(), import_module("pdtrain.generation.workers")
        ranks = world.num_ranks, world.ranks_per_node
        mine, share = workers.of_first(config, name, leader, *ranks)
        stage_function(name)(mine, share=share)
    else:
        stage_function(name)(config)
    if leader:
        leader.finish(name)


def _follow(config: RunConfig, names: Sequence[str], *, keep_config: bool) -> None:
    """Do what a rank does that is not the first: its part of what ranks share, and training."""
    world = find_world()
    with Follower(config.folder, world.rank, ask=partial(raise_if_told, world)) as follower:
        for name in names:
            if name in SHARED:
                follower.work_on(name, partial(_do_share, config, name))
            elif name in _connecting(config, [name]):
                _run_chosen(config, name, follower, keep_config=keep_config)
                _give_back_memory(name)


def _do_share(config: RunConfig, name: str, share: Share) -> None:
    """Do this rank's share of a stage, with its part of the machine's cores or GPUs."""
    world = find_world()
    if name in WITHOUT_MODEL:
        stage_function(name)(config, share=share, ranks_here=world.ranks_per_node)
        return
    workers, each = import_module("pdtrain.generation.workers"), world.num_ranks // share.size
    try:
        stage_function(name)(workers.on_rank(config, world.local_rank, each, name), share=share)
    finally:
        _give_back_memory(name)


def _give_back_memory(name: str) -> None:
    """Give back the GPU memory of a stage: another process may load the base for the next one."""
    if name not in WITHOUT_MODEL:
        import_module("pdtrain.models.placement").give_back_memory()


def _run_chosen(
    config: RunConfig, name: str, place: Leader | Follower | None, *, keep_config: bool
) -> None:
    """Run a stage that trains, with what `auto` is on these machines. All its ranks call this."""
    world, more = find_world(), {}
    if name == "rounds":
        more["crew"] = import_module("pdtrain.training.rounds.crew").crew_of(place)
    if not config.is_automatic:
        stage_function(name)(config, **more)
        return
    with import_module("pdtrain.distributed.process_group").connected(config.engine, world):
        choice = import_module("pdtrain.planning.automatic").for_machine(config, world)
        if world.is_first:
            if not keep_config:
                dump(choice.config, config.run.config_file, choice.reasons)
            for reason in choice.reasons:
                detail(f"{name}: {reason}")
        stage_function(name)(choice.config, **more)


def stage_function(name: str) -> Callable[..., None]:
    """Return the function of a stage; it takes the config and writes into the run folder."""
    module, _, function = (STAGES | ON_ALL_RANKS)[name].rpartition(".")
    found: Callable[..., None] = getattr(import_module(f"pdtrain.{module}"), function)
    return found


@dataclass(frozen=True)
class Run:
    """Give access to a run: its config, and what its stages have left in its folder."""

    config: RunConfig

    @property
    def folder(self) -> RunFolder:
        """Return the run folder, with every path in it and a reader for each file."""
        return self.config.run

    def passages(self) -> Iterator[Passage]:
        """Yield the passages in the order of the documents."""
        return self.folder.passages()

    def questions(self) -> Iterator[Question]:
        """Yield the questions, passage by passage."""
        return self.folder.questions()

    def answers(self) -> Iterator[Answer]:
        """Yield the answers, passage by passage."""
        return self.folder.answers()

    def scores(self) -> Scores:
        """Return the table of the evaluation: `scores()[system][metric]` is a `Score`."""
        return self.folder.scores()

    def predictions(self, system: str) -> list[dict[str, Any]]:
        """Return what a system such as "adapter_closed_book" answered, with grades."""
        return self.folder.predictions(system)

    def metrics(self) -> list[dict[str, float]]:
        """Return what training logged, one object a logged step."""
        return self.folder.metrics()

    def load_adapter(self) -> Student:
        """Return the base with the run's best adapter on it, on the device that the config names.

        Raises:
            ValueError: training has not finished, or the adapter is damaged.
        """
        from pdtrain.generation.huggingface import HuggingFaceBackend

        settings = self.config.evaluate
        student = HuggingFaceBackend.of_student(self.config, batch_size=settings.batch_size)
        return Student(self.config, student)


@dataclass(frozen=True)
class Student:
    """Ask a base model with a trained adapter on it; `Run.load_adapter` makes one."""

    config: RunConfig
    backend: HuggingFaceBackend

    def ask(
        self, question: str, *, with_adapter: bool = True, max_new_tokens: int | None = None
    ) -> str:
        """Return the greedy answer to one question; see `ask_all`."""
        return self.ask_all([question], with_adapter=with_adapter, max_new_tokens=max_new_tokens)[0]

    def ask_all(
        self,
        questions: Sequence[str],
        *,
        with_adapter: bool = True,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """Return the greedy answers to questions, in order; no passage is shown.

        Args:
            questions: as a user would put them; the run's system text goes before each.
            with_adapter: False asks the base alone, for comparison.
            max_new_tokens: the most tokens of an answer; by default `evaluate.max_new_tokens`.

        Raises:
            ValueError: a question does not fit the model's window.
        """
        from pdtrain.schema import SamplingConfig

        most = max_new_tokens or self.config.evaluate.max_new_tokens
        greedy = SamplingConfig(temperature=0, max_new_tokens=most)
        prompts = [self.backend.chat.student(question) for question in questions]
        with nullcontext() if with_adapter else self.backend.without_adapter():
            return [one.text for one in self.backend.sample(prompts, greedy, seed=0)]
