"""Compute the student's tail sums, tail words and top-k logits, in Triton kernels.

There are no atomics: one program owns what it writes, and results repeat bitwise.
"""

import triton
import triton.language as tl

from pdkernels.triton.logits import capped_logits, uncapped_logits


@triton.jit
def sweep_slab(
    logits_ptr,  # (R, *) fp32 products, row stride logits_stride: the slab's `width` words; edited
    ids_ptr,  # (R, k) int64: words to leave out, in any order; those of other slabs are ignored
    bias_ptr,  # of the slab's words; read with HAS_BIAS alone
    state_ptr,  # (R, 2) fp32: the tail's peak and sum, updated
    peaks_ptr,  # (R, num_peaks) fp32: the peak that each chunk was written with
    exp_ptr,  # (R, *) 2**(logit - peak + lift) times the slope, without the words left out
    logits_stride,
    exp_stride,
    first_word,
    width,
    k,
    before,  # of logits.Logits
    after,
    first_peak,  # column of `peaks` of the slab's first chunk
    num_peaks,
    lift,  # a power of two that keeps small fp16 numbers normal
    WITH_WORDS: tl.constexpr,  # write `exp` and `peaks`
    HAS_BIAS: tl.constexpr,
    CAPPED: tl.constexpr,
    K_BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Add a slab without the words left out to the tail, and write its exponentials if wanted."""
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * logits_stride
    for start in range(0, k, K_BLOCK):
        lane = start + tl.arange(0, K_BLOCK)
        place = tl.load(ids_ptr + row * k + lane, mask=lane < k, other=-1) - first_word
        inside = (lane < k) & (place >= 0) & (place < width)
        tl.store(logits_ptr + place, -float("inf"), mask=inside)
    tl.debug_barrier()  # other threads of this program read it below
    peak = tl.load(state_ptr + row * 2)
    total = tl.load(state_ptr + row * 2 + 1)
    for start in range(0, width, CHUNK):
        word = start + tl.arange(0, CHUNK)
        product = tl.load(logits_ptr + word, mask=word < width, other=-float("inf"))
        logit = uncapped_logits(product, bias_ptr, word, word < width, before, HAS_BIAS)
        logit, slope = capped_logits(logit, after, CAPPED)
        higher = tl.maximum(peak, tl.max(logit, 0))
        exp = tl.exp2(logit - higher)
        total = total * tl.exp2(peak - higher) + tl.sum(exp, 0)
        peak = higher
        if WITH_WORDS:
            tl.store(peaks_ptr + row * num_peaks + first_peak + start // CHUNK, higher)
            exp = tl.exp2(logit - higher + lift)
            if CAPPED:
                exp = exp * slope
            exp = exp.to(exp_ptr.dtype.element_ty)
            tl.store(exp_ptr + row * exp_stride + word, exp, mask=word < width)
    tl.store(state_ptr + row * 2, peak)
    tl.store(state_ptr + row * 2 + 1, total)


@triton.jit
def align_peaks(
    exp_ptr,  # (R, *) as `sweep_slab` wrote it, edited
    words_ptr,  # (R, hidden) fp32 sums of earlier slabs, edited
    state_ptr,  # (R, 2) fp32: the peak that all are brought to
    peaks_ptr,  # (R, num_peaks) fp32; the last column is that of `words`
    exp_stride,
    exp_width,  # words written to `exp`
    chunk,  # words of a chunk, at most CHUNK
    hidden,
    num_peaks,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Bring chunks and sums that were written with a lower peak to the row's final peak.

    A chunk is written before the peaks of later ones are known. Program (r, c) does chunk c of row
    r, or block c - (num_peaks - 1) of its sums. Most programs find equal peaks and return.
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1)
    place = tl.minimum(column, num_peaks - 1)
    peak = tl.load(state_ptr + row * 2)
    was = tl.load(peaks_ptr + row * num_peaks + place)
    if was != peak:
        if column < num_peaks - 1:
            place_in = tl.arange(0, CHUNK)
            word = column * chunk + place_in
            real = (place_in < chunk) & (word < exp_width)
            exp_at = exp_ptr + row * exp_stride + word
            exp = tl.load(exp_at, mask=real, other=0.0).to(tl.float32)
            exp = (exp * tl.exp2(was - peak)).to(exp_ptr.dtype.element_ty)
            tl.store(exp_at, exp, mask=real)
        else:
            lane = (column - place) * BLOCK + tl.arange(0, BLOCK)
            words_at = words_ptr + row * hidden + lane
            words = tl.load(words_at, mask=lane < hidden, other=0.0)
            tl.store(words_at, words * tl.exp2(was - peak), mask=lane < hidden)


@triton.jit
def logits_at_ids(
    rows_ptr,  # (N, hidden), row stride rows_stride
    head_ptr,  # (V, hidden), row stride head_stride
    ids_ptr,  # (N, k) int64
    out_ptr,  # (N, k) fp64; 0 for ids outside [0, num_words)
    rows_stride,
    head_stride,
    num_words,
    hidden,
    k,
    HALF: tl.constexpr,  # rows and head are bf16 or fp16
    K_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write dot products in fp64: near the teacher the gradient is a small difference of them.

    A product of two halves is exact in fp32, and so is what each addition loses (Knuth's TwoSum),
    which is summed beside it. With n = hidden / BLOCK additions a lane, the result is off by at
    most (n 2**-24)**2 of the sum of the products' magnitudes (Ogita, Rump and Oishi, "Accurate sum
    and dot product", 2005): 1.5e-11 at hidden = 8192. Cards that have little fp64 then need none
    but for adding BLOCK lanes.
    """
    row = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * K_BLOCK + tl.arange(0, K_BLOCK)
    ids = tl.load(ids_ptr + row * k + lane, mask=lane < k, other=-1)
    inside = (ids >= 0) & (ids < num_words)
    total = tl.zeros([K_BLOCK, BLOCK], tl.float32 if HALF else tl.float64)
    lost = tl.zeros([K_BLOCK, BLOCK], tl.float32)
    for start in range(0, hidden, BLOCK):
        column = start + tl.arange(0, BLOCK)
        real = column < hidden
        value = tl.load(rows_ptr + row * rows_stride + column, mask=real, other=0.0)
        at = head_ptr + ids[:, None] * head_stride + column[None, :]
        word = tl.load(at, mask=inside[:, None] & real[None, :], other=0.0)
        product = word.to(total.dtype) * value.to(total.dtype)[None, :]
        higher = total + product
        if HALF:
            added = higher - total
            lost += (total - (higher - added)) + (product - added)
        total = higher
    lost = tl.where(tl.abs(total) < float("inf"), lost, 0.0)  # of a sum that is infinite, NaN
    both = total.to(tl.float64) + lost.to(tl.float64)
    tl.store(out_ptr + row * k + lane, tl.sum(both, 1), mask=lane < k)


@triton.jit
def sum_words(
    weight_ptr,  # (N, k) fp32
    head_ptr,  # (V, hidden), row stride head_stride
    ids_ptr,  # (N, k) int64; those outside [0, num_words) count as nothing
    out_ptr,  # (N, hidden) fp32
    head_stride,
    num_words,
    hidden,
    k,
    K_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the weighted sum of each row's k words."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = column < hidden
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, k, K_BLOCK):
        lane = start + tl.arange(0, K_BLOCK)
        ids = tl.load(ids_ptr + row * k + lane, mask=lane < k, other=-1)
        inside = (ids >= 0) & (ids < num_words)
        weight = tl.load(weight_ptr + row * k + lane, mask=inside, other=0.0)
        at = head_ptr + ids[:, None] * head_stride + column[None, :]
        word = tl.load(at, mask=inside[:, None] & real[None, :], other=0.0)
        total += tl.sum(word.to(tl.float32) * weight[:, None], 0)
    tl.store(out_ptr + row * hidden + column, total, mask=real)
