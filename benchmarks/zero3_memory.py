"""Memory of one rank under ZeRO-3 for 1, 2 and 3 ranks, beside what `pdtrain plan` counts.

    python benchmarks/zero3_memory.py --ranks 1 2 3

Gloo ranks on one machine, a random Llama in fp32, one training step with checkpointing. "Base" are
the bytes of the base that a rank holds between steps; "peak" is the process's largest resident set
over the whole run, less what it had before the model was made. On a CPU the gathered layers and
the activations are in the same memory as the base.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import run_ranks, tiny_config, tiny_lesson, tiny_model

from pdtrain import estimate, load, rows, zero
from pdtrain.chat import prove
from pdtrain.config import RunConfig
from pdtrain.losses import TopKLoss
from pdtrain.model import load_model, load_tokenizer
from pdtrain.train import train_step
from pdtrain.twin import Twin, add_adapter
from pdtrain.world import World, publish

MB = 1e6


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(rank: int, config: RunConfig, out: str) -> None:
    os.environ["DS_ACCELERATOR"] = "cpu"
    size = torch.distributed.get_world_size()
    world = World(rank, size, rank, size, "the benchmark")
    publish(world)
    from pdtrain.engine import DeepSpeedEngine

    sizes = zero.sizes_of(config.model)
    settings = zero.settings(config, sizes, world, torch.float32)
    before = peak_bytes()
    with load.spread(settings):
        base = load_model(config.model)
    loaded = peak_bytes()
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    twin = Twin(add_adapter(base, config.adapter, 1), TopKLoss(config.loss), checkpointing=True)
    engine = DeepSpeedEngine(twin, config.train, 10, world, settings)
    examples = rows.examples(*tiny_lesson(), chat)
    cut = rows.split_evenly(examples, size)[rank]
    batch = rows.twin_batch(cut, config.loss, torch.device("cpu"), with_teacher=True)
    train_step(engine, [batch])
    held = sum(p.ds_tensor.numel() * 4 for p in twin.parameters() if not p.requires_grad)
    found = {"held": held, "loaded": loaded - before, "peak": peak_bytes() - before}
    Path(f"{out}.{rank}").write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=1024)
    options = parser.parse_args()
    print("| ranks | base planned, MB | base held, MB | peak while loading, MB | peak, MB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = {"hidden_size": options.hidden, "intermediate_size": 4 * options.hidden}
        tiny_model(folder / "model", num_hidden_layers=options.layers, head_dim=64, **shape)
        config = tiny_config(folder / "run", folder / "model")
        total = zero.sizes_of(config.model).total
        for num_ranks in options.ranks:
            out = str(folder / f"found-{num_ranks}")
            run_ranks(work, num_ranks, folder, config, out, timeout_seconds=500)
            found = [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(num_ranks)]
            worst = {key: max(rank[key] for rank in found) / MB for key in found[0]}
            planned = estimate.shard(total, 4, num_ranks) / MB
            assert abs(worst["held"] / planned - 1) < 0.05, "the plan is more than 5 % off"
            print(
                f"| {num_ranks} | {planned:.0f} | {worst['held']:.0f} | {worst['loaded']:.0f} | "
                f"{worst['peak']:.0f} |"
            )


if __name__ == "__main__":
    main()
