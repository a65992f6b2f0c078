"""Merge the results of ranks that each hold a part of the head's vocabulary.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LOWEST = -1e300  # stands for -inf among real words, so that padding (-inf) never wins a tie


@dataclass(frozen=True, slots=True)
class VocabShard:
    """Say which words this rank holds: `head[i]` is token `first_word + i` of `num_words` in all.

    Every rank passes the same rows (hidden, student, TopK) and gets the same results. Shards need
    not be of equal size, but must follow the order of the ranks without gaps.
    """

    group: "ProcessGroup"
    first_word: int
    num_words: int

    @staticmethod
    def even(group: "ProcessGroup", num_words: int) -> "VocabShard":
        """Return the shard of rank r of R: the words from r V // R to (r + 1) V // R."""
        return VocabShard(group, group.rank() * num_words // group.size(), num_words)

    def local_ids(self, ids_NK: Tensor) -> Tensor:
        """Return ids counted from this rank's first word; those of other ranks fall outside it."""
        return ids_NK.long() - self.first_word

    def merge_topk(
        self, top_NK: Tensor, ids_NK: Tensor, log_tail_N: Tensor, k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the k largest logits (N, k) of all ranks, their ids (N, k) and the tail (N,).

        This takes one all-gather of N (1 + 2k) doubles from each rank.
        """
        num_rows, found = top_NK.shape
        shape, dtype = (num_rows, 1 + 2 * k), torch.float64
        packed = torch.full(shape, -torch.inf, dtype=dtype, device=top_NK.device)
        packed[:, 0] = log_tail_N
        packed[:, 1 : 1 + found] = top_NK.double().clamp(min=LOWEST)
        packed[:, 1 + k : 1 + k + found] = (ids_NK + self.first_word).double()  # exact below 2**53
        ranks = [torch.empty_like(packed) for _ in range(self.group.size())]
        torch.distributed.all_gather(ranks, packed, group=self.group)
        both = torch.cat([rank[:, 1 : 1 + k] for rank in ranks], 1)
        both_ids = torch.cat([rank[:, 1 + k :] for rank in ranks], 1)
        best_NK, where = both.topk(k, dim=1)
        lost = both.scatter(1, where, -torch.inf)
        tails = torch.stack([rank[:, 0] for rank in ranks], 1)
        log_tail_N = torch.cat([lost, tails], 1).logsumexp(1)
        log_tail_N = log_tail_N.masked_fill(log_tail_N <= LOWEST / 2, -torch.inf)
        best_NK = best_NK.masked_fill(best_NK <= LOWEST, -torch.inf)
        return best_NK, both_ids.gather(1, where).long(), log_tail_N

    def merge_student(
        self, top_NK: Tensor, log_tail_N: Tensor, shift_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits at the top-k (N, k) and the log-sum-exp of the whole tail (N,).

        This takes one all-reduce of N (1 + k) doubles. `shift_N` is the teacher's log-sum-exp,
        which every rank knows, so that no maximum has to be agreed on. A tail more than 700 nats
        above it overflows to inf; one more than 700 nats below it counts as empty.
        """
        tail_N = (log_tail_N.double() - shift_N).exp()
        packed = torch.cat([tail_N[:, None], top_NK.double()], 1)
        torch.distributed.all_reduce(packed, group=self.group)
        return packed[:, 1:], packed[:, 0].log() + shift_N

    def sum_over_ranks(self, d_student_ND: Tensor) -> Tensor:
        """Sum the gradients of all ranks in place, and return them."""
        torch.distributed.all_reduce(d_student_ND, group=self.group)
        return d_student_ND
