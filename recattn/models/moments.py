"""Candidates by the moment at which they are asked about, and what each event brought to their logits."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from recattn.batch import History, RankingBatch
from recattn.models.windows import leave_out, put_back, window

LEFT_OUT_PAIRS = 2**18
"""`left_out` asks histories with one event left out in pieces of at most this many (candidate, event) pairs."""


class Moments(NamedTuple):
    """Candidates that see the same events at the same time, side by side.

    visible: (batch, moments) int64, how many events are seen. now: the same, seconds, when it is asked, or None.
    candidates: (batch, moments, slots) item ids, 0 where a moment has fewer than the others.
    place: (candidates,) the slot, counted over all moments, that each candidate of the batch went to.
    context: (batch, moments, slots, columns) int64 codes of each candidate's request, or None.
    """

    visible: Tensor
    now: Tensor | None
    candidates: Tensor
    place: Tensor
    context: Tensor | None = None

    def back(self, values: Tensor) -> Tensor:
        """Values (..., moments, slots) of the slots as those of the batch's candidates, (..., candidates)."""
        return values.flatten(-2)[..., self.place]


class Score(Protocol):
    """Logits (batch, moments, slots) of candidates of that shape, asked when ``visible`` (batch, moments) are seen."""

    def __call__(
        self,
        history: History,
        visible: Tensor,
        candidates: Tensor,
        now: Tensor | None,
        context: Tensor | None,
    ) -> Tensor: ...


def moments_of(batch: RankingBatch, *, time_aware: bool = False) -> Moments:
    """The batch's candidates by moment: what depends on the moment alone is then done once for all of them.

    time_aware: whether the time of asking is read; otherwise, and where it is not told, it is that of the last visible
    event. Columns of the batch are one moment where they agree in every row.

    >>> history = History(torch.tensor([[3, 5, 7]]), torch.tensor([3]))
    >>> asked = moments_of(RankingBatch(history, torch.tensor([[9, 4, 8, 6]]), visible=torch.tensor([[3, 1, 3, 1]])))
    >>> asked.visible.tolist(), asked.candidates.tolist(), asked.back(asked.candidates).tolist()
    ([[1, 3]], [[[4, 6], [9, 8]]], [[9, 4, 8, 6]])
    """
    history, candidates = batch.history, batch.candidates
    count = candidates.shape[1]
    told = batch.request_time if time_aware and history.times is not None else None
    columns = [column for column in (batch.visible, told) if column is not None]
    if not columns:
        visible, place = history.lengths[:, None], torch.arange(count, device=candidates.device)
        context = None if batch.context is None else batch.context[:, None]
        return Moments(visible, asked_at(history, visible, None), candidates[:, None], place, context)
    told_apart = torch.cat(columns) if len(candidates) else torch.arange(count, device=candidates.device)[None]
    _, group, sizes = told_apart.unique(dim=1, return_inverse=True, return_counts=True)
    slots = int(sizes.max())
    if len(sizes) * slots > 2 * count:  # more padding than candidates: each is a moment of its own
        group, sizes, slots = torch.arange(count, device=group.device), torch.ones_like(group), 1
    order = group.argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = (
        group[order] * slots + torch.arange(count, device=order.device) - (sizes.cumsum(0) - sizes)[group[order]]
    )

    def by_slot(values: Tensor) -> Tensor:
        found = values.new_zeros(len(values), len(sizes) * slots, *values.shape[2:])
        found[:, place] = values
        return found.view(len(values), len(sizes), slots, *values.shape[2:])

    def by_moment(values: Tensor) -> Tensor:
        found = values.new_zeros(len(values), len(sizes))
        found[:, group] = values
        return found

    visible = history.lengths[:, None].expand(-1, len(sizes)) if batch.visible is None else by_moment(batch.visible)
    now = asked_at(history, visible, None if told is None else by_moment(told))
    context = None if batch.context is None else by_slot(batch.context)
    return Moments(visible, now, by_slot(candidates), place, context)


def asked_at(history: History, visible: Tensor, now: Tensor | None) -> Tensor | None:
    """``now``, or where it is None the time of the last visible event; None for a history without times.

    >>> history = History(torch.tensor([[3, 5]]), torch.tensor([2]), torch.tensor([[10, 20]]))
    >>> asked_at(history, torch.tensor([[1, 2]]), None).tolist()
    [[10, 20]]
    """
    if history.times is None:
        return None
    return history.times.gather(1, (visible - 1).clamp(min=0)) if now is None else now


@torch.no_grad()
def left_out(score: Score, history: History, asked: Moments, max_length: int) -> Tensor:
    """What each logit loses where an event is left out, (batch, candidates, length): logit - logit without it.

    Exact for one event at a time; as events work together, the differences do not add up to the logit. Events before
    the one left out are a step younger without it; when it is asked stays as it was. 0 beyond the last ``max_length``
    visible events.
    """
    windows, starts = window(history, asked.visible, max_length)
    rows = asked.candidates.flatten(0, 1).unsqueeze(1)
    now = None if asked.now is None else asked.now.reshape(-1, 1)
    told = None if asked.context is None else asked.context.flatten(0, 1).unsqueeze(1)

    def logits(some: History, copies: int) -> Tensor:
        then = None if now is None else now.repeat(copies, 1)
        context = None if told is None else told.repeat(copies, 1, 1, 1)
        return score(some, some.lengths[:, None], rows.repeat(copies, 1, 1), then, context)[:, 0]

    whole, width = logits(windows, 1), windows.items.shape[1]
    pairs = max(1, width * rows.numel())
    lost = [
        whole - logits(leave_out(windows, events), len(events)).unflatten(0, (len(events), -1))
        for events in torch.arange(width, device=whole.device).split(max(1, LEFT_OUT_PAIRS // pairs))
    ]
    brought = (torch.cat(lost).movedim(0, -1) * windows.mask[:, None]).unflatten(0, asked.visible.shape)
    wide = put_back(brought, starts, history.items.shape[1])  # (batch, moments, slots, length)
    return wide.flatten(1, 2)[:, asked.place]
