"""Memory, start-up, records per second and resume time of the data stages, with a fake backend.

    python benchmarks/data_stages.py --folder FOLDER --stages units --passages 62500 250000 1000000
    python benchmarks/data_stages.py --folder FOLDER --stages questions answers --passages 4000

No model answers: what is measured is what pdtrain itself does around one. `units` is the stage's
machinery alone: passages are read from their shards, each makes two short records, which go to the
journal and from there into shards. `questions` and `answers` are the whole stages: the writer for
capable models, whose fake replies are JSON, and answers whose checks pass.

Each stage runs three times, in processes of their own: it is killed after half of the passages,
goes on, and finds that all is done. "Start-up" is from the call of the stage to the first passage
that is worked on; "CPU" is the processor's time in the same piece, which other programs on the
machine do not lengthen. "Peak" is the VmHWM of the process that went on, "before" what it held when
the stage was called; both in 10^6 bytes. On a folder in memory, such as /dev/shm, flushing costs
nothing, so that the machinery is measured without the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdtrain.config import RunConfig, from_dict
from pdtrain.files.spans import Stored
from pdtrain.progress import LOGGER, be_silent
from pdtrain.records import Passage, content_id
from pdtrain.stage import output_of, run_units
from pdtrain.storage import write_checked, write_shards

if TYPE_CHECKING:  # they take ten seconds and half a gigabyte, which `units` does without
    from pdtrain.generation.sampling import Completion
    from pdtrain.models.chat.chat_template import Chat

NAMES = "Adler Brook Corin Dale Ester Fenn Gale Harrow Ilse Joss Kell Lorne Marsh Nettle".split()
THINGS = "lamp pier mill gate bell barge kiln loom well tower ferry orchard bridge press".split()
DEEDS = "built mended sold painted moved counted bought drew".split()
SENTENCES = 4  # of a passage
LINE = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)
FOCUS = re.compile(r"about the sentences ([\d, ]+), so")
KILLED = 9  # the exit status of a process that ended itself in the midst


def passages(count: int) -> Iterator[Passage]:
    """Yield passages of invented sentences, all of them different."""
    rng = random.Random(0)
    for number in range(count):
        text, spans = "", []
        for place in range(SENTENCES):
            who, thing, deed = rng.choice(NAMES), rng.choice(THINGS), rng.choice(DEEDS)
            start = len(text) + bool(text)
            text += " " * bool(text)
            text += f"{who} {NAMES[place]} {deed} the {thing} of Vell {number} in {1500 + place}."
            spans.append((start, len(text)))
        name = content_id(number)
        document = f"{number // 100}.txt"
        yield Passage(name, document, f"Vell {number}", text, 0, len(text), 60, tuple(spans))


def config_of(folder: Path) -> RunConfig:
    """Return the config of all runs: one question a sentence, one answer a question."""
    return from_dict(
        {
            "out_dir": str(folder / "run"),
            "corpus": {"documents": str(folder)},
            "questions": {"writer": "model", "model_per_sentence": 1, "model_per_passage": 0},
            "answers": {"per_question": 1, "checks": 0},
        }
    )


class Fake:
    """Be a backend without a model, which ends the process after so many calls.

    Args:
        on_call: is told of each call before it is answered.
    """

    can_score = False
    window = None

    def __init__(self, chat: Chat, on_call: Callable[[], None]) -> None:
        self.chat, self.on_call = chat, on_call

    def sample(self, prompts: Sequence[Sequence[int]], *_: Any, **__: Any) -> list[Completion]:
        """Return questions to each prompt for questions, "yes", or a sentence that is true."""
        self.on_call()
        return [self._said(self.chat.tokenizer.decode(list(prompt))) for prompt in prompts]

    def _said(self, prompt: str) -> Completion:
        if "Reply with one word" in prompt:
            text = "yes"
        elif found := FOCUS.search(prompt):
            lines = {int(number): line for number, line in LINE.findall(prompt)}
            items = [self._item(int(one), lines[int(one)]) for one in found[1].split(", ")]
            text = json.dumps(items)
        else:
            text = prompt.rpartition("Who ")[2].partition("?")[0] + " was a keeper."
        from pdtrain.generation.sampling import Completion

        ids = [*self.chat.ids(text), self.chat.stop_ids[0]]
        return Completion(self.chat.text(ids), tuple(ids), True)

    def _item(self, place: int, line: str) -> dict[str, Any]:
        who, _, rest = line.partition(f" {NAMES[place - 1]} ")
        question = f"Who {rest.rstrip('.')}?"
        return {"kind": "detail", "question": question, "sentences": [place], "quote": who}

    def log_likelihoods(self, *_: object, **__: object) -> list[float]:
        """Refuse: `can_score` is False."""
        raise ValueError("a fake backend scores nothing")


def write_passages(config: RunConfig, count: int) -> None:
    """Write the passages as a finished stage."""
    folder = config.run.passages_folder
    if (folder / "manifest.json").exists():
        return
    shards = write_shards(folder, (one.to_json() for one in passages(count)), 10_000)
    write_checked(folder / "manifest.json", {"inputs": str(count), **output_of(shards)})


def stored_passages(config: RunConfig) -> Stored[Passage]:
    """Return the passages by id, as `synthesis.units` does, which imports much more."""
    folder = config.run.passages_folder
    return Stored(folder, lambda found: str(found["id"]), lambda found: Passage.from_json(found[0]))


def units_alone(config: RunConfig, unit: Callable[..., list[dict[str, Any]]]) -> None:
    """Run the machinery of a stage over the passages, each a unit."""
    run_units(config.folder / "units", "units", {}, stored_passages(config), unit, "passages")


def stage_of(stage: str, config: RunConfig, on_call: Callable[[], None]) -> Callable[[], object]:
    """Return what runs a whole stage with a fake backend."""
    from pdtrain.models.base import load_tokenizer
    from pdtrain.models.chat.chat_template import prove
    from pdtrain.synthesis import answers, questions

    backend: Any = Fake(prove(load_tokenizer(config.model), config.prompts, None), on_call)
    function = {"questions": questions.ask, "answers": answers.collect}[stage]
    return lambda: function(config, backend)


def memory(name: str) -> float:
    """Return a value of this process, such as VmHWM, in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def work(folder: Path, stage: str, stop_after: int) -> None:
    """Run a stage in this process, and print what it took; end in the midst if asked to.

    Args:
        stop_after: units that are done before the process ends itself; 0 for none.
    """
    config = config_of(folder)
    be_silent()
    LOGGER.propagate = False
    begun: dict[str, float] = {}
    calls = 0

    def on_call() -> None:
        nonlocal calls
        calls += 1
        if not begun:
            begun.update(start=time.monotonic() - started, start_cpu=time.process_time() - cpu)
        if stop_after and calls > stop_after:
            print(json.dumps(begun | {"cpu": time.process_time() - cpu}), flush=True)
            os._exit(KILLED)

    def unit(key: str, passage: Passage) -> list[dict[str, Any]]:
        on_call()
        return [{"id": f"{key}-{turn}", "text": passage.text[:80]} for turn in range(2)]

    run = (
        partial(units_alone, config, unit) if stage == "units" else stage_of(stage, config, on_call)
    )
    before, started, cpu = memory("VmRSS"), time.monotonic(), time.process_time()
    run()
    took = {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu}
    nothing = {"start": took["seconds"], "start_cpu": took["cpu"]}
    print(json.dumps(nothing | begun | took | {"before": before, "peak": memory("VmHWM")}))


def child(folder: Path, stage: str, stop_after: int = 0) -> dict[str, float]:
    """Run a stage in a process of its own, and return what it printed."""
    words = ["--folder", folder, "--stages", stage, "--stop-after", stop_after, "--work"]
    command = [sys.executable, "-P", __file__, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != (KILLED if stop_after else 0):
        raise SystemExit(f"{stage} ended with status {done.returncode}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, stage: str, count: int) -> dict[str, Any]:
    """Run a stage three times over so many passages, and return a line of the table."""
    calls = {"units": 1, "questions": 2, "answers": 1}[stage]  # of a passage
    began = time.monotonic()
    killed = child(folder, stage, calls * (count // 2))
    half = time.monotonic() - began
    resumed, again = child(folder, stage), child(folder, stage)
    output = config_of(folder).folder / stage
    manifest = json.loads((output / "manifest.json").read_text())
    working, working_cpu = (
        resumed[of] - resumed[start] for of, start in (("seconds", "start"), ("cpu", "start_cpu"))
    )
    return {
        "stage": stage,
        "passages": count,
        "records": manifest["num_records"],
        "start-up, s": round(killed["start"], 2),
        "start-up, CPU s": round(killed["start_cpu"], 2),
        "first half, s": round(half, 1),
        "resume, s": round(resumed["start"], 2),
        "resume, CPU s": round(resumed["start_cpu"], 2),
        "second half and shards, s": round(working, 1),
        "records/s": round(manifest["num_records"] / 2 / working),
        "records/CPU s": round(manifest["num_records"] / 2 / working_cpu),
        "nothing to do, s": round(again["seconds"], 2),
        "nothing to do, CPU s": round(again["cpu"], 2),
        "before, MB": round(resumed["before"]),
        "peak, MB": round(resumed["peak"]),
    }


def main() -> None:
    """Write the passages, run the stages over them, and print a line a stage and size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="for passages and runs")
    parser.add_argument("--passages", type=int, nargs="+", default=[4_000, 16_000, 64_000])
    parser.add_argument("--stages", nargs="+", default=["units", "questions", "answers"])
    parser.add_argument("--work", action="store_true", help="run one stage in this process")
    parser.add_argument("--stop-after", type=int, default=0, help="calls of the fake backend")
    options = parser.parse_args()
    if options.work:
        work(options.folder, options.stages[0], options.stop_after)
        return
    for count in options.passages:
        folder = options.folder / str(count)
        write_passages(config_of(folder), count)
        for stage in options.stages:
            shutil.rmtree(config_of(folder).folder / stage, ignore_errors=True)
            print(json.dumps(measure(folder, stage, count)), flush=True)


if __name__ == "__main__":
    main()
