"""How candidates ask an attention layer of `recattn.nn`, each seeing the events of its own moment."""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.batch import History
from recattn.models.event_bias import EventBias, head_slopes
from recattn.models.windows import put_back, window
from recattn.nn import Attended, CategorySearch, Dice, Encoder, SearchedAttention, full_mask
from recattn.nn.attended import fill_masked
from recattn.nn.attention.heads import with_heads, without_heads


class Events(NamedTuple):
    """What the candidates can ask: a history's events, then perhaps tokens of its profile.

    keys: (batch, length + tokens, dim). values: the same, None where the keys are the values.
    tokens: (batch, tokens) bool, True for one that is known; None: there are none.
    categories: (batch, length + tokens) int64, 0 for none; None where nobody asks for them.
    """

    keys: Tensor
    values: Tensor | None
    tokens: Tensor | None = None
    categories: Tensor | None = None


class Candidates(NamedTuple):
    """Who asks. query: (batch, moments, slots, dim). items, categories: the same without dim, 0 for padding."""

    query: Tensor
    items: Tensor
    categories: Tensor | None = None


class HistoryReader(nn.Module):
    """An attention layer, and what age and time add to its scores (`EventBias`).

    layer: a layer of recattn.nn; or an `Encoder`, of which each candidate becomes the last place.
    recency, times: whether the bias reads the events' age and time. A layer that sums up what it is given before it is
        asked (``summarises``) gets no bias, nor has it one behind a search.
    in_order: the events have been read one after another, from the first on: a history is then cut to what may be read
        before that is done.
    """

    def __init__(self, layer: nn.Module, *, recency: bool, times: bool, in_order: bool) -> None:
        super().__init__()
        self.layer, self.in_order = layer, in_order
        self.summarises = bool(getattr(layer, "summarises", False))
        self.learns_from_pairs = any(isinstance(part, Dice) for part in layer.modules())
        heads, inner = num_heads_of(layer), getattr(layer, "attention", None)
        biased = (recency or times) and not (self.summarises or getattr(inner, "summarises", False))
        slopes = head_slopes(heads)
        self.bias = EventBias(heads, recency=recency, slopes=slopes, times=times, rating_levels=()) if biased else None

    @property
    def searches_categories(self) -> bool:
        """Whether events are found by what category they are of."""
        return isinstance(self.layer, SearchedAttention) and isinstance(self.layer.search, CategorySearch)

    def forward(
        self,
        history: History,
        events: Callable[[History], Events],
        visible: Tensor,
        candidates: Candidates,
        *,
        reach: int,
        now: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        """Ask the last ``reach`` of the first ``visible`` events.

        events: embeds a history. visible, now: (batch, moments); now None: the time of the last visible event.
        Returns output (batch, moments, slots, dim) and weights (batch, moments, [heads,] slots, length + tokens).

        Candidates of all moments share one copy of the history where the layer takes a mask for each query. Else, and
        where one moment reads less than there is, each moment gets a window of its own.
        """
        moments, length = visible.shape[1], history.items.shape[1]
        too_long = length > reach and (moments == 1 or self.in_order)
        if too_long or (moments > 1 and self.summarises):
            windows, starts = window(history, visible, reach)
            alone = Candidates(*(None if x is None else x.flatten(0, 1).unsqueeze(1) for x in candidates))  # type: ignore[arg-type]
            output, weights = self(
                windows,
                events,
                windows.lengths[:, None],
                alone,
                reach=reach,
                now=None if now is None else now.reshape(-1, 1),
                need_weights=need_weights,
            )
            output = output.squeeze(1).unflatten(0, visible.shape)
            if weights is not None:
                width = windows.items.shape[1]
                weights = weights.squeeze(1).unflatten(0, visible.shape)
                weights = torch.cat([put_back(weights[..., :width], starts, length), weights[..., width:]], -1)
            return Attended(output, weights)
        return self._ask(history, events(history), visible, candidates, reach, now, need_weights=need_weights)

    def _ask(
        self,
        history: History,
        events: Events,
        visible: Tensor,
        candidates: Candidates,
        reach: int,
        now: Tensor | None,
        *,
        need_weights: bool,
    ) -> Attended:
        moments, slots = candidates.items.shape[1:]
        steps = torch.arange(history.items.shape[1], device=visible.device)
        mask = (steps < visible[..., None]) & (steps >= visible[..., None] - reach)
        bias = None if self.bias is None else self.bias(history, visible, now).to(events.keys.dtype)
        if events.tokens is not None:
            mask = torch.cat([mask, events.tokens[:, None].expand(-1, moments, -1)], -1)
            bias = None if bias is None else F.pad(bias, (0, events.tokens.shape[1]))
        if self.learns_from_pairs and self.training:
            mask = (mask[:, :, None] & (candidates.items != 0)[..., None]).flatten(1, 2)
        else:
            mask = mask[:, 0] if moments == 1 else mask.repeat_interleave(slots, 1)
        if bias is not None:
            bias = bias if moments == 1 else bias.repeat_interleave(slots, 2)
            bias = without_heads(bias)
        query, more = candidates.query.flatten(1, 2), {}
        if self.searches_categories and candidates.categories is not None and events.categories is not None:
            more = {"search_query": candidates.categories.flatten(1, 2), "search_keys": events.categories}
        if isinstance(self.layer, Encoder):
            output, weights = ask_encoder(self.layer, query, events.keys, mask, bias, need_weights=need_weights)
        else:
            output, weights = self.layer(
                query, events.keys, events.values, mask, bias=bias, need_weights=need_weights, **more
            )
        output = output.unflatten(1, (moments, slots))
        if weights is not None:  # (batch, [heads,] queries, length)
            weights = weights.unflatten(-2, (moments, slots)).movedim(-3, 1)
        return Attended(output, weights)


def num_heads_of(layer: nn.Module) -> int:
    """Heads of a layer, or of the attention inside it; 1 where it has none.

    >>> from recattn.nn import DotSearch, MultiHeadAttention
    >>> num_heads_of(SearchedAttention(DotSearch(3), MultiHeadAttention(6, 6, num_heads=2)))
    2
    """
    heads = getattr(layer, "num_heads", None)
    inner = getattr(layer, "attention", None)
    if heads is None and isinstance(inner, nn.Module):
        return num_heads_of(inner)
    return 1 if heads is None else cast("int", heads)


def ask_encoder(
    encoder: Encoder, query: Tensor, keys: Tensor, mask: Tensor | None, bias: Tensor | None, *, need_weights: bool
) -> Attended:
    """Each query as the last place of a sequence of its own, [history, query]: what the encoder makes of that place.

    query: (batch, queries, dim). keys: (batch, length, dim). mask: (batch, length) or (batch, queries, length).
    bias: broadcasts to (batch, queries, length) or (batch, heads, queries, length); it counts for every place that
        looks at the event.
    Returns output (batch, queries, dim), 0 where there is nothing to attend to, and the last block's weights of the
    query, (batch, heads, queries, length): what they lack to 1 it gave to itself.
    """
    batch, queries, _ = query.shape
    length = keys.shape[1]
    seen = full_mask(mask, keys)
    seen = torch.ones_like(keys[:, None, :, 0], dtype=torch.bool) if seen is None else seen
    seen = seen.expand(batch, queries, length)
    sequence = torch.cat([keys[:, None].expand(-1, queries, -1, -1), query[:, :, None]], 2).flatten(0, 1)
    if bias is not None:
        bias = with_heads(bias).expand(batch, -1, queries, length)
        bias = F.pad(bias.transpose(1, 2).flatten(0, 1).unsqueeze(2), (0, 1))
    encoded, layers = encoder(
        sequence, F.pad(seen, (0, 1), value=True).flatten(0, 1), bias=bias, need_weights=need_weights
    )
    output = fill_masked(encoded[:, -1].unflatten(0, (batch, queries)), seen.any(-1, keepdim=True), 0.0)
    if not layers:
        return Attended(output, None)
    return Attended(output, layers[-1][..., -1, :length].unflatten(0, (batch, queries)).transpose(1, 2))
