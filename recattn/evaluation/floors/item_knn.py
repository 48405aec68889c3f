"""Item-based nearest neighbours with cosine similarity."""

from typing import Any

import numpy as np
from scipy import sparse
from torch import Tensor

from recattn.batch import History
from recattn.data.histories import Histories
from recattn.errors import ConfigError
from recattn.evaluation.floors.counts import gram_blocks, user_items
from recattn.evaluation.floors.pooling import Weights, pooled_scores, scoring_weights


class ItemKNN:
    """score(c) = Σ_j S[j, c] over the items j of the history, with S the cosine of the items' user sets.

        S[j, c] = |U_j ∩ U_c| / (sqrt(|U_j| |U_c|) + shrinkage),  S[c, c] = 0

    Of each candidate's column the ``neighbours`` largest entries are kept, ties to the lower item id (Sarwar, Karypis,
    Konstan & Riedl 2001, whose prediction sums over the items most similar to the candidate). An item counts once,
    however often the history has it; an empty history scores 0 everywhere.

    neighbours: at least 1; None keeps all, which fills memory with large catalogues.
    shrinkage: at least 0; pulls similarities with little support towards 0.

    >>> import torch
    >>> floor = ItemKNN(Histories(np.array([1, 2, 1, 2, 3], np.int32), np.array([0, 2, 4, 5]), num_items=3))
    >>> floor(History(torch.tensor([[1]]), torch.tensor([1]))).tolist()
    [[0.0, 0.0, 1.0, 0.0]]
    """

    def __init__(self, histories: Histories, *, neighbours: int | None = None, shrinkage: float = 0.0) -> None:
        if neighbours is not None and neighbours < 1:
            raise ConfigError(f"neighbours is {neighbours}: it must be at least 1, or None for all")
        if shrinkage < 0:
            raise ConfigError(f"shrinkage is {shrinkage}: it must be at least 0")
        self.arguments: dict[str, Any] = {"neighbours": neighbours, "shrinkage": shrinkage}
        matrix = user_items(histories)
        norms = np.sqrt(np.maximum(matrix.sum(0), 1e-12))
        blocks = []
        for columns, block in gram_blocks(matrix):
            owners = np.repeat(np.arange(columns.start, columns.stop), np.diff(block.indptr))
            block.data /= norms[block.indices] * norms[owners] + shrinkage
            block.data[block.indices == owners] = 0.0
            blocks.append(block if neighbours is None else _largest_per_column(block, neighbours))
        self.weights: Weights = scoring_weights(sparse.hstack(blocks, format="csr"))

    def __call__(self, history: History, _request_time: Tensor | None = None) -> Tensor:
        """Scores (batch, num_items + 1); the request time is not used."""
        return pooled_scores(history, self.weights)


def _largest_per_column(block: sparse.csc_array, count: int) -> sparse.csc_array:
    """The block without all but the ``count`` largest entries of each column, ties to the lower row."""
    block.sort_indices()
    kept = np.ones(block.nnz, bool)
    for column in np.flatnonzero(np.diff(block.indptr) > count):  # a column at a time: sorting all at once is slower
        entries = slice(block.indptr[column], block.indptr[column + 1])
        values = block.data[entries]
        threshold = np.partition(values, -count)[-count]
        above, tied = values > threshold, np.flatnonzero(values == threshold)
        above[tied[: count - above.sum()]] = True
        kept[entries] = above
    block.data[~kept] = 0.0
    block.eliminate_zeros()
    return block
