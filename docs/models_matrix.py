"""Try tiny models of every architecture of the tests, and print the table of docs/models-matrix.md.

    python docs/models_matrix.py > docs/models-matrix.md

With names of cases behind it, it prints their lines alone.

It takes minutes. A check that fails is printed as it failed, not left out.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS / "support"))

import transformers  # noqa: E402
from architectures_table import CASES, CHECKS, Case, build, write_model  # noqa: E402

COLUMNS = {
    "hidden rows, loss, gradients": ("rows", "loss", "cached", "no leak"),
    "training step, plan": ("train", "plan"),
    "generates, scores": ("generate", "likelihoods"),
}
HEAD = f"""# Which models

Each line is a tiny random model of transformers {transformers.__version__}, made from the
architecture's own code and tried on a CPU in fp32 by [models_matrix.py](models_matrix.py), which
prints this file. No line has been run on a GPU, with its real weights, or quantized. What the
columns mean stands in [models.md](models.md#packed-and-padded-batches).

| Family | `model_type` | Layers | Batches | {" | ".join(COLUMNS)} | ZeRO-3 | Export reloaded by |
|---|---|---|---|{"---|" * len(COLUMNS)}---|---|"""


def on_ranks() -> list[str]:
    """Return the names of the cases that tests run on two ranks of ZeRO-3.

    Llama is tried by tests/distributed/test_ranks.py.
    """
    path = TESTS / "distributed" / "test_architectures_on_ranks.py"
    spec = spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    names: list[str] = module.NAMES
    return [*names, "llama"]


def line(one: Case, failed: Mapping[str, str], ranks: list[str]) -> str:
    """Return a line of the table.

    Args:
        one: the architecture.
        failed: why a check failed, by its name; empty where all passed.
        ranks: what tests run on two ranks.
    """

    def said(*checks: str) -> str:
        reasons = [failed[name] for name in checks if name in failed]
        return reasons[0] if reasons else "yes"

    found = [said(*checks) for checks in COLUMNS.values()]
    zero = "yes" if one.name in ranks else "not tried"
    loaded = said("export").replace("yes", f"`{one.wraps or 'AutoModelForCausalLM'}`, PEFT")
    kind = f"`{one.model_type}`"
    cells = [one.family, kind, one.layers, one.batching, *found, zero, loaded]
    return f"| {' | '.join(cells)} |"


def tried(one: Case) -> dict[str, str]:
    """Run every check of an architecture, and return why those failed that did."""
    failed = {}
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        write_model(one, folder / "model")
        for check, run in CHECKS.items():
            try:
                made = build(one, folder / "model")
                run(made, *([folder / "adapter"] if check == "export" else []))
            except Exception as error:  # the table says so
                failed[check] = f"no: {type(error).__name__}"
    return failed


def main() -> None:
    """Print the file."""
    ranks, named = on_ranks(), sys.argv[1:]
    if not named:
        print(HEAD)
    for one in [one for one in CASES if one.name in named or not named]:
        print(line(one, tried(one), ranks), flush=True)


if __name__ == "__main__":
    main()
