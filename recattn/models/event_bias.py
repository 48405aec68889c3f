"""What an event's age, time and rating say about its weight, whoever asks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.batch import History
from recattn.models.rating_levels import rating_codes
from recattn.nn import RecencyBias, TimeBias


def head_slopes(num_heads: int) -> list[float]:
    """Decays for heads to start from, so that the first looks at the last events and the last one far back.

    >>> [round(slope, 3) for slope in head_slopes(3)]
    [0.5, 0.15, 0.045]
    """
    return [0.5 * 0.3**head for head in range(num_heads)]


class EventBias(nn.Module):
    """b_h(j) = recency_h(age of j) + time_h(now - time of j) + rating_h(rating of j), each part only on request.

    num_heads: heads, each with parameters of its own.
    recency: learn a bias from the age (`recattn.nn.RecencyBias`), starting from decays exp(-slope · age).
    slopes: the decays of the heads at the start.
    times: learn a bias from the time passed (`recattn.nn.TimeBias`).
    rating_levels: the ratings that occur, ascending; a rating in between counts as the next level above.
    """

    levels: Tensor

    def __init__(
        self, num_heads: int, *, recency: bool, slopes: Sequence[float], times: bool, rating_levels: Sequence[float]
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.recency = RecencyBias(num_heads=num_heads, max_age=64, slopes=slopes) if recency else None
        self.time = TimeBias(num_heads=num_heads) if times else None
        self.rating = nn.Embedding(len(rating_levels), num_heads) if rating_levels else None
        self.register_buffer("levels", torch.tensor(tuple(rating_levels), dtype=torch.float32), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Recency and time to starts of their own, the ratings' biases 0."""
        for part in (self.recency, self.time):
            if part is not None:
                part.reset_parameters()
        if self.rating is not None:
            nn.init.zeros_(self.rating.weight)

    def forward(self, history: History, visible: Tensor, now: Tensor | None = None) -> Tensor:
        """Bias (batch, heads, queries, length) of each event for a query that sees the first ``visible`` events.

        visible: (batch, queries) int64. now: (batch, queries) int64 seconds; None: the time of the last visible event.
        What is not visible holds some finite number.
        """
        batch, length = history.items.shape
        ages = visible[..., None] - 1 - torch.arange(length, device=visible.device)
        bias = torch.zeros(batch, self.num_heads, visible.shape[1], length, device=visible.device)
        if self.recency is not None:
            bias = bias + self.recency(ages)
        if self.time is not None and history.times is not None:
            if now is None:
                now = history.times.gather(1, (visible - 1).clamp(min=0))
            bias = bias + self.time(history.times, now)
        if self.rating is not None and history.ratings is not None:
            codes = rating_codes(history.ratings, self.levels)
            bias = bias + F.embedding(codes, self.rating.weight).transpose(1, 2)[:, :, None]
        return bias
