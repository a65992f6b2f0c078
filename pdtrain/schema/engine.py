"""Define the knobs of the engine that runs the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdtrain.schema.checks import require


@dataclass(frozen=True)
class EngineConfig:
    """Say what runs the training steps, and how the base is spread over the ranks."""

    # auto is deepspeed under a launcher, and plain otherwise
    kind: Literal["auto", "plain", "deepspeed"] = "auto"
    # 3 spreads the base over the ranks; below that every rank holds all of it; auto is, on GPUs,
    # what is fastest of what fits by the arithmetic of `pdtrain plan`, and 3 on a CPU
    zero_stage: Literal["auto", 0, 1, 2, 3] = "auto"
    # attention of packed rows; auto is the first of flash, flex and packed that works on a GPU, and
    # packed on a CPU
    attention: Literal["auto", "packed", "sdpa", "flex", "flash"] = "auto"
    offload_base: bool = False  # keep the base's parts in the CPU's memory
    hpz: bool = True  # on several nodes, every node holds the whole base between its ranks
    # count waits inside DeepSpeed, for weights and gradients, as time/communication_seconds, for
    # which its methods are wrapped; without it that metric is pdtrain's own sums over ranks alone
    time_communication: bool = False
    # compile the decoder layers with torch.compile, but for their attention: norms, activations and
    # the adapter's sums become fewer kernels; the first steps take minutes
    compile: bool = False

    def __post_init__(self) -> None:
        stages = ("auto", 0, 1, 2, 3)
        require(
            self.zero_stage in stages,
            f"engine.zero_stage: auto or 0 to 3, got {self.zero_stage}",
        )
        require(
            not self.offload_base or self.stage == 3,
            "engine.offload_base=true needs engine.zero_stage=3, which spreads the base",
        )

    @property
    def stage(self) -> int:
        """Return ZeRO's stage; 3 where `auto` has not been chosen for."""
        return 3 if self.zero_stage == "auto" else self.zero_stage
