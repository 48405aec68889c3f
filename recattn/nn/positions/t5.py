"""A learned bias from the distance in steps: exact nearby, in widening buckets further away."""

import math

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.checks import check_count
from recattn.nn.positions.distances import whole_steps
from recattn.nn.positions.tables import look_up


class T5Bias(nn.Module):
    """bias_h(distance) = table_h[bucket(distance)], to be added to the scores of head h.

    Raffel et al. 2020 (T5), section 2.1. With m = num_buckets // 2, distances 0..m-1 have a bucket each, and d >= m has
    bucket m + floor((num_buckets - m) log(d / m) / log(max_distance / m)), at most the last one. The edges are whole
    numbers, made once: the logarithm of a distance that is an edge may fall on its wrong side in fp32.
    bidirectional: half of the buckets are for what lies ahead (distance < 0), with m half of the rest.
    Otherwise what lies ahead counts as distance 0. The table starts at 0.

    num_heads: >= 1. num_buckets: >= 2, with bidirectional an even number >= 4. max_distance: > m, from there on all
    distances are one. Raises ConfigError otherwise.

    >>> T5Bias(2)(torch.tensor([[300, 40, 1, 0]])).shape
    torch.Size([1, 2, 1, 4])
    """

    edges: Tensor

    def __init__(
        self, num_heads: int = 1, *, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = False
    ) -> None:
        super().__init__()
        check_count("num_heads", num_heads)
        check_count("num_buckets", num_buckets, least=4 if bidirectional else 2)
        if bidirectional and num_buckets % 2:
            raise ConfigError(f"num_buckets must be even where half of them look ahead, got {num_buckets}")
        one_side = num_buckets // 2 if bidirectional else num_buckets
        exact = one_side // 2
        check_count("max_distance", max_distance, least=exact + 1)
        self.num_heads, self.num_buckets, self.max_distance = num_heads, num_buckets, max_distance
        self.bidirectional = bidirectional
        wide = one_side - exact
        edges = [exact * (max_distance / exact) ** (b / wide) for b in range(wide)]
        # An edge that is a whole number must not be lifted to the next by a rounding error.
        whole = [*range(1, exact), *(math.ceil(edge * (1 - 1e-12)) for edge in edges)]
        self.register_buffer("edges", torch.tensor(whole), persistent=False)
        self.table = nn.Parameter(torch.empty(num_heads, num_buckets))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the table to 0: no preference."""
        nn.init.zeros_(self.table)

    def buckets(self, distances: Tensor) -> Tensor:
        """The bucket of each distance: int64 (batch, 1 or queries, length). Argument as in forward."""
        steps = whole_steps("distances", distances)
        if not self.bidirectional:
            return torch.bucketize(steps.clamp(min=0), self.edges, right=True)
        return torch.bucketize(steps.abs(), self.edges, right=True) + (steps < 0) * (self.num_buckets // 2)

    def forward(self, distances: Tensor) -> Tensor:
        """Bias of each event.

        distances: integers, (batch, length) or (batch or 1, queries, length): `sequence_distances`, or `event_ages`.
        Returns (batch or 1, heads, 1 or queries, length); for a layer without heads take ``.squeeze(1)`` of one head's.
        Raises ConfigError for distances that are not integers.
        """
        return look_up(self.table, self.buckets(distances))

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, num_buckets={self.num_buckets}, max_distance={self.max_distance}, "
            f"bidirectional={self.bidirectional}"
        )
