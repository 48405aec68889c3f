"""Pairs of queries and keys put together in blocks: only real ones, and as many at a time as a cache can hold."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_PAIRS = 2**12
"""Pairs of a block on a CPU: 1 MB for 64 numbers each, a few of which stay in the second and third level of cache.

What a block needs for a moment is written to the same memory as the block before: fresh pages cost more than the sums.
"""


class Block(NamedTuple):
    """Queries with about the same number of keys, and these keys.

    queries: (queries,) numbers of the queries. keys: (queries, width) numbers of their keys.
    cells: (queries, width) where the pairs are in the flattened table of scores.
    real: (queries, width, 1), 0 for pairs that only fill a row; None: all are real. A filler has key and cell 0.
    """

    queries: Tensor
    keys: Tensor
    cells: Tensor
    real: Tensor | None


def real_pairs(mask: Tensor, dtype: torch.dtype = torch.float32, *, dim: int = 1) -> list[Block]:
    """The pairs of a table (rows, queries, length) of bool, in blocks.

    dim: numbers that a query needs for each hidden channel; one with fewer keys than that counts as so many pairs.

    >>> block, = real_pairs(torch.tensor([[[True, False, True], [False, False, True]]]))
    >>> block.queries.tolist(), block.keys.tolist(), block.real.squeeze(-1).tolist()
    ([0, 1], [[0, 2], [2, 0]], [[1.0, 1.0], [1.0, 0.0]])
    """
    table = mask.shape[1] * mask.shape[2]
    counts = mask.sum(-1).flatten()
    cells = mask.flatten().nonzero().squeeze(1)
    keys = cells // table * mask.shape[2] + cells % mask.shape[2]
    starts = counts.cumsum(0) - counts
    # Longest first: neighbours have about the same number of keys, so that there is next to nothing to fill.
    sizes, order = counts.sort(descending=True, stable=True)
    bound = BLOCK_PAIRS if mask.device.type == "cpu" else 2**20
    blocks, widths, first = [], sizes.tolist(), 0
    while first < len(widths) and widths[first]:
        width = widths[first]
        some = slice(first, first + max(1, bound // max(width, dim)))
        steps = torch.arange(width, device=mask.device)
        pairs = starts[order[some], None] + steps
        if widths[some][-1] == width:
            blocks.append(Block(order[some], keys[pairs], cells[pairs], None))
        else:
            real = steps < sizes[some, None]
            pairs = pairs.where(real, 0)
            blocks.append(Block(order[some], keys[pairs] * real, cells[pairs] * real, real[..., None].to(dtype)))
        first = some.stop
    return blocks


class Scratch:
    """Two pieces of memory for what a block needs only for a moment."""

    def __init__(self, like: Tensor, blocks: list[Block], width: int) -> None:
        self.dim, self.width = like.shape[1], width
        pairs = max((block.keys.numel() for block in blocks), default=0) * max(self.dim, width)
        matrices = max((len(block.queries) for block in blocks), default=0) * self.dim * width
        self.memory = like.new_empty(2, max(pairs, matrices))

    def pairs(self, piece: int, block: Block) -> Tensor:
        """(queries, pairs of each, width)."""
        return self._piece(piece, *block.keys.shape, self.width)

    def rows_like(self, piece: int, block: Block) -> Tensor:
        """(queries, pairs of each, dim)."""
        return self._piece(piece, *block.keys.shape, self.dim)

    def matrices(self, piece: int, block: Block) -> Tensor:
        """(queries, width, dim)."""
        return self._piece(piece, len(block.queries), self.width, self.dim)

    def rows(self, piece: int, table: Tensor, block: Block) -> Tensor:
        """The rows of the block's keys in a table, (queries, pairs of each, dim)."""
        found = self.rows_like(piece, block)
        torch.index_select(table, 0, block.keys.flatten(), out=found.flatten(0, 1))
        return found

    def _piece(self, piece: int, *shape: int) -> Tensor:
        return self.memory[piece, : math.prod(shape)].view(shape)
