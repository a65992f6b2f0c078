"""Sample completions from vLLM's engine in this process, from the base alone or with an adapter.

Requests of all threads join the engine's running batch one by one, so it never waits for the last
of a group. Prefix caching is on: a passage is encoded once for all its questions, as long as the
engine's memory holds it. Prompts go in and completions come out as token ids.

vLLM is imported when an engine is opened. It pins a torch of its own, so it is an extra.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.generation.sampling import Completion, refuse_unfit
from pdtrain.models.base import device_of, dtype_of, end_ids, load_tokenizer, resolve, window
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.progress import say
from pdtrain.records import seed_for

SEEDS = 2**31  # as `server` sends them, so that both sample alike
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM has kernels


def is_installed() -> bool:
    """Return whether vLLM can be imported, without doing so."""
    return find_spec("vllm") is not None


class Engine:
    """Run vLLM's asynchronous engine in a thread of its own; several threads may ask it.

    Args:
        options: of vLLM's `AsyncEngineArgs`.
        adapter: folder of an adapter in PEFT's format, which all requests then use.
    """

    def __init__(self, options: dict[str, Any], adapter: Path | None = None) -> None:
        from vllm import AsyncEngineArgs, AsyncLLMEngine

        self._adapter = _lora_request(adapter) if adapter else None
        self._engine: Any = AsyncLLMEngine.from_engine_args(AsyncEngineArgs(**options))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        weakref.finalize(self, _end, self._loop, self._engine)

    def ask(self, prompt: Sequence[int], settings: dict[str, Any]) -> Future[tuple[list[int], str]]:
        """Return the future token ids of a completion and the reason of its end.

        Args:
            settings: of vLLM's `SamplingParams`; under `json` the schema that a completion is held
                to, if it is.
        """
        asked = _complete(self._engine, list(prompt), settings, self._adapter)
        return asyncio.run_coroutine_threadsafe(asked, self._loop)


async def _complete(
    engine: Any, prompt: list[int], settings: dict[str, Any], adapter: Any
) -> tuple[list[int], str]:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    if schema := settings.pop("json", None):
        settings["structured_outputs"] = StructuredOutputsParams(json=schema)
    how = SamplingParams(**settings, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
    options = {"lora_request": adapter} if adapter else {}
    name = uuid.uuid4().hex
    found = [
        one async for one in engine.generate({"prompt_token_ids": prompt}, how, name, **options)
    ]
    (made,) = found[-1].outputs
    return list(made.token_ids), str(made.finish_reason)


def _end(loop: asyncio.AbstractEventLoop, engine: Any) -> None:
    """End the engine, which frees its GPUs, and the thread."""
    loop.call_soon_threadsafe(loop.stop)
    engine.shutdown()


def _lora_request(adapter: Path) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name, 1, str(adapter))


@dataclass(frozen=True)
class VllmBackend:
    """Be a `backend.Backend` on vLLM's engine.

    Args:
        schema: of JSON that completions are held to; None where they may be any text.
    """

    engine: Engine
    chat: Chat
    window: int | None
    schema: dict[str, Any] | None = None

    @classmethod
    def of_base(cls, config: RunConfig, adapter: Path | None = None) -> VllmBackend:
        """Load the base and prove its chat template, which may let it think.

        Args:
            adapter: folder of a trained adapter in PEFT's format, which is put on the base, and
                does not think.

        Raises:
            ValueError: vLLM is not installed, does not load such a base, or has no kernels for an
                adapter of this rank.
        """
        _refuse(config)
        thinks = config.model.thought_tokens > 0 and not adapter
        tokenizer = load_tokenizer(config.model, thinks=thinks)
        chat = prove(tokenizer, config.prompts, end_ids(config.model))
        gpus = gpus_of(config)
        options = engine_options(config, len(gpus))
        if adapter:
            options |= {"enable_lora": True, "max_lora_rank": _lora_rank(adapter)}
        limits = [size for size in (window(config.model), config.generation.vllm.window) if size]
        with _seeing(gpus):
            engine = Engine(options, adapter)
        say(f"vllm: {config.model.name} on {options['tensor_parallel_size']} devices")
        return cls(engine, chat, min(limits, default=None))

    @property
    def can_score(self) -> bool:
        """Return False: the engine is asked for completions alone."""
        return False

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Return one completion for each prompt, as `Backend.sample` says."""
        refuse_unfit(prompts, sampling.max_new_tokens, self.window)
        stops = list(dict.fromkeys([*self.chat.stop_ids, *stop_ids]))
        settings = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "stop_token_ids": stops,
            **({"json": self.schema} if self.schema else {}),
        }
        asked = [
            self.engine.ask(prompt, settings | {"seed": seed_for(seed, i) % SEEDS})
            for i, prompt in enumerate(prompts)
        ]
        results = []
        try:
            for one in asked:
                ids, reason = one.result()
                results.append(self._completion(ids, reason, stops))
                if on_done:
                    on_done(1)
        finally:
            for one in asked:
                one.cancel()
        return results

    def guided(self, schema: dict[str, Any]) -> VllmBackend:
        """Return this backend with completions that are JSON of a schema."""
        return replace(self, schema=schema)

    def log_likelihoods(self, *_: object, **__: object) -> list[float]:
        """Refuse: `can_score` is False."""
        raise ValueError("this engine scores no texts; set generation.backend=huggingface")

    def _completion(self, ids: list[int], reason: str, stops: Sequence[int]) -> Completion:
        """Return what was said, up to the token that ends it."""
        end = next((i for i, token in enumerate(ids) if token in stops), None)
        if end is not None:
            ids = ids[: end + 1]
        elif reason == "stop":  # at a token of the model's own, which the engine left out
            ids = [*ids, self.chat.stop_ids[0]]
        is_finished = end is not None or reason == "stop"
        return Completion(self.chat.text(ids), tuple(ids), is_finished)


def gpus_of(config: RunConfig) -> list[int]:
    """Return the numbers of the GPUs that the engine takes; empty on a CPU."""
    device, most = device_of(config.model), config.generation.vllm.tensor_parallel
    if device.type != "cuda":
        return []
    if device.index is not None:
        return [*range(device.index, device.index + (most or 1))]
    return [*range(most or torch.cuda.device_count())]


def engine_options(config: RunConfig, num_gpus: int) -> dict[str, Any]:
    """Return the settings of vLLM's engine on so many GPUs, or on a CPU where there is none."""
    model, knobs = config.model, config.generation.vllm
    options: dict[str, Any] = {
        "model": resolve(model),
        "revision": model.revision,
        "trust_remote_code": model.trust_remote_code,
        "dtype": str(dtype_of(model)).removeprefix("torch."),
        "tensor_parallel_size": max(1, num_gpus),
        "gpu_memory_utilization": knobs.memory_share,
        "enable_prefix_caching": True,
        "seed": 0,
        # the model's own settings of sampling, such as a repetition penalty, must not creep in
        "generation_config": "vllm",
        "disable_log_stats": True,
    }
    if not num_gpus:  # vLLM 0.32 dies of a request with a seed whose prompt it reads in parts there
        options["enable_chunked_prefill"] = False
    return options | ({"max_model_len": knobs.window} if knobs.window else {})


def _refuse(config: RunConfig) -> None:
    if not is_installed():
        raise ValueError(
            "generation.backend=vllm needs vLLM, which is not installed here. Start `vllm serve` "
            "in an environment of its own, and set generation.backend=server; or install it "
            "beside pdtrain as docs/generation.md says, for it pins its own torch"
        )
    if config.model.quantization != "none":
        raise ValueError(
            f"generation.backend=vllm loads the base's own weights, and model.quantization="
            f"{config.model.quantization} asks for another base; set generation.backend=huggingface"
        )


def _lora_rank(adapter: Path) -> int:
    """Return the smallest of vLLM's ranks that holds an adapter."""
    rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    found = next((known for known in LORA_RANKS if rank <= known), None)
    if found is None:
        raise ValueError(
            f"{adapter} has rank {rank}, and vLLM serves adapters of rank {LORA_RANKS[-1]} at "
            "most; serve merged weights instead (export.merge=true)"
        )
    return found


@contextmanager
def _seeing(gpus: Sequence[int]) -> Iterator[None]:
    """Let processes that are started inside see these GPUs alone; all where none is named."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    if gpus:
        visible = before.split(",") if before else [str(n) for n in range(max(gpus) + 1)]
        os.environ[name] = ",".join(visible[n] for n in gpus)
    try:
        yield
    finally:
        if gpus:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
