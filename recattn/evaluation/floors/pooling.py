"""score(c) = Σ_j decay^age(j) W[item_j, c]: what item-kNN, EASE and transition counts have in common."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from recattn.batch import History
from recattn.errors import ConfigError

Weights = sparse.csr_array | NDArray[np.float32]
"""(num_items + 1, num_items + 1) float32: row = item of the history, column = candidate; 0 is padding."""

_DENSE_CELLS = 10**8  # 400 MB of float32
_DENSE_SHARE = 0.1


def checked_decay(decay: float) -> float:
    """The decay, if it lies in (0, 1].

    >>> checked_decay(0.8)
    0.8
    """
    if not 0 < decay <= 1:
        raise ConfigError(f"decay is {decay}: it must be above 0 and at most 1")
    return decay


def scoring_weights(weights: sparse.csr_array) -> Weights:
    """The matrix in the form that multiplies fastest: dense where over a tenth is filled and 400 MB hold it."""
    cells = weights.shape[0] * weights.shape[1]
    weights = weights.astype(np.float32)
    return weights.toarray() if weights.nnz > _DENSE_SHARE * cells and cells <= _DENSE_CELLS else weights


def recency_weights(history: History, num_items: int, decay: float, *, once: bool) -> sparse.csr_array:
    """(batch, num_items + 1) float32: decay^age of each item of the history; age 0 is the last event.

    once: an item that comes several times counts at its last event only (a multi-hot history); otherwise its events
        add up.

    >>> h = History(torch.tensor([[3, 1, 3]]), torch.tensor([3]))
    >>> [recency_weights(h, 3, 0.5, once=once).toarray().tolist() for once in (True, False)]
    [[[0.0, 0.5, 0.0, 1.0]], [[0.0, 0.5, 0.0, 1.25]]]
    """
    items, lengths, mask = (tensor.cpu().numpy() for tensor in (history.items, history.lengths, history.mask))
    rows, steps = np.nonzero(mask)
    columns, values = items[mask], np.float32(decay) ** (lengths[rows] - 1 - steps).astype(np.float32)
    if once:
        cells = rows * (num_items + 1) + columns
        _, last = np.unique(cells[::-1], return_index=True)
        kept = len(cells) - 1 - last
        rows, columns, values = rows[kept], columns[kept], values[kept]
    return sparse.csr_array((values, (rows, columns)), shape=(len(items), num_items + 1))


def pooled_scores(history: History, weights: Weights, *, decay: float = 1.0, once: bool = True) -> Tensor:
    """(batch, num_items + 1) float32 scores on the history's device; an empty history scores 0 everywhere.

    The product runs row by row on the CPU: a row's scores do not depend on the rows beside it, to the last bit.

    >>> h = History(torch.tensor([[1, 2]]), torch.tensor([2]))
    >>> pooled_scores(h, np.eye(3, dtype=np.float32), decay=0.5).tolist()
    [[0.0, 0.5, 1.0]]
    """
    pooled = recency_weights(history, weights.shape[0] - 1, decay, once=once)
    scores = pooled @ weights if isinstance(weights, np.ndarray) else (pooled @ weights).toarray()
    return torch.from_numpy(scores).to(history.items.device)
