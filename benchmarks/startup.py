"""Seconds from the start of training to its first step, and a rank's own memory, by answers.

    python benchmarks/startup.py --answers 200000 --times 1 4 --ranks 1 2
    python benchmarks/startup.py --before OTHER/.venv/bin/python   # an earlier version beside it

An earlier version, which may take long, is measured at the fewest answers and the most ranks alone.

Synthetic records of a tiny random model, 20 answers a passage; gloo ranks on one machine, the
teacher online. "Start" is from the call of the stage `train` to the end of its first step; what
all sizes have in common, such as loading the model and connecting the ranks, is in it. "Own memory"
is anonymous pages (RssAnon, sampled every 10 ms), highest until then, less those before the
call. "Mapped" are pages of files beyond those before the call, which ranks share and the kernel may
take back. "Tokenised" is done once, by the stage that writes the answers, and is no part of the
start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from support import DATA, tiny_model

from pdtrain.config import RunConfig, from_dict
from pdtrain.records import Answer, Passage, Question, content_id
from pdtrain.storage import read_json, write_json, write_shards

PER_PASSAGE = 20
MB = 1e6
TRAIN = {"answers_per_step": 64, "answers_per_micro_batch": 16, "epochs": 1}
RANK = Path(__file__).with_name("startup_rank.py")


# --- Records ----------------------------------------------------------------------------------


def values(folder: Path, model: Path) -> dict[str, Any]:
    """Return the config of a run, with keys that earlier versions know as well."""
    return {
        "out_dir": str(folder),
        "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
        "adapter": {"rank": 4, "alpha": 8},
        "teacher": {"cache": False},
        "train": TRAIN,
    }


def write_run(folder: Path, model: Path, num_answers: int) -> RunConfig:
    """Write the records of a run, as finished stages leave them, and return its config."""
    config = from_dict(values(folder, model))
    words = (DATA / "harbour.txt").read_text(encoding="utf-8").split()
    passages, of_passage = -(-num_answers // PER_PASSAGE), range(PER_PASSAGE)
    write_stage(config.run.passages_folder, (passage(p, words) for p in range(passages)))
    questions = (question(p, i, words) for p in range(passages) for i in of_passage)
    write_stage(config.run.questions_folder, questions)
    answers = (answer(p, i) for p in range(passages) for i in of_passage)
    write_stage(config.run.answers_folder, answers)
    return config


def write_stage(folder: Path, records: Iterator[Any]) -> None:
    shards = write_shards(folder, (record.to_json() for record in records), 10_000)
    count = sum(shard["num_records"] for shard in shards)
    about = {"inputs": "startup", "output": f"startup {count}", "num_records": count}
    write_json(folder / "manifest.json", {**about, "shards": shards})


def passage(number: int, words: list[str]) -> Passage:
    rng = random.Random(number)
    text = " ".join(rng.choices(words, k=20))
    name = content_id("passage", number)
    return Passage(name, f"{number}.txt", "Osk", text, 0, len(text), 60, ((0, len(text)),))


def question(number: int, turn: int, words: list[str]) -> Question:
    text = " ".join(random.Random(f"{number} {turn}").choices(words, k=6)) + "?"
    passage_id = content_id("passage", number)
    return Question(content_id("question", number, turn), passage_id, text, "recital", -1)


def answer(number: int, turn: int) -> Answer:
    rng = random.Random(number * PER_PASSAGE + turn)
    ids = tuple(rng.randrange(4, 300) for _ in range(8 + rng.randrange(8)))
    question_id, passage_id = content_id("question", number, turn), content_id("passage", number)
    return Answer(content_id(question_id, ids), question_id, passage_id, "-", ids, True)


# --- Processes --------------------------------------------------------------------------------


def start(
    python: str, task: str, config: Path, result: Path, place: dict[str, str]
) -> subprocess.Popen[bytes]:
    command = [python, str(RANK), task, str(config), str(result)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(command, env=environment | place, stdout=subprocess.DEVNULL)


def measure(
    python: str, folder: Path, model: Path, num_answers: int, ranks: list[int]
) -> Iterator[dict[str, Any]]:
    """Yield what a start takes for each number of ranks: the slowest and the largest of its ranks.

    The answers are written and tokenised once; the files of one start are gone before the next.
    """
    config = folder / "config.json"
    write_json(config, values(folder / "run", model))
    run = write_run(folder / "run", model, num_answers).run
    prepared = folder / "prepared.json"
    finish([start(python, "prepare", config, prepared, {})])
    for num_ranks in ranks:
        found = first_step(python, folder, config, num_ranks)
        for left in (run.checkpoints_folder, run.metrics_folder, run.adapter):
            shutil.rmtree(left, ignore_errors=True)
        most = {name: max(one[name] for one in found) for name in ("seconds", "own", "mapped")}
        about = {"answers": num_answers, "ranks": num_ranks}
        yield {**about, "tokenised": read_json(prepared)["seconds"], **most}


def first_step(python: str, folder: Path, config: Path, num_ranks: int) -> list[dict[str, Any]]:
    """Return what each rank of one start measured."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meet = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    processes, results = [], [folder / f"{num_ranks}-{rank}.json" for rank in range(num_ranks)]
    for rank, result in enumerate(results):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks}
        place |= {"LOCAL_WORLD_SIZE": num_ranks}
        several = {name: str(value) for name, value in place.items()} | meet
        processes.append(start(python, "train", config, result, several if num_ranks > 1 else {}))
    finish(processes)
    return [read_json(result) for result in results]


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for processes, and end the others where one fails."""
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(0.05)
            if any(process.poll() for process in processes):
                raise RuntimeError("a process of the benchmark failed; see above")
        if any(process.returncode for process in processes):
            raise RuntimeError("a process of the benchmark failed; see above")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


# --- The page ---------------------------------------------------------------------------------


def page(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield the lines of the tables: a row for each size and number of ranks, and what grows."""
    yield "| version | answers | ranks | tokenised, s | start, s | own memory, MB | mapped, MB |"
    yield "|---|---|---|---|---|---|---|"
    for version, lines in found.items():
        for line in lines:
            yield (
                f"| {version} | {line['answers']} | {line['ranks']} | {line['tokenised']:.2f} | "
                f"{line['seconds']:.1f} | {line['own'] / MB:.0f} | {line['mapped'] / MB:.0f} |"
            )
    yield ""
    yield "| version | ranks | seconds more for 100,000 answers more | own bytes more an answer |"
    yield "|---|---|---|---|"
    for version, lines in found.items():
        for ranks in sorted({line["ranks"] for line in lines}):
            own_lines = [line for line in lines if line["ranks"] == ranks]
            few, many = own_lines[0], own_lines[-1]
            more = many["answers"] - few["answers"]
            if not more:
                continue
            seconds = (many["seconds"] - few["seconds"]) / more * 100_000
            own = (many["own"] - few["own"]) / more
            yield f"| {version} | {ranks} | {seconds:.1f} | {own:.0f} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4], help="times --answers")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--before", help="a Python with an earlier pdtrain, measured first")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    pythons = {"before": given.before} if given.before else {}
    pythons["now"] = sys.executable
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = tiny_model(Path(scratch) / "model")
        for version, python in pythons.items():
            found[version] = []
            is_before = version == "before"
            for times in sorted(given.times)[: 1 if is_before else None]:
                ranks = [max(given.ranks)] if is_before else given.ranks
                with tempfile.TemporaryDirectory() as folder:
                    size = given.answers * times
                    for line in measure(python, Path(folder), model, size, ranks):
                        found[version].append(line)
                        about = {"version": version, **line}
                        print(json.dumps(about), file=sys.stderr, flush=True)
    print(f"{platform.platform()}, {os.cpu_count()} cores\n")
    print("\n".join(page(found)))


if __name__ == "__main__":
    main()
