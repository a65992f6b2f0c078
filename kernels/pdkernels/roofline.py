"""Say what the Triton implementation launches, moves and computes, and how long that takes at best.

`python -m pdkernels.roofline` prints, for five shapes and four GPUs, launches and bytes of a call,
and predicted milliseconds: each launch takes the longest of its arithmetic, its traffic to memory
and its traffic to the second-level cache, plus the gap to the next one. Nothing is run. Rates are
what good libraries are known to reach (RATES), so that the results are estimates and no
measurements; the bytes of the row kernels are checked against those that Triton's interpreter
counts (tests/support/kernel_interpreter_cases.py).

N rows · D hidden size · V vocabulary · k top-k.
"""

import sys
from dataclasses import dataclass

from pdkernels.triton.passes import CAPACITY, ROWS, SLAB, SLABS_PER_PRODUCT

HALF, FP32, FP64, INT64 = 2, 4, 8, 8
COMPACTIONS = 3  # of a row's candidates that do more than return, in a stream in random order
APPENDED = 6  # candidates a row appends beyond the first slab, for each of its k


@dataclass(frozen=True)
class Shape:
    """Hold the sizes of a call: rows, hidden size, vocabulary, top-k."""

    rows: int
    hidden: int
    words: int
    k: int


@dataclass(frozen=True)
class Rates:
    """Hold what a GPU reaches: TFLOP/s in bf16 products and in fp64, TB/s, and seconds of a gap."""

    products: float
    fp64: float
    memory: float
    cache: float
    gap: float = 1.5e-6


@dataclass(frozen=True)
class Launch:
    """Describe equal launches of one kernel.

    Args:
        name: of the kernel.
        count: how many of them a call makes.
        flops: of one, as products or, with `is_fp64`, in fp64.
        memory: bytes of one that come from or go to memory.
        cache: bytes of one that stay in the second-level cache: slabs of logits.
        is_fp64: its arithmetic is fp64.
    """

    name: str
    count: int
    flops: float
    memory: float
    cache: float = 0.0
    is_fp64: bool = False

    def seconds(self, rates: Rates) -> float:
        """Return the time of all of them at best."""
        speed = rates.fp64 if self.is_fp64 else rates.products
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
    "sm_80": Rates(products=250, fp64=9.0, memory=1.7, cache=4.0),
    "sm_90": Rates(products=740, fp64=30.0, memory=3.0, cache=5.5),
    "sm_100": Rates(products=1500, fp64=30.0, memory=7.0, cache=10.0),
    "gfx942": Rates(products=600, fp64=60.0, memory=4.0, cache=8.0),
}


def slab_product(rows: int, shape: Shape, width: int = SLAB) -> Launch:
    """Return the product that writes a slab of logits."""
    memory = width * shape.hidden * HALF + rows * shape.hidden * HALF
    return Launch(
        "product of a slab", 1, 2 * rows * width * shape.hidden, memory, rows * width * FP32
    )


def select_slab(rows: int, width: int, appended: float = 0.0) -> Launch:
    """Return the kernel that filters a slab; `appended` candidates of a row are kept."""
    state = rows * (3 * FP32 + 4 + 2 * FP32 + 4)  # peak, sum, threshold, count; all but one written
    return Launch("select_slab", 1, 0, state + rows * appended * INT64, rows * width * FP32)


def sweep_slab(rows: int, width: int, k: int, inside: float, with_words: bool) -> Launch:
    """Return the kernel that sums a slab; `inside` of a row's k ids fall into it."""
    state = rows * (4 * FP32 + (FP32 if with_words else 0))
    moved = rows * k * INT64 + rows * inside * FP32 + state
    exponentials = rows * width * HALF if with_words else 0
    return Launch("sweep_slab", 1, 0, moved + exponentials, rows * width * FP32)


def logits_at_ids(rows: int, shape: Shape) -> Launch:
    """Return the kernel that computes the top-k's logits in fp64."""
    blocks = -(-shape.k // 16)  # of ids, each of which reads the row again
    moved = rows * (shape.k * (shape.hidden * HALF + INT64 + FP64) + blocks * shape.hidden * HALF)
    return Launch("logits_at_ids", 1, 2 * rows * shape.k * shape.hidden, moved, is_fp64=True)


def sum_words(rows: int, shape: Shape) -> Launch:
    """Return the kernel that sums the top-k's words."""
    blocks = -(-shape.hidden // 128)  # of columns, each of which reads ids and weights again
    words = shape.k * shape.hidden * HALF + shape.hidden * FP32
    return Launch("sum_words", 1, 0, rows * (words + blocks * shape.k * (INT64 + FP32)))


def blocks_of(shape: Shape) -> list[int]:
    """Return the rows of each block."""
    whole, rest = divmod(shape.rows, ROWS)
    return [ROWS] * whole + ([rest] if rest else [])


def teacher(shape: Shape) -> list[Launch]:
    """Return the launches of `teacher_topk`, but for a few over (N, k)."""
    found, slabs = [], -(-shape.words // SLAB)
    for rows in blocks_of(shape):
        found += times(slabs, slab_product(rows, shape))
        appended = (SLAB + APPENDED * shape.k) / slabs
        found += times(slabs, select_slab(rows, SLAB, appended))
        moved = rows * CAPACITY * INT64 * COMPACTIONS / slabs + rows * 4
        found += times(slabs, Launch("select_compact", 1, 0, moved))
        found.append(logits_at_ids(rows, shape))
    return found


def student(shape: Shape) -> list[Launch]:
    """Return the launches of `topk_kl` with its gradient, but for a few over (N, k) and (N, D)."""
    found, slabs = [], -(-shape.words // SLAB)
    groups = -(-slabs // SLABS_PER_PRODUCT)
    for rows in blocks_of(shape):
        found.append(logits_at_ids(rows, shape))
        found += times(slabs, slab_product(rows, shape))
        found += times(slabs, sweep_slab(rows, SLAB, shape.k, shape.k / slabs, with_words=True))
        peaks = rows * (SLABS_PER_PRODUCT + 1) * FP32
        # a row's peak rises in some slabs, about one a group at first: its slabs are written again
        found += times(groups, Launch("align_peaks", 1, 0, 2 * peaks))
        width, sums = min(SLAB * SLABS_PER_PRODUCT, shape.words), rows * shape.hidden * FP32
        operands = rows * width * HALF + width * shape.hidden * HALF
        flops = 2 * rows * width * shape.hidden
        found += times(groups, Launch("product of exponentials", 1, flops, operands + sums))
        found += times(groups, Launch("addition to the sums", 1, 0, 3 * sums))
        found.append(sum_words(rows, shape))
        found.append(Launch("gradient put together", 1, 0, 3 * sums))
    return found


def times(count: int, launch: Launch) -> list[Launch]:
    """Return that launch, as often."""
    return [Launch(launch.name, count, launch.flops, launch.memory, launch.cache, launch.is_fp64)]


def by_name(launches: list[Launch], rates: Rates) -> dict[str, tuple[int, float, float]]:
    """Return for each kernel its launches, gigabytes and milliseconds."""
    found: dict[str, tuple[int, float, float]] = {}
    for launch in launches:
        count, size, time = found.get(launch.name, (0, 0.0, 0.0))
        moved = launch.count * (launch.memory + launch.cache) / 1e9
        seconds = launch.seconds(rates)
        found[launch.name] = (count + launch.count, size + moved, time + 1e3 * seconds)
    return found


def main() -> int:
    """Print the tables."""
    print("Estimates: nothing was run. Sides: online is teacher and student, cached the student.\n")
    print("| N | D | V | k | side | launches | GB | TFLOP | " + " | ".join(RATES) + " |")
    print("|---" * (8 + len(RATES)) + "|")
    for shape in SHAPES:
        for side, launches in (
            ("online", teacher(shape) + student(shape)), ("cached", student(shape))
        ):  # fmt: skip
            count = sum(launch.count for launch in launches)
            size = sum(launch.count * (launch.memory + launch.cache) for launch in launches) / 1e9
            flops = sum(launch.count * launch.flops for launch in launches) / 1e12
            times_ms = [1e3 * sum(one.seconds(r) for one in launches) for r in RATES.values()]
            sizes = f"{shape.rows} | {shape.hidden} | {shape.words} | {shape.k}"
            cells = " | ".join(f"{ms:.1f} ms" for ms in times_ms)
            print(f"| {sizes} | {side} | {count} | {size:.1f} | {flops:.1f} | {cells} |")
    for target, shape in (("sm_90", SHAPES[0]), ("sm_90", SHAPES[1])):
        print(f"\n{target}, N={shape.rows} D={shape.hidden} V={shape.words} k={shape.k}, online:\n")
        print("| kernel | launches | GB | ms |\n|---|---|---|---|")
        launches = teacher(shape) + student(shape)
        for name, (count, size, time) in by_name(launches, RATES[target]).items():
            print(f"| {name} | {count} | {size:.2f} | {time:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
