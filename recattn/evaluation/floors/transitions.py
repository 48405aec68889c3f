"""Transition counts: what tends to follow what the user did last."""

import copy
from typing import Any, Self

import numpy as np
from torch import Tensor

from recattn.batch import History
from recattn.data.histories import Histories
from recattn.data.transitions import count_transitions
from recattn.evaluation.floors.pooling import Weights, checked_decay, pooled_scores, scoring_weights


class TransitionCounts:
    """score(c) = Σ_j decay^age(j) T[item_j, c], with T the normalised counts of what follows within a few events.

        T[i, c] = C[i, c] / Σ_c' C[i, c'], C the counts of :func:`recattn.data.transitions.count_transitions`

    Every event of the history counts, repeats as often as they come; age 0 is the last event. Items that nothing
    follows, and empty histories, score 0 everywhere.

    horizon: at least 1.
    decay: above 0, at most 1.

    >>> import torch
    >>> floor = TransitionCounts(Histories(np.array([1, 2, 3], np.int32), np.array([0, 3]), num_items=3), horizon=1)
    >>> floor(History(torch.tensor([[2]]), torch.tensor([1]))).tolist()
    [[0.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self, histories: Histories, *, horizon: int = 10, decay: float = 0.8) -> None:
        self.decay = checked_decay(decay)
        self.arguments: dict[str, Any] = {"horizon": horizon, "decay": decay}
        counts = count_transitions(histories, horizon)
        counts.data /= np.repeat(counts.sum(1), np.diff(counts.indptr))
        self.weights: Weights = scoring_weights(counts)

    def with_decay(self, decay: float) -> Self:
        """The same counts read with another decay, without counting again."""
        other = copy.copy(self)
        other.decay = checked_decay(decay)
        other.arguments = self.arguments | {"decay": decay}
        return other

    def __call__(self, history: History, _request_time: Tensor | None = None) -> Tensor:
        """Scores (batch, num_items + 1); the request time is not used."""
        return pooled_scores(history, self.weights, decay=self.decay, once=False)
