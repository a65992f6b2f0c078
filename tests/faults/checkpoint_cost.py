"""Measure what saving costs a step: the time of steps with a save in flight, and of those without.

python tests/faults/checkpoint_cost.py [--hidden 512] [--rank 128] [--steps 24]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from support import tiny_config, tiny_model, tiny_records, write_records


def seconds_a_step(folder: Path, model: Path, rank: int, steps: int, every: int) -> list[float]:
    """Train, and return the seconds of each step but the first two, between lines of the log."""
    from pdtrain.training import train

    settings = {"epochs": steps, "answers_per_step": 100, "save_every_steps": every}
    settings |= {"log_every_steps": 1, "evaluate_every_epochs": 0}
    config = tiny_config(folder, model, adapter={"rank": rank, "alpha": rank}, train=settings)
    write_records(config, *tiny_records(num_passages=6, answers_per_passage=6))
    train.run(config)
    times = [line["unix_seconds"] for line in config.run.metrics()]
    return [after - before for before, after in pairwise(times[1:])]


def main() -> None:
    """Print a table of the two medians, their ratio, and the size of a checkpoint."""
    parser = argparse.ArgumentParser()
    for name, default in (("hidden", 512), ("rank", 128), ("steps", 24)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hidden = options.hidden
        sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "head_dim": hidden // 4}
        model = tiny_model(folder / "model", num_hidden_layers=6, **sizes)
        run = (model, options.rank, options.steps)
        without = seconds_a_step(folder / "without", *run, 10**9)
        saving = seconds_a_step(folder / "with", *run, 1)
        files = next((folder / "with" / "checkpoints").glob("step-*")).glob("*.safetensors")
        megabytes = sum(path.stat().st_size for path in files) / 1e6
    medians = [statistics.median(seconds) for seconds in (without, saving)]
    print("| | seconds a step, median | ratio |")
    print("|---|---|---|")
    print(f"| no save | {medians[0]:.3f} | 1 |")
    ratio = medians[1] / medians[0]
    print(f"| a save of {megabytes:.0f} MB in flight | {medians[1]:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
