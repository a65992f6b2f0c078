"""Say how the products of rows and words become logits: scale, bias, soft cap and temperature.

With W the head, b its bias, s the scale, c the soft cap and T the temperature,

    a = z / T,  z = c tanh(y / c),  y = s (W h + b)

and z = y without a soft cap, or where y is -inf: a bias of -inf takes a word out. Gemma 2 caps,
Cohere and Granite scale, Phi and GPT-J have a bias. The derivative of a by W h is
(s / T) (1 - (z / c)**2): the constant joins the gradient at its end; the *slope* 1 - (z / c)**2,
between 0 and 1, weights each word.

N rows · D hidden size · V vocabulary · K top-k · R rows of a block · S words of a slab: suffixes
name dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Logits:
    """Hold what makes logits of products.

    Args:
        temperature: divides the logits, > 0.
        scale: multiplies the products, bias included, > 0.
        softcap: the largest absolute logit before the temperature; None leaves them alone.
        bias_V: (V,) is added to the products; None adds nothing.
    """

    temperature: float
    scale: float = 1.0
    softcap: float | None = None
    bias_V: Tensor | None = None

    @property
    def before(self) -> float:
        """Return what multiplies a product: gives the logit in base 2, or y / c with a soft cap."""
        if self.softcap is None:
            return self.after * self.scale
        return self.scale / self.softcap

    @property
    def after(self) -> float:
        """Return what makes a logit in base 2: log2(e) / T, times c with a soft cap."""
        cap = 1.0 if self.softcap is None else self.softcap
        return math.log2(math.e) * cap / self.temperature

    def uncapped(self, product_RS: Tensor, words: slice) -> Tensor:
        """Add the bias to a slab's products of rows times `before`, in place.

        The results are base-2 logits, or, with a soft cap, y / c: these sort as the logits do, and
        differ where capped logits in fp32 are all alike.
        """
        if self.bias_V is not None:
            product_RS += self.bias_V[words].to(product_RS) * self.before
        return product_RS

    def capped(self, uncapped: Tensor) -> Tensor:
        """Make base-2 logits of what `uncapped` returned, in place; -inf stays -inf."""
        if self.softcap is None:
            return uncapped
        left_out = uncapped == -torch.inf
        return uncapped.tanh_().mul_(self.after).masked_fill_(left_out, -torch.inf)

    def slope(self, logits_RS: Tensor) -> Tensor | None:
        """Return the slopes of base-2 logits; None is all 1. That of -inf is 0."""
        if self.softcap is None:
            return None
        return 1 - (logits_RS / self.after).clamp_(min=-1).square_()

    def at_ids(self, product_NK: Tensor, ids_NK: Tensor) -> Tensor:
        """Make logits of the products of k words, in place; ids lie within the head."""
        if self.bias_V is not None:
            product_NK += self.bias_V.to(product_NK)[ids_NK]
        if self.scale != 1:
            product_NK *= self.scale
        if self.softcap is not None:
            left_out_NK = product_NK == -torch.inf
            product_NK.div_(self.softcap).tanh_().mul_(self.softcap)
            product_NK.masked_fill_(left_out_NK, -torch.inf)
        return product_NK.div_(self.temperature)

    def slope_at(self, logits_NK: Tensor) -> Tensor | None:
        """Return the slopes of logits that `at_ids` made; None is all 1."""
        if self.softcap is None:
            return None
        capped_NK = logits_NK.clamp(min=-self.softcap / self.temperature)  # -inf has no slope
        return 1 - (capped_NK * (self.temperature / self.softcap)).square()
