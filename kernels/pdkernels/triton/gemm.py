"""Multiply matrices in Triton with fp32 results, where no library product has them.

The inner dimension is not split, so results repeat bitwise.
"""

import triton
import triton.language as tl


@triton.jit
def _tile_of(num_rows, num_columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Return this program's row and column tile; eight row tiles share their columns in cache."""
    program = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(num_rows, BLOCK_M), tl.cdiv(num_columns, BLOCK_N)
    group = program // (8 * tiles_n)
    first = group * 8
    size = tl.minimum(tiles_m - first, 8)
    inner = program % (8 * tiles_n)
    return first + inner % size, inner // size


@triton.jit
def _dot(a, b, total, UPCAST: tl.constexpr):
    if UPCAST:  # Triton's interpreter multiplies the bit patterns of bf16
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
def rows_times_words(
    rows_ptr,  # (R, hidden), row stride rows_stride
    words_ptr,  # (S, hidden), row stride words_stride: the slab's part of the head
    out_ptr,  # (R, S) fp32, row stride out_stride, written
    num_rows,
    num_words,
    hidden,
    rows_stride,
    words_stride,
    out_stride,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Write a slab of logits, not divided by the temperature."""
    tile_m, tile_n = _tile_of(num_rows, num_words, BLOCK_M, BLOCK_N)
    row = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    word = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, hidden, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        a = tl.load(
            rows_ptr + row[:, None] * rows_stride + inner[None, :],
            mask=(row < num_rows)[:, None] & (inner < hidden)[None, :],
            other=0.0,
        )
        b = tl.load(
            words_ptr + word[None, :] * words_stride + inner[:, None],
            mask=(word < num_words)[None, :] & (inner < hidden)[:, None],
            other=0.0,
        )
        total = _dot(a, b, total, UPCAST)
    tl.store(
        out_ptr + row[:, None] * out_stride + word[None, :],
        total,
        mask=(row < num_rows)[:, None] & (word < num_words)[None, :],
    )


@triton.jit
def add_exp_times_words(
    exp_ptr,  # (R, S), row stride exp_stride
    words_ptr,  # (S, hidden), row stride words_stride
    sum_ptr,  # (R, hidden) fp32, added to
    num_rows,
    num_words,
    hidden,
    exp_stride,
    words_stride,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Add the sums of words, weighted by `exp`, to `sum`."""
    tile_m, tile_n = _tile_of(num_rows, hidden, BLOCK_M, BLOCK_N)
    row = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    column = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, num_words, BLOCK_K):
        word = (start + tl.arange(0, BLOCK_K)).to(tl.int64)
        a = tl.load(
            exp_ptr + row[:, None] * exp_stride + word[None, :],
            mask=(row < num_rows)[:, None] & (word < num_words)[None, :],
            other=0.0,
        )
        b = tl.load(
            words_ptr + word[:, None] * words_stride + column[None, :],
            mask=(word < num_words)[:, None] & (column < hidden)[None, :],
            other=0.0,
        )
        total = _dot(a, b, total, UPCAST)
    at = sum_ptr + row[:, None] * hidden + column[None, :]
    real = (row < num_rows)[:, None] & (column < hidden)[None, :]
    total += tl.load(at, mask=real, other=0.0)
    tl.store(at, total, mask=real)
