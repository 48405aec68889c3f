"""What every next-item model offers: one state for each moment of a history, compared with every item."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.batch import History, RankingBatch
from recattn.models.moments import asked_at, left_out, moments_of
from recattn.models.ranker import Ranker
from recattn.models.windows import put_back, window


class NextItemModel(Ranker):
    """A model that reads the history once, whatever the candidates: logit(t, c) = state_t · embedding_c.

    The history asks and the catalogue answers. Such a model ranks the whole catalogue by one product, so it also works
    as a retriever. It is a `Ranker` like the others: the same tasks train it, the same protocol measures it.

    A model defines `states`, `item_embeddings` and `weights`. States must be causal: the state after event i depends on
    the events 0..i and not on what follows, but for the one thing that a ``time_aware`` model is told: when the request
    comes. After event i that is the time of event i + 1, after the last event ``now``; where no time is given, that of
    the last event itself. Nothing visible: state 0, all logits 0.
    """

    @abstractmethod
    def states(self, history: History, now: Tensor | None = None) -> Tensor:
        """What is known after each event, (batch, length, dim); at padding some finite numbers without meaning.

        now: (batch,) int64 seconds, when the request after the last event comes; a model that is not time_aware
            ignores it.
        """

    @abstractmethod
    def item_embeddings(self) -> Tensor:
        """The items' vectors, (num_items + 1, dim); row 0, padding, has no meaning and gets no gradient."""

    @abstractmethod
    def weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:
        """The attention behind `states`, layer by layer: (batch, [heads,] length, length), 0 for padded keys.

        The rows of padding have no meaning.
        """

    def forward(self, batch: RankingBatch) -> Tensor:
        """Logits (batch, candidates)."""
        visible, moments = self._asked(batch)
        history = batch.history
        if batch.visible is None:
            history, visible = history.last(self.max_length), visible.clamp(max=self.max_length)
        states = self._states_at(history, visible, moments)
        return (states * self._vectors(batch.candidates)).sum(-1)

    def at_positions(
        self, history: History, positions: Tensor, candidates: Tensor, request_time: Tensor | None = None
    ) -> Tensor:
        """See `Ranker.at_positions`: one pass over the history and one product with the candidates.

        A time_aware model needs a pass for each position where requests come at other times than the events did.
        """
        return self._states_at(history, positions, request_time) @ self._vectors(candidates).mT

    def score_all(self, history: History, request_time: Tensor | None = None) -> Tensor:
        """See `Ranker.score_all`: one state for each history, one product with the catalogue."""
        states = self.last_states(history.last(self.max_length), request_time)
        scores = (states @ self.item_embeddings().T).float()
        scores[:, 0] = -torch.inf
        return scores

    def attention(self, batch: RankingBatch) -> list[Tensor]:
        """The weights behind each candidate's logit, layer by layer: (batch, [heads,] candidates, length)."""
        visible, moments = self._asked(batch)
        length = batch.history.items.shape[1]
        visible = visible.expand_as(batch.candidates)
        windows, starts = window(batch.history, visible, self.max_length)
        now = None if moments is None else moments.expand_as(visible).flatten()
        layers = []
        for asked in self._last_weights(windows, now):
            asked = asked.unflatten(0, visible.shape)  # (batch, candidates, [heads,] width)
            layers.append(put_back(asked, starts, length).movedim(1, -2))
        return layers

    def contributions(self, batch: RankingBatch) -> Tensor:
        """What each logit loses where an event is left out, (batch, candidates, length): logit - logit without it.

        Exact for one event at a time. As events work together the differences do not add up to the logit. When it is
        asked stays as it was: without a request time that of the last event, also where this is the one left out.
        """
        table = self.item_embeddings()

        def score(
            history: History,
            visible: Tensor,  # noqa: ARG001 - all of it
            candidates: Tensor,
            now: Tensor | None,
            context: Tensor | None,  # noqa: ARG001 - such a model reads none
        ) -> Tensor:
            states = self.last_states(history, None if now is None else now.flatten())
            vectors: Tensor = F.embedding(candidates, table, padding_idx=0)
            return (states[:, None, None] * vectors).sum(-1)

        return left_out(score, batch.history, moments_of(batch, time_aware=self.time_aware), self.max_length)

    def _vectors(self, candidates: Tensor) -> Tensor:
        """The candidates' embeddings, (..., dim), 0 for padding."""
        vectors: Tensor = F.embedding(candidates, self.item_embeddings(), padding_idx=0)
        return vectors

    def _asked(self, batch: RankingBatch) -> tuple[Tensor, Tensor | None]:
        """How many events each candidate sees and when it is offered, (batch, candidates), or (batch, 1) for all."""
        moments = batch.request_time if self.time_aware else None
        if batch.visible is not None:
            return batch.visible, moments
        visible = batch.history.lengths[:, None]
        if moments is None or bool((moments == moments[:, :1]).all()):
            return visible, None if moments is None else moments[:, :1]
        return visible.expand_as(moments), moments

    def _states_at(self, history: History, positions: Tensor, request_time: Tensor | None = None) -> Tensor:
        """The state before the event at each position (batch, positions): (batch, positions, dim), 0 at position 0."""
        moments = asked_at(history, positions, request_time) if self.time_aware else None
        now = None if moments is None else common_request(history, positions, moments)
        if history.items.shape[1] > self.max_length or (moments is not None and now is None):
            windows, _ = window(history, positions, self.max_length)
            states = self.last_states(windows, None if moments is None else moments.flatten())
            there: Tensor = states.unflatten(0, positions.shape)
            return there
        states = self.states(history, now)
        index = (positions - 1).clamp(min=0)[..., None].expand(-1, -1, states.shape[-1])
        found: Tensor = states.gather(1, index) * (positions > 0)[..., None]
        return found

    def _last_weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:
        """The weights behind the state after each whole history, layer by layer: (batch, [heads,] length)."""
        rows, last = torch.arange(len(history.items), device=history.items.device), (history.lengths - 1).clamp(min=0)
        alive = history.lengths > 0
        layers = [found[rows, ..., last, :] for found in self.weights(history, now)]
        return [layer * alive.view(-1, *[1] * (layer.dim() - 1)) for layer in layers]

    def last_states(self, history: History, now: Tensor | None = None) -> Tensor:
        """The state after each whole history of at most max_length events, (batch, dim), 0 where there is none."""
        states = self.states(history, now)
        index = (history.lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[-1])
        found: Tensor = states.gather(1, index).squeeze(1) * (history.lengths > 0)[:, None]
        return found


def common_request(history: History, positions: Tensor, moments: Tensor) -> Tensor | None:
    """The ``now`` with which one pass over the history answers all positions at their moments, if there is one.

    Inside the history a place is asked when the event that follows it happens, so a moment must be that; the positions
    after the last event must agree on one. positions, moments: (batch, positions). Returns (batch,) or None.

    >>> history = History(torch.tensor([[5, 7]]), torch.tensor([2]), torch.tensor([[10, 20]]))
    >>> common_request(history, torch.tensor([[1, 2]]), torch.tensor([[20, 90]])).tolist()
    [90]
    >>> common_request(history, torch.tensor([[1, 2]]), torch.tensor([[50, 90]])) is None
    True
    """
    times, length = history.times, history.items.shape[1]
    if times is None or not length:
        return None
    after = positions >= history.lengths[:, None]
    now = torch.where(after, moments, torch.iinfo(moments.dtype).min).amax(1)
    expected = torch.where(after, now[:, None], times.gather(1, positions.clamp(max=length - 1)))
    fits = (moments == expected) | (positions == 0)
    return now if bool(fits.all()) else None
