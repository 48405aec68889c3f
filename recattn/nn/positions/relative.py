"""A learned bias for each distance in steps."""

import torch
from torch import Tensor, nn

from recattn.nn.checks import check_count
from recattn.nn.positions.distances import whole_steps
from recattn.nn.positions.tables import look_up


class RelativePositionBias(nn.Module):
    """bias_h(distance) = table_h[distance], to be added to the scores of head h; HSTU's pos_w[i - j].

    Shaw et al. 2018 (clipped distances); Raffel et al. 2020 (as a bias of the scores); Zhai et al. 2024 (HSTU, the
    position part of rab). Entries start at N(0, 0.02²), as in HSTU's research code.

    num_heads: >= 1. max_distance: >= 0, from there on all distances are one. bidirectional: what lies ahead
    (distance < 0) has entries of its own, -max_distance..-1; otherwise it counts as distance 0, which is right where a
    mask hides it. HSTU for sequences of N has max_distance N - 1. Raises ConfigError otherwise.

    >>> from recattn.nn import sequence_distances
    >>> RelativePositionBias(2, 50)(sequence_distances(7)).shape
    torch.Size([1, 2, 7, 7])
    """

    def __init__(self, num_heads: int, max_distance: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        check_count("num_heads", num_heads)
        check_count("max_distance", max_distance, least=0)
        self.num_heads, self.max_distance, self.bidirectional = num_heads, max_distance, bidirectional
        self.first = -max_distance if bidirectional else 0
        self.table = nn.Parameter(torch.empty(num_heads, max_distance + 1 - self.first))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Entries from N(0, 0.02²)."""
        nn.init.normal_(self.table, std=0.02)

    def forward(self, distances: Tensor) -> Tensor:
        """Bias of each event.

        distances: integers, (batch, length) or (batch or 1, queries, length): `sequence_distances` in an encoder; for
            a request after the history, the place that follows it, `event_ages` + 1.
        Returns (batch or 1, heads, 1 or queries, length); for a layer without heads take ``.squeeze(1)`` of one head's.
        Raises ConfigError for distances that are not integers.
        """
        steps = whole_steps("distances", distances).clamp(self.first, self.max_distance)
        return look_up(self.table, steps - self.first)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, max_distance={self.max_distance}, bidirectional={self.bidirectional}"
