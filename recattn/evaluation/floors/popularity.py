"""Popularity: what everybody takes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recattn.batch import History
from recattn.data.histories import Histories
from recattn.errors import ConfigError
from recattn.nn.checks import check_positive


class Popularity:
    """score(c) = the events that item c has in the histories; the same for everybody, empty histories included.

    days: count the last so many days alone, above 0, reckoned back from the latest event; None counts all of them.
    Raises ConfigError for other days, and for days where the histories have no times.

    >>> floor = Popularity(Histories(np.array([2, 2, 1], np.int32), np.array([0, 2, 3]), num_items=3))
    >>> floor(History(torch.tensor([[1]]), torch.tensor([1]))).tolist()
    [[0.0, 1.0, 2.0, 0.0]]
    """

    def __init__(self, histories: Histories, *, days: float | None = None) -> None:
        self.arguments: dict[str, Any] = {} if days is None else {"days": days}
        items = histories.items
        if days is not None:
            check_positive("days", days)
            if histories.times is None:
                raise ConfigError(f"days is {days}, but the histories have no times")
            items = items[histories.times > histories.times.max(initial=0) - 86_400 * days]
        self.counts = torch.from_numpy(np.bincount(items, minlength=histories.num_items + 1)).double()

    def __call__(self, history: History, _request_time: Tensor | None = None) -> Tensor:
        """Scores (batch, num_items + 1); the request time is not used."""
        return self.counts.to(history.items.device).expand(len(history.items), -1)
