"""EASE: the closed-form linear autoencoder."""

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recattn.batch import History
from recattn.data.histories import Histories
from recattn.errors import ConfigError
from recattn.evaluation.floors.counts import gram_blocks, user_items
from recattn.evaluation.floors.pooling import checked_decay, pooled_scores

EASE_MAX_ITEMS = 20_000
"""The largest catalogue EASE takes: inverting its matrix in float64 then takes some 10 GB and several minutes."""


class EASE:
    """score(c) = Σ_j decay^age(j) B[j, c], with B the regression of each item on all the others (Steck 2019, eq. 8).

        P = (XᵀX + λI)⁻¹,  B[j, c] = -P[j, c] / P[c, c],  B[c, c] = 0

    X is the users' multi-hot matrix. With ``decay`` = 1 this is EASE as published; below 1 the same B is read with a
    history that fades: age 0 is the last event. An item counts once, at its last event; an empty history scores 0
    everywhere.

    regularisation: λ, above 0, in units of events.
    decay: above 0, at most 1.
    Raises ConfigError for a catalogue above EASE_MAX_ITEMS: memory grows as items², time as items³.

    >>> import torch
    >>> histories = Histories(np.array([1, 2, 1, 2, 3], np.int32), np.array([0, 2, 4, 5]), num_items=3)
    >>> floor = EASE(histories, regularisation=2)
    >>> floor(History(torch.tensor([[1]]), torch.tensor([1]))).tolist()
    [[0.0, 0.0, 0.5, 0.0]]
    """

    def __init__(self, histories: Histories, *, regularisation: float = 300.0, decay: float = 1.0) -> None:
        if regularisation <= 0:
            raise ConfigError(f"regularisation is {regularisation}: it must be above 0")
        if histories.num_items > EASE_MAX_ITEMS:
            raise ConfigError(f"EASE takes up to {EASE_MAX_ITEMS} items: this catalogue has {histories.num_items}")
        self.decay = checked_decay(decay)
        self.arguments: dict[str, Any] = {"regularisation": regularisation, "decay": decay}
        self.weights: NDArray[np.float32] = _regression(histories, regularisation)

    def with_decay(self, decay: float) -> Self:
        """The same regression read with another decay, without fitting it again."""
        other = copy.copy(self)
        other.decay = checked_decay(decay)
        other.arguments = self.arguments | {"decay": decay}
        return other

    def __call__(self, history: History, _request_time: Tensor | None = None) -> Tensor:
        """Scores (batch, num_items + 1); the request time is not used."""
        return pooled_scores(history, self.weights, decay=self.decay)


def _regression(histories: Histories, regularisation: float) -> NDArray[np.float32]:
    size = histories.num_items + 1
    gram = np.empty((size, size))
    for columns, block in gram_blocks(user_items(histories)):
        gram[:, columns] = block.toarray()
    gram[np.diag_indices(size)] += regularisation
    inverse = np.linalg.inv(gram)
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0.0)
    weights: NDArray[np.float32] = inverse.astype(np.float32)
    return weights
