"""Ratings as codes, which of the levels that occur, and as vectors."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError


def check_levels(levels: Sequence[float]) -> None:
    """Raise ConfigError unless the levels are finite numbers that ascend without repeats.

    >>> check_levels((1, 2.5, 4))
    """
    numbers = all(isinstance(level, int | float) and math.isfinite(level) for level in levels)
    if not numbers or list(levels) != sorted(set(levels)):
        raise ConfigError(f"rating_levels must be finite numbers that ascend without repeats, got {tuple(levels)!r}")


def rating_codes(ratings: Tensor, levels: Tensor) -> Tensor:
    """The level of each rating, from 0; one in between counts as the next level above, one beyond as the last.

    >>> rating_codes(torch.tensor([1.0, 2.0, 4.0, 9.0]), torch.tensor([1.0, 2.5, 4.0])).tolist()
    [0, 1, 2, 2]
    """
    return torch.searchsorted(levels, ratings.to(levels.dtype)).clamp(max=len(levels) - 1)


class RatingEmbedding(nn.Module):
    """A vector for each rating that occurs.

    levels: as `check_levels` wants them, at least one. dim: width.

    >>> RatingEmbedding((1, 2.5, 4), 6)(torch.tensor([[4.0, 1.0]])).shape
    torch.Size([1, 2, 6])
    """

    levels: Tensor

    def __init__(self, levels: Sequence[float], dim: int) -> None:
        super().__init__()
        check_levels(levels)
        self.dim = dim
        self.register_buffer("levels", torch.tensor(tuple(levels), dtype=torch.float32), persistent=False)
        self.weight = nn.Parameter(torch.randn(len(levels), dim))

    def forward(self, ratings: Tensor) -> Tensor:
        """(..., dim) of ratings (...)."""
        return F.embedding(rating_codes(ratings, self.levels), self.weight)
