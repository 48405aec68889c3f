"""How much of exact attention something cheaper finds."""

import torch
from torch import Tensor

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32
from recattn.nn.search.found import Found


def recovered_mass(exact: Tensor, approximate: Tensor | Found) -> Tensor:
    """The share of exact attention that an approximation gets right: sum over j of min(exact_ij, approximate_ij).

    For the events that a search found it is the exact weight that lies on them (an event counts as 1 or 0, and no
    weight is above 1). For weights over the history (clusters, summaries, hashing) it is the overlap of two
    distributions: 1 less half the sum of |exact_ij - approximate_ij| where both sum to 1.

    exact: weights (batch, [heads,] queries, length) of kind ``probability``, the oracle.
    approximate: what a search found; or bool (batch, 1 or queries, length), True for found; or weights like ``exact``.
        The first two, and weights without heads, count for each head. They must sum to 1 to be compared fairly: make
        ``count`` and ``gate`` weights b to |b_ij| / sum over j of |b_ij| first.
    Returns (batch, [heads,] queries), in [0, 1], fp32 or wider. It is 0 for an empty history: leave such rows out of a
    mean. Raises ConfigError for an approximation of another length, or with heads where ``exact`` has none.

    >>> exact = torch.tensor([[[0.5, 0.25, 0.25]]])
    >>> recovered_mass(exact, Found(torch.tensor([[[0, 2]]]), torch.tensor([[[True, True]]]))).tolist()
    [[0.75]]
    >>> recovered_mass(exact, torch.tensor([[[0.25, 0.5, 0.25]]])).tolist()
    [[0.75]]
    """
    if isinstance(approximate, Found):
        approximate = approximate.spread(exact.shape[-1])
    if approximate.dim() == exact.dim() - 1 == 3:
        approximate = approximate.unsqueeze(1)
    if approximate.dim() != exact.dim() or approximate.shape[-1] != exact.shape[-1]:
        raise ConfigError(
            f"approximate must be (batch, [heads,] queries, length) like exact's {tuple(exact.shape)}, got shape "
            f"{tuple(approximate.shape)}"
        )
    exact = at_least_float32(exact)
    return torch.minimum(exact, approximate.to(exact.dtype)).sum(-1)
