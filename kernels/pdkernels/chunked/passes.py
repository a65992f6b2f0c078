"""Pass over slabs of the vocabulary in PyTorch, in bounded memory: for CPUs, or without Triton.

These are the two passes that `pdkernels.fused.student` puts together: `select` finds the teacher's
top-k, and `sweep` sums the student over all other words. The logits of the top-k, which carry
nearly all of the loss and its gradient, are computed again in float64 from the k words: an fp32
logit of 100 is off by 4e-6, and the gradient near the teacher is a small difference of such logits.
Everything else is fp32, in powers of two, because exp2 is cheaper than exp and does not slow down
where results are denormal.

N rows · D hidden size · V vocabulary · K top-k · R rows of a block · S words of a slab: suffixes
name dimensions.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pdkernels.chunked import slabs, workers
from pdkernels.chunked.products import (
    add_weights_times_words,
    room_for_logits,
    rows_times_words,
)
from pdkernels.chunked.slabs import FLOOR, compute_dtype, places_in_slabs, row_blocks, word_slabs
from pdkernels.logits import Logits

WIDE = 8  # k above V / WIDE: all logits cost less than gathering k words
LEAST_ROWS = 256  # of a block that PyTorch's threads share, even where k is very large
GROUP = 16  # words of which only the maximum is compared with the threshold at first


def each_block(
    work: Callable[[slice], None], num_rows: int, num_words: int, k: int, device: torch.device
) -> None:
    """Call `work` on slices of the rows, by several threads on a CPU where there are rows enough.

    Rows of a slice share a slab, with k words each. `work` writes to rows of its own alone.
    """
    most = slabs.SLAB_ELEMENTS // (min(num_words, slabs.SLAB_WIDTH) + 8 * k)
    num_threads = workers.num_workers(num_rows, device)
    if num_threads == 1:
        most = max(LEAST_ROWS, most)
    else:  # two blocks a thread, so that one on a busy core can leave some to the others
        even = -(-num_rows // (2 * num_threads))
        most = max(workers.LEAST_ROWS, min(workers.MOST_ROWS, most, even))
    workers.for_each(work, list(row_blocks(num_rows, 1, most)), num_threads)


def select(
    hidden_ND: Tensor, head_VD: Tensor, k: int, logits: Logits
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k largest logits (N, k) in fp64, their ids, and the others' log-sum-exp (N,)."""
    num_rows, num_words = hidden_ND.shape[0], head_VD.shape[0]
    ids_NK = torch.arange(k, device=hidden_ND.device).repeat(num_rows, 1)
    log_tail_N = hidden_ND.new_full((num_rows,), -torch.inf, dtype=compute_dtype(hidden_ND))
    if k < num_words:
        for rows in row_blocks(num_rows, min(num_words, slabs.SLAB_WIDTH) + 8 * k):
            ids_NK[rows], log_tail_N[rows] = _select_block(hidden_ND[rows], head_VD, k, logits)
    return logits_at(hidden_ND, head_VD, ids_NK, logits), ids_NK, log_tail_N


def sweep(
    student_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, logits: Logits, with_words: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the log-sum-exp (N,) of all words but `ids_NK`, and their mean word (N, D) if wanted.

    The mean is taken with the student's probabilities within the tail, and each word is weighted
    by its slope; an empty tail has -inf and a mean of 0.
    """
    num_rows, k = ids_NK.shape
    dtype = compute_dtype(student_ND)
    log_tail_N = student_ND.new_empty(num_rows, dtype=dtype)
    words_ND = torch.empty_like(student_ND, dtype=dtype) if with_words else None
    for rows in row_blocks(num_rows, min(head_VD.shape[0], slabs.SLAB_WIDTH) + 8 * k):
        words_RD = None if words_ND is None else words_ND[rows].zero_()
        places = places_in_slabs(ids_NK[rows], head_VD.shape[0])
        log_tail_N[rows] = _sweep_block(student_ND[rows], head_VD, places, logits, words_RD)
    return log_tail_N, words_ND


def logits_at(rows_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, logits: Logits) -> Tensor:
    """Return the logits of the k words alone (N, k), in fp64; 0 for ids outside the head."""
    (num_rows, k), (num_words, hidden) = ids_NK.shape, head_VD.shape
    outside_NK = (ids_NK < 0) | (ids_NK >= num_words)
    ids_NK = ids_NK.long().clamp(0, num_words - 1)
    logits_NK = rows_ND.new_empty(num_rows, k, dtype=torch.float64)
    if k * WIDE > num_words:
        for rows in row_blocks(num_rows, num_words):
            rows_RD = rows_ND[rows].double()
            slabs_RS = [rows_RD @ head_VD[s].double().T for s in word_slabs(num_words)]
            logits_NK[rows] = torch.cat(slabs_RS, 1).gather(1, ids_NK[rows])
    else:
        for rows in row_blocks(num_rows, k * hidden, _gather_elements(rows_ND)):
            for some in row_blocks(k, hidden, _gather_elements(rows_ND)):
                ids_RK = ids_NK[rows, some]
                words_RKD = head_VD.index_select(0, ids_RK.reshape(-1)).double()
                words_RKD = words_RKD.view(*ids_RK.shape, hidden)
                words_RKD *= rows_ND[rows, None, :].double()
                logits_NK[rows, some] = words_RKD.sum(-1)
    return logits.at_ids(logits_NK, ids_NK).masked_fill_(outside_NK, 0)


def sum_of_words(weight_NK: Tensor, ids_NK: Tensor, head_VD: Tensor) -> Tensor:
    """Return sum_k weight_k W_{id_k} of each row, (N, D), in the weights' dtype.

    Ids outside the head count as nothing.
    """
    (num_rows, k), (num_words, hidden) = ids_NK.shape, head_VD.shape
    weight_NK = weight_NK.masked_fill((ids_NK < 0) | (ids_NK >= num_words), 0)
    ids_NK = ids_NK.long().clamp(0, num_words - 1)
    sum_ND = weight_NK.new_zeros(num_rows, hidden)
    if k * WIDE > num_words:
        for rows in row_blocks(num_rows, num_words):
            weight_RV = weight_NK.new_zeros(len(weight_NK[rows]), num_words)
            weight_RV.scatter_add_(1, ids_NK[rows], weight_NK[rows])
            for words in word_slabs(num_words):
                sum_ND[rows].addmm_(weight_RV[:, words], head_VD[words].to(weight_NK.dtype))
        return sum_ND
    if head_VD.dtype == weight_NK.dtype:
        return functional.embedding_bag(ids_NK, head_VD, per_sample_weights=weight_NK, mode="sum")
    for rows in row_blocks(num_rows, k * hidden, _gather_elements(weight_NK)):
        for some in row_blocks(k, hidden, _gather_elements(weight_NK)):
            words_RKD = head_VD[ids_NK[rows, some]].to(weight_NK.dtype)
            sum_ND[rows] += (weight_NK[rows, None, some] @ words_RKD)[:, 0]
    return sum_ND


def _gather_elements(rows: Tensor) -> int:
    return slabs.GATHER_ELEMENTS if rows.device.type == "cpu" else slabs.SLAB_ELEMENTS


def _select_block(
    hidden_RD: Tensor, head_VD: Tensor, k: int, logits: Logits
) -> tuple[Tensor, Tensor]:
    """Return the ids (R, k) of the largest logits, and the log-sum-exp of the others (R,).

    The first slabs fill the candidates; of later ones only logits above the smallest candidate are
    added, found in blocks of GROUP words. All other logits, and candidates that are replaced, join
    the tail. Logits are compared as they are before a soft cap, under which fp32 ones are alike.
    """
    rows_RD = slabs.scaled_rows(hidden_RD, logits.before)
    num_rows = rows_RD.shape[0]
    top_RK = rows_RD.new_empty(num_rows, 0)
    ids_RK = torch.empty(num_rows, 0, dtype=torch.int64, device=rows_RD.device)
    peak_R, sum_R = rows_RD.new_full((num_rows,), FLOOR), rows_RD.new_zeros(num_rows)
    room = room_for_logits(rows_RD, min(len(head_VD), slabs.SLAB_WIDTH))
    for words in word_slabs(head_VD.shape[0]):
        product_RS = rows_times_words(rows_RD, head_VD[words].to(rows_RD.dtype), room)
        logits_RS = logits.uncapped(product_RS, words)
        if top_RK.shape[1] < k:
            every_id_S = torch.arange(logits_RS.shape[1], device=logits_RS.device)
            best, best_ids = largest(logits_RS, every_id_S.expand_as(logits_RS), k)
            logits_RS.scatter_(-1, best_ids, -torch.inf)
        else:
            best, best_ids = _take_above(logits_RS, top_RK.amin(-1))
        if best.shape[1]:
            both = torch.cat([top_RK, best], -1)
            both_ids = torch.cat([ids_RK, best_ids + words.start], -1)
            top_RK, order = largest(both, both_ids, k)
            ids_RK = both_ids.gather(-1, order)
            lost = logits.capped(both.scatter_(-1, order, -torch.inf))
            peak_R = _add_exp(lost, peak_R, sum_R)
        peak_R = _add_exp(logits.capped(logits_RS), peak_R, sum_R)
    return ids_RK, _log_sum(peak_R, sum_R)


def largest(values_RS: Tensor, ids_RS: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest values (R, k), of equal ones those of lower id, and their places.

    `topk` chooses freely among values that are equal to the least that it takes: such rows, which
    are few, are sorted again.
    """
    k = min(k, values_RS.shape[1])
    top_RK, place_RK = values_RS.topk(k, dim=-1)
    if k == values_RS.shape[1]:
        return top_RK, place_RK
    least_R1 = top_RK[:, -1:]
    num_equal_R, num_taken_R = (values_RS == least_R1).sum(-1), (top_RK == least_R1).sum(-1)
    tied = (num_equal_R > num_taken_R).nonzero()[:, 0]
    if len(tied):
        by_id = ids_RS[tied].sort(dim=-1, stable=True).indices
        order = values_RS[tied].gather(-1, by_id).sort(dim=-1, descending=True, stable=True).indices
        place_RK[tied] = by_id.gather(-1, order[:, :k])
        top_RK[tied] = values_RS[tied].gather(-1, place_RK[tied])
    return top_RK, place_RK


def _take_above(logits_RS: Tensor, least_R: Tensor) -> tuple[Tensor, Tensor]:
    """Take the logits above each row's least, and return them with their ids.

    Both are (R, most of any row), with -inf where a row has fewer. What is taken becomes -inf in
    `logits_RS`. On a GPU this waits for the number of logits taken.
    """
    num_rows, width = logits_RS.shape
    if width % GROUP:
        row, word = (logits_RS > least_R[:, None]).nonzero(as_tuple=True)
    else:
        # words width / GROUP apart form a group, so that the maximum reads whole cache lines
        groups_RGS = logits_RS.view(num_rows, GROUP, width // GROUP)
        row, word = (groups_RGS.amax(1) > least_R[:, None]).nonzero(as_tuple=True)
        member, which = (groups_RGS[row, :, word] > least_R[row, None]).nonzero(as_tuple=True)
        row, word = row[member], word[member] + which * (width // GROUP)
    values = logits_RS[row, word]
    logits_RS[row, word] = -torch.inf
    counts = torch.bincount(row, minlength=num_rows)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(row), device=row.device) - first[row]
    taken = logits_RS.new_full((num_rows, int(counts.max())), -torch.inf)
    taken_ids = torch.full_like(taken, 2**62, dtype=torch.int64)  # where a row has fewer
    taken[row, place], taken_ids[row, place] = values, word
    return taken, taken_ids


def _sweep_block(
    student_RD: Tensor,
    head_VD: Tensor,
    places: list[Tensor],
    logits: Logits,
    words_RD: Tensor | None,
) -> Tensor:
    """Return the tail's log-sum-exp (R,); write its mean word into `words_RD`, which must be 0."""
    rows_RD = slabs.scaled_rows(student_RD, logits.before)
    num_rows = rows_RD.shape[0]
    peak_R, sum_R = rows_RD.new_full((num_rows,), FLOOR), rows_RD.new_zeros(num_rows)
    room = room_for_logits(rows_RD, min(len(head_VD), slabs.SLAB_WIDTH))
    for words, taken in zip(word_slabs(head_VD.shape[0]), places, strict=True):
        words_SD = head_VD[words].to(rows_RD.dtype)
        product_RS = rows_times_words(rows_RD, words_SD, room)
        logits_RS = logits.capped(logits.uncapped(product_RS, words))
        slope_RS = None if words_RD is None else logits.slope(logits_RS)
        logits_RS.view(-1)[taken] = -torch.inf
        higher_R = _add_exp(logits_RS, peak_R, sum_R)
        if words_RD is not None:
            words_RD.mul_((peak_R - higher_R).exp2_()[:, None])
            if slope_RS is not None:
                logits_RS *= slope_RS
            add_weights_times_words(words_RD, logits_RS, words_SD)
        peak_R = higher_R
    if words_RD is not None:
        words_RD /= torch.where(sum_R > 0, sum_R, 1)[:, None]
    return _log_sum(peak_R, sum_R)


def _add_exp(logits: Tensor, peak_R: Tensor, sum_R: Tensor) -> Tensor:
    """Add a slab of base-2 logits to the running sums, and return the new peaks (R,).

    `logits` become 2**(logits - new peak), and `sum_R` becomes relative to the new peak.
    """
    higher_R = torch.maximum(peak_R, logits.amax(-1))
    logits.sub_(higher_R[:, None]).exp2_()
    sum_R.mul_((peak_R - higher_R).exp2_()).add_(logits.sum(-1))
    return higher_R


def _log_sum(peak_R: Tensor, sum_R: Tensor) -> Tensor:
    """Return the natural logarithm of sum_R 2**peak_R."""
    return (peak_R + sum_R.log2()) * math.log(2)
