"""Run a whole tiny pipeline again and again: killed, or with its files lost, damaged or forbidden.

    python tests/faults/harness.py FOLDER kill power damage signals full [--most 10]

Each case forks a process in which all modules are imported and the table of languages is read, and
nothing else was computed, so that it is as good as a new one. A line is printed for each case that
fails, and a table at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from disk import Disk, State, watched  # noqa: E402

DOCUMENTS = {
    "mill.txt": "The mill of Vellau grinds chestnut flour. Paul Reed has run it for years.",
    "pier.md": "# Osk\n\nThe pier of Osk was built in 1883. It is 260 metres long.",
}
HELD_OUT = [
    {"document": "mill", "question": "What does the mill grind?", "answers": ["chestnut flour"]},
    {"document": "pier", "question": "How long is the pier?", "answers": ["260 metres"]},
]
READING = {
    "title": "Larks",
    "passage": "A lark sings at dawn.",
    "questions": [{"question": "When does a lark sing?", "answers": ["at dawn"]}],
}
UNRELATED = {"text": "Water boils at a hundred degrees."}
SETTINGS = {
    "corpus": {"documents": "documents"},
    "questions": {
        "per_sentence": 0,
        "per_sentence_reverse": 0,
        "per_sentence_completions": 0,
        "per_sentence_blanks": 0,
        "per_sentence_cues": 1,
        "per_passage": 0,
        "per_name": 0,
        "per_passage_summaries": 0,
        "per_passage_lists": 0,
        "per_pair": 0,
        "per_entity": 0,
    },
    "answers": {"grounded": False, "checks": 0, "sampling": {"max_new_tokens": 4}},
    "adapter": {"rank": 2, "alpha": 4},
    "train": {
        "epochs": 2,
        "answers_per_step": 2,
        "answers_per_micro_batch": 2,
        "save_every_steps": 1,
        "evaluate_every_epochs": 0,
    },
    "evaluate": {
        "questions": "questions.jsonl",
        "reading": "reading.jsonl",
        "unrelated": "unrelated.jsonl",
        "max_new_tokens": 2,
        "bootstrap_samples": 20,
        "rag_passages": [1],
    },
}
# what must be the same however often a run was disturbed; times stand in the other files
SAME = (
    "passages/*.jsonl",
    "questions/*.jsonl",
    "answers/*.jsonl",
    "adapter/adapter*",
    "adapter/documents.json",
    "scores/*.jsonl",
    "scores.json",
    "coverage.json",
    "export/*",
    "report.md",
)
# what a command that a signal ended says of what is kept: in training, in a stage, and after it
KEPT = re.compile(
    r"saved after step \d+ of \d+; the same|what was finished is kept in \S+; run"
    r"|this stage was finished, and is kept in \S+"
)
SECONDS_BETWEEN_LINES = 30.0
DONE, SAVED, MACHINE, INTERRUPTED = 0, 75, 74, 130


@dataclass
class Ended:
    """Hold how a command ended: its status, below 0 for a signal, and what it said."""

    status: int
    said: str
    seconds: float

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.said


@dataclass
class Tally:
    """Count the cases of a kind, and hold a line for each that failed."""

    kind: str
    total: int = 0  # cases that there will be
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    shown_at: float = field(default_factory=time.monotonic)

    def add(self, outcome: str, failure: str = "") -> None:
        self.cases += 1
        self.outcomes[outcome] += 1
        if (now := time.monotonic()) > self.shown_at + SECONDS_BETWEEN_LINES:
            self.shown_at, rate = now, self.cases / (now - self.started)
            left = (self.total - self.cases) / rate
            done = f"{self.kind}: {self.cases}/{self.total} cases, {rate:.2f} cases/s"
            print(f"{done}, about {left:.0f} s left", flush=True)
        if failure:
            self.failures.append(failure)
            print(f"FAIL {self.kind}: {failure}", flush=True)


class Pipeline:
    """Run the tiny pipeline in a folder, whose run folder is `run`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run, self.config = folder, folder / "run", folder / "config.yaml"
        self.command = ["run", str(self.config)]

    def make(self, model: Path) -> None:
        """Write documents, held-out questions and the config."""
        (self.folder / "documents").mkdir(parents=True, exist_ok=True)
        for name, text in DOCUMENTS.items():
            path = self.folder / "documents" / name
            path.write_text(text)
            os.utime(path, (1_700_000_000, 1_700_000_000))  # long ago: it is not looked at twice
        lines = "".join(json.dumps(question) + "\n" for question in HELD_OUT)
        (self.folder / "questions.jsonl").write_text(lines)
        (self.folder / "reading.jsonl").write_text(json.dumps(READING) + "\n")
        (self.folder / "unrelated.jsonl").write_text(json.dumps(UNRELATED) + "\n")
        model_settings = {"name": str(model), "device": "cpu", "dtype": "float32"}
        config = SETTINGS | {"out_dir": str(self.run), "model": model_settings}
        self.config.write_text(json.dumps(config))  # JSON is YAML

    def clear(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)

    def do(self, command: list[str] | None = None, before: Callable[[], Any] = int) -> Ended:
        """Run the command in a new process, in which `before` is called first, to its end."""
        from pdtrain.cli import main

        started = time.monotonic()
        reads, writes = os.pipe()  # a pipe, for files may be limited in size
        child = os.fork()
        if not child:
            os.dup2(writes, 1)
            os.dup2(writes, 2)
            status = 1
            try:
                before()
                status = main(command or self.command)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        os.close(writes)
        with open(reads, errors="replace") as said:
            text = said.read()
        _, status = os.waitpid(child, 0)
        return Ended(os.waitstatus_to_exitcode(status), text, time.monotonic() - started)

    def outcome(self) -> dict[str, bytes]:
        """Return what must be the same in every run, by path."""
        found = {
            str(path.relative_to(self.run)): path.read_bytes()
            for pattern in SAME
            for path in sorted(self.run.glob(pattern))
            if path.name != "manifest.json" and path.is_file()
        }
        path = self.run / "metrics/metrics.jsonl"
        lines = []
        for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
            with contextlib.suppress(ValueError):  # a damaged line is one that is not there
                lines.append(json.loads(line))
        curve = [[line.get("step"), line.get("train/loss")] for line in lines]
        return found | {"metrics": json.dumps(curve).encode()}

    def leftovers(self) -> list[str]:
        """Return what has a temporary name."""
        return [str(p) for p in self.run.rglob("*") if ".tmp" in p.name or p.name.endswith(".old")]


def fault(pipeline: Pipeline, ended: Ended, wanted: dict[str, bytes]) -> str:
    """Return what is wrong after the same command was run again; empty where nothing is."""
    if ended.status:
        return f"status {ended.status}: {ended.said.strip()[-300:]}"
    found = pipeline.outcome()
    if different := [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]:
        return f"{sorted(different)} differ"
    if left := pipeline.leftovers():
        return f"left over: {left}"
    return ""


def recorded(pipeline: Pipeline, store: Path) -> tuple[int, dict[str, list[State]]]:
    """Return the number of operations of a run, and the states that a disk went through."""
    pipeline.clear()
    path = store / "states.json"

    def record() -> None:
        disk = Disk(pipeline.run, store / "contents")
        states: dict[str, dict[str, State]] = {"lost_all": {}, "lost_content": {}, "kept": {}}
        count = 0

        def act(handle: int | None) -> None:
            nonlocal count
            count += 1
            if handle is not None:
                disk.flush(handle)
            for kind, found in states.items():
                state = getattr(disk, kind)()
                found.setdefault(json.dumps(state, sort_keys=True), state)
            path.write_text(json.dumps([count, {k: list(v.values()) for k, v in states.items()}]))

        watched(pipeline.run, act).__enter__()

    ended = pipeline.do(before=record)
    assert ended.status == 0, ended.said
    count, states = json.loads(path.read_text())
    return count, states


def chosen(cases: list[Any], most: int) -> list[Any]:
    """Return at most so many cases, evenly spread; all of them if `most` is 0."""
    if not most or len(cases) <= most:
        return cases
    return [cases[(2 * i + 1) * len(cases) // (2 * most)] for i in range(most)]


def power(pipeline: Pipeline, wanted: dict[str, bytes], most: int, store: Path) -> list[Tally]:
    """Lose all that was not flushed after each operation, in two ways, and run again."""
    _, states = recorded(pipeline, store)
    disk, tallies = Disk(pipeline.run, store / "contents"), []
    for kind in ("lost_all", "lost_content"):
        cases = chosen(states[kind], most)
        tally = Tally(f"power, {kind.replace('_', ' ')}", len(cases))
        for number, state in enumerate(cases):
            disk.write(state, pipeline.run)
            ended = pipeline.do()
            wrong = fault(pipeline, ended, wanted)
            tally.add("identical" if not wrong else "not", wrong and f"state {number}: {wrong}")
        tallies.append(tally)
    return tallies


def kill(pipeline: Pipeline, wanted: dict[str, bytes], most: int, store: Path) -> list[Tally]:
    """Kill the run at each operation on a file, and run again."""
    count, _ = recorded(pipeline, store)
    cases = chosen(list(range(1, count + 1)), most)
    tally = Tally("kill", len(cases))
    for number in cases:
        pipeline.clear()
        ended = pipeline.do(before=lambda number=number: _kill_at(pipeline.run, number))
        if ended.status != -signal.SIGKILL:
            tally.add("not killed", f"operation {number}: status {ended.status}")
            continue
        wrong = fault(pipeline, pipeline.do(), wanted)
        tally.add("identical" if not wrong else "not", wrong and f"operation {number}: {wrong}")
    return [tally]


def _kill_at(root: Path, number: int) -> None:
    left = [number]

    def act(_: int | None) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    watched(root, act).__enter__()


def damage(pipeline: Pipeline, wanted: dict[str, bytes], most: int, store: Path) -> list[Tally]:
    """Damage every file of a finished run and of four half-finished ones, and run again."""
    _, states = recorded(pipeline, store)
    kept = states["kept"]
    halves = [kept[len(kept) * part // 10] for part in (3, 5, 7, 9)]
    disk, tallies = Disk(pipeline.run, store / "contents"), []
    for name, state in [("finished", kept[-1]), *zip("1234", halves, strict=True)]:
        if name == "finished":
            disk.write({}, pipeline.run)
            assert pipeline.do().status == 0
            state = disk.kept()
        files = sorted(path for path, digest in state.items() if digest is not None)
        cases = chosen([(path, how) for path in files for how in DAMAGE], most)
        tally = Tally(f"damage, run {name}", len(cases))
        for path, how in cases:
            disk.write(state, pipeline.run)
            if not DAMAGE[how](pipeline.run / path):
                continue
            _judge(pipeline, wanted, tally, path, how)
        tallies.append(tally)
    return tallies


def _judge(pipeline: Pipeline, wanted: dict[str, bytes], tally: Tally, path: str, how: str) -> None:
    """Run again over a damaged file: the result is identical, or the file is named in words."""
    ended = pipeline.do()
    what = f"{path} {how}"
    if ended.has_traceback:
        tally.add("traceback", f"{what}: {ended.said[-400:]}")
    elif ended.status == 0:
        wrong = fault(pipeline, ended, wanted)
        names_it = Path(path).name in ended.said
        tally.add(
            "identical" if not wrong else "said" if names_it else "silent",
            "" if not wrong or names_it else f"{what}: {wrong}",
        )
    elif Path(path).name in ended.said:
        tally.add("refused in words")
    else:
        tally.add("refused without its name", f"{what}: {ended.said[-400:]}")


def _flip(path: Path) -> bool:
    data = bytearray(path.read_bytes())
    if data:
        data[random.Random(str(path.name)).randrange(len(data))] ^= 1 << 2
        path.write_bytes(data)
    return bool(data)


def _flip_digit(path: Path) -> bool:
    """Change a digit, which leaves JSON what it is, but for what it says."""
    data = bytearray(path.read_bytes())
    places = [i for i, byte in enumerate(data) if byte in b"12345678"]
    if not places or path.suffix == ".safetensors":
        return False
    data[random.Random(str(path.name)).choice(places)] ^= 1
    path.write_bytes(data)
    return True


def _cut(path: Path) -> bool:
    size = path.stat().st_size
    os.truncate(path, size * 2 // 3)
    return size > 0


def _cut_line(path: Path) -> bool:
    """Cut the last line off, so that only whole lines stay."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    return len(lines) > 1


def _empty(path: Path) -> bool:
    path.write_bytes(b"")
    return True


def _remove(path: Path) -> bool:
    path.unlink()
    return True


def _folder(path: Path) -> bool:
    path.unlink()
    path.mkdir()
    return True


DAMAGE: dict[str, Callable[[Path], bool]] = {
    "flipped": _flip,
    "another digit": _flip_digit,
    "cut": _cut,
    "cut at a line": _cut_line,
    "emptied": _empty,
    "removed": _remove,
    "a folder": _folder,
}


def signals(pipeline: Pipeline, wanted: dict[str, bytes], most: int, store: Path) -> list[Tally]:
    """Send signals at moments of all stages; each must be answered in words and with its status."""
    count, _ = recorded(pipeline, store)
    moments = [count * i // 31 for i in range(1, 31)]
    kinds = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]
    chosen_moments = chosen(list(enumerate(moments)), most)
    tally = Tally("signals", len(chosen_moments))
    for i, moment in chosen_moments:
        kind = kinds[i % 3]
        pipeline.clear()
        ended = pipeline.do(before=lambda m=moment, k=kind: _signal_at(pipeline.run, m, k))
        status = INTERRUPTED if kind == signal.SIGINT else SAVED
        is_worded = bool(KEPT.search(ended.said)) and not ended.has_traceback
        what = f"{kind.name} at operation {moment}"
        if ended.status != status or not is_worded:
            tally.add("not", f"{what}: status {ended.status}, {ended.said[-300:]}")
            continue
        wrong = fault(pipeline, pipeline.do(), wanted)
        tally.add("worded" if not wrong else "not identical after", wrong and f"{what}: {wrong}")
    return [tally]


def _signal_at(root: Path, number: int, kind: int) -> None:
    left = [number]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def act(_: int | None) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), kind)

    watched(root, act).__enter__()


def full(pipeline: Pipeline, wanted: dict[str, bytes], most: int, store: Path) -> list[Tally]:
    """Let the disk be full from an operation on, or files be limited in size, then make room."""
    count, _ = recorded(pipeline, store)
    cases: list[tuple[str, Callable[[], None]]] = []
    for i in range(1, 21):
        number = count * i // 21
        cases.append((f"from operation {number}", lambda n=number: _full_from(pipeline.run, n)))
    for size in (100, 500, 1000, 2000, 4000, 8000, 12000, 16000, 20000, 30000):
        cases.append((f"files up to {size} bytes", lambda s=size: _limit(s)))
    cases = chosen(cases, most)
    tally = Tally("full disk", len(cases))
    for name, before in cases:
        pipeline.clear()
        ended = pipeline.do(before=before)
        wrong = ""
        if ended.has_traceback or (ended.status and ended.status != MACHINE):
            wrong = f"status {ended.status}: {ended.said[-400:]}"
        elif ended.status and str(pipeline.run) not in ended.said:
            wrong = f"no path: {ended.said[-300:]}"
        wrong = wrong or fault(pipeline, pipeline.do(), wanted)
        tally.add("worded" if not wrong else "not", wrong and f"{name}: {wrong}")
    return [tally]


def _full_from(root: Path, number: int) -> None:
    left = [number]

    def act(_: int | None) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watched(root, act).__enter__()


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def ranks(pipeline: Pipeline, wanted: dict[str, bytes], most: int, store: Path) -> list[Tally]:
    """Kill either of two ranks of ZeRO-3, half the times inside a save, and start them again."""
    pipeline.clear()
    assert pipeline.do(["run", str(pipeline.config)]).status == 0
    disk = Disk(pipeline.run, store / "contents")
    trained = ("adapter", "checkpoints", "teacher", "metrics", "export", "report", "scores")
    before = {k: v for k, v in disk.kept().items() if k.partition("/")[0] not in trained}
    tally = Tally("ranks", most or 50)
    undisturbed = ""
    for number in range(-1, most or 50):
        disk.write(before, pipeline.run)
        pair = Pair(pipeline)
        if number >= 0:
            wrong = pair.kill(number)
            if wrong:
                tally.add("not", f"kill {number}: {wrong}")
                continue
            pair = Pair(pipeline)
        statuses = pair.end(300)
        weights = pipeline.run / "adapter" / "adapter_model.safetensors"
        found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else "none"
        undisturbed = undisturbed or found
        if number >= 0:
            same = statuses == [0, 0] and found == undisturbed
            said = "" if same else f"kill {number}: {statuses}, {found}: {pair.said()[-300:]}"
            tally.add("identical" if same else "not", said)
    return [tally]


class Pair:
    """Run two ranks of `pdtrain train`, which nobody watches together."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.children = [self._start(rank, port) for rank in range(2)]
        self.statuses: list[int | None] = [None, None]

    def _log(self, rank: int) -> Path:
        return self.pipeline.folder / f"rank{rank}.txt"

    def _start(self, rank: int, port: int) -> int:
        child = os.fork()
        if child:
            return child
        log = os.open(self._log(rank), os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "DS_ACCELERATOR": "cpu"}
        os.environ.update({name: str(value) for name, value in names.items()})
        more = ["engine.zero_stage=3", "train.gradient_checkpointing=false"]
        sys.argv = ["pdtrain", "train", str(self.pipeline.config), *more]
        from pdtrain.cli import run

        run()
        raise AssertionError("run does not return")

    def said(self) -> str:
        return "".join(self._log(rank).read_text(errors="replace") for rank in range(2))

    def _look(self) -> None:
        for rank, child in enumerate(self.children):
            if self.statuses[rank] is None:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    self.statuses[rank] = os.waitstatus_to_exitcode(status)

    def end(self, seconds: float) -> list[int | None]:
        """Return both statuses, once the ranks have ended or the time is over."""
        until = time.monotonic() + seconds
        while None in self.statuses and time.monotonic() < until:
            self._look()
            time.sleep(0.01)
        for rank, child in enumerate(self.children):
            if self.statuses[rank] is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return self.statuses

    def kill(self, number: int) -> str:
        """Kill a rank at a moment that the number chooses; return what is wrong, if anything."""
        folder = self.pipeline.run / "checkpoints"
        inside, step = number % 4 < 2, 1 + number // 4 % 3

        def is_time() -> bool:
            if inside:
                return any(folder.glob(f".tmp-step-{step:06d}-*"))
            return any(folder.glob(f"step-{step:06d}-*/manifest.json"))

        until = time.monotonic() + 300
        while not is_time():
            self._look()
            if None not in self.statuses or time.monotonic() > until:
                self.end(0)
                return f"the moment did not come: {self.statuses} {self.said()[-300:]}"
            time.sleep(0.0005)
        os.kill(self.children[number % 2], signal.SIGKILL)
        at = time.monotonic()
        statuses = self.end(20)
        if None in statuses or time.monotonic() - at > 10:
            return f"the other rank was still there after {time.monotonic() - at:.0f} s"
        return ""


KINDS = {
    "kill": kill,
    "power": power,
    "damage": damage,
    "signals": signals,
    "full": full,
    "ranks": ranks,
}


def prepared(folder: Path) -> tuple[Pipeline, dict[str, bytes]]:
    """Import all modules, make the model and the project, and return what a run leaves."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from pdtrain.api import STAGES
    from pdtrain.cli import _prepare_environment

    _prepare_environment()
    for place in (*STAGES.values(), "distillation.tokens.source.prepare"):
        import_module("pdtrain." + place.rpartition(".")[0])
    import torch.utils.tensorboard  # noqa: F401

    pipeline = Pipeline(folder)
    if not (folder / "model").exists():
        child = os.fork()
        if not child:
            from support import tiny_model

            tiny_model(folder / "model")
            os._exit(0)
        os.waitpid(child, 0)
    pipeline.make(folder / "model")
    pipeline.clear()
    names = folder / "modules.json"
    ended = pipeline.do(before=lambda: _note_modules(names))
    assert ended.status == 0, ended.said
    _warm(json.loads(names.read_text()))
    pipeline.clear()
    ended = pipeline.do()
    assert ended.status == 0, ended.said
    print(f"a run takes {ended.seconds:.1f} s", flush=True)
    return pipeline, pipeline.outcome()


def _note_modules(path: Path) -> None:
    """Let this process write at its end which modules it has imported."""
    end = os._exit

    def exit_(status: int) -> None:
        path.write_text(json.dumps(sorted(name for name in sys.modules if name != "__main__")))
        end(status)

    os._exit = exit_


def _warm(names: list[str]) -> None:
    """Do once what every case would do alike: import, read the table of languages.

    Otherwise two thirds of a case's time go there, and into collecting the garbage of what is
    shared with this process, which copies its memory.
    """
    from pdtrain.documents.language import detect_language

    for name in names:
        with contextlib.suppress(ImportError):  # names that a library puts there by itself
            import_module(name)
    detect_language("The mill of Vellau grinds chestnut flour.")
    gc.collect()
    gc.freeze()


def table(tallies: list[Tally]) -> Iterator[str]:
    yield "| kind | cases | outcomes |"
    yield "|---|---|---|"
    for tally in tallies:
        outcomes = ", ".join(f"{count} {name}" for name, count in tally.outcomes.most_common())
        yield f"| {tally.kind} | {tally.cases} | {outcomes} |"


def main(arguments: list[str]) -> int:
    """Run the kinds that are named; return 0 where no case failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("--most", type=int, default=0, help="cases of a kind; 0 takes all")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pipeline, wanted = prepared(folder)
    tallies: list[Tally] = []
    for kind in options.kinds:
        tallies += KINDS[kind](pipeline, wanted, options.most, folder / "store")
    print("\n".join(table(tallies)), flush=True)
    return int(any(tally.failures for tally in tallies))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
