"""Attention between vectors that hash alike: rounds of hashing, and softmax over all that some round finds."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK_PAIRS = 2**18
"""So many scores exist at once: few enough to stay in a processor's cache, in both passes."""

LEAST = -80.0
"""Scores so far below a row's highest count as this far: e^-80 is nothing beside 1, and exp is slow below e^-87."""


class Rounds(NamedTuple):
    """Who finds whom: position i finds position j in a round where 0 <= place_i - place_j <= reach.

    order: int64 (..., rounds, length), the positions sorted by (bucket, position), masked ones last.
    ranks: int64, like it and its inverse: where in that order each position is.
    places: int32 (..., rounds, length), by position; a masked one's is out of everybody's reach.
    """

    order: Tensor
    ranks: Tensor
    places: Tensor
    reach: int
    chunk_size: int


def hash_buckets(vectors: Tensor, rotations: Tensor) -> Tensor:
    """The buckets argmax [xR; -xR] (Andoni et al. 2015), by head and round: a small angle mostly means one bucket.

    vectors: (batch, heads, length, dim). rotations: (heads, rounds, dim, buckets / 2).
    Returns int64 (batch, heads, rounds, length), in 0..buckets-1. The length of a vector plays no part.

    >>> hash_buckets(torch.tensor([[[[5.0, 1.0], [-5.0, 1.0]]]]), torch.eye(2)[None, None]).tolist()
    [[[[0, 2]]]]
    """
    buckets = []
    for rotation in rotations.unbind(1):  # one round's products at a time
        turned = vectors @ rotation
        best = turned.abs().argmax(-1, keepdim=True)
        buckets.append((best + rotation.shape[-1] * (turned.gather(-1, best) < 0)).squeeze(-1))
    return torch.stack(buckets, 2)


def sort_rounds(buckets: Tensor, mask: Tensor, chunk_size: int, *, causal: bool) -> Rounds:
    """Sort each round by (bucket, position) and say who finds whom there.

    buckets: int64 (batch, heads, rounds, length). mask: bool (batch, length), True for real.
    causal=False: the sorted events are cut into chunks; one finds its own chunk and the one before.
    causal=True: one finds the ``chunk_size`` events before it in its own bucket. Where chunks of the whole sequence
    begin depends on what comes later, and so would, of the past, what is found.

    >>> rounds = sort_rounds(torch.tensor([[[[1, 0, 1, 0]]]]), torch.ones(1, 4, dtype=torch.bool), 2, causal=False)
    >>> rounds.order.tolist(), rounds.places.tolist()
    ([[[[1, 3, 0, 2]]]], [[[[1, 0, 1, 0]]]])
    """
    real = mask[:, None, None]
    order = buckets.masked_fill(~real, torch.iinfo(buckets.dtype).max).argsort(stable=True, dim=-1)
    steps = torch.arange(buckets.shape[-1], device=buckets.device)
    ranks = torch.empty_like(order).scatter_(-1, order, steps.expand_as(order))
    if causal:  # neighbours in different buckets are put out of reach
        reach, places = chunk_size, ranks + buckets * chunk_size
    else:
        reach, places = 1, ranks // chunk_size
    # Steps below 0, each further than the reach: a masked position finds no other, and none finds it.
    places = torch.where(real, places, -(steps + 1) * (reach + 1)).int()
    return Rounds(order, ranks, places, reach, chunk_size)


def visible_pairs(rounds: Rounds, mask: Tensor) -> Tensor:
    """The specification of who sees whom, as a table (batch, heads, length, length) of bool.

    One sees what some round finds, however many rounds find it; itself only where there is nothing else.
    mask: bool (batch, length), True for real.
    """
    itself = torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    found = torch.zeros_like(itself)
    for places in rounds.places.unbind(-2):
        back = places.unsqueeze(-1) - places.unsqueeze(-2)
        found = found | ((back >= 0) & (back <= rounds.reach))
    others = found & ~itself
    return (others | (itself & ~others.any(-1, keepdim=True))) & (mask[:, None, :, None] & mask[:, None, None, :])


def attend_in_rounds(q: Tensor, k: Tensor, v: Tensor, rounds: Rounds) -> Tensor:
    """Softmax of q k^T over `visible_pairs`, times v, in rounds x length x chunk_size; memory grows with the length.

    q, k: (batch, heads, length, key_dim); v: (batch, heads, length, value_dim); the length a multiple of chunk_size.
    Returns (batch, heads, length, value_dim); what a masked position gets has no meaning.

    Each round gives softmax and logsumexp over what it finds and no earlier round found. Rounds are then weighed by
    exp(logsumexp of the round - logsumexp of all): a softmax over the union, every pair in it once.
    """
    order, ranks, places = (x.flatten(0, 1) for x in rounds[:3])
    out: Tensor = _AttendInRounds.apply(  # type: ignore[no-untyped-call]
        *(x.flatten(0, 1) for x in (q, k, v)), order, ranks, places, rounds.reach, rounds.chunk_size
    )
    return out.view(v.shape)


class _AttendInRounds(torch.autograd.Function):
    """`attend_in_rounds` on (groups, length, ...); the backward pass makes the scores again, block by block."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        order: Tensor,
        ranks: Tensor,
        places: Tensor,
        reach: int,
        chunk_size: int,
    ) -> Tensor:
        rounds = Rounds(order, ranks, places, reach, chunk_size)
        totals, outs = [], []
        for number in range(order.shape[1]):
            one = _Round(rounds, number)
            asking, keys, values = one.chunks(q), one.windows(k), one.windows(v)
            out = v.new_empty(*asking.shape[:2], v.shape[-1])
            total = q.new_empty(*asking.shape[:2], 1)
            for block in one.blocks():
                # Numbers for masks: filling in -inf, and exp of it, took as long as all of the rest.
                found = one.found(block).to(q.dtype)
                scores = (asking[block] @ keys[block].mT).sub_(1 - found, alpha=torch.finfo(q.dtype).max / 2)
                highest = scores.amax(-1, keepdim=True)
                weights = scores.sub_(highest).clamp_(min=LEAST).exp_().mul_(found)
                mass = weights.sum(-1, keepdim=True)
                total[block] = mass.log() + highest
                out[block] = (weights @ values[block]) / mass.clamp(min=torch.finfo(q.dtype).tiny)
            totals.append(one.unsort(total))
            outs.append(one.unsort(out))
        each = torch.stack(totals)
        total = each.logsumexp(0)
        others = total > -torch.inf
        total = total.masked_fill(~others, 0.0)
        shares = (each - total).exp()
        out = torch.where(others, (shares * torch.stack(outs)).sum(0), v)
        ctx.save_for_backward(q, k, v, out, total, others, order, ranks, places)
        ctx.reach, ctx.chunk_size = reach, chunk_size
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, k, v, out, total, others, order, ranks, places = ctx.saved_tensors
        rounds = Rounds(order, ranks, places, ctx.reach, ctx.chunk_size)
        grad_q, grad_k = torch.zeros_like(q), torch.zeros_like(k)
        grad_v = grad.masked_fill(others, 0.0)
        mean = (grad * out).sum(-1, keepdim=True)
        for number in range(order.shape[1]):
            one = _Round(rounds, number)
            asking, keys, values = one.chunks(q), one.windows(k), one.windows(v)
            slope, totals, means = one.chunks(grad), one.chunks(total), one.chunks(mean)
            to_asking, to_keys, to_values = torch.empty_like(asking), torch.empty_like(keys), torch.empty_like(values)
            for block in one.blocks():
                scores = (asking[block] @ keys[block].mT).sub_(totals[block])
                weights = scores.clamp_(LEAST, 0.0).exp_().mul_(one.found(block))
                to_values[block] = weights.mT @ slope[block]
                pull = (slope[block] @ values[block].mT).sub_(means[block]).mul_(weights)
                to_asking[block] = pull @ keys[block]
                to_keys[block] = pull.mT @ asking[block]
            grad_q += one.unsort(to_asking)
            grad_k += one.unsort(one.fold(to_keys))
            grad_v += one.unsort(one.fold(to_values))
        return grad_q, grad_k, grad_v, None, None, None, None, None


class _Round:
    """One round of (groups, rounds, length): tensors by position to chunks (groups x chunks, chunk_size, dim) and back.

    A window is a chunk and the one before it: (groups x chunks, 2 chunk_size, dim); before the first there is nothing.
    """

    def __init__(self, rounds: Rounds, number: int) -> None:
        self.groups, _, self.length = rounds.order.shape
        self.reach, self.chunk_size = rounds.reach, rounds.chunk_size
        first = torch.arange(self.groups, device=rounds.order.device).unsqueeze(-1) * self.length
        self.order = (rounds.order[:, number] + first).flatten()
        self.ranks = (rounds.ranks[:, number] + first).flatten()
        # This round's places, then those of the earlier ones: what they found is theirs.
        self.asking = [self.chunks(rounds.places[:, i].unsqueeze(-1)) for i in range(number, -1, -1)]
        self.asked = [self._look_back(place, nothing=2**30).mT for place in self.asking]

    def chunks(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).index_select(0, self.order).view(-1, self.chunk_size, x.shape[-1])

    def windows(self, x: Tensor) -> Tensor:
        return self._look_back(self.chunks(x))

    def _look_back(self, chunks: Tensor, nothing: float = 0.0) -> Tensor:
        before = F.pad(self._by_group(chunks), (0, 0, 0, 0, 1, -1), value=nothing).view(chunks.shape)
        return torch.cat([before, chunks], 1)

    def fold(self, windows: Tensor) -> Tensor:
        """What reached each chunk, from its own window and from the next one's."""
        before, own = windows.split(self.chunk_size, 1)
        later = F.pad(self._by_group(before), (0, 0, 0, 0, -1, 1))
        folded: Tensor = own + later.view(own.shape)
        return folded

    def unsort(self, chunks: Tensor) -> Tensor:
        by_rank = chunks.flatten(0, 1).index_select(0, self.ranks)
        return by_rank.view(self.groups, self.length, chunks.shape[-1])

    def _by_group(self, chunks: Tensor) -> Tensor:
        return chunks.reshape(self.groups, self.length // self.chunk_size, *chunks.shape[1:])

    def blocks(self) -> list[slice]:
        if torch.compiler.is_compiling():
            return [slice(None)]
        step = max(1, BLOCK_PAIRS // (2 * self.chunk_size**2))
        return [slice(first, first + step) for first in range(0, self.asking[0].shape[0], step)]

    def found(self, block: slice) -> Tensor:
        """1 for pairs of these chunks and windows that this round is the first to find, else 0; never for oneself."""
        back = self.asking[0][block] - self.asked[0][block]
        found = back.clamp(0, self.reach).eq_(back)
        found.diagonal(self.chunk_size, -2, -1).zero_()
        for asking, asked in zip(self.asking[1:], self.asked[1:], strict=True):
            back = asking[block] - asked[block]
            found.mul_(back.clamp(0, self.reach).ne_(back))
        return found
