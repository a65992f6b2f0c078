"""Name what an implementation provides, and hold what a call asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pdkernels.logits import Logits
from pdkernels.sharded.vocab_shard import VocabShard


class Passes(Protocol):
    """Name the passes of an implementation; `pdkernels.chunked.passes` documents each of them."""

    def each_block(
        self,
        work: Callable[[slice], None],
        num_rows: int,
        num_words: int,
        k: int,
        device: torch.device,
    ) -> None: ...

    def select(
        self, hidden_ND: Tensor, head_VD: Tensor, k: int, logits: Logits
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def sweep(
        self,
        student_ND: Tensor,
        head_VD: Tensor,
        ids_NK: Tensor,
        logits: Logits,
        with_words: bool,
    ) -> tuple[Tensor, Tensor | None]: ...

    def logits_at(
        self, rows_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, logits: Logits
    ) -> Tensor: ...

    def sum_of_words(self, weight_NK: Tensor, ids_NK: Tensor, head_VD: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Objective:
    """Hold the validated options of a call of `topk_kl`."""

    logits: Logits
    divergence: str
    beta: float
    tail: str
    row_filter: float
    label_weight: float
    shard: VocabShard | None

    def num_words(self, head_VD: Tensor) -> int:
        """Return the size of the vocabulary, of which `head_VD` may be a part."""
        return head_VD.shape[0] if self.shard is None else self.shard.num_words


def each_block(
    passes: Passes,
    work: Callable[[slice], None],
    num_rows: int,
    head_VD: Tensor,
    k: int,
    shard: VocabShard | None,
) -> None:
    """Call `work` on slices of the rows, so that only the results grow with their number.

    Over ranks all rows are one slice, because the number of collectives must not grow either.
    """
    if shard is not None:
        work(slice(0, num_rows))
    else:
        passes.each_block(work, num_rows, head_VD.shape[0], k, head_VD.device)
