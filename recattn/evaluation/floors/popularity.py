"""Popularity: what everybody takes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recattn.batch import History
from recattn.data.histories import Histories


class Popularity:
    """score(c) = the events that item c has in the histories; the same for everybody, empty histories included.

    >>> floor = Popularity(Histories(np.array([2, 2, 1], np.int32), np.array([0, 2, 3]), num_items=3))
    >>> floor(History(torch.tensor([[1]]), torch.tensor([1]))).tolist()
    [[0.0, 1.0, 2.0, 0.0]]
    """

    def __init__(self, histories: Histories) -> None:
        self.arguments: dict[str, Any] = {}
        self.counts = torch.from_numpy(np.bincount(histories.items, minlength=histories.num_items + 1)).double()

    def __call__(self, history: History, _request_time: Tensor | None = None) -> Tensor:
        """Scores (batch, num_items + 1); the request time is not used."""
        return self.counts.to(history.items.device).expand(len(history.items), -1)
