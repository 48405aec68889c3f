"""The activation unit of one Dice layer while it learns: real pairs alone, in blocks that fit a processor's cache.

With W = [W1 W2 W3 W4] the first layer is, for one query q, linear in the key:

    h_ij = M_i k_j + a_i      M_i = (W2 - W3) + W4 diag(q_i)      a_i = (W1 + W3) q_i + b

so no pair's input q * k is ever written down: a block of queries is one batched product. h is the only thing kept for
each pair; what Dice and the last layer make of it is computed again in the backward pass. The statistics join all
pairs, hence two passes over the blocks each way; the mean, being linear, is known before the first.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recattn.nn.scorers.pair_blocks import Scratch, real_pairs


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
        scratch = Scratch(query, blocks, len(bias))
        rows, _, length = mask.shape
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
        scratch = Scratch(query, ctx.blocks, len(mean))

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
        grad_keys = torch.zeros_like(keys)
        grad_product, grad_of_key = torch.zeros_like(of_key), torch.zeros_like(of_key)
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
        unit = grad_weight, grad_asked.sum(0), grad_alpha, grad_last, outer[None]
        return grad_query, grad_keys, None, *unit, None


class Unit(NamedTuple):
    """The activation unit's parameters, of one dtype, fp32 or wider.

    weight: (width, 4 dim) and bias: (width,), the first layer. alpha: (width,), Dice's.
    last_weight: (1, width) and last_bias: (1,), the last layer.
    """

    weight: Tensor
    bias: Tensor
    alpha: Tensor
    last_weight: Tensor
    last_bias: Tensor


def dice_scores(
    query: Tensor, keys: Tensor, mask: Tensor, unit: Unit, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores of the activation unit, and what its hidden layer was like over the real pairs.

    query: (rows * queries, dim). keys: (rows * length, dim). Of the unit's dtype.
    mask: (rows, queries, length) bool, True for real pairs. eps: Dice's.
    Returns scores (rows * queries * length,), 0 where masked; of the hidden layer the mean (width,), the sum of squared
    deviations from it (width,), both without gradient, and the number of real pairs ().
    """
    # A masked key may hold anything: it must not reach the sums over whole tables, where 0 * inf is not 0.
    keys = keys.masked_fill(~mask.any(1).view(-1, 1), 0.0)
    with torch.autocast(query.device.type, enabled=False):
        result: tuple[Tensor, Tensor, Tensor, Tensor] = DiceScores.apply(  # type: ignore[no-untyped-call]
            query, keys, mask, *unit, eps
        )
    return result


def _split(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[W1 W2 W3 W4] to what meets the query, the key and their product."""
    of_query, of_key, of_difference, of_product = weight.chunk(4, 1)
    return of_query + of_difference, of_key - of_difference, of_product.contiguous()


def _take(flat: Tensor, cells: Tensor) -> Tensor:
    return flat.index_select(0, cells.flatten()).view_as(cells)


def _add(flat: Tensor, cells: Tensor, values: Tensor) -> None:
    flat.index_add_(0, cells.flatten(), values.flatten())
