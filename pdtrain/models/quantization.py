"""Hold the weights of a frozen base in 4 or 8 bits: which, by which package, and in how many bytes.

Only weights are quantized, never what they are multiplied with: the base is one that could be
written down, with weights made whole, and the tests do so. That is why torchao makes the 8-bit
integers: bitsandbytes' `Linear8bitLt` rounds the inputs to 8 bits too, and computes in fp16.

Embeddings, norms and the head stay whole, because the loss takes the head's plain weight; so do
routers, which are small, and weights that a model's own kernels take as they are.
"""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BitsAndBytesConfig,
    FineGrainedFP8Config,
    PreTrainedModel,
    TorchAoConfig,
)
from transformers.utils.quantization_config import Mxfp4Config

from pdtrain.config import ModelConfig
from pdtrain.errors import how_to_install
from pdtrain.models.adapters import lora
from pdtrain.models.architectures import decoder_of

# bitsandbytes' flag of a layer. On CPUs with AVX-512 BF16 a pass without gradients, such as the
# teacher's, would pack the weight anew, for good, for a product in bf16 that has no backward pass:
# every later gradient would be wrong.
AVX512 = "support_avx512bf16_for_cpu"


@dataclass(frozen=True)
class Kind:
    """Describe one way to hold a weight.

    Attributes:
        package: what quantizes.
        text: the way in words.
        packed_bytes: of a weight's element, in the tensor that ZeRO-3 can spread.
        scale_bytes: of its share in the scales, which every rank holds whole.
    """

    package: str
    text: str
    packed_bytes: float
    scale_bytes: float


KINDS = {
    # a scale of 8 bits for 64 elements, and one of 32 bits for 256 of these
    "nf4": Kind(
        "bitsandbytes", "4-bit NormalFloat with double quantization", 0.5, 1 / 64 + 4 / (64 * 256)
    ),
    # one scale for each row of the matrix, of at least 1024 elements in models that need this
    "int8": Kind("torchao", "8-bit integers, weights only", 1.0, 4 / 1024),
    "fp8": Kind("torchao", "8-bit floats (e4m3), weights only", 1.0, 4 / 1024),
}


def kind_of(config: ModelConfig) -> Kind | None:
    """Return how the base's weights are held; None where they are whole."""
    return KINDS.get(config.quantization)


def refuse(config: ModelConfig, device: torch.device) -> None:
    """Raise ValueError where the base cannot be quantized here: no package, or another device."""
    kind = kind_of(config)
    if kind is None:
        return
    asked = f"model.quantization={config.quantization}"
    try:
        importlib.metadata.version(kind.package)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"{asked} needs the package {kind.package}, which is not installed: "
            f"{how_to_install('quantized')}, or set model.quantization=none"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"{asked} is for CUDA GPUs and CPUs, but model.device is {device}; set "
            "model.quantization=none"
        )


def refuse_deepspeed(config: ModelConfig) -> None:
    """Raise ValueError where DeepSpeed cannot run the quantized base."""
    kind = kind_of(config)
    if kind and kind.package == "torchao":
        raise ValueError(
            f"model.quantization={config.quantization} is for one process: DeepSpeed can neither "
            "send nor spread torchao's tensors; set model.quantization=nf4 for several ranks, or "
            "engine.kind=plain for one"
        )


def loading_options(
    config: ModelConfig,
    model: PreTrainedModel,
    dtype: torch.dtype,
    device: torch.device,
    device_map: Mapping[str, int] | None,
) -> dict[str, Any]:
    """Return what `from_pretrained` is given to quantize a base while it reads it.

    Args:
        model: the base on the meta device.
        dtype: of the products and of all that stays whole. Four-bit weights are stored in tensors
            of this dtype too, because ZeRO-3 spreads floating-point tensors alone.
        device: takes the base where there is no device map.

    Raises:
        ValueError: as `refuse`, or the files hold quantized weights already.
    """
    refuse(config, device)
    if getattr(model.config, "quantization_config", None):
        raise ValueError(
            f"model.quantization={config.quantization}: the files of model.name={config.name!r} "
            "are quantized already; set model.quantization=none, or take the unquantized model"
        )
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    place = device.index if device.type == "cuda" else "cpu"
    return {
        "quantization_config": _settings(config.quantization, sorted(left_whole(model)), dtype),
        "device_map": dict(device_map) if device_map else {"": place},
    }


# Files in these formats, such as gpt-oss's and DeepSeek's, are multiplied with by kernels that
# have no backward pass; transformers can make the weights whole while it reads them.
IN_FILES: dict[str, Any] = {"mxfp4": Mxfp4Config, "fp8": FineGrainedFP8Config}


def made_whole(settings: Any) -> dict[str, Any]:
    """Return what `from_pretrained` is given to make a base of quantized files whole.

    Args:
        settings: the config in the model's folder.

    Returns:
        Nothing for files that are not quantized, or in a way that is left as it is.
    """
    found = getattr(settings, "quantization_config", None) or {}
    make = IN_FILES.get(found.get("quant_method", "") if isinstance(found, Mapping) else "")
    return {"quantization_config": make(dequantize=True)} if make else {}


def _settings(name: str, whole: list[str], dtype: torch.dtype) -> Any:
    if name == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=dtype,
            llm_int8_skip_modules=whole,
        )
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    made = Int8WeightOnlyConfig if name == "int8" else Float8WeightOnlyConfig
    return TorchAoConfig(made(set_inductor_config=False), modules_to_not_convert=whole)


def left_whole(model: PreTrainedModel) -> set[str]:
    """Return the names of the linear layers whose weights are not quantized."""
    head, decoder = model.get_output_embeddings(), decoder_of(model)
    untouched = lora.not_adapted(model)
    inside = {part: name for name, part in decoder.named_modules()}
    return {
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear)
        and (
            part is head
            or (untouched and re.fullmatch(untouched, name))
            or (part in inside and lora.is_router(decoder, inside[part]))
        )
    }


def quantizable(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Return the linear layers that are quantized, by name; the model may be on the meta device."""
    whole = left_whole(model)
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and name not in whole
    }


def prepare(model: PreTrainedModel) -> PreTrainedModel:
    """Let the layers of a loaded, quantized base pass gradients on, and return the base."""
    for part in model.modules():
        if hasattr(part, AVX512):
            setattr(part, AVX512, False)
        elif type(part) is nn.Linear and type(part.weight.data).__module__.startswith("torchao."):
            part.__class__ = WeightOnlyLinear
    return model


class WeightOnlyLinear(nn.Linear):
    """Multiply with a weight that is made whole for the product, and again for its gradient.

    torchao's own linear layer would keep the whole weight from forward to backward, so that an
    8-bit base took more memory than a 16-bit one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the product, plus the bias where there is one, in the input's dtype."""
        found: Tensor = _Product.apply(input, self.weight, self.bias)
        return found


class _Product(torch.autograd.Function):
    """Multiply rows with a frozen weight that is not kept whole."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return F.linear(rows, weight.dequantize().to(rows.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient @ ctx.weight.dequantize().to(gradient.dtype), None, None


# --- How many bytes ---------------------------------------------------------------------------


def packed_bytes(config: ModelConfig, parameters: int, quantized: int, width: int) -> int:
    """Return the bytes of parameters as ZeRO-3 spreads and gathers them.

    Args:
        parameters: all of them.
        quantized: those of them that a quantized base holds in fewer bytes.
        width: bytes of one that stays whole.
    """
    kind = kind_of(config)
    if kind is None:
        return parameters * width
    return (parameters - quantized) * width + math.ceil(quantized * kind.packed_bytes)


def scale_bytes(config: ModelConfig, quantized: int) -> int:
    """Return the bytes of the scales beside so many quantized parameters."""
    kind = kind_of(config)
    return math.ceil(quantized * kind.scale_bytes) if kind else 0


def stored_bytes(config: ModelConfig, parameters: int, quantized: int, width: int) -> int:
    """Return the bytes of parameters in one process, with their scales."""
    packed = packed_bytes(config, parameters, quantized, width)
    return packed + scale_bytes(config, quantized)
