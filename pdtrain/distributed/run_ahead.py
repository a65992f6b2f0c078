"""Keep the CPU from running far ahead of the GPU, so that few layers are gathered at a time.

Under ZeRO-3 the memory of a gathered layer is taken when the CPU asks for the gather, not when the
GPU comes to it. Left alone, the CPU is as many layers ahead as the driver's queue holds kernels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

LAYERS_AHEAD = 2  # one computes, one is gathered meanwhile


class Event(Protocol):
    """Mark a point in the GPU's queue, as `torch.cuda.Event` does."""

    def record(self) -> object: ...

    def synchronize(self) -> object: ...


class RunAhead:
    """Let the CPU queue a layer only when the GPU has come to the one some places before it.

    Forward and backward passes are counted alike. The wait is for that one point in the queue: what
    was queued behind it goes on meanwhile, so the GPU does not run dry.

    Args:
        layers: the decoder layers, in order.
        most: how many layers the CPU may be ahead, at least 1.
        new_event: makes an event of the current device.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        most: int = LAYERS_AHEAD,
        new_event: Callable[[], Event] = torch.cuda.Event,
    ) -> None:
        if most < 1:
            raise ValueError(f"the CPU must be allowed at least one layer ahead, got {most}")
        self.most, self.new_event = most, new_event
        self.events: deque[Event] = deque()
        self.hooks: list[RemovableHandle] = []
        for layer in layers:
            self.hooks.append(layer.register_forward_pre_hook(self._enter))
            self.hooks.append(layer.register_full_backward_pre_hook(self._enter))

    def _enter(self, *_: Any) -> None:
        if len(self.events) == self.most:
            self.events.popleft().synchronize()
        event = self.new_event()
        event.record()
        self.events.append(event)

    def close(self) -> None:
        """Let the CPU run freely again."""
        for hook in self.hooks:
            hook.remove()
        self.events.clear()
