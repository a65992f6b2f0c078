"""Make teachers of the columns that other libraries keep.

B sequences · L their length · K top-k · N = B L rows: shapes in this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pdkernels.topk import IGNORED, TopK


def from_axolotl(
    target_token_ids: Tensor, target_logprobs: Tensor, target_mask: Tensor, temperature: float = 1.0
) -> TopK:
    """Return the rows of axolotl's KD batch; position t of the result is what position t predicts.

    axolotl keeps at position t the teacher's distribution *of* token t, normalised over its K
    tokens: it is moved to t - 1 here, whose hidden state predicts t, and has no tail. Its loss is
    `tail="renormalise"`.

    Args:
        target_token_ids: (B, L, K) integers.
        target_logprobs: (B, L, K), normalised over K at axolotl's `kd_temperature`.
        target_mask: (B, L, K) or (B, L), 0 where a position has no teacher.
        temperature: axolotl's `kd_temperature`.
    """
    mask = target_mask.bool() if target_mask.ndim == 2 else target_mask.bool().any(-1)
    ids = target_token_ids.long().masked_fill(~mask[..., None], IGNORED)
    ids = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)], 1)
    logprobs = torch.cat([target_logprobs[:, 1:], target_logprobs[:, :1]], 1).float()
    logprobs = logprobs.masked_fill((ids == IGNORED).all(-1, keepdim=True), 0).log_softmax(-1)
    rows = ids.flatten(0, 1)
    nothing = torch.full((len(rows),), -torch.inf, device=rows.device)
    return TopK(logprobs.flatten(0, 1), rows, torch.zeros_like(nothing), nothing, temperature)


def from_sparse(
    ids: Tensor, logprobs: Tensor, mask: Tensor | None = None, temperature: float = 1.0
) -> TopK:
    """Return the rows of log-probabilities (B, L, K) or (N, K) over the whole vocabulary.

    DistillKit's compressed columns become these by its `LogprobCompressor.decompress_to_sparse`.

    Args:
        ids: integers, shaped like `logprobs`.
        logprobs: natural logarithms at `temperature`; what they leave is the tail.
        mask: (B, L) or (N,), 0 where a position has no teacher; None is everywhere 1.
        temperature: DistillKit's `preapplied_temperature`.
    """
    ids = ids.long()
    if mask is not None:
        ids = ids.masked_fill(~mask.bool()[..., None], IGNORED)
    flat = ids.reshape(-1, ids.shape[-1])
    return TopK.from_logprobs(flat, logprobs.reshape(flat.shape), temperature)


def from_prompt_logprobs(
    prompt_logprobs: Sequence[Mapping[int, Any] | None], k: int, temperature: float = 1.0
) -> TopK:
    """Return the rows of one sequence of vLLM's `prompt_logprobs`.

    vLLM keeps at position t the distribution of token t, and None at the first. The result has a
    row for every position of the sequence: row t holds what t predicts, and the last has no
    teacher. vLLM adds the prompt's own token where it is not among the likeliest k; it is left out
    here, and so stays in the tail.

    Args:
        prompt_logprobs: for each position a mapping from token ids to numbers, or to objects with
            an attribute `logprob`.
        k: how many were asked for; positions with fewer are filled up.
        temperature: of the distributions; vLLM's are of temperature 1 unless processed ones are
            asked for.
    """
    ids = torch.full((len(prompt_logprobs), k), IGNORED)
    logprobs = torch.zeros(len(prompt_logprobs), k)
    for row, position in enumerate(prompt_logprobs[1:]):
        if not position:
            continue
        numbers = {int(i): float(getattr(p, "logprob", p)) for i, p in position.items()}
        best = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))[:k]
        unused = (i for i in range(2 * k) if i not in numbers)
        best += [(next(unused), -torch.inf) for _ in range(k - len(best))]
        for column, (token, number) in enumerate(best):
            ids[row, column], logprobs[row, column] = token, number
    return TopK.from_logprobs(ids, logprobs, temperature)
