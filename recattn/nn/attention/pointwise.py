"""Attention whose weights are SiLU gates and need no denominator, in blocks that fit the cache."""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recattn.nn.attended import at_least_float32, causal_mask, fill_masked

CPU_ELEMENTS = 2**19
"""Scores that a block may hold on a CPU: 2 MB in fp32, so that they stay in its cache."""
DEVICE_ELEMENTS = 2**24
"""The same elsewhere, where many small steps would leave a device idle."""
MAX_QUERIES, MAX_CAUSAL_QUERIES = 512, 32
"""Queries of a block at most. A causal one looks at the keys up to its last query: short blocks skip almost half."""


def pointwise_weights(
    q: Tensor, k: Tensor, mask: Tensor | None, bias: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    """SiLU(q_i · k_j + bias_ij) where the mask lets through, 0 elsewhere; arguments as in `pointwise_attention`.

    Masked after the activation: without a denominator nothing leaks.
    Returns (batch, heads, queries, length) in fp32 or wider.

    >>> q, k = torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 2, 3)
    >>> pointwise_weights(q, k, None, torch.full((1, 1, 1, 1), 20.0)).tolist()
    [[[[20.0, 20.0]]]]
    """
    weights = F.silu(_scores(q, k, bias))
    weights = fill_masked(weights, causal_mask(q.shape[-2], q.device), 0.0) if causal else weights
    return fill_masked(weights, mask, 0.0)


def pointwise_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    """`pointwise_weights` times v, without holding the weights: sum_j SiLU(q_i · k_j + bias_ij) v_j.

    q: (batch, heads, queries, key_dim); k: (batch, heads, length, key_dim); v: (batch, heads, length, value_dim).
    mask: bool, bias: finite numbers, both of four axes that broadcast to (batch, heads, queries, length).
    causal: query i sees keys 0..i only, of as many keys as queries.
    Returns (batch, heads, queries, value_dim) in fp32 or wider, 0 where nothing is let through.

    No more than CPU_ELEMENTS or DEVICE_ELEMENTS scores exist at a time, forward and backward: the sum goes through
    blocks of rows, queries and keys, and the backward pass computes their scores once more. It has no gradient of its
    gradient. In one piece while a graph is captured by torch.export or torch.compile: its sizes are symbols there.

    >>> q, k = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 5, 3)
    >>> pointwise_attention(q, k, torch.ones(1, 1, 5, 1), None, torch.full((1, 1, 1, 1), 20.0)).flatten().tolist()
    [100.0, 100.0]
    """
    # Gates and sums of them have no bound. fp16 does not hold them, and on a CPU it is slower than fp32 besides.
    q, k, v = (x.float() if x.dtype == torch.float16 else x for x in (q, k, v))
    if torch.compiler.is_compiling():
        return at_least_float32(pointwise_weights(q, k, mask, bias, causal=causal).to(v.dtype) @ v)
    if mask is not None and mask.shape[-2] == 1 and q.shape[-2] > q.shape[-1]:
        # As there is no denominator, a key that no query sees need only have v = 0. Where the queries are many, that is
        # less work than to hide its pairs. (And k = 0, so that garbage does not overflow: infinity times 0 is NaN.)
        unseen = ~mask.mT
        k, v, mask = k.masked_fill(unseen, 0.0), v.masked_fill(unseen, 0.0), None
    attended: Tensor = _PointwiseAttention.apply(q, k, v, mask, bias, causal)  # type: ignore[no-untyped-call]
    return attended


def _scores(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """What the gates are made from: q k^T + bias in fp32 or wider."""
    scores = at_least_float32(q @ k.mT)
    return scores if bias is None else scores + bias


class _Block(NamedTuple):
    """Which rows of the batch, heads, queries and keys are looked at together."""

    rows: slice
    heads: slice
    queries: slice
    keys: slice

    @property
    def asking(self) -> tuple[slice, ...]:
        """The block's part of what has (batch, heads, queries, dim)."""
        return self.rows, self.heads, self.queries

    @property
    def asked(self) -> tuple[slice, ...]:
        """The block's part of what has (batch, heads, length, dim)."""
        return self.rows, self.heads, self.keys

    def cut(self, table: Tensor) -> Tensor:
        """The block's part of a mask or bias of four axes, each of full size or 1."""
        return table[tuple(slice(None) if size == 1 else part for size, part in zip(table.shape, self, strict=True))]

    def scores(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        """Scores (rows, heads, queries, keys)."""
        return _scores(q[self.asking], k[self.asked], None if bias is None else self.cut(bias))

    def hide(self, pairs: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """The numbers of the block's pairs with 0 for those that are not to be seen; SiLU makes a gate of 0 from it."""
        if causal and self.keys.stop > self.queries.start + 1:
            pairs.tril_(self.queries.start - self.keys.start)
        return pairs if mask is None else pairs.masked_fill_(~self.cut(mask), 0.0)


def _slices(total: int, size: int) -> list[slice]:
    """0..total in pieces of a size."""
    return [slice(first, min(first + size, total)) for first in range(0, total, max(size, 1))]


def _blocks(q: Tensor, k: Tensor, *, causal: bool) -> Iterator[_Block]:
    """Blocks that cover all pairs but those of a query with a key of the future."""
    batch, heads, queries, _ = q.shape
    length = k.shape[-2]
    on_cpu = q.device.type == "cpu"
    bound = CPU_ELEMENTS if on_cpu else DEVICE_ELEMENTS
    # A product of several heads of several rows copies them first, as heads are split from what lies side by side.
    some_heads = 1 if on_cpu and batch > 1 else heads
    some_queries = min(queries, MAX_CAUSAL_QUERIES if causal else MAX_QUERIES)
    some_keys = min(length, max(1, bound // max(1, some_heads * some_queries)))
    some_rows = max(1, bound // max(1, some_heads * some_queries * some_keys))
    for rows, which, asking in product(
        _slices(batch, some_rows), _slices(heads, some_heads), _slices(queries, some_queries)
    ):
        for keys in _slices(asking.stop if causal else length, some_keys):
            yield _Block(rows, which, asking, keys)


class _PointwiseAttention(torch.autograd.Function):
    """The sum with its gradient written out: each pass goes through the blocks, none keeps their scores."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
        causal: bool,  # noqa: FBT001
    ) -> Tensor:
        # Sums over blocks are kept in fp32 or wider, here and in the backward pass.
        attended = v.new_zeros(*q.shape[:-1], v.shape[-1], dtype=at_least_float32(v).dtype)
        for block in _blocks(q, k, causal=causal):
            gates = F.silu(block.hide(block.scores(q, k, bias), mask, causal=causal))
            attended[block.asking] += gates.to(v.dtype) @ v[block.asked]
        ctx.save_for_backward(q, k, v, mask, bias)
        ctx.causal = causal
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, k, v, mask, bias = ctx.saved_tensors
        of_q, of_k, of_v = (torch.zeros_like(x, dtype=at_least_float32(x).dtype) for x in (q, k, v))
        of_bias = torch.zeros_like(bias, dtype=at_least_float32(bias).dtype) if ctx.needs_input_grad[4] else None
        for block in _blocks(q, k, causal=ctx.causal):
            asking, asked = block.asking, block.asked
            scores = block.hide(block.scores(q, k, bias), mask, causal=ctx.causal)
            some_slope = slope[asking].to(v.dtype)
            of_v[asked] += F.silu(scores).to(v.dtype).mT @ some_slope
            of_gates = at_least_float32(some_slope @ v[asked].mT)
            of_scores = torch.ops.aten.silu_backward(block.hide(of_gates, mask, causal=ctx.causal), scores)
            if of_bias is not None:
                part = block.cut(of_bias)
                part += of_scores.sum_to_size(part.shape)
            of_scores = of_scores.to(q.dtype)
            of_q[asking] += of_scores @ k[asked]
            of_k[asked] += of_scores.mT @ q[asking]
        of_bias = None if of_bias is None else of_bias.to(bias.dtype)
        return of_q.to(q.dtype), of_k.to(k.dtype), of_v.to(v.dtype), None, of_bias, None
