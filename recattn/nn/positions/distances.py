"""How many steps lie between a query and an event: shapes and checks that the biases of order share."""

import torch
from torch import Tensor

from recattn.errors import ConfigError


def sequence_distances(length: int, *, device: torch.device | None = None) -> Tensor:
    """How far place i of a sequence looks back to place j: i - j, below 0 where it looks ahead.

    Returns int64 (1, length, length). For a request after the sequence the distances are `event_ages` + 1.

    >>> sequence_distances(3).tolist()
    [[[0, -1, -2], [1, 0, -1], [2, 1, 0]]]
    """
    places = torch.arange(length, device=device)
    return (places.unsqueeze(1) - places).unsqueeze(0)


def per_query(distances: Tensor) -> Tensor:
    """Distances (batch, length), the same for all queries, as (batch, 1, length); (batch, queries, length) as it is.

    >>> per_query(torch.zeros(2, 3)).shape
    torch.Size([2, 1, 3])
    """
    return distances.unsqueeze(1) if distances.dim() == 2 else distances


def whole_steps(name: str, distances: Tensor) -> Tensor:
    """The distances as int64 (batch, 1 or queries, length). Raises ConfigError unless they are integers.

    >>> whole_steps("ages", torch.tensor([[2, 1]], dtype=torch.int32)).tolist()
    [[[2, 1]]]
    """
    if distances.is_floating_point() or distances.dtype == torch.bool:
        raise ConfigError(f"{name} must be integers, got {distances.dtype}")
    return per_query(distances).long()
