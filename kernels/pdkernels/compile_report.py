"""Compile every Triton kernel for GPUs that need not be there, and read what it uses.

`python -m pdkernels.compile_report` prints registers, spilled bytes and shared memory of each
kernel at the shapes that run, for sm_80, sm_90, sm_100 and gfx942, and fails if a limit is broken:
no spills on NVIDIA targets, no more shared memory than the processor has, matrix products on its
matrix units, and on NVIDIA operands of products that are loaded 16 bytes at a time, asynchronously,
and slabs of logits that are read 16 bytes at a time.
The hints are those that the just-in-time compiler adds at hidden sizes, slabs and blocks of rows
that are multiples of 16. The numbers belong to the Triton version printed above them.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pdkernels.triton.gemm import add_exp_times_words, rows_times_words
from pdkernels.triton.passes import GATHER, INTERPRETED, ROW_WARPS, gemm_options, select_options
from pdkernels.triton.plan import CHUNK
from pdkernels.triton.select import select_slab
from pdkernels.triton.sweep import align_peaks, logits_at_ids, sum_words, sweep_slab

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_LIMIT_KIB = {"sm_80": 163, "sm_90": 227, "sm_100": 227, "gfx942": 64}
MATRIX_INSTRUCTION = {
    "sm_80": "mma.sync",
    "sm_90": "wgmma.mma_async",
    "sm_100": "tcgen05.mma",
    "gfx942": "v_mfma",
}
LOGITS = {  # what the logits are compiled for, as the end of a kernel's name
    "": {"HAS_BIAS": False, "CAPPED": False},
    ", bias and soft cap": {"HAS_BIAS": True, "CAPPED": True},
}
TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Build:
    """Describe how one kernel is compiled: its argument types, constants and options."""

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    multiples: tuple[str, ...] = ()  # integer arguments that are multiples of 16
    options: dict[str, int] = field(default_factory=dict)
    is_product: bool = False
    streams: bool = False  # reads slabs of logits, and little else


@dataclass(frozen=True)
class Use:
    """Hold the resources that a compiled kernel uses, as its binary states them."""

    registers: int
    spilled_bytes: int  # stack of a thread (NVIDIA) or private segment of a lane (AMD)
    shared_kib: float
    has_matrix_instruction: bool
    load_bytes: tuple[int, ...] = ()  # of one thread's loads from memory (NVIDIA), with repeats
    async_bytes: tuple[int, ...] = ()  # the same of asynchronous copies to shared memory


def builds(target: str) -> list[Build]:
    """Return every kernel's builds, at k = 64 and 1024 and for each dtype with its own code."""
    found = [
        Build(
            f"select_slab k={k}{name}",
            select_slab,
            _signature(
                "*fp32 *fp32 *i64 *fp32 *i32 *i64 i32 i32 i32 i32 i32 fp32 fp32", select_slab
            ),
            {name: n for name, n in select_options(k).items() if name != "num_warps"} | flags,
            ("logits_stride", "first_word", "width", "num_words", "k"),
            {"num_warps": select_options(k)["num_warps"]},
            streams=True,
        )
        for k in (64, 1024)
        for name, flags in LOGITS.items()
    ]
    for dtype in TYPES:
        found += _builds_of(dtype, target)
    return found


def _builds_of(dtype: torch.dtype, target: str) -> list[Build]:
    t = TYPES[dtype]
    hip = target.startswith("gfx")
    capability = (9, 4) if hip else divmod(int(target[3:]), 10)
    strides = ("hidden", "rows_stride", "words_stride", "out_stride", "exp_stride", "head_stride")
    sizes = ("num_rows", "num_words", *strides)

    def product(kernel: Any, types: str) -> Build:
        tile = gemm_options(kernel, dtype, hip, capability)
        options = {name: tile.pop(name) for name in ("num_warps", "num_stages")}
        return Build(
            f"{kernel.fn.__name__} {t}",
            kernel,
            _signature(types, kernel),
            {"UPCAST": False} | tile,
            sizes,
            options,
            is_product=dtype != torch.float32,
        )

    sweep = f"*fp32 *i64 *fp32 *fp32 *fp32 *{t} i32 i32 i32 i32 i32 fp32 fp32 i32 i32 fp32"
    return [
        product(rows_times_words, f"*{t} *{t} *fp32 i32 i32 i32 i32 i32 i32"),
        product(add_exp_times_words, f"*{t} *{t} *fp32 i32 i32 i32 i32 i32"),
        *(
            Build(
                f"sweep_slab {t}{name}",
                sweep_slab,
                _signature(sweep, sweep_slab),
                {"WITH_WORDS": True, "K_BLOCK": 128, "CHUNK": CHUNK} | flags,
                ("logits_stride", "exp_stride", "first_word", "width", "k"),
                {"num_warps": ROW_WARPS},
                streams=True,
            )
            for name, flags in LOGITS.items()
        ),
        Build(
            f"align_peaks {t}",
            align_peaks,
            _signature(f"*{t} *fp32 *fp32 *fp32 i32 i32 i32 i32 i32", align_peaks),
            {"CHUNK": CHUNK, "BLOCK": 1024},
            ("exp_stride", "exp_width", "chunk", "hidden"),
        ),
        Build(
            f"logits_at_ids {t}",
            logits_at_ids,
            _signature(f"*{t} *{t} *i64 *fp64 i32 i32 i32 i32 i32", logits_at_ids),
            {"HALF": dtype != torch.float32} | GATHER,
            strides,
        ),
        Build(
            f"sum_words {t}",
            sum_words,
            _signature(f"*fp32 *{t} *i64 *fp32 i32 i32 i32 i32", sum_words),
            dict(GATHER),
            strides,
        ),
    ]


def _signature(types: str, kernel: Any) -> dict[str, str]:
    """Return the type of each argument by its name; arguments without one are constexpr."""
    given = types.split()
    names = kernel.arg_names
    return dict(zip(names, given + ["constexpr"] * (len(names) - len(given)), strict=True))


def compile_build(build: Build, target: str) -> Use:
    """Compile ahead of time, with the hints that the just-in-time compiler finds by itself."""
    hinted = [
        index
        for index, (name, kind) in enumerate(build.signature.items())
        if kind.startswith("*") or name in build.multiples
    ]
    source = ASTSource(
        fn=build.kernel,
        signature=build.signature,
        constexprs=build.constants,
        attrs={(index,): [["tt.divisibility", 16]] for index in hinted},
    )
    compiled = triton.compile(source, target=TARGETS[target], options=build.options)
    if target == "gfx942":
        return _use_on_amd(compiled)
    return _use_on_nvidia(compiled, MATRIX_INSTRUCTION[target])


def _use_on_nvidia(compiled: Any, instruction: str) -> Use:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        dump = subprocess.run(
            [tool, "--dump-resource-usage", cubin.name], capture_output=True, text=True, check=True
        ).stdout
    numbers = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", dump))
    return Use(
        int(numbers["REG"]),
        int(numbers["STACK"]) + int(numbers["LOCAL"]),
        compiled.metadata.shared / 1024,
        instruction in compiled.asm["ptx"],
        *_widths(compiled.asm["ptx"]),
    )


def _widths(ptx: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the bytes of each load from memory, and of each asynchronous copy."""
    loads = [
        int(vector or 1) * int(bits) // 8
        for vector, bits in re.findall(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[bufs](\d+)\s", ptx)
    ]
    copies = re.findall(r"cp\.async\.c[ag][\w.:]*\s+\[[^\]]*\],\s*\[[^\]]*\],\s*(\w+)", ptx)
    return tuple(loads), tuple(int(size, 0) for size in copies)


def _use_on_amd(compiled: Any) -> Use:
    text = compiled.asm["amdgcn"]

    def number(name: str) -> int:
        found = re.search(rf"{re.escape(name)}:?\s+(\d+)", text)
        assert found, f"{name} is not in the AMD assembly"
        return int(found.group(1))

    return Use(
        number(".vgpr_count"),
        number(".private_segment_fixed_size"),
        compiled.metadata.shared / 1024,
        MATRIX_INSTRUCTION["gfx942"] in text,
    )


def complaints(build: Build, target: str, use: Use) -> list[str]:
    """Return the limits that the kernel breaks, each as the end of a sentence; best none."""
    broken = []
    if use.spilled_bytes and target != "gfx942":
        broken.append(f"spills {use.spilled_bytes} bytes")
    if use.shared_kib > SHARED_LIMIT_KIB[target]:
        broken.append(f"needs {use.shared_kib:.0f} of {SHARED_LIMIT_KIB[target]} KiB shared memory")
    if build.is_product and not use.has_matrix_instruction:
        broken.append(f"has no {MATRIX_INSTRUCTION[target]}")
    if build.is_product and target != "gfx942":
        narrow = sorted(size for size in use.load_bytes + use.async_bytes if size < 16)
        if narrow:
            broken.append(f"loads {len(narrow)} times less than 16 bytes, {narrow[0]} at least")
        if not use.async_bytes:
            broken.append("has no asynchronous copies")
    if build.streams and target != "gfx942" and 16 not in use.load_bytes + use.async_bytes:
        broken.append("does not load its logits 16 bytes at a time")
    return broken


def main() -> int:
    """Print the table of all kernels and targets, and return how many limits are broken."""
    if INTERPRETED:
        raise SystemExit("unset TRITON_INTERPRET: an interpreted kernel cannot be compiled")
    print(f"Triton {triton.__version__}; registers / spilled bytes / shared KiB\n")
    print("| kernel | " + " | ".join(TARGETS) + " |\n|---" * 1 + "|---" * len(TARGETS) + "|")
    failed = []
    rows = {target: builds(target) for target in TARGETS}
    for row in zip(*rows.values(), strict=True):
        cells = []
        for build, target in zip(row, TARGETS, strict=True):
            use = compile_build(build, target)
            failed += [f"{build.name} on {target} {it}" for it in complaints(build, target, use)]
            cells.append(f"{use.registers} / {use.spilled_bytes} / {use.shared_kib:.0f}")
        print(f"| {row[0].name} | " + " | ".join(cells) + " |", flush=True)
    print("\n" + ("\n".join(failed) or "all limits hold"))
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
