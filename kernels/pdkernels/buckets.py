"""Compute the divergence of two bucket distributions and its derivative, also near agreement.

Distributions are log-probabilities, the tail (if any) as the last bucket. With x = log q - log p:

    KL(p || q) = sum_b p_b phi(x_b),  phi(x) = exp(x) - 1 - x >= 0   because sum p = sum q = 1

so every term is positive on its own and no clamp is needed. The derivative with respect to the
student's bucket logits is grad_b = q_b (u_b - sum_c q_c u_c), with u_b the derivative of the
divergence with respect to q_b (kernels/README.md, "The maths").
"""

import torch
from torch import Tensor


def bucket_divergence(
    log_p_NB: Tensor, log_q_NB: Tensor, divergence: str, beta: float
) -> tuple[Tensor, Tensor]:
    """Return the losses (N,) in nats and their gradients (N, B) by the bucket logits.

    A log-probability of -inf means a bucket that cannot happen. A bucket with p = 0 < q gives an
    infinite reverse KL, one with q = 0 < p an infinite forward KL; JSD is always finite.
    """
    p_NB, q_NB = log_p_NB.exp(), log_q_NB.exp()
    impossible = (log_p_NB == -torch.inf) & (log_q_NB == -torch.inf)
    x_NB = (log_q_NB - log_p_NB).masked_fill(impossible, 0)
    if divergence == "forward_kl":
        # q - p, from the smaller of exp(x) and exp(-x) so that neither overflows
        less_NB = p_NB * torch.expm1(x_NB.clamp(max=0))
        more_NB = q_NB * torch.expm1(-x_NB.clamp(min=0))
        return _positive_kl(p_NB, q_NB, x_NB), less_NB - more_NB
    if divergence == "reverse_kl":
        return _positive_kl(q_NB, p_NB, -x_NB), _centred(q_NB, x_NB)
    log_m_over_p_NB, log_m_over_q_NB = _log_mixture_ratios(x_NB, beta)
    m_NB = beta * p_NB + (1 - beta) * q_NB
    from_p_N = _positive_kl(p_NB, m_NB, log_m_over_p_NB)
    from_q_N = _positive_kl(q_NB, m_NB, log_m_over_q_NB)
    return beta * from_p_N + (1 - beta) * from_q_N, _centred(q_NB, -(1 - beta) * log_m_over_q_NB)


def _positive_kl(a_NB: Tensor, b_NB: Tensor, x_NB: Tensor) -> Tensor:
    """Return the sum of a phi(x), x = log b - log a, without overflow or cancellation."""
    near_NB = x_NB.clamp(-1, 1)
    # Taylor below 0.05, where exp(x) - 1 - x cancels; the first dropped term is below 1e-12 of it
    series_NB = near_NB / 7
    for n in (6, 5, 4, 3):
        series_NB = (1 + series_NB) * near_NB / n
    small_NB = near_NB.square() / 2 * (1 + series_NB)
    phi_NB = torch.where(near_NB.abs() < 0.05, small_NB, torch.expm1(near_NB) - near_NB)
    # where a = 0 < b the term is its limit b, without which the sum is not the divergence
    far_NB = b_NB - a_NB - torch.where(a_NB > 0, a_NB * x_NB, 0)
    return torch.where(x_NB.abs() < 1, a_NB * phi_NB, far_NB).sum(-1)


def _centred(q_NB: Tensor, u_NB: Tensor) -> Tensor:
    """Return q (u - E_q u); where q = 0 the derivative is 0 whatever u is."""
    u_NB = torch.where(q_NB > 0, u_NB, 0)
    # measured from the likeliest bucket: a student that is sure of one token loses no digits
    u_NB = u_NB - u_NB.gather(-1, q_NB.argmax(-1, keepdim=True))
    mean_N1 = (q_NB * u_NB).sum(-1, keepdim=True) / q_NB.sum(-1, keepdim=True)
    return q_NB * (u_NB - mean_N1)


def _log_mixture_ratios(x_NB: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return log(m/p) and log(m/q) for m = beta p + (1 - beta) q, exact as x goes to 0."""
    low_NB, high_NB = x_NB.clamp(max=0), x_NB.clamp(min=0)
    from_p_NB = torch.log1p((1 - beta) * torch.expm1(low_NB))
    from_q_NB = torch.log1p(beta * torch.expm1(-high_NB))
    is_low = x_NB <= 0
    log_m_over_p_NB = torch.where(is_low, from_p_NB, from_q_NB + x_NB)
    log_m_over_q_NB = torch.where(is_low, from_p_NB - x_NB, from_q_NB)
    return log_m_over_p_NB, log_m_over_q_NB
