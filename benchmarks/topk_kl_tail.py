"""What k and the tail are worth: the gradient's angle to that of the full-vocabulary KL.

    python benchmarks/topk_kl_tail.py --passages passages.jsonl

Rows come from the embedded model on real passages. "truncated" is the top-k loss without a tail
and without normalising, sum_S p log(p/q), which many trainers use; this project does not offer it.
"""

import argparse
from pathlib import Path

import torch
from topk_kl_inputs import Rows, embedded_rows
from torch import Tensor

from pdkernels import TopK, teacher_topk, topk_kl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=Path, required=True, help="JSONL with a field passage")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--trained", type=float, nargs="+", default=[0.0, 0.7])
    parser.add_argument("--k", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 1024])
    options = parser.parse_args()
    print("| T | trained | k | teacher mass | KL kept: bucket | angle: bucket | renormalise "
          "| truncated |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    untrained = embedded_rows(options.rows, options.passages)
    for trained in options.trained:
        student = untrained.student_ND.lerp(untrained.teacher_ND, trained)
        rows = Rows(untrained.teacher_ND, student, untrained.head_VD, "")
        for temperature in (1.0, 2.0):
            whole = teacher_topk(rows.teacher_ND, rows.head_VD, len(rows.head_VD), temperature)
            full, full_gradient = bucket_kl(rows, whole)
            for k in options.k:
                topk = teacher_topk(rows.teacher_ND, rows.head_VD, k, temperature)
                bucket, gradient = bucket_kl(rows, topk)
                _, renormalised = bucket_kl(rows, topk, tail="renormalise")
                mass = 1 - float(topk.log_p_tail_N.exp().mean())
                kept = float(bucket.sum() / full.sum())
                angles = [
                    angle(g, full_gradient)
                    for g in (gradient, renormalised, truncated_gradient(rows, topk))
                ]
                print(
                    f"| {temperature:g} | {trained:g} | {k} | {mass:.4f} | {kept:.3f} | "
                    + " | ".join(f"{degrees:.1f}°" for degrees in angles) + " |",
                    flush=True,
                )  # fmt: skip


def bucket_kl(rows: Rows, topk: TopK, **options) -> tuple[Tensor, Tensor]:
    student = rows.student_ND.detach().requires_grad_()
    loss_N = topk_kl(student, rows.head_VD, topk, **options)
    return loss_N.detach(), torch.autograd.grad(loss_N.sum(), student)[0]


def truncated_gradient(rows: Rows, topk: TopK) -> Tensor:
    student = rows.student_ND.detach().requires_grad_()
    log_q_NV = (student @ rows.head_VD.T / topk.temperature).log_softmax(-1)
    log_q_NK = log_q_NV.gather(-1, topk.ids_NK)
    loss = (topk.log_p_NK.exp() * (topk.log_p_NK - log_q_NK)).sum()
    return torch.autograd.grad(loss, student)[0]


def angle(found: Tensor, wanted: Tensor) -> float:
    """Degrees between the gradients of the whole batch."""
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)
    return float(torch.rad2deg(cosine.clamp(-1, 1).acos()))


if __name__ == "__main__":
    main()
