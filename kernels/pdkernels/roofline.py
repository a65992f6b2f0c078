"""Say what the Triton implementation launches, moves and computes, and how long that takes at best.

`python -m pdkernels.roofline` prints, for five shapes and four GPUs, launches and bytes of a call,
bytes of a slab and predicted milliseconds: each launch takes the longest of its arithmetic, its
traffic to memory and its traffic to the second-level cache, plus the gap to the next one. Nothing
is run. Rates are what good libraries are known to reach (RATES), so that the results are estimates
and no measurements; the bytes of the row kernels are checked against those that Triton's
interpreter counts (tests/support/kernel_interpreter_cases.py).

N rows · D hidden size · V vocabulary · k top-k.
"""

import math
import sys
from dataclasses import dataclass, replace
from itertools import pairwise

from pdkernels.triton import plan as plans
from pdkernels.triton.passes import HAS_ADDMM, select_options
from pdkernels.triton.plan import Plan

HALF, FP32, FP64, INT64 = 2, 4, 8, 8
TWO_SUM = 7  # operations of a product that is added without loss


@dataclass(frozen=True)
class Shape:
    """Hold the sizes of a call: rows, hidden size, vocabulary, top-k."""

    rows: int
    hidden: int
    words: int
    k: int


@dataclass(frozen=True)
class Rates:
    """Hold what a GPU reaches: TFLOP/s, TB/s, bytes of its second-level cache, seconds of a gap."""

    products: float  # of bf16
    fp32: float
    memory: float
    cache: float
    cache_bytes: int
    gap: float = 1.5e-6


@dataclass(frozen=True)
class Launch:
    """Describe equal launches of one kernel.

    Args:
        name: of the kernel.
        count: how many of them a call makes.
        flops: of one, as products or, with `is_fp32`, outside of matrix units.
        memory: bytes of one that come from or go to memory.
        cache: bytes of one that stay in the second-level cache: slabs of logits.
        is_fp32: its arithmetic is fp32, outside of matrix units.
    """

    name: str
    count: int
    flops: float
    memory: float
    cache: float = 0.0
    is_fp32: bool = False

    @property
    def moved(self) -> float:
        """Return the bytes of one."""
        return self.memory + self.cache

    def seconds(self, rates: Rates) -> float:
        """Return the time of all of them at best."""
        speed = rates.fp32 if self.is_fp32 else rates.products
        longest = max(
            self.flops / (speed * 1e12),
            self.memory / (rates.memory * 1e12),
            self.cache / (rates.cache * 1e12),
        )
        return self.count * (longest + rates.gap)


SHAPES = (
    Shape(4096, 8192, 128_256, 64),
    Shape(512, 8192, 128_256, 64),
    Shape(4096, 4096, 128_256, 64),
    Shape(4096, 2048, 151_936, 64),
    Shape(16_384, 3584, 256_000, 64),
)
RATES = {  # sustained, not peak
    "sm_80": Rates(products=250, fp32=14, memory=1.7, cache=4.0, cache_bytes=40 * 2**20),
    "sm_90": Rates(products=740, fp32=45, memory=3.0, cache=5.5, cache_bytes=50 * 2**20),
    "sm_100": Rates(products=1500, fp32=55, memory=7.0, cache=10.0, cache_bytes=126 * 2**20),
    "gfx942": Rates(products=600, fp32=60, memory=4.0, cache=8.0, cache_bytes=plans.CACHE_BYTES),
}


def slab_product(rows: int, width: float, shape: Shape) -> Launch:
    """Return the product that writes a slab of logits."""
    memory = width * shape.hidden * HALF + rows * shape.hidden * HALF
    flops = 2 * rows * width * shape.hidden
    return Launch("product of a slab", 1, flops, memory, rows * width * FP32)


def select_slab(
    rows: int, width: float, k: int, appended: float, read: float, compactions: float, last: float
) -> Launch:
    """Return the kernel that filters a slab.

    Args:
        rows: of the slab.
        width: words of the slab.
        k: of the top-k.
        appended: candidates that a row keeps.
        read: candidates that a row reads again, in all its compactions of this slab.
        compactions: of a row in this slab.
        last: 1 for the last slab, which writes ids; a share for the average of all.
    """
    state = 2 * (3 * FP32 + 4)  # peak, sum, threshold, count
    keys = appended + read + (compactions + last) * k
    return Launch("select_slab", 1, 0, rows * (state + keys * INT64), rows * width * FP32)


def sweep_slab(
    rows: int, width: float, k: int, inside: float, chunks: float, with_words: bool
) -> Launch:
    """Return the kernel that sums a slab of some chunks; `inside` of a row's k ids are in it."""
    state = 4 * FP32 + (chunks * FP32 if with_words else 0)
    moved = rows * (k * INT64 + inside * FP32 + state)
    exponentials = rows * width * HALF if with_words else 0
    return Launch("sweep_slab", 1, 0, moved + exponentials, rows * width * FP32)


def logits_at_ids(rows: int, shape: Shape) -> Launch:
    """Return the kernel that computes the top-k's logits, of halves."""
    blocks = -(-shape.k // 16)  # of ids, each of which reads the row again
    moved = rows * (shape.k * (shape.hidden * HALF + INT64 + FP64) + blocks * shape.hidden * HALF)
    flops = TWO_SUM * rows * shape.k * shape.hidden
    return Launch("logits_at_ids", 1, flops, moved, is_fp32=True)


def sum_words(rows: int, shape: Shape) -> Launch:
    """Return the kernel that sums the top-k's words."""
    blocks = -(-shape.hidden // 128)  # of columns, each of which reads ids and weights again
    words = shape.k * shape.hidden * HALF + shape.hidden * FP32
    return Launch("sum_words", 1, 0, rows * (words + blocks * shape.k * (INT64 + FP32)))


def blocks_of(shape: Shape) -> list[int]:
    """Return the rows of each block."""
    num_blocks = -(-shape.rows // plans.ROWS)
    cuts = [block * shape.rows // num_blocks for block in range(num_blocks + 1)]
    return [end - start for start, end in pairwise(cuts)]


def plan_of(rows: int, shape: Shape, rates: Rates) -> Plan:
    """Return what a launch does on that GPU."""
    return plans.plan(rows, shape.words, HALF, rates.cache_bytes)


def teacher(shape: Shape, rates: Rates) -> list[Launch]:
    """Return the launches of `teacher_topk`, but for a few over (N, k)."""
    found = []
    # in a random order: the first chunk, and then k of the first n words as n grows
    chunk = select_options(shape.k)["CHUNK"]
    later = shape.k * max(0.0, math.log(shape.words / chunk))
    for rows in blocks_of(shape):
        launches = plan_of(rows, shape, rates)
        slabs = -(-shape.words // launches.slab)
        width, first = shape.words / slabs, min(chunk, shape.words)
        found += times(slabs, slab_product(rows, width, shape))
        appended, read = (first + later) / slabs, (first + shape.k + later) / slabs
        found += times(
            slabs, select_slab(rows, width, shape.k, appended, read, 2 / slabs, 1 / slabs)
        )
        found.append(logits_at_ids(rows, shape))
    return found


def student(shape: Shape, rates: Rates) -> list[Launch]:
    """Return the launches of `topk_kl` with its gradient, but for a few over (N, k) and (N, D)."""
    found = []
    for rows in blocks_of(shape):
        launches = plan_of(rows, shape, rates)
        slabs, groups = -(-shape.words // launches.slab), -(-shape.words // launches.group)
        chunks = -(-shape.words // launches.chunk)
        found.append(logits_at_ids(rows, shape))
        found += times(slabs, slab_product(rows, shape.words / slabs, shape))
        sweep = (rows, shape.words / slabs, shape.k, shape.k / slabs, chunks / slabs)
        found += times(slabs, sweep_slab(*sweep, with_words=True))
        peaks = rows * (chunks / groups + 1) * FP32
        # a row's peak rises in some chunks, about one a group at first: these are written again
        found += times(groups, Launch("align_peaks", 1, 0, 2 * peaks))
        width, sums = shape.words / groups, rows * shape.hidden * FP32
        operands = rows * width * HALF + width * shape.hidden * HALF
        flops = 2 * rows * width * shape.hidden
        # with HAS_ADDMM the product adds to the sums that it reads; otherwise it writes its own
        both = operands + (2 if HAS_ADDMM else 1) * sums
        found += times(groups, Launch("product of exponentials", 1, flops, both))
        if not HAS_ADDMM:
            found += times(groups, Launch("addition to the sums", 1, 0, 3 * sums))
        found.append(sum_words(rows, shape))
        found.append(Launch("gradient put together", 1, 0, 3 * sums))
    return found


def times(count: int, launch: Launch) -> list[Launch]:
    """Return that launch, as often."""
    return [replace(launch, count=count)]


def by_name(launches: list[Launch], rates: Rates) -> dict[str, tuple[int, float, float]]:
    """Return for each kernel its launches, gigabytes and milliseconds."""
    found: dict[str, tuple[int, float, float]] = {}
    for launch in launches:
        count, size, time = found.get(launch.name, (0, 0.0, 0.0))
        size += launch.count * launch.moved / 1e9
        found[launch.name] = count + launch.count, size, time + 1e3 * launch.seconds(rates)
    return found


def totals(launches: list[Launch], rates: Rates) -> tuple[int, float, float, float]:
    """Return launches, MB of the launches of one slab, gigabytes and milliseconds of a call."""
    kernels = by_name(launches, rates)
    slab = sum(
        1e3 * size / count
        for name, (count, size, _) in kernels.items()
        if name in ("product of a slab", "select_slab", "sweep_slab")
    )
    columns = zip(*kernels.values(), strict=True)
    count, size, time = (sum(column) for column in columns)
    return int(count), slab, size, time


def main() -> int:
    """Print the tables."""
    print("Estimates: nothing was run. Each cell: launches, MB a slab, GB a call, milliseconds.\n")
    print("| N | D | V | k | call | TFLOP | " + " | ".join(RATES) + " |")
    print("|---" * (6 + len(RATES)) + "|")
    for shape in SHAPES:
        sizes = f"{shape.rows} | {shape.hidden} | {shape.words} | {shape.k}"
        for call in (teacher, student):
            cells = []
            for rates in RATES.values():
                launches = call(shape, rates)
                count, slab, size, time = totals(launches, rates)
                cells.append(f"{count}, {slab:.0f} MB, {size:.1f} GB, {time:.1f} ms")
            flops = sum(one.count * one.flops for one in launches if not one.is_fp32) / 1e12
            print(f"| {sizes} | {call.__name__} | {flops:.1f} | " + " | ".join(cells) + " |")
    for target, shape in (("sm_90", SHAPES[0]), ("sm_90", SHAPES[1])):
        print(f"\n{target}, N={shape.rows} D={shape.hidden} V={shape.words} k={shape.k}, both:\n")
        print("| kernel | launches | GB | ms |\n|---|---|---|---|")
        rates = RATES[target]
        for name, row in by_name(teacher(shape, rates) + student(shape, rates), rates).items():
            print("| {} | {} | {:.2f} | {:.2f} |".format(name, *row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
