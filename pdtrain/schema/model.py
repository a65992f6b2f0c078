"""Define the knobs of the base model and of the adapter on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pdtrain.schema.checks import ASKS_MODEL, decides, require


@dataclass(frozen=True)
class ModelConfig:
    """Choose the base model, which is teacher and student alike."""

    # `embedded`, the path of a model folder, or a name on the Hugging Face hub
    name: str = "embedded"
    revision: str | None = None  # branch, tag or commit of a hub model; null is its default
    # dtype of the base; auto is bfloat16 on a GPU and float32 on a CPU
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    # how the base's linear layers hold their weights; the head stays whole. nf4: 4 bits, by
    # bitsandbytes, for one process or many. int8, fp8: 8 bits, by torchao, for one process. The
    # base is then another, slightly worse one, as teacher and as student
    quantization: Literal["none", "nf4", "int8", "fp8"] = field(default="none", metadata=decides())
    device: str = "auto"  # auto is cuda if there is one, and cpu otherwise
    # how answers become batches. packed: without padding, a passage read once for all its answers;
    # for architectures whose attention is known. padded: a row for every answer, through the
    # model's own layers, whatever they do. auto is packed where that is possible
    batching: Literal["auto", "packed", "padded"] = field(default="auto", metadata=decides())
    # runs code that comes with the model; only for code that you have read
    trust_remote_code: bool = False
    # whether the base thinks before it answers. auto: it does not; the chat template's own switch
    # is turned off, and where it has none the prompt ends with an empty thought, or opens the
    # channel of the answer. off: both at once. on, and the levels that some templates know: it
    # thinks while it writes questions and answers, and the thoughts are cut off. template: the
    # template is left as it is
    thinking: Literal["auto", "off", "on", "low", "medium", "high", "template"] = field(
        default="auto", metadata=decides(*ASKS_MODEL)
    )
    # a thought has at most this many tokens, and is ended there; with thinking=on and its levels
    thinking_budget: int = field(
        default=1024, metadata=decides("questions", "answers", "retain", "quiz")
    )
    # further variables of the chat template, for every prompt
    chat_template_kwargs: dict[str, Any] = field(
        default_factory=dict, metadata=decides(*ASKS_MODEL)
    )

    def __post_init__(self) -> None:
        require(
            self.thinking_budget > 0,
            f"model.thinking_budget must be > 0 tokens, got {self.thinking_budget}; "
            "model.thinking=off turns thoughts off",
        )
        taken = {"messages", "add_generation_prompt", "tokenize"} & self.chat_template_kwargs.keys()
        require(
            not taken,
            f"model.chat_template_kwargs must not hold {', '.join(sorted(taken))}, which pdtrain "
            "sets itself",
        )

    @property
    def thought_tokens(self) -> int:
        """Return how many tokens a thought may take before an answer; 0 without thinking."""
        return 0 if self.thinking in ("auto", "off", "template") else self.thinking_budget


@dataclass(frozen=True)
class AdapterConfig:
    """Give the shape of the LoRA adapter."""

    rank: int = 32  # rank of every LoRA matrix
    alpha: int = 64  # LoRA's alpha: updates are scaled by alpha / rank
    # LoRA's dropout; only with 0 do numbers not depend on how a batch is divided
    dropout: float = 0.0
    target_modules: str = "all-linear"  # all-linear, or names separated by commas: q_proj,v_proj
    # of a mixture of experts, the experts' fused weights to adapt as well, separated by commas:
    # mlp.experts.gate_up_proj,mlp.experts.down_proj; by default experts are left alone
    target_parameters: str = ""
    # the adapter's fp32 products on a GPU: ieee is plain fp32, tf32 rounds factors to 10 bits, auto
    # is tf32 beside a 16-bit base; DeepSpeed's engine multiplies in the base's dtype
    fp32_precision: Literal["auto", "ieee", "tf32"] = "auto"

    def __post_init__(self) -> None:
        require(self.rank > 0, f"adapter.rank must be > 0, got {self.rank}")
        require(0 <= self.dropout < 1, f"adapter.dropout must be in [0, 1), got {self.dropout}")
        require(
            not (self.target_parameters and self.dropout),
            "adapter.target_parameters needs adapter.dropout=0: PEFT adapts the weight itself, and "
            "cannot drop what it is multiplied with",
        )
        names = {name.strip() for name in self.target_modules.split(",")}
        require(
            not names & {"lm_head", "embed_tokens"},
            "adapter.target_modules must leave lm_head and embed_tokens alone: the loss takes "
            "its gradient in forward because the head is frozen",
        )
