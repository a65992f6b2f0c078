"""Find the teacher's top-k and its tail from an implementation's `select`.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

import torch
from torch import Tensor

from pdkernels.chunked.slabs import FLOOR, compute_dtype
from pdkernels.fused.passes import Passes, each_block
from pdkernels.logits import Logits
from pdkernels.sharded.vocab_shard import VocabShard
from pdkernels.topk import TopK


def teacher_topk_fused(
    passes: Passes,
    hidden_ND: Tensor,
    head_VD: Tensor,
    k: int,
    logits: Logits,
    shard: VocabShard | None,
) -> TopK:
    """Return the rows of `teacher_topk_reference`, with a tail that is summed, not 1 - sum p."""
    num_rows, dtype = hidden_ND.shape[0], compute_dtype(hidden_ND)
    topk = TopK.unchecked(
        hidden_ND.new_empty(num_rows, k, dtype=dtype),
        torch.empty(num_rows, k, dtype=torch.int64, device=hidden_ND.device),
        hidden_ND.new_empty(num_rows, dtype=dtype),
        hidden_ND.new_empty(num_rows, dtype=dtype),
        logits.temperature,
    )

    def do(rows: slice) -> None:
        part = _teacher_block(passes, hidden_ND[rows], head_VD, k, logits, shard)
        topk.log_p_NK[rows], topk.ids_NK[rows] = part.log_p_NK, part.ids_NK
        topk.lse_N[rows], topk.log_p_tail_N[rows] = part.lse_N, part.log_p_tail_N

    each_block(passes, do, num_rows, head_VD, k, shard)
    return topk


def _teacher_block(
    passes: Passes,
    hidden_ND: Tensor,
    head_VD: Tensor,
    k: int,
    logits: Logits,
    shard: VocabShard | None,
) -> TopK:
    found = min(k, head_VD.shape[0])
    top_NK, ids_NK, log_tail_N = passes.select(hidden_ND, head_VD, found, logits)
    if shard is not None:
        top_NK, ids_NK, log_tail_N = shard.merge_topk(top_NK, ids_NK, log_tail_N, k)
    ids_NK, order_NK = ids_NK.sort(-1)
    top_NK = top_NK.gather(-1, order_NK)
    # relative to the largest logit, so that a large common offset costs no digits
    peak_N = top_NK.amax(-1).clamp(min=FLOOR)
    log_tail_N = log_tail_N.to(top_NK) - peak_N
    top_NK = top_NK - peak_N[:, None]
    above_N = torch.logaddexp(top_NK.logsumexp(-1), log_tail_N)
    dtype = compute_dtype(hidden_ND)
    return TopK.unchecked(
        (top_NK - above_N[:, None]).to(dtype),
        ids_NK,
        (peak_N + above_N).to(dtype),
        (log_tail_N - above_N).to(dtype),
        logits.temperature,
    )
