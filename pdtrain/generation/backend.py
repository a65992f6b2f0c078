"""Open what generates text with a model; `protocol` says what it can do."""

from __future__ import annotations

from pdtrain.config import ModelConfig, PromptConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.generation.protocol import Backend
from pdtrain.generation.thoughts import ThinkingBackend
from pdtrain.models.base import find_thinking

__all__ = ["Backend", "open_backend"]


def open_backend(model: ModelConfig, prompts: PromptConfig, *, batch_size: int = 32) -> Backend:
    """Load a base model, prove its chat template, and return what generates with it.

    With `model.thinking` on it thinks before it answers, and the thoughts are left out.

    Args:
        batch_size: prompts that are decoded together, at most.

    Raises:
        ValueError: the model cannot be loaded, or its chat template does not fit.
    """
    backend = HuggingFaceBackend.of_base(model, prompts, batch_size=batch_size)
    if model.thought_tokens:
        return ThinkingBackend(backend, find_thinking(model), model.thought_tokens)
    return backend
