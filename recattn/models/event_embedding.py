"""What a sequence model reads of each event: the item, its place, its rating, the time around it, and whose it is."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.batch import History
from recattn.models.item_embedding import Combine, ItemEmbedding
from recattn.models.profile import ProfileTokens
from recattn.models.rating_levels import RatingEmbedding, check_levels
from recattn.nn.checks import check_choice, check_count, check_fraction, check_positive
from recattn.nn.dense.dropout import dropout
from recattn.nn.positions.gaps import bucket_edges, query_times
from recattn.nn.positions.learned import LearnedPosition

Times = Literal["none", "events", "request"]
GAP_BUCKETS = 32
"""Bucket b > 0 holds gaps of 2^(b-1) to 2^b - 1 seconds, the last one all of 34 years and more; bucket 0 is no gap."""


class EventEmbedding(nn.Module):
    """x_i = item_i + place_i + rating_i + before_i + after_i + who, each part but the first on request.

    What the history lacks (times, ratings, a profile) is done without.

    num_items, dim: of the item table, which is also the catalogue that is asked. max_length: places.
    learned_positions: add a learned embedding of the place, counted from the first event.
    times: ``"none"``; ``"events"``: add one of the time since the event before, in buckets that double;
        ``"request"``: and one of the time until the request that follows the event: the next event, or ``now``.
    rating_levels: the ratings that occur, ascending; each gets an embedding. Empty: ratings are not read.
    profile_sizes: codes of each profile field, 0 (unknown) included; those known are added to every event.
    feature_sizes, feature_widths, combine_features, id_dropout: of the items' features, see `ItemEmbedding`.
    dropout: in [0, 1), of the sum, and of whole profile fields.
    Raises ConfigError for values outside of these.

    >>> embed = EventEmbedding(11, 6, max_length=5)
    >>> embed(History(torch.tensor([[3, 5, 0]]), torch.tensor([2]))).shape
    torch.Size([1, 3, 6])
    """

    edges: Tensor

    def __init__(
        self,
        num_items: int,
        dim: int,
        *,
        max_length: int,
        learned_positions: bool = True,
        times: Times = "none",
        rating_levels: Sequence[float] = (),
        profile_sizes: Sequence[int] = (),
        feature_sizes: Sequence[int] = (),
        feature_widths: Sequence[int] | None = None,
        combine_features: Combine = "sum",
        id_dropout: float = 0.1,
        dropout: float = 0.0,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        check_choice("times", times, ("none", "events", "request"))
        check_levels(rating_levels)
        check_fraction("dropout", dropout)
        check_positive("embedding_std", embedding_std)
        for size in profile_sizes:
            check_count("profile_sizes", size)
        self.times: Times = times
        self.dropout, self.embedding_std = dropout, embedding_std
        self.items = ItemEmbedding(
            num_items,
            dim,
            feature_sizes=feature_sizes,
            feature_widths=feature_widths,
            combine=combine_features,
            id_dropout=id_dropout,
            embedding_std=embedding_std,
        )
        self.position = LearnedPosition(max_length, dim, from_end=False) if learned_positions else None
        self.rating = RatingEmbedding(rating_levels, dim) if rating_levels else None
        self.before = nn.Embedding(GAP_BUCKETS, dim) if times != "none" else None
        self.after = nn.Embedding(GAP_BUCKETS, dim) if times == "request" else None
        self.profile = ProfileTokens(profile_sizes, dim, dropout=dropout) if profile_sizes else None
        self.register_buffer("edges", bucket_edges(GAP_BUCKETS), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Items from N(0, embedding_std²), padding 0; what is added to them small, so that the item leads."""
        self.items.reset_parameters()
        if self.position is not None:
            self.position.reset_parameters()
        for table in (self.rating, self.before, self.after):
            if table is not None:
                nn.init.normal_(table.weight, std=self.embedding_std / 5)
        if self.profile is not None:
            for weight in self.profile.values.parameters():
                nn.init.normal_(weight, std=self.embedding_std / 5)

    def forward(self, history: History, now: Tensor | None = None) -> Tensor:
        """(batch, length, dim); at padding some finite numbers. now: (batch,) int64, when the request comes."""
        found: Tensor = self.items(history.items)
        if self.position is not None:
            found = found + self.position(history.mask)
        if self.rating is not None and history.ratings is not None:
            found = found + self.rating(history.ratings)
        times = history.times
        if self.before is not None and times is not None:
            found = found + self.before(torch.bucketize(since_previous(times), self.edges, right=True))
        if self.after is not None and times is not None:
            asked = query_times(times, history.mask, now=last_time(history) if now is None else now)
            found = found + self.after(torch.bucketize(asked - times, self.edges, right=True))
        if self.profile is not None:
            found = found + self.profile(history).told.sum(1, keepdim=True)
        return dropout(found, self.dropout, self.training)


def since_previous(times: Tensor) -> Tensor:
    """Seconds since the event before, (batch, length); 0 for the first.

    >>> since_previous(torch.tensor([[10, 14, 20]])).tolist()
    [[0, 4, 6]]
    """
    return F.pad(times[:, 1:] - times[:, :-1], (1, 0))[:, : times.shape[1]]


def last_time(history: History) -> Tensor:
    """(batch,) when the last event happened, 0 where there is none. The history must have times."""
    if history.times is None or not history.items.shape[1]:
        return torch.zeros_like(history.lengths)
    index = (history.lengths - 1).clamp(min=0)[:, None]
    found: Tensor = history.times.gather(1, index).squeeze(1) * (history.lengths > 0)
    return found
