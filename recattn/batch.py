"""The tensors that data hands to models, and nothing else.

Conventions (checked by ``tests/contracts``): item id 0 is padding; histories run oldest first and are padded
on the right; a mask is boolean with ``True`` for a real event; times are whole seconds since 1970 (int64).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class History(NamedTuple):
    """What each user of a batch did, oldest event first, padded on the right with item 0.

    items: (batch, length) int64; 0 is padding.
    lengths: (batch,) int64; how many leading events of each row are real.
    times: (batch, length) int64 seconds, or None where the data has no times.
    ratings: (batch, length) float32 in the data's own unit, or None.
    profile: (batch, fields) int64 codes of the user's profile (0 is unknown), or None.

    >>> import torch
    >>> history = History(torch.tensor([[5, 7, 0]]), torch.tensor([2]))
    >>> history.mask.tolist()
    [[True, True, False]]
    """

    items: Tensor
    lengths: Tensor
    times: Tensor | None = None
    ratings: Tensor | None = None
    profile: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """(batch, length) bool: True where there is a real event."""
        steps = torch.arange(self.items.shape[1], device=self.items.device)
        return steps < self.lengths[:, None]

    def last(self, count: int) -> "History":
        """The last ``count`` events of each row, still padded on the right.

        >>> History(torch.tensor([[5, 7, 9], [4, 0, 0]]), torch.tensor([3, 1])).last(2).items.tolist()
        [[7, 9], [4, 0]]
        """
        if self.items.shape[1] <= count:
            return self
        lengths = self.lengths.clamp(max=count)
        steps = torch.arange(count, device=self.items.device)
        real = steps < lengths[:, None]
        # Rows of padding at the end read their own first column again: it is set to 0 below.
        index = torch.where(real, (self.lengths - lengths)[:, None] + steps, 0)
        return self.rearranged(lambda values: values.gather(1, index) * real, lengths)

    def rearranged(self, change: Callable[[Tensor], Tensor], lengths: Tensor) -> "History":
        """Other events of the same users: ``change`` makes them of items, times and ratings alike.

        >>> history = History(torch.tensor([[5, 7]]), torch.tensor([2]), times=torch.tensor([[10, 20]]))
        >>> history.rearranged(lambda values: values[:, :1], torch.tensor([1])).times.tolist()
        [[10]]
        """
        return self._replace(
            items=change(self.items),
            lengths=lengths,
            times=None if self.times is None else change(self.times),
            ratings=None if self.ratings is None else change(self.ratings),
        )

    def rows(self, some: slice) -> "History":
        """Some of the users.

        >>> History(torch.tensor([[5, 7], [4, 0]]), torch.tensor([2, 1])).rows(slice(1, 2)).items.tolist()
        [[4, 0]]
        """
        kept = self.rearranged(lambda values: values[some], self.lengths[some])
        return kept._replace(profile=None if self.profile is None else self.profile[some])


class RankingBatch(NamedTuple):
    """Candidates to be scored against histories that they share.

    history: the users' events.
    candidates: (batch, candidates) int64 item ids; 0 is padding.
    labels: (batch, candidates) float32, 1 where the user took the item and 0 where not; None when scoring.
    visible: (batch, candidates) int64: the candidate sees the first ``visible`` events of its row only, so that
        a user's successive targets share one copy of the history. None: every candidate sees all of it.
    request_time: (batch, candidates) int64 seconds at which each candidate is offered; None where unknown, and
        time gaps are then measured from the last visible event.
    users: (batch,) int64 numbers of the rows' users, by which metrics group; no model reads them. None where unknown.
    context: (batch, candidates, columns) int64 codes of what is known of each request alone (0 is unknown), or None.
    """

    history: History
    candidates: Tensor
    labels: Tensor | None = None
    visible: Tensor | None = None
    request_time: Tensor | None = None
    users: Tensor | None = None
    context: Tensor | None = None


class SequenceBatch(NamedTuple):
    """Histories together with the events to be predicted inside them, for training at every position.

    history: the users' events, the targets among them.
    positions: (batch, positions) int64: the target of row b, column p is ``history.items[b, positions[b, p]]`` and
        sees the events before that position only.
    mask: (batch, positions) bool: True for a real target.
    """

    history: History
    positions: Tensor
    mask: Tensor


class TargetBatch(NamedTuple):
    """Histories and the one item that came next in each, for evaluation against the whole catalogue.

    history: everything before the target. targets: (batch,) int64 item ids.
    request_time: (batch,) int64 seconds at which the target happened, for models that are told; else None.
    """

    history: History
    targets: Tensor
    request_time: Tensor | None = None
