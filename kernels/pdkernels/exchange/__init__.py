"""Exchange teachers with other programs: a file format, and readers of other libraries' columns."""

from pdkernels.exchange.columns import from_axolotl, from_prompt_logprobs, from_sparse
from pdkernels.exchange.files import read_topk, write_topk

__all__ = ["from_axolotl", "from_prompt_logprobs", "from_sparse", "read_topk", "write_topk"]
