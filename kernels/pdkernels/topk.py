"""Hold the teacher's side of the loss: its top-k and the mass that is left over.

N rows · V vocabulary · K top-k: suffixes name dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # the id of rows that no loss counts, as Hugging Face labels them
MASS = 1e-3  # how far the masses of a row may be from 1


@dataclass(frozen=True, slots=True)
class TopK:
    """Hold the k most probable tokens of each row, and the mass of all the others.

    A TopK belongs to one temperature: neither `lse_N` nor `log_p_tail_N` can be recovered at
    another one from k tokens. `teacher_topk` makes it; `from_logprobs`, `from_logits` and `one_hot`
    make it of what others computed; a cache may store it and make it again. Rows whose ids are all
    IGNORED, as `pad` adds them, stand for rows without a teacher.

    Args:
        log_p_NK: fp32 log-probabilities in nats over the *full* vocabulary, at `temperature`;
            -inf for tokens that cannot happen.
        ids_NK: int64 or int32 token ids, unique within a row. `teacher_topk` sorts them by id,
            ascending; `topk_kl` accepts any order.
        lse_N: fp32 log-sum-exp of the row's logits divided by `temperature`.
        log_p_tail_N: fp32 log of the mass outside the k tokens; -inf where there is none, and
            always when k = V.
        temperature: what the logits were divided by, > 0.

    Raises:
        ValueError: shapes, dtypes or devices do not fit; or, on a CPU, the masses of a row do not
            sum to 1, or an id is there twice. On a GPU these are not looked at, since that would
            wait for it: `check_values` does.
    """

    log_p_NK: Tensor
    ids_NK: Tensor
    lse_N: Tensor
    log_p_tail_N: Tensor
    temperature: float

    def __post_init__(self) -> None:
        check_structure(self)
        if self.ids_NK.device.type == "cpu" and not torch.compiler.is_compiling():
            self.check_values()

    @classmethod
    def unchecked(cls, *parts: Any) -> "TopK":
        """Return rows that are known to be right, without looking at them; fields in order."""
        if torch.compiler.is_compiling():
            return cls(*parts)
        topk = object.__new__(cls)
        for name, value in zip(cls.__slots__, parts, strict=True):
            object.__setattr__(topk, name, value)
        return topk

    def check_values(self) -> None:
        """Raise ValueError for masses that do not sum to 1, or ids that are there twice.

        NaN passes: it makes the loss of its row NaN. On a GPU this waits.
        """
        counts_N = ~self.ignored(IGNORED)
        mass_N = torch.cat([self.log_p_NK, self.log_p_tail_N[:, None]], 1).detach().exp().sum(1)
        wrong_N = ((mass_N - 1).abs() > MASS) & counts_N
        if bool(wrong_N.any()):
            row = int(wrong_N.int().argmax())
            raise ValueError(
                f"the probabilities of row {row} sum to {float(mass_N[row]):.4g} with the tail, "
                "not to 1: log_p_NK are natural logarithms over the full vocabulary, and "
                "log_p_tail_N holds the rest; TopK.from_logprobs computes the rest"
            )
        sorted_NK = self.ids_NK.sort(1).values
        twice_N = (sorted_NK[:, 1:] == sorted_NK[:, :-1]).any(1) & counts_N
        if bool(twice_N.any()):
            row = int(twice_N.int().argmax())
            raise ValueError(f"row {row} holds a token id twice; add up the masses of equal ids")

    def __len__(self) -> int:
        return self.ids_NK.shape[0]

    def __getitem__(self, rows: slice | int | Tensor) -> "TopK":
        """Return some of the rows, picked like a tensor's: by a slice, a mask or indices."""
        if isinstance(rows, int):
            rows = slice(rows, rows + 1 or None)
        return TopK.unchecked(*(part[rows] for part in self.tensors()), self.temperature)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the tensors of the rows, as the fields are ordered."""
        return self.log_p_NK, self.ids_NK, self.lse_N, self.log_p_tail_N

    @property
    def k(self) -> int:
        return self.ids_NK.shape[1]

    def ignored(self, ignore_index: int) -> Tensor:
        """Return which rows (N,) have no teacher: all their ids are `ignore_index`."""
        return (self.ids_NK == ignore_index).all(1)

    def to(self, device: torch.device | str) -> "TopK":
        """Return the same rows on another device."""
        return TopK.unchecked(*(part.to(device) for part in self.tensors()), self.temperature)

    def pad(self, num_rows: int) -> "TopK":
        """Return `num_rows` rows: these, and then rows without a teacher, which no loss counts."""
        more = num_rows - len(self)
        if more < 0:
            raise ValueError(f"cannot pad {len(self)} rows to {num_rows}")
        return TopK.unchecked(
            *(
                torch.cat([part, part.new_full((more, *part.shape[1:]), value)])
                for part, value in zip(self.tensors(), (0, IGNORED, 0, -math.inf), strict=True)
            ),
            self.temperature,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return tensors that `torch.save` and `torch.load(weights_only=True)` take."""
        temperature = torch.tensor(self.temperature, dtype=torch.float64)
        return dict(zip(self.__slots__, (*self.tensors(), temperature), strict=True))

    @staticmethod
    def from_state_dict(state: dict[str, Tensor]) -> "TopK":
        """Return the rows of a `state_dict`, checked again."""
        log_p_NK, ids_NK, lse_N, log_p_tail_N, temperature = (state[n] for n in TopK.__slots__)
        return TopK(log_p_NK, ids_NK, lse_N, log_p_tail_N, float(temperature))

    @staticmethod
    def from_logprobs(
        ids: Tensor, logprobs: Tensor, temperature: float = 1.0, *, num_words: int | None = None
    ) -> "TopK":
        """Return a teacher of k tokens' log-probabilities, as vLLM, SGLang and axolotl give them.

        Args:
            ids: (N, k) integer token ids, in any order; a row of IGNORED has no teacher.
            logprobs: (N, k) natural logarithms over the full vocabulary, *at* `temperature`; what
                they leave is the tail. -inf fills up rows with fewer tokens.
            temperature: that the server divided its logits by. vLLM's are of temperature 1
                whatever was sampled at, unless it is asked for processed ones.
            num_words: the size of the vocabulary: k of that many leave no tail.

        Raises:
            ValueError: shapes or dtypes do not fit, or a row's mass exceeds 1 by more than 1e-3.
        """
        wide = logprobs.double()
        head_N = wide.logsumexp(-1)
        over_N = head_N.clamp(min=0)  # rounding: a little more than everything
        log_tail_N = torch.log(-torch.expm1(head_N - over_N))
        if ids.shape[-1] == num_words:
            log_tail_N, over_N = torch.full_like(head_N, -torch.inf), head_N
        is_empty_N = (ids == IGNORED).all(1)
        log_tail_N = log_tail_N.masked_fill(is_empty_N, -torch.inf)
        excess = float(over_N.masked_fill(is_empty_N, 0).max()) if len(ids) else 0.0
        if excess > MASS:
            raise ValueError(
                f"log-probabilities of a row sum to exp({excess:.4g}) > 1: they must be natural "
                "logarithms over the full vocabulary, of unique tokens"
            )
        zero_N = torch.zeros_like(head_N, dtype=torch.float32)
        log_p_NK = (wide - over_N[:, None]).float()
        return TopK(log_p_NK, ids, zero_N, log_tail_N.float(), temperature)

    @staticmethod
    def from_logits(logits: Tensor, k: int, temperature: float = 1.0) -> "TopK":
        """Return the top-k of logits (N, V) that are there already, not divided by `temperature`.

        Of equal logits those of lower id are taken.
        """
        wide = logits.detach().double() / temperature
        order = wide.sort(dim=-1, descending=True, stable=True).indices
        ids = order[:, :k].sort(-1).values
        lse_N = wide.logsumexp(-1)
        tail_N = wide.scatter(-1, ids, -torch.inf).logsumexp(-1) - lse_N
        log_p = wide.gather(-1, ids) - lse_N[:, None]
        return TopK(log_p.float(), ids, lse_N.float(), tail_N.float(), temperature)

    @staticmethod
    def one_hot(ids_N: Tensor, temperature: float = 1.0) -> "TopK":
        """Return a teacher that is sure of one token in each row, with k = 1.

        Forward KL with `tail="bucket"` is then the cross-entropy of that token, -log q, and so is
        its gradient; the reverse KL is infinite, and `tail="renormalise"` leaves nothing. Rows
        whose id is IGNORED (-100) count for nothing.
        """
        zero_N = torch.zeros(ids_N.shape, dtype=torch.float32, device=ids_N.device)
        nothing_N = torch.full_like(zero_N, -torch.inf)
        parts = (zero_N[:, None], ids_N[:, None], zero_N, nothing_N)
        return TopK(*parts, temperature)

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
        joined = zip(*(part.tensors() for part in parts), strict=True)
        return TopK.unchecked(*(torch.cat(column) for column in joined), parts[0].temperature)


def check_structure(topk: TopK) -> None:
    """Raise ValueError for shapes, dtypes, devices or a temperature that make no teacher."""
    floats = (topk.log_p_NK, topk.lse_N, topk.log_p_tail_N)
    shapes = (topk.log_p_NK.shape, topk.ids_NK.shape, topk.lse_N.shape, topk.log_p_tail_N.shape)
    shape = tuple(topk.ids_NK.shape)
    if len(shape) != 2 or not shape[1] or shapes != (shape, shape, shape[:1], shape[:1]):
        raise ValueError(
            "topk must hold log_p_NK and ids_NK of shape (N, K), lse_N and log_p_tail_N of shape "
            f"(N,), got {', '.join(str(tuple(part)) for part in shapes)}; make it with teacher_topk"
        )
    if topk.ids_NK.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"ids_NK must be int64 or int32, got {topk.ids_NK.dtype}")
    if any(part.dtype not in (torch.float32, torch.float64) for part in floats):
        raise ValueError(
            "log_p_NK, lse_N and log_p_tail_N must be fp32 or fp64, got "
            f"{', '.join(str(part.dtype) for part in floats)}; half precision has too few digits"
        )
    if any(part.device != topk.ids_NK.device for part in floats):
        raise ValueError("the parts of topk are on different devices; move them to one")
    if not 0 < topk.temperature < math.inf:
        raise ValueError(f"the temperature of topk must be > 0 and finite, got {topk.temperature}")


# torch.load(weights_only=True) may then read a TopK itself, and not only its state_dict
torch.serialization.add_safe_globals([TopK])
