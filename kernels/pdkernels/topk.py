"""Hold the teacher's side of the loss: its top-k and the mass that is left over.

N rows · V vocabulary · K top-k: suffixes name dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TopK:
    """Hold the k most probable tokens of each row, and the mass of all the others.

    A TopK belongs to one temperature: neither `lse_N` nor `log_p_tail_N` can be recovered at
    another one from k tokens. `teacher_topk` makes it; a cache may store it and make it again.

    Args:
        log_p_NK: fp32 log-probabilities in nats over the *full* vocabulary, at `temperature`;
            -inf for tokens that cannot happen.
        ids_NK: int64 or int32 token ids, unique within a row. `teacher_topk` sorts them by id,
            ascending; `topk_kl` accepts any order.
        lse_N: fp32 log-sum-exp of the row's logits divided by `temperature`.
        log_p_tail_N: fp32 log of the mass outside the k tokens; -inf where there is none, and
            always when k = V.
        temperature: what the logits were divided by, > 0.
    """

    log_p_NK: Tensor
    ids_NK: Tensor
    lse_N: Tensor
    log_p_tail_N: Tensor
    temperature: float

    def __len__(self) -> int:
        return self.ids_NK.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> "TopK":
        """Return some of the rows, picked like a tensor's: by a slice, a mask or indices."""
        return TopK(
            self.log_p_NK[rows],
            self.ids_NK[rows],
            self.lse_N[rows],
            self.log_p_tail_N[rows],
            self.temperature,
        )

    @property
    def k(self) -> int:
        return self.ids_NK.shape[1]

    def to(self, device: torch.device | str) -> "TopK":
        """Return the same rows on another device."""
        return TopK(
            self.log_p_NK.to(device),
            self.ids_NK.to(device),
            self.lse_N.to(device),
            self.log_p_tail_N.to(device),
            self.temperature,
        )

    @staticmethod
    def one_hot(ids_N: Tensor, temperature: float = 1.0) -> "TopK":
        """Return a teacher that is sure of one token in each row, with k = 1.

        Forward KL with `tail="bucket"` is then the cross-entropy of that token, -log q, and so is
        its gradient; the reverse KL is infinite, and `tail="renormalise"` leaves nothing.
        """
        zero_N = torch.zeros(ids_N.shape, dtype=torch.float32, device=ids_N.device)
        nothing_N = torch.full_like(zero_N, -torch.inf)
        return TopK(zero_N[:, None], ids_N[:, None], zero_N, nothing_N, temperature)

    @staticmethod
    def cat(parts: Sequence["TopK"]) -> "TopK":
        """Return the rows of all parts, in order.

        Raises:
            ValueError: there is no part, or the parts differ in k or temperature.
        """
        if not parts:
            raise ValueError("TopK.cat needs at least one part, got none")
        kinds = {(part.k, part.temperature) for part in parts}
        if len(kinds) > 1:
            raise ValueError(
                "TopK.cat needs parts of one k and one temperature, got (k, temperature) = "
                f"{sorted(kinds)}; make them again with the same settings"
            )
        return TopK(
            torch.cat([part.log_p_NK for part in parts]),
            torch.cat([part.ids_NK for part in parts]),
            torch.cat([part.lse_N for part in parts]),
            torch.cat([part.log_p_tail_N for part in parts]),
            parts[0].temperature,
        )
