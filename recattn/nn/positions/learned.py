"""A learned embedding for each place in a history."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.nn.attended import fill_masked
from recattn.nn.checks import check_count
from recattn.nn.positions.recency import event_ages


class LearnedPosition(nn.Module):
    """p_j = table[place of event j], to be added to the event's embedding.

    Places are counted over real events alone, so padding neither shifts nor trains them; what lies beyond the table
    shares its last row. Kang and McAuley 2018 (SASRec), section 3.1, whose windows are padded on the left, so that
    their places are fixed to the end.

    num_positions: rows of the table, >= 1. dim: width, >= 1. Raises ConfigError otherwise.
    from_end: True: place 0 is the most recent event, a recency rank. False: place 0 is the first event. In a CAUSAL
        encoder only False is sound: a rank counts the events that are yet to come. It then wants
        num_positions as large as the histories that are kept.

    Rows start at N(0, 0.02²).

    >>> LearnedPosition(50, 6)(torch.tensor([[True, True, False]])).shape
    torch.Size([1, 3, 6])
    """

    def __init__(self, num_positions: int, dim: int, *, from_end: bool = True) -> None:
        super().__init__()
        check_count("num_positions", num_positions)
        check_count("dim", dim)
        self.num_positions, self.dim, self.from_end = num_positions, dim, from_end
        self.table = nn.Parameter(torch.empty(num_positions, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Rows from N(0, 0.02²)."""
        nn.init.normal_(self.table, std=0.02)

    def forward(self, mask: Tensor) -> Tensor:
        """Embedding of each place.

        mask: bool (..., length), True for a real event; (batch, queries, length) where each query sees its own part.
        Returns (..., length, dim), 0 where masked.
        """
        places = event_ages(mask) if self.from_end else (mask.cumsum(-1) - 1).clamp(min=0)
        rows = F.embedding(places.clamp(max=self.num_positions - 1), self.table)
        return fill_masked(rows, mask.unsqueeze(-1), 0.0)

    def extra_repr(self) -> str:
        return f"num_positions={self.num_positions}, dim={self.dim}, from_end={self.from_end}"
