"""Define the knobs of the engines that generate, and of sampling."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from pdtrain.schema.checks import require


@dataclass(frozen=True)
class SamplingConfig:
    """Say how completions are sampled."""

    temperature: float = 1.0  # 0 is greedy
    top_k: int = 50  # sample from this many most probable tokens; 0 is all of them
    top_p: float = 1.0  # sample from the most probable tokens that together have this probability
    max_new_tokens: int = 64  # a completion has at most this many tokens

    def __post_init__(self) -> None:
        require(self.temperature >= 0, f"temperature must be >= 0, got {self.temperature}")
        require(self.top_k >= 0, f"top_k must be >= 0 (0 is off), got {self.top_k}")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        require(self.max_new_tokens > 0, f"max_new_tokens must be > 0, got {self.max_new_tokens}")


@dataclass(frozen=True)
class ServerConfig:
    """Name a server with OpenAI's completions that serves the base, and say how it is asked.

    A request holds the prompt as the chat template makes it here, so that the server's own template
    has no part in it.
    """

    url: str = ""  # for example http://localhost:8000/v1
    # the base's name on the server; empty: the only one that the server lists
    model: str = ""
    # environment variable that holds the server's key, if it needs one
    key_variable: str = "OPENAI_API_KEY"
    concurrent: int = 32  # requests at the same time, of each process
    # requests that are begun in a minute, at most, by each process; 0 is no limit
    requests_per_minute: int = 0
    # attempts at a request that the server fails or answers with something that cannot be read
    attempts: int = 6
    timeout_seconds: float = 300.0  # how long one attempt may take
    # how long a request waits for a server that cannot be reached or asks to wait, as after a crash
    patience_seconds: float = 900.0

    def __post_init__(self) -> None:
        require(
            not self.url or re.match(r"https?://[^@\s]+$", self.url) is not None,
            "generation.server.url must be http(s)://host/v1 without a user or password in it",
        )
        require(
            re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable) is not None,
            "generation.server.key_variable must be the name of an environment variable in "
            "capitals, such as OPENAI_API_KEY, and not the key itself, which would be written to "
            "the run's files",
        )
        for name in ("concurrent", "attempts", "timeout_seconds", "patience_seconds"):
            value = getattr(self, name)
            require(value > 0, f"generation.server.{name} must be > 0, got {value}")
        require(
            self.requests_per_minute >= 0,
            "generation.server.requests_per_minute must be >= 0 (0 is no limit), got "
            f"{self.requests_per_minute}",
        )


@dataclass(frozen=True)
class VllmConfig:
    """Say how vLLM's engine holds the base. It has not been run on a GPU."""

    # GPUs that hold the base together; 0: all visible ones, or under a launcher one a rank where
    # one holds the base, else all of a machine
    tensor_parallel: int = 0
    memory_share: float = 0.9  # share of a GPU's memory that the engine takes
    window: int = 0  # tokens that a prompt and its completion may have; 0 is the model's own limit

    def __post_init__(self) -> None:
        require(
            self.tensor_parallel >= 0,
            f"generation.vllm.tensor_parallel must be >= 0 (0 is auto), got {self.tensor_parallel}",
        )
        require(
            0 < self.memory_share <= 1,
            f"generation.vllm.memory_share must be in (0, 1], got {self.memory_share}",
        )
        require(
            self.window >= 0,
            f"generation.vllm.window must be >= 0 (0 is the model's), got {self.window}",
        )


@dataclass(frozen=True)
class RayConfig:
    """Say where `generation.executor=ray` starts its workers, and what each of them takes."""

    address: str = ""  # of the cluster, such as auto; empty starts one on this machine
    workers: int = 0  # at the same time; 0 is as many as the cluster holds, which may change
    gpus: float = 1.0  # of a worker; none behind a server, and with model.device=cpu
    cpus: float = 1.0  # of a worker

    def __post_init__(self) -> None:
        require(
            self.workers >= 0 and self.gpus >= 0 and self.cpus >= 0,
            "generation.ray.workers, .gpus and .cpus must be >= 0, got "
            f"{self.workers}, {self.gpus} and {self.cpus}",
        )
        require(
            self.gpus + self.cpus > 0,
            "generation.ray.gpus and generation.ray.cpus are both 0: a worker must take something, "
            "for they tell how many a cluster holds",
        )


@dataclass(frozen=True)
class GenerationConfig:
    """Say what generates questions, answers and what holds the adapter to its base.

    None of it makes a finished stage run again: another engine goes on where the last one stopped.
    """

    # huggingface: transformers, in this process. vllm: vLLM's engine, in this process. server: any
    # server with OpenAI's completions. auto: vllm where it is installed and there is a GPU, else
    # huggingface
    backend: Literal["huggingface", "vllm", "server", "auto"] = "huggingface"
    server: ServerConfig = field(default_factory=ServerConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    # local: this process, or the ranks of a launcher. ray: the workers of a Ray cluster
    executor: Literal["local", "ray"] = "local"
    ray: RayConfig = field(default_factory=RayConfig)
    # where a capable model writes the questions, hold its replies to JSON if the engine can: vLLM,
    # and servers with OpenAI's response_format
    guided: bool = True

    def __post_init__(self) -> None:
        require(
            self.backend != "server" or bool(self.server.url),
            "generation.backend=server needs generation.server.url, such as "
            "http://localhost:8000/v1",
        )
