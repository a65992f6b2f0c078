"""DeepSpeed's settings: from our config and the model's shapes; `deepspeed:` has the last word."""

import json

import pytest
import torch
from support import tiny_config, tiny_model

from pdtrain.distributed import zero
from pdtrain.distributed.world import World
from pdtrain.models import shape
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model

ALONE = World(num_ranks=2, ranks_per_node=2)
NODES = World(num_ranks=8, ranks_per_node=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def settings(model, world=ALONE, dtype=torch.float32, **sections):
    config = tiny_config(model.parent / "run", model, **sections)
    return zero.settings(config, shape.sizes_of(config.model), world, dtype)


def test_sizes_are_the_models(model):
    config = tiny_config(model.parent / "run", model)
    base = load_model(config.model)
    layer = base.model.layers[0]
    sizes = shape.sizes_of(config.model)
    assert sizes == shape.sizes_of_model(base)
    assert sizes.total == sum(p.numel() for p in base.parameters())
    assert sizes.layer - sizes.matrices == 2 * sizes.hidden  # its two norms
    assert sizes.matrices == sum(p.numel() for p in layer.parameters() if p.dim() == 2)


def test_one_layer_is_fetched_ahead_and_the_adapter_stays(model):
    config = tiny_config(model.parent / "run", model)
    sizes = shape.sizes_of(config.model)
    found = settings(model)["zero_optimization"]
    assert found["stage3_prefetch_bucket_size"] == sizes.matrices
    assert found["stage3_max_live_parameters"] == 2 * sizes.matrices
    adapted = add_adapter(load_model(config.model), config.adapter, 1)
    largest = max(p.numel() for n, p in adapted.named_parameters() if "lora_" in n)
    assert largest <= found["stage3_param_persistence_threshold"]
    assert largest <= found["reduce_bucket_size"]


@pytest.mark.parametrize(
    "world, hpz, ranks", [(ALONE, True, 1), (NODES, True, 4), (NODES, False, 1)]
)
def test_each_of_several_nodes_holds_the_base(model, world, hpz, ranks):
    found = settings(model, world, engine={"hpz": hpz})
    assert found["zero_optimization"]["zero_hpz_partition_size"] == ranks


def test_the_adapter_is_reduced_and_clipped_as_the_config_says(model):
    for dtype in (torch.float32, torch.bfloat16):
        found = settings(model, dtype=dtype, train={"max_grad_norm": 0.7})
        assert found["gradient_clipping"] == 0.7  # DeepSpeed's own default is 1.0
        assert found["communication_data_type"] == "fp32"
        assert found["data_types"] == {"grad_accum_dtype": "fp32"}
        assert found["bf16"] == {"enabled": dtype == torch.bfloat16}


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_lower_stages_gather_nothing(model, stage):
    found = settings(model, engine={"zero_stage": stage})["zero_optimization"]
    assert found["stage"] == stage and not any(key.startswith("stage3") for key in found)


def test_an_offloaded_base_lies_in_the_cpus_memory(model):
    found = settings(model, engine={"offload_base": True})["zero_optimization"]
    assert found["offload_param"]["device"] == "cpu"
    assert "offload_param" not in settings(model)["zero_optimization"]


def test_the_experts_mapping_is_merged_last_and_deep(model):
    ours = settings(model)
    theirs = {
        "gradient_clipping": 3.0,
        "zero_optimization": {"reduce_bucket_size": 7, "round_robin_gradients": True},
        "comms_logger": {"enabled": True},
    }
    found = settings(model, deepspeed=theirs)
    assert found == ours | {
        "gradient_clipping": 3.0,
        "zero_optimization": ours["zero_optimization"]
        | {"reduce_bucket_size": 7, "round_robin_gradients": True},
        "comms_logger": {"enabled": True},
    }


def test_settings_are_plain_json(model):
    """No "auto", which ZeRO's own loading would not know how to fill."""
    found = settings(model, NODES)
    assert json.loads(json.dumps(found)) == found and "auto" not in json.dumps(found)


def test_stage_0_in_bf16_is_refused(model):
    with pytest.raises(ValueError, match=r"set engine\.zero_stage=1 or more"):
        settings(model, dtype=torch.bfloat16, engine={"zero_stage": 0})
