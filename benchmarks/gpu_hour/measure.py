"""Time and memory of work on a device: CUDA events on a GPU, the clock on a CPU."""

from __future__ import annotations

import gc
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

Work = Callable[[], Any]
# What the makers' data sheets say of dense bf16 products, in TFLOP/s, by a part of the card's
# name. The first one that is found counts.
DATA_SHEET = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "RTX 4090": 165,
}


def seconds_of(work: Work, device: torch.device) -> float:
    """Return how long work takes, from an idle device to its last kernel."""
    if device.type != "cuda":
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def interleaved(
    works: Mapping[str, Work], device: torch.device, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Return the seconds of every work in turns, so that a change of clock hits all of them.

    The first round warms up and does not count. Rounds end early when the time is over, but not
    before one has been counted. A work that runs out of memory beside the others is left out.
    """
    deadline = time.monotonic() + seconds
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name in list(found):
            taken, reason = attempt(partial(seconds_of, works[name], device))
            if reason:
                print(f"{name}: {reason}, in turns with {len(found) - 1} others", flush=True)
                del found[name]
            elif number:
                found[name].append(taken)
        if number and time.monotonic() > deadline:
            break
    return found


def spread(seconds: list[float]) -> dict[str, Any]:
    """Return median, least, most and number of some measurements, as a record has them."""
    return {
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "rounds": len(seconds),
    }


def peak_bytes(work: Work, device: torch.device) -> int | None:
    """Return the most bytes that work holds at once beyond what stood before; None on a CPU."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def attempt(work: Work) -> tuple[Any, str]:
    """Return what work gives and an empty reason, or None and the reason why it failed.

    Raises:
        RuntimeError: CUDA itself has failed, after which nothing works in this process.
    """
    try:
        return work(), ""
    except torch.OutOfMemoryError:
        reason = "out of memory"
    except Exception as error:
        if "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError":
            raise
        traceback.print_exc()
        first = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first[:160]}"
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None, reason


def data_sheet_per_second(card: str) -> float | None:
    """Return a card's dense bf16 FLOPs a second by its data sheet, or None for another card."""
    return next((1e12 * rate for name, rate in DATA_SHEET.items() if name in card), None)
