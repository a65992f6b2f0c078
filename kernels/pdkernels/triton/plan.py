"""Choose how many words one launch does, by the rows, the vocabulary and the card.

A slab of fp32 logits is written by a matrix product and read by the kernels of the rows: it should
stay in the second-level cache between the two, and so be narrow where rows are many; and it should
be as wide as that allows, because every slab costs a launch of each. The hidden size has no part in
it: the product reads its operands once whatever the width is.
"""

from dataclasses import dataclass

import torch

ROWS = 4096  # rows of a block
CHUNK = 2048  # words that a kernel of the rows holds at once
TILE = 256  # words of a product's tile
WIDEST = 16_384  # words of a slab
CACHE_BYTES = 50 * 2**20  # where the card does not say, or says that of one of its dies (AMD)
EXP_BYTES = 2**27  # of the exponentials that one product takes, at most
EXP_WORDS = 32_768  # of one product, at most: more saves little of the time, and takes memory


@dataclass(frozen=True)
class Plan:
    """Hold the words of one launch.

    Args:
        slab: words of a product that writes logits; a multiple of `chunk`.
        group: words of a product of exponentials; a multiple of `slab`.
        chunk: words that a kernel of the rows holds at once.
    """

    slab: int
    group: int
    chunk: int


def plan(num_rows: int, num_words: int, itemsize: int, cache_bytes: int) -> Plan:
    """Return the words of each launch.

    Args:
        num_rows: of the call; blocks have up to ROWS of them.
        num_words: of the head.
        itemsize: bytes of an exponential, which has the rows' dtype.
        cache_bytes: of the second-level cache, of which two thirds are for the slab.
    """
    rows = max(1, min(num_rows, ROWS))
    fit = min(WIDEST, cache_bytes * 2 // 3 // (4 * rows))
    if fit < CHUNK:
        slab = chunk = max(TILE, fit // TILE * TILE)
    else:
        num_slabs = -(-num_words // (fit // CHUNK * CHUNK))
        slab, chunk = -(-num_words // (num_slabs * CHUNK)) * CHUNK, CHUNK
    num_slabs = -(-num_words // slab)
    most = max(1, min(EXP_WORDS, EXP_BYTES // (rows * itemsize)) // slab)
    num_groups = -(-num_slabs // most)
    return Plan(slab, slab * -(-num_slabs // num_groups), chunk)


def cache_of(device: torch.device) -> int:
    """Return the bytes of a device's second-level cache."""
    if device.type != "cuda" or torch.version.hip is not None:
        return CACHE_BYTES
    return getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or CACHE_BYTES
