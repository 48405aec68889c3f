"""What every candidate-aware model offers, whatever it is made of."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from recattn.batch import History, RankingBatch

CATALOGUE_ELEMENTS = 2**24
"""Candidates are scored in pieces of at most this many numbers for (candidate, event) pairs."""


class Ranker(nn.Module, ABC):
    """A model that scores candidates against a history: the candidate asks, the history answers.

    num_items: size of the catalogue; items are numbered 1 to num_items, 0 is padding.
    max_length: how many of the last visible events a candidate reads; older ones change nothing.
    time_aware: whether the model reads the time of the request.
    pair_width: how many numbers scoring keeps for each (candidate, event) pair.
    """

    num_items: int
    max_length: int
    time_aware: bool = False
    pair_width: int = 1

    @abstractmethod
    def forward(self, batch: RankingBatch) -> Tensor:
        """Logits (batch, candidates) of ``batch.candidates``; for padding candidates some number without meaning."""

    @abstractmethod
    def at_positions(
        self, history: History, positions: Tensor, candidates: Tensor, request_time: Tensor | None = None
    ) -> Tensor:
        """The same candidates scored at several moments of each history.

        positions: (batch, positions) int64; at position p the first p events are visible.
        candidates: (candidates,) int64 item ids, shared by all rows and positions.
        request_time: (batch, positions) int64 seconds, or None.
        Returns logits (batch, positions, candidates): entry [b, p, c] equals forward's for candidate c with
        ``visible = positions[b, p]``.
        """

    @abstractmethod
    def contributions(self, batch: RankingBatch) -> Tensor:
        """How much of each logit each event of the history brought, (batch, candidates, length); signed, 0 on padding.

        Positive events speak for the candidate. What the sum over events leaves of the logit came from elsewhere
        (the candidate's own bias, the profile).
        """

    def auxiliary_loss(self, history: History) -> Tensor | None:  # noqa: ARG002
        """A loss of the model's own, to be added to that of its task; a scalar, or None where it has none."""
        return None

    def score_all(self, history: History, request_time: Tensor | None = None) -> Tensor:
        """Scores of the whole catalogue after the whole history.

        request_time: (batch,) int64 seconds, or None.
        Returns (batch, num_items + 1) float32; column 0, the padding item, is -inf.
        """
        history = history.last(self.max_length)
        size = max(1, CATALOGUE_ELEMENTS // max(1, history.items.numel() * self.pair_width))
        moment = None if request_time is None else request_time[:, None]
        catalogue = torch.arange(1, self.num_items + 1, device=history.items.device)
        logits = [self.at_positions(history, history.lengths[:, None], part, moment) for part in catalogue.split(size)]
        padding = torch.full_like(logits[0][:, 0, :1], -torch.inf)
        return torch.cat([padding, *(part[:, 0] for part in logits)], 1).float()

    def score_candidates(self, history: History, candidates: Tensor, request_time: Tensor | None = None) -> Tensor:
        """Scores of each history's own candidates after the whole history, as a ranker behind a retriever gives them.

        A history is read once whatever its candidates, but where those of one history alone pass CATALOGUE_ELEMENTS. As
        many candidates as there are items are scored by `score_all`.

        candidates: (batch, candidates) int64 item ids, 0 for padding. request_time: (batch,) int64 seconds, or None.
        Returns (batch, candidates) float32; padding is -inf.
        """
        if not len(candidates):
            return candidates.to(torch.float32)
        if candidates.shape[1] >= self.num_items:
            return self.score_all(history, request_time).gather(1, candidates)
        history = history.last(self.max_length)
        room = CATALOGUE_ELEMENTS // max(1, history.items.shape[1] * self.pair_width)  # candidates at a time
        rows = max(1, room // max(1, candidates.shape[1]))
        logits = []
        for start in range(0, len(candidates), rows):
            some = slice(start, start + rows)
            events, parts = history.rows(some), []
            for asked in candidates[some].split(max(1, room), 1):
                moment = None if request_time is None else request_time[some, None].expand_as(asked)
                parts.append(self(RankingBatch(events, asked, request_time=moment)).float())
            logits.append(torch.cat(parts, 1))
        return torch.cat(logits).masked_fill(candidates == 0, -torch.inf)
