"""The teacher's top-k by slabs of the vocabulary: bounded memory, no gradient.

N rows · D hidden size · V vocabulary · K top-k · R rows of a block: suffixes name dimensions.
"""

import torch
from torch import Tensor

from pdkernels.slabs import (
    FLOOR,
    SLAB_WIDTH,
    row_blocks,
    scaled_rows,
    slab_logits,
    word_slabs,
)
from pdkernels.topk import TopK


def teacher_topk_chunked(hidden_ND: Tensor, head_VD: Tensor, k: int, temperature: float) -> TopK:
    """Same rows as `teacher_topk_reference`. The tail is summed apart, never as 1 - sum p."""
    num_rows, num_words = hidden_ND.shape[0], head_VD.shape[0]
    per_row = min(num_words, SLAB_WIDTH) + k
    blocks = [
        _block_topk(scaled_rows(hidden_ND[rows], temperature), head_VD, k)
        for rows in row_blocks(num_rows, per_row)
    ] or [_block_topk(scaled_rows(hidden_ND, temperature), head_VD, k)]
    top_NK = torch.cat([block[0] for block in blocks])
    ids_NK = torch.cat([block[1] for block in blocks])
    log_tail_N = torch.cat([block[2] for block in blocks])
    return finish_topk(top_NK, ids_NK, log_tail_N, temperature)


def finish_topk(top_NK: Tensor, ids_NK: Tensor, log_tail_N: Tensor, temperature: float) -> TopK:
    """Log-probabilities from the k largest logits and the log-sum-exp of all the others."""
    ids_NK, order_NK = ids_NK.sort(-1)
    top_NK = top_NK.gather(-1, order_NK)
    # relative to the largest logit, so that a large common offset costs no digits
    peak_N = top_NK.amax(-1).clamp(min=FLOOR)
    above_N = torch.logaddexp((top_NK - peak_N[:, None]).logsumexp(-1), log_tail_N - peak_N)
    log_p_NK = top_NK - peak_N[:, None] - above_N[:, None]
    return TopK(log_p_NK, ids_NK, peak_N + above_N, log_tail_N - peak_N - above_N, temperature)


def _block_topk(rows_RD: Tensor, head_VD: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Largest logits (R, k), their ids, and the log-sum-exp of the rest (R,)."""
    num_rows = rows_RD.shape[0]
    top_RK, ids_RK = rows_RD.new_empty(num_rows, 0), torch.empty(num_rows, 0, dtype=torch.long)
    ids_RK = ids_RK.to(rows_RD.device)
    peak_R, tail_R = rows_RD.new_full((num_rows,), FLOOR), rows_RD.new_zeros(num_rows)
    for words in word_slabs(head_VD.shape[0]):
        logits_RS = slab_logits(rows_RD, head_VD, words)
        best, where = logits_RS.topk(min(k, logits_RS.shape[1]), dim=-1)
        logits_RS.scatter_(-1, where, -torch.inf)
        both, both_ids = torch.cat([top_RK, best], -1), torch.cat([ids_RK, where + words.start], -1)
        top_RK, order = both.topk(min(k, both.shape[1]), dim=-1)
        ids_RK = both_ids.gather(-1, order)
        lost = both.scatter(-1, order, -torch.inf)
        higher_R = torch.maximum(peak_R, torch.maximum(logits_RS.amax(-1), lost.amax(-1)))
        tail_R = tail_R * (peak_R - higher_R).exp() + _sum_exp(logits_RS, higher_R)
        tail_R = tail_R + _sum_exp(lost, higher_R)
        peak_R = higher_R
    return top_RK, ids_RK, peak_R + tail_R.log()


def _sum_exp(logits: Tensor, peak_R: Tensor) -> Tensor:
    return logits.sub_(peak_R[:, None]).exp_().sum(-1)
