"""Open what generates text with a model; `protocol` says what it can do."""

from __future__ import annotations

from typing import Any

from pdtrain.config import RunConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.generation.protocol import Backend, Guides
from pdtrain.generation.server import ServerBackend
from pdtrain.generation.thoughts import ThinkingBackend
from pdtrain.generation.vllm_engine import VllmBackend
from pdtrain.generation.workers import engine_of
from pdtrain.models.base import find_thinking

__all__ = ["Backend", "guided", "open_backend"]


def open_backend(config: RunConfig, *, batch_size: int = 32) -> Backend:
    """Open what generates with the base, whose chat template is proved.

    With `model.thinking` on it thinks before it answers, and the thoughts are left out.

    Args:
        batch_size: prompts that are decoded together, at most, by a model in this process.

    Raises:
        ValueError: the model or the server cannot be used, or the chat template does not fit.
    """
    backend: Backend
    engine = engine_of(config)
    if engine == "server":
        backend = ServerBackend.of_base(config)
    elif engine == "vllm":
        backend = VllmBackend.of_base(config)
    else:
        backend = HuggingFaceBackend.of_base(config.model, config.prompts, batch_size=batch_size)
    if config.model.thought_tokens:
        thinking = find_thinking(config.model)
        return ThinkingBackend(backend, thinking, config.model.thought_tokens)
    return backend


def guided(backend: Backend, schema: dict[str, Any], config: RunConfig) -> Backend:
    """Return a backend whose completions are JSON of a schema, where the engine can see to that.

    Otherwise, where `generation.guided` is off and where the model thinks first, it is the same
    backend: whoever reads the completions must expect anything.
    """
    if config.generation.guided and isinstance(backend, Guides):
        return backend.guided(schema)
    return backend
