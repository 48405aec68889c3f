"""The sum of what hashes like the query: a history becomes a table of sums, made once a user."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, at_least_float32, fill_masked
from recattn.nn.attention.heads import shared_mask
from recattn.nn.checks import check_count
from recattn.nn.search.hashing import sides

SHORTEST_SUM = 1e-12
"""A bucket whose sum is shorter than this is left as it is: nothing can be said of its direction."""


class BucketHashPooling(nn.Module):
    """out_i = mean over groups g of unit( sum of v_j over the j with code_g(k_j) = code_g(q_i) ).

    SDIM (Cao et al. 2022, section 4.2). A code is the signs of num_bits random projections; query and event fall into
    the same bucket of a group with probability (1 - theta / pi)^num_bits, theta being the angle between them.

    dim: width of query and keys, which live in one space. num_groups: >= 1; the paper has 16 and finds that more change
    little. num_bits: 1 to 16, signs in a code; more make for sharper attention. normalize: whether each sum is divided
    by its L2 length, as in the paper; without it the output grows with the history. Raises ConfigError otherwise.

    Weights are such that output = weights @ values, and of kind ``count``: in how many of the groups did the event
    share the query's bucket, each divided by num_groups and, under ``normalize``, by the length of that bucket's sum.
    They have no gradient towards query and keys, nor has the output: hashing has none. Empty buckets give 0, and so
    does a history of nothing. Hyperplanes are a buffer: the same in every pass and in a saved model.

    `summarize` needs no query: num_groups x 2^num_bits sums a user, to be kept; `ask` looks up one sum a group. Sums
    are a product with the events' one-hot codes: measured on one core for 1e5 events, 16 groups, 3 bits, 64 wide, 57 ms
    forward and backward against 237 ms by ``index_add``. `reference` compares every pair. Cost: length x num_groups x
    2^num_bits x width once, then queries x num_groups x width; with the weights also queries x length x num_groups x
    2^num_bits.

    >>> layer = BucketHashPooling(3, num_groups=4, num_bits=2)
    >>> query, history = torch.randn(2, 5, 3), torch.randn(2, 7, 3)
    >>> summary = layer.summarize(history)
    >>> summary.shape, torch.allclose(layer.ask(query, summary), layer(query, history).output)
    (torch.Size([2, 4, 4, 3]), True)
    """

    weights_kind: WeightsKind = "count"
    summarises: ClassVar[bool] = True  # one mask for all queries, and no bias
    planes: Tensor

    def __init__(self, dim: int, *, num_groups: int, num_bits: int, normalize: bool = True) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("num_groups", num_groups)
        check_count("num_bits", num_bits)
        if num_bits > 16:
            raise ConfigError(f"num_bits must be at most 16, as each group has 2^num_bits sums, got {num_bits}")
        self.dim, self.num_groups, self.num_bits, self.normalize = dim, num_groups, num_bits, normalize
        self.register_buffer("planes", torch.empty(dim, num_groups * num_bits))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the hyperplanes."""
        self.redraw()

    def redraw(self) -> None:
        """Draw the hyperplanes anew from N(0, 1). Summaries made before are then without meaning."""
        nn.init.normal_(self.planes)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
    ) -> Attended:
        """Ask the history.

        query: (batch, queries, dim), or (batch, dim) for one query a row. keys: (batch, length, dim).
        values: (batch, length, value_dim), by default the keys. mask: bool, (batch, length), True for real.
        Returns output (batch, queries, value_dim), or (batch, value_dim), and weights (batch, queries, length).
        Raises ConfigError for a bias, and for a mask for each query.
        """
        if bias is not None:
            raise ConfigError("bias must be None: events are summed before anything is asked, and get no scores")
        mask = shared_mask("BucketHashPooling", mask, keys)
        members = self._members(keys, mask)
        summary = self._sums(members, keys if values is None else values)
        output = self.ask(query, summary)
        if not need_weights:
            return Attended(output, None)
        codes = self.codes(query.unsqueeze(1) if query.dim() == 2 else query)
        shares = self._one_hot(codes, summary.dtype) * self._shares(self._look_up(codes, summary))
        weights = shares.flatten(-2) @ members.mT.to(summary.dtype)
        return Attended(output, weights.to(output.dtype))

    def summarize(self, keys: Tensor, values: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """All buckets' sums, (batch, num_groups, 2^num_bits, value_dim), fp32 or wider. Arguments as in forward."""
        mask = shared_mask("BucketHashPooling", mask, keys)
        return self._sums(self._members(keys, mask), keys if values is None else values)

    def ask(self, query: Tensor, summary: Tensor) -> Tensor:
        """Forward's output for queries (batch, queries, dim) or (batch, dim), from `summarize`'s sums."""
        single = query.dim() == 2
        found = self._look_up(self.codes(query.unsqueeze(1) if single else query), summary)
        output = (found * self._shares(found)).sum(-2).to(query.dtype)
        return output.squeeze(1) if single else output

    def codes(self, vectors: Tensor) -> Tensor:
        """The buckets of vectors (..., dim): int64 (..., num_groups), in 0..2^num_bits-1."""
        bits = sides(vectors, self.planes).unflatten(-1, (self.num_groups, self.num_bits))
        codes: Tensor = (bits.long() << torch.arange(self.num_bits, device=bits.device)).sum(-1)
        return codes

    def reference(
        self, query: Tensor, keys: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The specification of forward's output: (batch, num_groups, queries, length) pairs of codes are compared."""
        mask = shared_mask("BucketHashPooling", mask, keys)
        values = keys if values is None else values
        collide = self.codes(query).mT.unsqueeze(-1) == self.codes(keys).mT.unsqueeze(-2)
        collide = collide if mask is None else collide & mask[:, None, None]
        found = collide.to(values.dtype) @ values.unsqueeze(1)  # (batch, groups, queries, value_dim)
        if self.normalize:
            found = nn.functional.normalize(found, dim=-1, eps=SHORTEST_SUM)
        return found.mean(1)

    def _one_hot(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """(..., groups) to (..., groups, 2^num_bits)."""
        return (codes.unsqueeze(-1) == torch.arange(2**self.num_bits, device=codes.device)).to(dtype)

    def _members(self, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Which real event is in which bucket: (batch, length, groups x 2^num_bits), 0 and 1."""
        members = self._one_hot(self.codes(keys), at_least_float32(keys).dtype).flatten(-2)
        return fill_masked(members, None if mask is None else mask.unsqueeze(-1), 0.0)

    def _sums(self, members: Tensor, values: Tensor) -> Tensor:
        values = at_least_float32(values)
        with torch.autocast(values.device.type, enabled=False):  # sums over a whole history
            sums = members.mT.to(values.dtype) @ values
        by_group: Tensor = sums.unflatten(1, (self.num_groups, -1))
        return by_group

    @staticmethod
    def _look_up(codes: Tensor, summary: Tensor) -> Tensor:
        """The sum of each query's bucket in each group: (batch, queries, groups, value_dim)."""
        places = codes.mT.unsqueeze(-1).expand(-1, -1, -1, summary.shape[-1])
        found: Tensor = summary.gather(2, places).transpose(1, 2)
        return found

    def _shares(self, found: Tensor) -> Tensor:
        """What one member of a found bucket counts: (batch, queries, groups, 1)."""
        length = torch.linalg.vector_norm(found, dim=-1, keepdim=True)
        known = length > SHORTEST_SUM if self.normalize else torch.zeros_like(length, dtype=torch.bool)
        return torch.where(known, length, 1.0).reciprocal() / self.num_groups

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_groups={self.num_groups}, num_bits={self.num_bits}, normalize={self.normalize}"
