"""Compute DeepSpeed's settings from the config and the model, so that no second file is kept.

They are written into the run folder. Those under `deepspeed:` in the config replace them.
"""

from __future__ import annotations

from typing import Any

import torch

from pdtrain.config import RunConfig
from pdtrain.distributed.world import World
from pdtrain.models.shape import Sizes, stored


def hpz_ranks(config: RunConfig, world: World) -> int:
    """Return how many ranks hold a second copy of the base, so that no weight crosses nodes.

    A frozen base's second copy never expires. On one node it would only take memory.
    """
    if config.engine.stage < 3 or world.num_nodes < 2:
        return 1
    return world.ranks_per_node if config.engine.hpz else 1


def settings(config: RunConfig, sizes: Sizes, world: World, dtype: torch.dtype) -> dict[str, Any]:
    """Return what `deepspeed.initialize` is given.

    Prefetch and live limits are counted in parameters, of matrices: norms stay gathered. DeepSpeed
    gathers a decoder layer as a whole, into a flat buffer that lives until the last weight in it
    is taken out. Limits of just one layer ahead make buffers end where layers end; with limits
    beyond, buffers of three layers lie about half used.

    Raises:
        ValueError: stage 0 with bf16, where DeepSpeed would train the adapter without fp32 masters.
    """
    stage = config.engine.stage
    sizes = stored(config.model, sizes, dtype.itemsize)  # DeepSpeed counts elements of tensors
    if stage == 0 and dtype != torch.float32:
        raise ValueError(
            "engine.zero_stage=0 keeps no fp32 masters of the adapter: set engine.zero_stage=1 or "
            "more, or model.dtype=float32"
        )
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": dtype != torch.float32,
        "contiguous_gradients": True,
        "reduce_bucket_size": 20_000_000,  # allocated whole; the default would take 2 GB
    }
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": sizes.matrices,
            "stage3_max_live_parameters": 2 * sizes.matrices,  # the layer at work and the next
            "stage3_max_reuse_distance": sizes.layer + sizes.head,
            # the adapter's weights and the norms stay gathered
            "stage3_param_persistence_threshold": _largest_adapter_weight(config, sizes),
            "zero_hpz_partition_size": hpz_ranks(config, world),
            "memory_efficient_linear": True,  # keeps a frozen layer's input, not its weight
        }
        if config.engine.offload_base:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    made = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,  # train_step says itself which backward is the last
        "gradient_clipping": config.train.max_grad_norm,  # DeepSpeed clips at 1.0 unless told
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "bf16": {"enabled": dtype == torch.bfloat16},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31 - 1,
    }
    return _merged(made, dict(config.deepspeed))


def _largest_adapter_weight(config: RunConfig, sizes: Sizes) -> int:
    # no supported model has linear layers wider than eight times its hidden size
    return 8 * config.adapter.rank * sizes.hidden


def _merged(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
