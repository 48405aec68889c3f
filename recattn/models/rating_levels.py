"""Ratings as codes: which of the levels that occur."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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
