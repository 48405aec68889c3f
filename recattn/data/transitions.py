"""How often one item follows another within a few events."""

import numpy as np
from scipy import sparse

from recattn.data.histories import Histories
from recattn.errors import ConfigError


def count_transitions(histories: Histories, horizon: int = 10) -> sparse.csr_array:
    """C[i, c] = Σ 1/d over all places where item c comes d events after item i in a user's history, d = 1 .. horizon.

    Returns a sparse (num_items + 1, num_items + 1) float64 matrix with sorted indices; row and column 0 are empty.
    Raises ConfigError for a horizon below 1.

    >>> h = Histories(np.array([1, 2, 1], np.int32), np.array([0, 3]), num_items=2)
    >>> count_transitions(h).toarray().tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.5, 1.0], [0.0, 1.0, 0.0]]
    """
    if horizon < 1:
        raise ConfigError(f"horizon is {horizon}: it must be at least 1")
    users = histories.owners
    size = histories.num_items + 1
    counts = sparse.csr_array((size, size))
    for distance in range(1, horizon + 1):
        together = users[distance:] == users[:-distance]
        before, after = histories.items[:-distance][together], histories.items[distance:][together]
        weights = np.full(len(before), 1 / distance)
        counts = counts + sparse.csr_array((weights, (before, after)), shape=(size, size))
    counts.sort_indices()
    return counts
