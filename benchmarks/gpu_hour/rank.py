"""Be one of several ranks: `python -m torch.distributed.run ... -m gpu_hour.rank CONFIG OUT NODE`.

Trains as `pdtrain train CONFIG` does, and counts the bytes of collectives meanwhile; the first rank
writes them to OUT. NODE is how many ranks share a machine: fewer than there are pretend that this
machine is several nodes, each with GPUs of its own.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

# torch's function: how it is called here, and what its first argument is
COUNTED = {
    "all_gather_into_tensor": "gather",
    "_all_gather_base": "gather",
    "reduce_scatter_tensor": "reduce",
    "_reduce_scatter_base": "reduce",
}


def split_into_nodes(ranks_per_node: int, variables: Any = os.environ) -> None:
    """Rewrite the launcher's variables so that every so many ranks are a node of their own."""
    rank = int(variables["RANK"])
    node, local = divmod(rank, ranks_per_node)
    variables["LOCAL_RANK"], variables["LOCAL_WORLD_SIZE"] = str(local), str(ranks_per_node)
    if variables.get("CUDA_VISIBLE_DEVICES", "all") == "":
        return  # a dry run on the CPU
    given = variables.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(64)))
    devices = given.split(",")[node * ranks_per_node : (node + 1) * ranks_per_node]
    variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices)


def end_with_parent() -> None:
    """End this process once its launcher is gone: torchrun gives every rank a session of its own,
    which outlives whoever ends the launcher by force, and would keep its GPU.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def count_collectives() -> dict[str, int]:
    """Count bytes of whole tensors by kind and number of ranks, such as "gather of 2".

    Counting stands around torch's own functions, since on a GPU backward runs in a thread of its
    own. It must begin before DeepSpeed is imported, which keeps the functions.
    """
    import torch.distributed as dist
    from torch.distributed import distributed_c10d

    found: dict[str, int] = defaultdict(int)

    def counted(real: Any, kind: str) -> Any:
        def collective(*args: Any, **options: Any) -> Any:
            tensors = {"gather": ("output_tensor", 0), "reduce": ("input", 1)}
            name, place = tensors[kind]
            whole = options[name] if name in options else args[place]
            num_ranks = dist.get_world_size(options.get("group"))
            found[f"{kind} of {num_ranks}"] += whole.nbytes
            return real(*args, **options)

        return collective

    for name, kind in COUNTED.items():
        for module in (dist, distributed_c10d):
            if hasattr(module, name):
                setattr(module, name, counted(getattr(module, name), kind))
    return found


def main() -> None:
    """Train, then write what was counted."""
    config, out, ranks_per_node = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    end_with_parent()
    split_into_nodes(ranks_per_node)
    found = count_collectives()
    from pdtrain.cli import main as pdtrain

    status = pdtrain(["train", config])
    if os.environ["RANK"] == "0":
        out.write_text(json.dumps(dict(found)), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as pdtrain.cli.run does: gloo would at times abort a finished process


if __name__ == "__main__":
    main()
