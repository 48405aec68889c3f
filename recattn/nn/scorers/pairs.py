"""Score every (query, key) pair in blocks, so that what a pair needs inside never exists for all pairs at once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PAIR_ELEMENTS = 2**24
"""At most this many numbers (64 MB in fp32) of one pairs x width tensor exist at a time, or one pair of each row."""
CACHE_ELEMENTS = 2**18
"""The same where no gradient is recorded: 1 MB, so that a block's steps find it in the cache, 2 times as fast."""


def score_pairs(
    block: Callable[[slice, slice], Tensor], *, rows: int, queries: int, length: int, width: int, bound: int
) -> Tensor:
    """Scores (..., queries, length), put together from ``block(queries, keys) -> (..., some queries, some keys)``.

    rows: how many (queries x length) tables there are; width: numbers that one pair needs inside the block.
    bound: numbers that one block may hold. Blocks are cut over the queries; where a single query is still too much,
    over the keys as well, down to one pair of each row. Where gradients are recorded the blocks are recomputed in the
    backward pass (one more forward pass), so training memory is bounded as well.
    In one piece while a graph is captured by torch.export or torch.compile: its sizes are symbols there.

    >>> outer = lambda i, j: torch.arange(3.0)[i, None] * torch.arange(4.0)[None, j]
    >>> score_pairs(outer, rows=1, queries=3, length=4, width=1, bound=2)[2].tolist()
    [0.0, 2.0, 4.0, 6.0]
    """
    everything = slice(None)
    if not torch.is_grad_enabled():
        bound = min(bound, CACHE_ELEMENTS)
    if torch.compiler.is_compiling() or rows * queries * length * width <= bound:
        return block(everything, everything)

    def run(some_queries: slice, some_keys: slice) -> Tensor:
        if not torch.is_grad_enabled():
            return block(some_queries, some_keys)
        scores: Tensor = checkpoint(block, some_queries, some_keys, use_reentrant=False, preserve_rng_state=False)
        return scores

    query_step = max(1, bound // (rows * length * width))
    key_step = length if query_step > 1 else max(1, min(length, bound // (rows * width)))
    return torch.cat(
        [
            torch.cat([run(slice(i, i + query_step), slice(j, j + key_step)) for j in range(0, length, key_step)], -1)
            for i in range(0, queries, query_step)
        ],
        -2,
    )


def count_rows(query: Tensor, keys: Tensor) -> int:
    """How many (queries x length) tables the broadcast leading axes of (..., queries, dim), (..., length, dim) make.

    >>> count_rows(torch.zeros(5, 1, 2, 3), torch.zeros(7, 4, 3))
    35
    """
    shape: torch.Size = torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2])
    return math.prod(shape)
