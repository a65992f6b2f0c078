"""Check what a run needs: documents, held-out questions, a model that is whole and fits."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from pdtrain.config import ModelConfig, RunConfig
from pdtrain.distributed.world import find_world
from pdtrain.documents.ingest.listing import list_files, refuse_empty, shown
from pdtrain.models import quantization
from pdtrain.models.base import (
    device_of,
    dtype_of,
    find_thinking,
    load_tokenizer,
    resolve,
    skeleton,
)
from pdtrain.models.chat.chat_template import prove
from pdtrain.models.model_files import PICKLED, is_pickled
from pdtrain.models.shape import sizes_of
from pdtrain.planning.checks.gpu_checks import training, writing
from pdtrain.planning.checks.machine import (
    GIB,
    Finding,
    Findings,
    free_memory_bytes,
    one_line,
)
from pdtrain.storage import read_json
from pdtrain.synthesis.held_out import read_questions


def corpus(config: RunConfig) -> Findings:
    """Check that there are documents."""
    files = refuse_empty(list_files(config.corpus, config.own_inputs), config.corpus).files
    size = sum(file.size for file in files)
    yield Finding("ok", f"{len(files)} documents, {size / 1e6:.2f} MB: {shown(config.corpus)}")


def held_out(config: RunConfig) -> Findings:
    """Check that there are held-out questions, which can be read."""
    if not config.evaluate.questions:
        yield Finding("warn", "evaluate.questions is not set: the run will not be evaluated")
        return
    questions = read_questions(config.evaluate.questions, config.evaluate.limit)
    num_open = sum(not question.answers for question in questions)
    said = f"; the documents do not answer {num_open} of them" if num_open else ""
    yield Finding("ok", f"{len(questions)} held-out questions: {config.evaluate.questions}{said}")


def model_files(config: RunConfig) -> Findings:
    """Check that every file of weights is there and whole, before many ranks load their part."""
    folder = Path(resolve(config.model))
    if config.model.name == "embedded" or not folder.is_dir():
        return  # checked above; or a hub name, which is fetched when it is loaded
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        paths = [folder / name for name in set(read_json(index)["weight_map"].values())]
    else:
        paths = list(folder.glob("*.safetensors"))
    if is_pickled(folder):
        yield Finding("FAIL", f"{folder}: {PICKLED}")
    elif not paths:
        yield Finding("FAIL", f"{folder} holds no weights (*.safetensors): fetch the model again")
    for path in sorted(paths):
        try:
            with safe_open(path, "pt"):  # compares the header with the file's size
                pass
        except (OSError, SafetensorError) as error:
            yield Finding("FAIL", f"{path} cannot be read ({one_line(error)}): fetch it again")


def base_model(config: RunConfig) -> Findings:
    """Check that the model is found, its chat template fits, and its weights fit the memory."""
    tokenizer = load_tokenizer(config.model)
    prove(tokenizer, config.prompts, None)
    yield Finding("ok", f"model {config.model.name}: its chat template fits")
    thinking = find_thinking(config.model)
    if thinking.off or thinking.opener or thinking.end:
        asked = config.model.thinking
        yield Finding("ok", f"thoughts (model.thinking={asked}): {thinking.found}")
    device, dtype = device_of(config.model), dtype_of(config.model)
    quantization.refuse(config.model, device)
    parameters = num_parameters(config.model)
    need, held = parameters * dtype.itemsize, f"x {dtype.itemsize} bytes"
    if config.model.quantization != "none":
        sizes = sizes_of(config.model)
        need = quantization.stored_bytes(
            config.model, sizes.total, sizes.quantizable, dtype.itemsize
        )
        held = f"in {config.model.quantization}"
    if device.type == "cuda" and not torch.cuda.is_available():
        yield Finding("FAIL", f"model.device={device} but torch sees no GPU: set model.device=cpu")
        return
    if device.type == "cuda":
        yield from writing(config)
        yield from training(config, find_world())
        return
    free = free_memory_bytes()
    text = f"{parameters / 1e6:.0f} M parameters {held} = {need / GIB:.2f} GiB on {device.type}"
    if free is None:
        yield Finding("warn", f"{text}; free memory unknown")
    elif need > free:
        smaller = "a smaller model, or model.dtype=bfloat16" if dtype.itemsize > 2 else "a smaller"
        yield Finding("FAIL", f"{text}, {free / GIB:.2f} GiB free: take {smaller}")
    elif 1.5 * need + GIB > free:
        yield Finding(
            "warn",
            f"{text}, {free / GIB:.2f} GiB free: tight; lower train.answers_per_micro_batch and "
            "evaluate.batch_size, or set train.gradient_checkpointing=true",
        )
    else:
        yield Finding("ok", f"{text}, {free / GIB:.1f} GiB free")


def num_parameters(config: ModelConfig) -> int:
    """Count the parameters that are loaded, by the model's config alone.

    Its files may hold them twice, as Mistral's consolidated.safetensors does beside the shards, or
    two in a byte, as MXFP4 does.
    """
    return sum(parameter.numel() for parameter in skeleton(config).parameters())
