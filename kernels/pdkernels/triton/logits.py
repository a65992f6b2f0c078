"""Make logits of products inside Triton kernels, as `pdkernels.logits` does outside them."""

import triton
import triton.language as tl


@triton.jit
def uncapped_logits(
    product,  # fp32 products of a row and the slab's words
    bias_ptr,  # of the slab's words; read with HAS_BIAS alone
    word,  # places in the slab
    real,  # those inside it
    before,  # logits.Logits.before
    HAS_BIAS: tl.constexpr,
):
    """Return base-2 logits, or, under a soft cap, y / c, which sorts as the logits do."""
    if HAS_BIAS:
        product += tl.load(bias_ptr + word, mask=real, other=0.0).to(tl.float32)
    return product * before


@triton.jit
def capped_logits(
    logit,  # from `uncapped_logits`
    after,  # logits.Logits.after: the soft cap in base 2
    CAPPED: tl.constexpr,
):
    """Return base-2 logits and their slopes, 1 - tanh**2; without CAPPED no slope is meant.

    -inf, and what stands for it in `select_triton`, mark words left out, and become -inf. Near 0 a
    series keeps the digits that (1 - exp(-2x)) / (1 + exp(-2x)) would lose.
    """
    slope = logit
    if CAPPED:
        size = tl.abs(logit)
        near = size * size
        series = 1 + near * (-1 / 3 + near * (2 / 15 + near * (-17 / 315 + near * (62 / 2835))))
        less = tl.exp2(size * (-2 * 1.4426950408889634))
        far = tl.where(logit < 0, less - 1, 1 - less) / (1 + less)
        slope = 4 * less / ((1 + less) * (1 + less))
        capped = after * tl.where(size < 0.25, logit * series, far)
        logit = tl.where(logit < -1.0e38, -float("inf"), capped)
    return logit, slope
