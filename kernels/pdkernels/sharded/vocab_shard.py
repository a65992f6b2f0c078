"""Merge the results of ranks that each hold a part of the head's vocabulary.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LOWEST = -1e300  # stands for -inf among real words, so that padding (-inf) never wins a tie
HASHES = 2**20  # checksums of rows are below this: their squares sum exactly over 4096 ranks

_shards: list["VocabShard"] = []  # by handle, for operators that take numbers alone


@dataclass(frozen=True, slots=True)
class VocabShard:
    """Say which words this rank holds: `head[i]` is token `first_word + i` of `num_words` in all.

    Every rank passes the same rows (student or teacher, TopK) and gets the same results; a row that
    differs between ranks becomes NaN. Shards need not be of equal size, but must follow the order
    of the ranks without gaps: making one checks that by one all-reduce, for which every rank of the
    group makes its own.

    Args:
        group: of the ranks that hold the head together.
        first_word: the token of this rank's first word.
        num_words: of the whole vocabulary.
        own_words: how many this rank holds; None takes all up to the next rank's, `even`'s part.

    Raises:
        ValueError: on every rank, if the shards leave words out, overlap or are out of order.
    """

    group: "ProcessGroup"
    first_word: int
    num_words: int
    own_words: int | None = None
    handle: int = field(default=-1, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        number = -1 if self.own_words is None else self.own_words
        mine = torch.tensor([self.first_word, number, self.num_words])
        everyone = torch.zeros(self.group.size(), 3, dtype=torch.int64)
        everyone[self.group.rank()] = mine
        firsts, numbers, totals = _sum_over(self.group, everyone).T.tolist()
        ends = [*firsts[1:], self.num_words]
        lasts = [
            end if number < 0 else first + number
            for first, number, end in zip(firsts, numbers, ends, strict=True)
        ]
        fits = firsts[0] == 0 and lasts == ends and firsts == sorted(firsts)
        if not fits or set(totals) != {self.num_words} or firsts[-1] > self.num_words:
            parts = ", ".join(f"{a} to {b}" for a, b in zip(firsts, lasts, strict=True))
            raise ValueError(
                f"the ranks hold words {parts} of a vocabulary of {self.num_words}: shards must "
                "follow the order of the ranks without gaps, as VocabShard.even cuts them"
            )
        own_words = lasts[self.group.rank()] - self.first_word
        object.__setattr__(self, "own_words", own_words)
        object.__setattr__(self, "handle", len(_shards))
        _shards.append(self)

    @staticmethod
    def even(group: "ProcessGroup", num_words: int) -> "VocabShard":
        """Return the shard of rank r of R: the words from r V // R to (r + 1) V // R."""
        first, last = (r * num_words // group.size() for r in (group.rank(), group.rank() + 1))
        return VocabShard(group, first, num_words, last - first)

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
        # by id first, so that of equal logits the stable sort takes those of lower id
        by_id = both_ids.sort(dim=1, stable=True).indices
        both, both_ids = both.gather(1, by_id), both_ids.gather(1, by_id)
        where = both.sort(dim=1, descending=True, stable=True).indices[:, :k]
        best_NK = both.gather(1, where)
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


def shard_of(handle: int) -> VocabShard | None:
    """Return the shard of a handle; -1 is none."""
    return None if handle < 0 else _shards[handle]


@contextmanager
def check_shard(head_VD: Tensor, shard: VocabShard | None, *same: Tensor) -> Iterator[None]:
    """Raise a ValueError of the block on every rank, and one where the ranks' inputs differ.

    Args:
        head_VD: this rank's part of the head.
        shard: None does nothing.
        same: tensors that must be the same on every rank. This takes one all-reduce of a few
            numbers, and waits for it.
    """
    if shard is None:
        yield
        return
    error: ValueError | None = None
    try:
        _check_part(head_VD, shard)
        yield
    except ValueError as caught:
        error = caught
    sums = [checksum(tensor) for tensor in same]
    numbers = [int(error is not None), *sums, *(s * s for s in sums)]
    failed, *found = _sum_over(shard.group, torch.tensor(numbers)).tolist()
    if error is not None:
        raise error
    if failed:
        raise ValueError("the inputs of another rank of the group do not fit; see its error")
    for total, squares in zip(found[: len(sums)], found[len(sums) :], strict=True):
        if shard.group.size() * squares != total * total:  # equal numbers alone make these equal
            raise ValueError(
                "every rank of a VocabShard must pass the same rows, but they differ; for rows of "
                "each rank's own pass the head as a DTensor"
            )


def checksum(tensor: Tensor) -> int:
    """Return a number below HASHES of the bits and places of a tensor, the same on every rank."""
    widths = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.detach().contiguous().view(widths[tensor.element_size()]).long()
    bits = bits.reshape(len(tensor), -1).sum(1) if len(tensor) else bits.new_zeros(1)
    places = torch.arange(1, len(bits) + 1, device=bits.device)
    return int(((bits % HASHES) * places).sum() + len(tensor)) % HASHES


def _check_part(head_VD: Tensor, shard: VocabShard) -> None:
    if head_VD.shape[0] != shard.own_words:
        last = shard.first_word + head_VD.shape[0]
        raise ValueError(
            f"this rank's head holds words {shard.first_word} to {last} of a vocabulary of "
            f"{shard.num_words}, but its shard holds {shard.own_words} words; pass "
            "head[first:last] and the same first_word"
        )


def _sum_over(group: "ProcessGroup", numbers: Tensor) -> Tensor:
    """Return the sums over the ranks of a few numbers on the CPU."""
    is_nccl = torch.distributed.get_backend(group) == "nccl"
    numbers = numbers.to("cuda" if is_nccl else "cpu")
    torch.distributed.all_reduce(numbers, group=group)
    return numbers.cpu()
