"""A learned bias from the time that has passed since an event, in buckets that widen with the gap."""

import math

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.checks import check_count
from recattn.nn.positions.gaps import bucket_edges, time_gaps
from recattn.nn.positions.tables import look_up


class TimeBias(nn.Module):
    """bias_h(gap) = table_h[bucket(gap)], to be added to the scores of head h; gap = now - time in seconds.

    Bucket 0 is a gap of 0; bucket b holds base^(b-1) <= gap < base^b; the last one is open. With the default 32 buckets
    of base 2 that is one bucket each for 1 s, 2-3 s, 4-7 s, ..., and the last for 34 years and more. The gap and its
    bucket are computed in int64: epoch seconds do not fit into fp32, which is 128 s apart there. The table starts at 0.

    num_heads: >= 1. num_buckets: >= 2. base: > 1, with base^(num_buckets - 2) < 2^62. Raises ConfigError otherwise.

    >>> TimeBias(num_heads=2)(torch.tensor([[1_700_000_000, 1_700_000_100]]), torch.tensor([1_700_000_101])).shape
    torch.Size([1, 2, 1, 2])
    """

    edges: Tensor

    def __init__(self, num_heads: int = 1, *, num_buckets: int = 32, base: float = 2.0) -> None:
        super().__init__()
        check_count("num_heads", num_heads)
        check_count("num_buckets", num_buckets, least=2)
        if not base > 1 or (num_buckets - 2) * math.log2(base) >= 62:
            raise ConfigError(
                f"base must be > 1 with base^(num_buckets - 2) < 2^62, got {base!r} for {num_buckets} buckets"
            )
        self.num_heads, self.num_buckets, self.base = num_heads, num_buckets, base
        self.register_buffer("edges", bucket_edges(num_buckets, base), persistent=False)
        self.table = nn.Parameter(torch.empty(num_heads, num_buckets))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the table to 0: no preference."""
        nn.init.zeros_(self.table)

    def buckets(self, times: Tensor, now: Tensor) -> Tensor:
        """The bucket of each gap: int64 (batch, queries, length), in 0..num_buckets-1. Arguments as in forward."""
        return torch.bucketize(time_gaps(times, now), self.edges, right=True)

    def forward(self, times: Tensor, now: Tensor) -> Tensor:
        """Bias of each event.

        times: (batch, length) integer seconds. now: (batch,) or (batch, queries) integer seconds, when it is asked
            (in an encoder see `query_times`). An event after ``now`` counts as a gap of 0.
        Returns (batch, heads, 1 or queries, length); for a layer without heads take ``.squeeze(1)`` of one head's.
        Raises ConfigError for times that are not integers.
        """
        return look_up(self.table, self.buckets(times, now))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, num_buckets={self.num_buckets}, base={self.base}"
