"""Define both operations in plain PyTorch over the full vocabulary.

Buckets are the teacher's top-k tokens, each on its own, and one tail bucket for all the others.
With p the teacher's and q the student's bucket probabilities,

    forward_kl  KL(p || q) = sum_b p_b log(p_b / q_b)
    reverse_kl  KL(q || p)
    jsd         beta KL(p || m) + (1 - beta) KL(q || m),  m = beta p + (1 - beta) q

(the last is the generalised Jensen-Shannon divergence of arXiv 2306.13649, eq. 1). The k+1-bucket
divergence is a lower bound of the full one, and equals it when k = V, where there is no tail.
`tail="renormalise"` drops the tail bucket and normalises p and q over the k tokens instead.

Logits are (W h + b) scale, bounded by the soft cap, over the temperature: `pdkernels.logits`.
It runs in float64 for float64 rows and in fp32 otherwise, and stores the (N, V) logits.

N rows · D hidden size · V vocabulary · K top-k · B buckets: suffixes name dimensions.
"""

import math

import torch
from torch import Tensor

from pdkernels.fused.passes import Objective
from pdkernels.logits import Logits
from pdkernels.topk import TopK


def teacher_topk_reference(hidden_ND: Tensor, head_VD: Tensor, k: int, logits: Logits) -> TopK:
    """Return the k most probable tokens of each row, from the log-softmax of all words."""
    uncapped_NV = _uncapped(hidden_ND, head_VD, logits)  # tells words at the cap apart
    order_NV = uncapped_NV.sort(dim=-1, descending=True, stable=True).indices
    ids_NK = order_NV[:, :k].sort(-1).values  # of equal logits those of lower id
    logits_NV = _capped(uncapped_NV, logits) / logits.temperature
    log_p_NV = logits_NV.log_softmax(-1)
    log_p_tail_N = log_p_NV.scatter(-1, ids_NK, -torch.inf).logsumexp(-1)
    lse_N, temperature = logits_NV.logsumexp(-1), logits.temperature
    log_p_NK = log_p_NV.gather(-1, ids_NK)
    return TopK.unchecked(log_p_NK, ids_NK, lse_N, log_p_tail_N, temperature)


def topk_kl_reference(
    student_ND: Tensor, head_VD: Tensor, topk: TopK, labels_N: Tensor | None, objective: Objective
) -> tuple[Tensor, Tensor]:
    """Return the loss of each row (N,), in nats, and its parts; autograd computes the gradient.

    The parts (N, 4) are the divergence, the cross-entropy of the labels, the logarithm of the
    student's tail mass, and whether both sides prefer the same of the k tokens.
    """
    logits, num_words = objective.logits, head_VD.shape[0]
    logits_NV = _capped(_uncapped(student_ND, head_VD, logits), logits)
    log_q_NV = (logits_NV / logits.temperature).log_softmax(-1)
    log_p_NB, log_q_NB = topk.log_p_NK.to(log_q_NV), _at_ids(log_q_NV, topk.ids_NK)
    ids_NK = topk.ids_NK.long().clamp(0, num_words - 1)
    log_q_tail_N = log_q_NV.scatter(-1, ids_NK, -torch.inf).logsumexp(-1)
    agrees_N = (log_q_NB.argmax(-1) == log_p_NB.argmax(-1)).to(log_q_NV)
    if objective.tail == "renormalise":
        log_p_NB, log_q_NB = log_p_NB.log_softmax(-1), log_q_NB.log_softmax(-1)
    elif topk.k < num_words:  # with k = V there is no tail at all, rather than an empty one
        log_p_NB = torch.cat([log_p_NB, topk.log_p_tail_N.to(log_q_NV)[:, None]], -1)
        log_q_NB = torch.cat([log_q_NB, log_q_tail_N[:, None]], -1)
    divergence_N = _divergence(log_p_NB, log_q_NB, objective.divergence, objective.beta)
    loss_N, entropy_N = divergence_N, torch.zeros_like(divergence_N)
    if labels_N is not None:
        weight = objective.label_weight
        entropy_N = -_at_ids(log_q_NV, labels_N[:, None])[:, 0]
        loss_N = (1 - weight) * divergence_N + weight * entropy_N
    return loss_N, torch.stack([divergence_N, entropy_N, log_q_tail_N, agrees_N], 1).detach()


def _at_ids(log_q_NV: Tensor, ids_NK: Tensor) -> Tensor:
    """Return the log-probabilities of some words; NaN where an id is no word."""
    num_words = log_q_NV.shape[1]
    log_q_NK = log_q_NV.gather(-1, ids_NK.long().clamp(0, num_words - 1))
    return log_q_NK.masked_fill((ids_NK < 0) | (ids_NK >= num_words), torch.nan)


def _uncapped(hidden_ND: Tensor, head_VD: Tensor, logits: Logits) -> Tensor:
    dtype = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
    logits_NV = hidden_ND.to(dtype) @ head_VD.to(dtype).T
    if logits.bias_V is not None:
        logits_NV = logits_NV + logits.bias_V.to(dtype)
    return logits_NV * logits.scale


def _capped(uncapped_NV: Tensor, logits: Logits) -> Tensor:
    if logits.softcap is None:
        return uncapped_NV
    capped_NV = logits.softcap * torch.tanh(uncapped_NV / logits.softcap)
    return capped_NV.masked_fill(uncapped_NV == -torch.inf, -torch.inf)


def _divergence(log_p_NB: Tensor, log_q_NB: Tensor, divergence: str, beta: float) -> Tensor:
    if divergence == "forward_kl":
        return _kl(log_p_NB, log_q_NB)
    if divergence == "reverse_kl":
        return _kl(log_q_NB, log_p_NB)
    log_m_NB = torch.logaddexp(log_p_NB + math.log(beta), log_q_NB + math.log1p(-beta))
    return beta * _kl(log_p_NB, log_m_NB) + (1 - beta) * _kl(log_q_NB, log_m_NB)


def _kl(log_a_NB: Tensor, log_b_NB: Tensor) -> Tensor:
    """Return sum_b a_b log(a_b / b_b), where a_b = 0 contributes nothing."""
    ratio_NB = (log_a_NB - log_b_NB).masked_fill(log_a_NB == -torch.inf, 0)
    return (log_a_NB.exp() * ratio_NB).sum(-1)
