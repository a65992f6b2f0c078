"""Check where private names of libraries are used, and that the libraries still have them.

Each is used in one place, which says why. A library may rename them with any version, so
pyproject.toml holds it below its next one, and a failure here names the library and the place.
"""

import ast
import atexit
import importlib
import importlib.metadata
import inspect
import tomllib

import pytest
import torch
from house import KERNELS, MODULES, ROOT
from packaging.requirements import Requirement
from packaging.version import Version

# names with an underscore that are documented all the same
PUBLIC = {
    "_Element",  # lxml: the type of an element, in annotations
    "_make",  # Python: of named tuples
    "_replace",
}
# file: private names of other libraries' objects that it may use
ALLOWED = {
    "kernels/pdkernels/chunked/products.py": {"_linear_pointwise"},  # torch
    "pdtrain/cli.py": {"_run_exitfuncs", "_exit"},  # Python; os._exit is documented
    "pdtrain/distributed/meeting.py": {"_exit"},  # Python; documented
    # python-pptx has no other way to tell a hidden slide, or a field from text
    "pdtrain/documents/readers/office.py": {"_element"},
    "pdtrain/models/adapters/lora.py": {"_disable_adapters"},  # PEFT
}
DEEPSPEED = {
    "deepspeed.runtime.engine.DeepSpeedEngine": {"buffered_allreduce_fallback"},
    "deepspeed.runtime.zero.stage_1_and_2.DeepSpeedZeroOptimizer": {
        "_lazy_init_hp_params_optimizer_state",
        "overlapping_partition_gradients_reduce_epilogue",
        "reduce_independent_p_g_buckets_and_remove_grads",
    },
    "deepspeed.runtime.zero.stage3.DeepSpeedZeroOptimizer_Stage3": {
        "fp32_partitioned_groups_flat",
        "independent_gradient_partition_epilogue",
        "parameter_offload",
        "reduce_independent_p_g_buckets_and_remove_grads",
    },
    "deepspeed.runtime.zero.parameter_offload.DeepSpeedZeRoOffload": {"get_param_coordinator"},
    "deepspeed.runtime.zero.partitioned_param_coordinator.PartitionedParameterCoordinator": {
        "fetch_sub_module"
    },
    "deepspeed.runtime.zero.partition_parameters.Init": {
        "ds_numel",
        "ds_secondary_tensor",
        "ds_shape",
        "ds_tensor",
    },
}


def private_names(source: str) -> set[str]:
    """Return names with one leading underscore, read from anything but `self` and `cls`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found |= set() if own else {node.attr}
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("pd"):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("path", MODULES + KERNELS, ids=lambda path: path.stem)
def test_private_names_are_used_where_they_are_explained(path):
    name = path.relative_to(ROOT).as_posix()
    found = private_names(path.read_text(encoding="utf-8")) - PUBLIC
    assert found == ALLOWED.get(name, set())


def test_the_rule_sees_every_form():
    source = "from torch import _a\nx._b\nf(_c=1)\nself._d\ny.__dict__\n"
    assert private_names(source) == {"_a", "_b", "_c"}


def holds(place: str, name: str) -> bool:
    """Tell whether a class has the name, or one of its methods sets such an attribute."""
    module, _, kind = place.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    return hasattr(found, name) or f".{name} = " in inspect.getsource(found)


@pytest.mark.parametrize(
    ("place", "name"),
    [(place, name) for place, names in DEEPSPEED.items() for name in sorted(names)],
)
def test_deepspeed_still_has(place, name):
    assert holds(place, name), (
        f"DeepSpeed {importlib.metadata.version('deepspeed')} has no {place}.{name} any more: see "
        "pdtrain/distributed/deepspeed_private.py"
    )


def test_the_test_of_deepspeed_knows_all_methods_that_may_be_timed():
    from pdtrain.distributed.deepspeed_private import WAITS

    assert set().union(*WAITS.values()) <= set().union(*DEEPSPEED.values())


def test_peft_still_switches_a_layer_by_one_flag():
    from peft.tuners.tuners_utils import BaseTunerLayer

    version = importlib.metadata.version("peft")
    where = f"PEFT {version}: see switched_off in pdtrain/models/adapters/lora.py"
    assert BaseTunerLayer._disable_adapters is False, f"{where}: the flag has gone"
    reads = inspect.getsource(BaseTunerLayer.disable_adapters.fget)
    assert "_disable_adapters" in reads, f"{where}: the flag switches nothing"


def test_transformers_still_names_the_attention_it_runs(tmp_path):
    from support import tiny_model
    from transformers import AutoModelForCausalLM

    from pdtrain.models.attention import prefix

    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path))
    assert prefix.is_prepared(prefix.prepare(model).get_decoder()), (
        f"transformers {importlib.metadata.version('transformers')} has no config."
        "_attn_implementation any more: see is_prepared in pdtrain/models/attention/prefix.py"
    )


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_torch_still_has_onednns_product():
    assert hasattr(torch.ops.mkldnn, "_linear_pointwise"), (
        f"torch {torch.__version__} has no mkldnn._linear_pointwise any more, and fp32 losses on a "
        "CPU take PyTorch's slower product: see kernels/pdkernels/chunked/products.py"
    )


def test_python_still_runs_exit_functions_on_request():
    assert callable(getattr(atexit, "_run_exitfuncs", None)), (
        "Python has no atexit._run_exitfuncs any more: see pdtrain/cli.py"
    )


@pytest.mark.parametrize("name", ["deepspeed", "peft", "transformers"])
def test_a_library_is_held_below_the_next_version_that_may_rename(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}[name]
    found = Version(importlib.metadata.version(name))
    major, minor = found.release[:2]
    assert wanted.contains(found) and not wanted.contains(f"{major + 1}.0")
    assert major or not wanted.contains(f"0.{minor + 1}.0")
