"""Move the knowledge of a document collection out of the prompt and into a LoRA adapter.

Prompt distillation (Kujanpää, Marttinen, Valpola, Ilin, arXiv 2412.14964): the frozen base that
reads a passage teaches the same base plus an adapter that does not.

    run = pdtrain.run(pdtrain.load_config("handbook.yaml"))
    print(run.load_adapter().ask("Who built the Blue Mill?"))

What can be imported from here is listed in `__all__` and stands in `pdtrain.api`; it is loaded when
it is first used, so that importing this package stays free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "Student", "load_config", "open_run", "run", "run_stage"]

if TYPE_CHECKING:
    from pdtrain.api import Run, Student, load_config, open_run, run, run_stage


def __getattr__(name: str) -> Any:
    """Return what `pdtrain.api` defines under this name (PEP 562)."""
    if name in __all__:
        return getattr(import_module("pdtrain.api"), name)
    raise AttributeError(f"module 'pdtrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
