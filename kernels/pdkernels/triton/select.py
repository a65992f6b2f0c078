"""Select the teacher's exact top-k from a stream of logit slabs, in Triton kernels.

A row keeps a buffer of candidates, each logit and id packed into one int64 that sorts like the
logit and, among equals, puts the lower id first. What exceeds the threshold is appended; a full
buffer is compacted to its k largest, whose smallest becomes the threshold. What is passed over or
driven out joins the tail's running log-sum-exp, in powers of two. Candidates are compared before a
soft cap, under which fp32 logits are alike. Appending and compacting are two kernels, so that no
program reads what other threads of it have just written. One program owns one row, there are no
atomics, and results repeat bitwise.
"""

import triton
import triton.language as tl

from pdkernels.chunked.slabs import FLOOR
from pdkernels.triton.logits import capped_logits, uncapped_logits

_FLOOR = tl.constexpr(FLOOR)
_LOWEST = tl.constexpr(-3.0e38)  # stands for -inf, so that impossible words can fill a top-k
_EMPTY = tl.constexpr(-(2**63))


@triton.jit
def _pack(logit, ids):
    """Return keys that sort by logit, ascending, and then by id, descending."""
    bits = logit.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats sort backwards as integers
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - ids).to(tl.int64)


@triton.jit
def _logit_of(key):
    ordered = (key >> 32).to(tl.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _id_of(key):
    return 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def _add_to_tail(peak, total, logit, chosen):
    """Return the maximum and the sum of 2**(logit - maximum) with the chosen logits added."""
    higher = tl.maximum(peak, tl.max(tl.where(chosen, logit, _FLOOR), 0))
    total = total * tl.exp2(peak - higher)
    above = tl.where(chosen, logit - higher, -float("inf"))
    return higher, total + tl.sum(tl.exp2(above), 0)


@triton.jit
def select_slab(
    logits_ptr,  # (R, *) fp32 products, row stride logits_stride: the slab's first `width` words
    bias_ptr,  # of the slab's words; read with HAS_BIAS alone
    buffer_ptr,  # (R, CAPACITY) int64 candidates, appended to; room for SLAB more
    state_ptr,  # (R, 3) fp32: the tail's peak and sum, updated; the threshold
    count_ptr,  # (R,) int32 candidates in the buffer, updated
    logits_stride,
    first_word,  # id of the slab's first word
    width,
    before,  # of logits.Logits
    after,
    HAS_BIAS: tl.constexpr,
    CAPPED: tl.constexpr,
    CAPACITY: tl.constexpr,
    SLAB: tl.constexpr,
):
    """Append logits above the threshold to the candidates, and add the others to the tail."""
    row = tl.program_id(0).to(tl.int64)
    peak = tl.load(state_ptr + row * 3)
    total = tl.load(state_ptr + row * 3 + 1)
    threshold = tl.load(state_ptr + row * 3 + 2)
    count = tl.load(count_ptr + row)
    word = tl.arange(0, SLAB)
    real = word < width
    product = tl.load(logits_ptr + row * logits_stride + word, mask=real, other=0.0)
    logit = uncapped_logits(product, bias_ptr, word, real, before, HAS_BIAS)
    logit = tl.maximum(logit, _LOWEST)
    hit = real & (logit > threshold)
    capped, _ = capped_logits(logit, after, CAPPED)
    peak, total = _add_to_tail(peak, total, capped, real & (logit <= threshold))
    place = count + tl.cumsum(hit.to(tl.int32), 0) - 1
    tl.store(buffer_ptr + row * CAPACITY + place, _pack(logit, first_word + word), mask=hit)
    tl.store(state_ptr + row * 3, peak)
    tl.store(state_ptr + row * 3 + 1, total)
    tl.store(count_ptr + row, count + tl.sum(hit.to(tl.int32), 0))


@triton.jit
def select_compact(
    buffer_ptr,  # (R, CAPACITY) int64 candidates, updated
    state_ptr,  # (R, 3) fp32: the tail's peak and sum, and the threshold, updated
    count_ptr,  # (R,) int32 candidates in the buffer, at least k where more than `allowed`
    ids_ptr,  # (R, k) int64: the candidates kept, written
    k,
    allowed,  # rows with at most this many candidates are left as they are
    after,  # of logits.Logits
    CAPPED: tl.constexpr,
    K_POW2: tl.constexpr,
    CAPACITY: tl.constexpr,
):
    """Keep the k largest candidates, the smallest as threshold; add the others to the tail."""
    row = tl.program_id(0).to(tl.int64)
    buffer_ptr += row * CAPACITY
    count = tl.load(count_ptr + row)
    if count > allowed:
        lane = tl.arange(0, CAPACITY)
        key = tl.load(buffer_ptr + lane, mask=lane < count, other=_EMPTY)
        place = tl.arange(0, K_POW2)
        best = tl.topk(key, K_POW2)
        smallest = tl.min(tl.where(place < k, best, 0x7FFFFFFFFFFFFFFF), 0)
        lost = (lane < count) & (key < smallest)
        peak = tl.load(state_ptr + row * 3)
        total = tl.load(state_ptr + row * 3 + 1)
        capped, _ = capped_logits(_logit_of(key), after, CAPPED)
        peak, total = _add_to_tail(peak, total, capped, lost)
        tl.debug_barrier()  # all threads have read what is overwritten below
        tl.store(buffer_ptr + place, best, mask=place < k)
        tl.store(ids_ptr + row * k + place, _id_of(best).to(tl.int64), mask=place < k)
        tl.store(state_ptr + row * 3, peak)
        tl.store(state_ptr + row * 3 + 1, total)
        tl.store(state_ptr + row * 3 + 2, _logit_of(smallest))
        tl.store(count_ptr + row, k)
