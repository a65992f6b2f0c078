"""Check rules that a reviewer would forget: about configs, and what a file must not hold."""

import ast
import re
from dataclasses import asdict
from functools import reduce
from operator import getitem

import pytest
import yaml
from house import ROOT, tracked

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

# --- Configurations ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads(path):
    from pdtrain.config import load

    load(path, [])


PAPER = {  # what its code does, wherever it is said: in configs/paper.yaml or by a default
    "questions.sampling": {"temperature": 1.5, "top_k": 50, "top_p": 1.0, "max_new_tokens": 512},
    "questions.blind": 150,
    "questions.blind_a_call": 5,
    "answers.sampling": {"temperature": 1.5, "top_k": 50, "top_p": 1.0, "max_new_tokens": 1024},
    "answers.per_question": 1,
    "adapter.rank": 1024,
    "adapter.alpha": 2048,
    "adapter.dropout": 0.0,
    "loss.temperature": 2.0,
    "loss.divergence": "forward_kl",
    "loss.top_k": 0,
    "loss.average": "answer",
    "loss.labels": 0.0,
    "train.epochs": 10,
    "train.learning_rate": 1e-5,
    "train.scheduler": "linear",
    "train.weight_decay": 0.1,
    "train.warmup_ratio": 0.1,
    "train.max_grad_norm": 1.0,
    "train.answers_per_step": 4,
    "retain.weight": 0.0,
    "rollout.share": 0.0,
}


def test_the_papers_settings_are_those_of_its_code():
    """This includes settings that are defaults: another default would quietly change them."""
    from pdtrain.config import load

    values = asdict(load(ROOT / "configs/paper.yaml", []))
    found = {name: reduce(getitem, name.split("."), values) for name in PAPER}
    assert found == PAPER
    counts = {k: v for k, v in values["questions"].items() if k.startswith("per_")}
    assert not any(counts.values()), "all of its questions are asked for with no plan"


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
    """Return the calls and imports that may run code of a file, or pass a string to a shell."""
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


# What the rule must find, or it could not fail: a rule never shown an offence proves nothing. These
# are texts for `ast.parse`. Nothing here loads, imports or runs them.
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


# --- What is printed --------------------------------------------------------------------------

SPEAKS_TO_US = {  # whose standard output another process of ours reads
    "pdtrain/documents/ingest/base.py",
    "pdtrain/documents/ingest/worker.py",
}


def test_all_that_is_printed_goes_through_progress():
    """There what would steer a terminal is taken out: names and titles come from elsewhere."""
    found = set()
    for path in (ROOT / "pdtrain").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                found.add(path.relative_to(ROOT).as_posix())
    assert found == SPEAKS_TO_US | {"pdtrain/progress.py"}
