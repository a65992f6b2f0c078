"""Select the teacher's exact top-k from a stream of logit slabs, in Triton kernels.

A row keeps a buffer of candidates, each logit and id packed into one int64 that sorts like the
logit and, among equals, puts the lower id first. What exceeds the threshold is appended; the buffer
is compacted to its k largest, whose smallest becomes the threshold, when it has no room for another
chunk, when there is no threshold yet, and at the end: about twice a row. What is passed over or
driven out joins the tail's running log-sum-exp, in powers of two. Candidates are compared before a
soft cap, under which fp32 logits are alike. One program owns one row and waits for its own threads
before it reads what they have written; there are no atomics, and results repeat bitwise.
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
    buffer_ptr,  # (R, CAPACITY) int64 candidates, updated; CAPACITY is at least k + CHUNK
    state_ptr,  # (R, 3) fp32: the tail's peak and sum, and the threshold, updated
    count_ptr,  # (R,) int32 candidates in the buffer, updated
    ids_ptr,  # (R, k) int64: the candidates kept, written at the end
    logits_stride,
    first_word,  # id of the slab's first word
    width,
    num_words,  # of the head: the slab that reaches it is the last
    k,
    before,  # of logits.Logits
    after,
    HAS_BIAS: tl.constexpr,
    CAPPED: tl.constexpr,
    K_POW2: tl.constexpr,
    CAPACITY: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Keep the slab's logits above the threshold as candidates, and add the others to the tail."""
    row = tl.program_id(0).to(tl.int64)
    buffer_ptr += row * CAPACITY
    peak = tl.load(state_ptr + row * 3)
    total = tl.load(state_ptr + row * 3 + 1)
    threshold = tl.load(state_ptr + row * 3 + 2)
    count = tl.load(count_ptr + row)
    for start in range(0, width, CHUNK):
        word = start + tl.arange(0, CHUNK)
        real = word < width
        product = tl.load(logits_ptr + row * logits_stride + word, mask=real, other=0.0)
        logit = uncapped_logits(product, bias_ptr, word, real, before, HAS_BIAS)
        logit = tl.maximum(logit, _LOWEST)
        hit = real & (logit > threshold)
        capped, _ = capped_logits(logit, after, CAPPED)
        peak, total = _add_to_tail(peak, total, capped, real & (logit <= threshold))
        place = count + tl.cumsum(hit.to(tl.int32), 0) - 1
        tl.store(buffer_ptr + place, _pack(logit, first_word + word), mask=hit)
        count += tl.sum(hit.to(tl.int32), 0)
        is_end = first_word + start + CHUNK >= num_words
        is_due = is_end | (count > CAPACITY - CHUNK) | (threshold == -float("inf"))
        if is_due & (count >= k):
            lane = tl.arange(0, CAPACITY)
            tl.debug_barrier()  # all threads have written what is read here
            key = tl.load(buffer_ptr + lane, mask=lane < count, other=_EMPTY)
            best = tl.topk(key, K_POW2)
            kept = tl.arange(0, K_POW2)
            smallest = tl.min(tl.where(kept < k, best, 0x7FFFFFFFFFFFFFFF), 0)
            found, _slopes = capped_logits(_logit_of(key), after, CAPPED)
            peak, total = _add_to_tail(peak, total, found, (lane < count) & (key < smallest))
            threshold = _logit_of(smallest)
            count = tl.minimum(count, k)  # which is k
            tl.debug_barrier()  # all threads have read what is overwritten here and later
            tl.store(buffer_ptr + kept, best, mask=kept < k)
            if is_end:
                tl.store(ids_ptr + row * k + kept, _id_of(best).to(tl.int64), mask=kept < k)
    tl.store(state_ptr + row * 3, peak)
    tl.store(state_ptr + row * 3 + 1, total)
    tl.store(state_ptr + row * 3 + 2, threshold)
    tl.store(count_ptr + row, count)
