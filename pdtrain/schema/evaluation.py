"""Define the knobs of the evaluation and the export."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from pdtrain.schema.checks import decides, require


@dataclass(frozen=True)
class JudgeConfig:
    """Name a model that grades predictions, behind a server with OpenAI's chat completions."""

    url: str = ""  # for example http://localhost:8000/v1; empty: there is no judge
    # name of the judge on the server; best of another family than the model it judges
    model: str = ""
    # environment variable that holds the server's key, if it needs one
    key_variable: str = field(default="OPENAI_API_KEY", metadata=decides())
    # a reply has at most this many tokens, its thought included
    max_new_tokens: int = 256
    concurrent: int = field(default=8, metadata=decides())  # requests at the same time
    # attempts at a request that the server fails
    attempts: int = field(default=4, metadata=decides())
    # how long one attempt may take
    timeout_seconds: float = field(default=120.0, metadata=decides())
    # how long a request waits for a judge that cannot be reached or asks to wait
    patience_seconds: float = field(default=900.0, metadata=decides())

    def __post_init__(self) -> None:
        require(
            not self.url or re.match(r"https?://[^@\s]+$", self.url) is not None,
            "evaluate.judge.url must be http(s)://host/v1 without a user or password in it",
        )
        require(
            not self.url or bool(self.model),
            "evaluate.judge.url needs evaluate.judge.model, the name that the server knows",
        )
        require(
            re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable) is not None,
            "evaluate.judge.key_variable must be the name of an environment variable in "
            "capitals, such as OPENAI_API_KEY, and not the key itself, which would be written to "
            "the run's files",
        )
        positive = ("max_new_tokens", "concurrent", "attempts", "timeout_seconds")
        for name in (*positive, "patience_seconds"):
            value = getattr(self, name)
            require(value > 0, f"evaluate.judge.{name} must be > 0, got {value}")


@dataclass(frozen=True)
class EvaluateConfig:
    """Name the held-out questions and say how they are asked."""

    # JSONL file of held-out questions; empty: the evaluation is skipped, which is said
    questions: str = field(default="", metadata=decides())
    # JSONL file of texts and questions to measure forgetting on; empty: bundled ones
    unrelated: str = field(default="", metadata=decides())
    # ask only the first so many questions; 0 is all
    limit: int = field(default=0, metadata=decides("predictions"))
    # an answer has at most this many tokens
    max_new_tokens: int = field(default=32, metadata=decides("predictions"))
    # how many retrieved passages are put before the question: a system for each number, with
    # and without the adapter
    rag_passages: list[int] = field(default_factory=lambda: [1, 3, 5], metadata=decides())
    # JSONL file of passages and questions about other things than the documents, to measure how
    # well the adapter reads; empty: bundled ones
    reading: str = field(default="", metadata=decides())
    # sentence-transformers model (folder, hub name or `embedded`) for retrieval in systems of its
    # own, beside BM25; empty: no such systems
    dense: str = field(default="", metadata=decides())
    judge: JudgeConfig = field(default_factory=JudgeConfig, metadata=decides("judge"))
    # prompts that are answered at the same time
    batch_size: int = field(default=32, metadata=decides())
    bootstrap_samples: int = 2000  # samples of the bootstrap intervals

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size", "bootstrap_samples"):
            value = getattr(self, name)
            require(value > 0, f"evaluate.{name} must be > 0, got {value}")
        numbers = self.rag_passages
        require(
            all(number > 0 for number in numbers) and len({*numbers}) == len(numbers),
            f"evaluate.rag_passages must be different numbers > 0, such as [1, 3], got {numbers}",
        )
        require(self.limit >= 0, f"evaluate.limit must be >= 0 (0 is all), got {self.limit}")


@dataclass(frozen=True)
class ExportConfig:
    """Say what is exported, and how it is checked."""

    merge: bool = False  # also write the base with the adapter merged into its weights
    # what also answers the held-out questions with the exported folder, once it is in place; where
    # the answers differ the command fails, and the export stays. It needs those of `evaluate`.
    # transformers: nothing, logits were compared before. vllm: vLLM's engine in this process.
    # server: a running one (generation.server.url) that serves the adapter under the run's name;
    # generation.server.model is not looked at
    check: Literal["transformers", "vllm", "server"] = field(
        default="transformers", metadata=decides()
    )
