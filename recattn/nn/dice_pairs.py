"""The activation unit of one Dice layer while it learns: real pairs alone, in blocks that fit a processor's cache.

With W = [W1 W2 W3 W4] the first layer is, for one query q, linear in the key:

    h_ij = M_i k_j + a_i      M_i = (W2 - W3) + W4 diag(q_i)      a_i = (W1 + W3) q_i + b

so no pair's input q * k is ever written down: a block of queries is one batched product. h is the only thing kept for
each pair; what Dice and the last layer make of it is computed again in the backward pass. The statistics join all
pairs, hence two passes over the blocks each way; the mean, being linear, is known before the first.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

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
    _, queries, length = mask.shape
    counts = mask.sum(-1).flatten()
    cells = mask.flatten().nonzero().squeeze(1)
    keys = cells // (queries * length) * length + cells % length
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


class DiceScores(Function):
    """Scores (rows * queries * length,), 0 where masked, and the moments of the hidden layer.

    query (queries of all rows, dim), keys (keys of all rows, dim), mask (rows, queries, length),
    weight (width, 4 dim) and bias (width,) of the first layer, alpha (width,) of Dice, weight (1, width) and bias (1,)
    of the last, eps of Dice.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own signature
        query: Tensor,
        keys: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        alpha: Tensor,
        last_weight: Tensor,
        last_bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        blocks = real_pairs(mask, query.dtype, dim=query.shape[1])
        scratch = _Scratch(query, blocks, len(bias))
        rows, queries, length = mask.shape
        of_query, of_key, of_product = _split(weight)
        asked = torch.addmm(bias, query, of_query.t())
        counts = mask.sum(-1).flatten().to(query.dtype)
        count = counts.sum()
        met = (mask.to(query.dtype) @ keys.unflatten(0, (rows, length))).flatten(0, 1)  # each query's keys, added up
        total = of_product @ (query * met).sum(0) + of_key @ met.sum(0) + counts @ asked
        mean = total / count.clamp(min=1)
        centred = asked - mean

        squares = torch.zeros_like(mean)
        hidden = []  # of each block: h - mean, 0 for fillers
        for block in blocks:
            matrix = torch.addcmul(of_key, of_product, query[block.queries, None], out=scratch.matrices(0, block))
            z = torch.baddbmm(centred[block.queries, None], scratch.rows(1, keys, block), matrix.mT)
            if block.real is not None:
                z *= block.real
            squares += torch.mul(z, z, out=scratch.pairs(1, block)).sum((0, 1))
            hidden.append(z)

        scale = (squares / count.clamp(min=1) + eps).rsqrt()
        still = last_weight[0] * alpha
        gated = last_weight[0] - still
        constant = last_bias + still @ mean
        scores = query.new_zeros(mask.numel())
        for block, z in zip(blocks, hidden, strict=True):
            p = torch.mul(z, scale, out=scratch.pairs(0, block)).sigmoid_()
            score = p @ (gated * mean) + constant
            score += z @ still
            score += p.mul_(z) @ gated
            if block.real is not None:
                score *= block.real[..., 0]
            _add(scores, block.cells, score)
        ctx.save_for_backward(query, keys, weight, alpha, last_weight, mean, scale, count)
        ctx.blocks, ctx.hidden = blocks, hidden
        ctx.mark_non_differentiable(mean, squares, count)
        return scores, mean, squares, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, keys, weight, alpha, last_weight, mean, scale, count = ctx.saved_tensors
        of_query, of_key, of_product = _split(weight)
        still = last_weight[0] * alpha
        gated = last_weight[0] - still

        scratch = _Scratch(query, ctx.blocks, len(mean))

        # First pass: through the last layer and the gate, with the statistics held still; and what they add up to.
        outer, direct = torch.zeros((), dtype=query.dtype, device=query.device), []
        sum_z, sum_hp, sum_e, sum_ez = torch.zeros((4, len(mean)), dtype=query.dtype, device=query.device)
        for block, z in zip(ctx.blocks, ctx.hidden, strict=True):
            s = _take(slope, block.cells)
            if block.real is not None:
                s = s * block.real[..., 0]
            flat = s.flatten()
            p = torch.mul(z, scale, out=scratch.pairs(0, block)).sigmoid_()
            hp = torch.add(z, mean, out=scratch.pairs(1, block)).mul_(p)
            e = torch.addcmul(hp, hp, p, value=-1)  # h p (1 - p)
            outer += flat.sum()
            sum_z += flat @ z.flatten(0, 1)
            sum_hp += flat @ hp.flatten(0, 1)
            sum_e += flat @ e.flatten(0, 1)
            sum_ez += flat @ torch.mul(e, z, out=hp).flatten(0, 1)
            direct.append(e.mul_(gated * scale).add_(still).addcmul_(p, gated).mul_(s[..., None]))

        # Second pass: add the way through mean and variance, then back through the products.
        by_mean = -scale * gated * sum_e / count
        by_variance = -(scale**3) * gated * sum_ez / count
        grad_query, grad_asked = torch.zeros_like(query), torch.zeros_like(query[:, :1] * mean)
        grad_keys, grad_product, grad_of_key = torch.zeros_like(keys), torch.zeros_like(of_key), torch.zeros_like(of_key)
        for block, z, grad in zip(ctx.blocks, ctx.hidden, direct, strict=True):
            grad.addcmul_(z, by_variance).add_(by_mean)
            if block.real is not None:
                grad *= block.real
            asking = query[block.queries, None]
            matrix = torch.addcmul(of_key, of_product, asking, out=scratch.matrices(0, block))
            grad_rows = torch.bmm(grad, matrix, out=scratch.rows_like(1, block))
            grad_keys.index_add_(0, block.keys.flatten(), grad_rows.flatten(0, 1))
            grad_matrix = torch.bmm(grad.mT, scratch.rows(1, keys, block), out=scratch.matrices(0, block))
            grad_asked[block.queries] = grad.sum(1)
            grad_of_key += grad_matrix.sum(0)
            grad_query[block.queries] = torch.mul(grad_matrix, of_product, out=scratch.matrices(1, block)).sum(1)
            grad_product += grad_matrix.mul_(asking).sum(0)

        grad_query.addmm_(grad_asked, of_query)
        grad_of_query = grad_asked.t() @ query
        grad_weight = torch.cat([grad_of_query, grad_of_key, grad_of_query - grad_of_key, grad_product], 1)
        sum_h = sum_z + outer * mean
        grad_alpha = last_weight[0] * (sum_h - sum_hp)
        grad_last = (alpha * sum_h + (1 - alpha) * sum_hp)[None]
        grads = (grad_query, grad_keys, None, grad_weight, grad_asked.sum(0), grad_alpha, grad_last, outer[None], None)
        return grads


def dice_scores(
    query: Tensor,
    keys: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    alpha: Tensor,
    last_weight: Tensor,
    last_bias: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores of the activation unit, and what its hidden layer was like over the real pairs.

    query: (rows * queries, dim). keys: (rows * length, dim). mask: (rows, queries, length) bool, True for real pairs.
    weight: (width, 4 dim) and bias: (width,), the first layer; alpha: (width,) and eps, Dice's; last_weight: (1, width)
    and last_bias: (1,), the last layer. All of one dtype, fp32 or wider.
    Returns scores (rows * queries * length,), 0 where masked; of the hidden layer the mean (width,), the sum of squared
    deviations from it (width,), both without gradient, and the number of real pairs ().
    """
    # A masked key may hold anything: it must not reach the sums over whole tables, where 0 * inf is not 0.
    keys = keys.masked_fill(~mask.any(1).view(-1, 1), 0.0)
    result: tuple[Tensor, Tensor, Tensor, Tensor] = DiceScores.apply(
        query, keys, mask, weight, bias, alpha, last_weight, last_bias, eps
    )  # type: ignore[no-untyped-call]
    return result


def _split(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[W1 W2 W3 W4] to what meets the query, the key and their product."""
    of_query, of_key, of_difference, of_product = weight.chunk(4, 1)
    return of_query + of_difference, of_key - of_difference, of_product.contiguous()


class _Scratch:
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


def _take(flat: Tensor, cells: Tensor) -> Tensor:
    return flat.index_select(0, cells.flatten()).view_as(cells)


def _add(flat: Tensor, cells: Tensor, values: Tensor) -> None:
    flat.index_add_(0, cells.flatten(), values.flatten())
