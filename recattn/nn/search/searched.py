"""A search in front of an attention layer: find few events, then attend to those exactly."""

import math
from typing import cast

from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind
from recattn.nn.attention.multihead import MultiHeadAttention
from recattn.nn.search.found import Found, Search
from recattn.nn.search.inner import as_layer


class SearchedAttention(nn.Module):
    """attention(query, the events that search(query) finds): two stages over a history of any length.

    The general and the exact search unit of SIM (Pi et al. 2020), ETA (Chen et al. 2021) and TWIN (Chang et al. 2023),
    with any search and any attention. Where the search finds everything it is the attention itself.

    search: `DotSearch`, `SimHashSearch`, `CategorySearch`, or a module of your own that keeps to `Search`.
    attention: a layer of recattn.nn over query and keys, not a causal one (ConfigError): found events are no sequence
        that the query is part of. To hide events from a query use the mask. It must not look at places either (as
        LinformerAttention does), as found events move up; a ``bias`` moves with its event.
    projected: let the search compare what a MultiHeadAttention compares, its projected queries and keys, as TWIN does:
        with DotSearch(k, DotScorer()) events are then ranked by the mean of the heads' own scores. ConfigError for
        another attention, and for a rotary one.

    Events that were not found have weight exactly 0 and no gradient. Nothing found: output and weights exactly 0.
    `weights_kind` is the attention's. `reference` is the attention over the whole history under the mask of what was
    found.

    Only the found events are gathered, projected and attended to, a copy for each query: queries x k in place of
    length. The search remains to be paid for, and costs about what one head of fused attention costs. Measured on one
    core, 1e5 events 64 wide, 64 queries, k = 100, forward and backward: 30 ms with DotSearch and 35 with SimHashSearch
    (codes given) against 93 for AttentionPooling, 34 and 38 against 259 for MultiHeadAttention with four heads; forward
    alone 24 and 29 against 19, 26 and 31 against 73. At 1e4 events it gains little or nothing: there exact attention is
    the better choice, unless its scorer is dear.

    >>> import torch
    >>> from recattn.nn import AttentionPooling, DotScorer, DotSearch, Softmax
    >>> layer = SearchedAttention(DotSearch(2), AttentionPooling(DotScorer(), Softmax()))
    >>> layer(torch.ones(1, 1), torch.tensor([[[5.0], [1.0], [5.0]]])).weights.tolist()
    [[[0.5, 0.0, 0.5]]]
    """

    def __init__(self, search: nn.Module, attention: nn.Module, *, projected: bool = False) -> None:
        super().__init__()
        if projected and (not isinstance(attention, MultiHeadAttention) or attention.rotary is not None):
            raise ConfigError(
                "projected is for a MultiHeadAttention that is not rotary: what others compare is not known"
            )
        self.search = cast("Search", search)  # annotated as a module so that a configuration file can name it
        self.attention = as_layer(attention)
        self.projected = projected

    @property
    def weights_kind(self) -> WeightsKind:
        """What the weights mean, as the attention says."""
        return self.attention.weights_kind

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
        search_query: Tensor | None = None,
        search_keys: Tensor | None = None,
    ) -> Attended:
        """Search, then ask what was found.

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row.
        keys: (batch, length, key_dim). values: (batch, length, value_dim), by default the keys.
        mask: bool, (batch, length) or (batch, queries, length), True for real; None: all real.
        bias: broadcasts to (batch, queries, length), or with the attention's heads to (batch, heads, queries, length).
            The search gets it too, as the mean over heads.
        search_query, search_keys: what the search compares (categories, codes, other projections), by default query and
            keys: (batch, 1 or queries, ...), or (batch, ...) for one query a row, and (batch, length, ...). With 1 in
            place of queries one search serves all, and its events are gathered once.
        Returns output and weights (batch, [heads,] queries, length) as the attention does, 0 where nothing was found.
        """
        single = query.dim() == 2
        query = query.unsqueeze(1) if single else query
        found = self.find(query, keys, mask, bias=bias, search_query=search_query, search_keys=search_keys)
        batch, queries, length = *query.shape[:2], keys.shape[1]
        found = Found(*(x.expand(batch, -1, -1) for x in found))
        _, groups, size = found.places.shape  # the queries of a group share the events that were found
        if groups not in (1, queries):
            raise ConfigError(f"search_query must hold 1 or {queries} queries, as query does, got {groups}")
        asking = queries // groups if groups else 1
        output, weights = self.attention(
            query.reshape(batch * groups, asking, query.shape[2]),
            found.gather(keys).flatten(0, 1),
            None if values is None else found.gather(values).flatten(0, 1),
            found.mask.flatten(0, 1),
            bias=None if bias is None else _gather_bias(bias, found.places, asking, length),
            need_weights=need_weights,
        )
        output = output.reshape(batch, queries, output.shape[2])
        if weights is not None:
            places = found.places.view(batch * groups, *[1] * (weights.dim() - 2), size).expand_as(weights)
            # Added, not written: a slot where nothing was found may point at an event that another slot found.
            weights = weights.new_zeros(*weights.shape[:-1], length).scatter_add(-1, places, weights)
            weights = weights.unflatten(0, (batch, groups)).movedim(1, -3).flatten(-3, -2)
        return Attended(output.squeeze(1) if single else output, weights)

    def find(
        self,
        query: Tensor,
        keys: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        search_query: Tensor | None = None,
        search_keys: Tensor | None = None,
    ) -> Found:
        """The first step of forward: what the search finds. Arguments as there, with query (batch, queries, dim)."""
        if self.projected and isinstance(self.attention, MultiHeadAttention):
            per_head = 1 / (self.attention.num_heads * math.sqrt(self.attention.key_dim))
            query, keys = self.attention.query_projection(query) * per_head, self.attention.key_projection(keys)
        sought = query if search_query is None else search_query
        offered = keys if search_keys is None else search_keys
        if sought.dim() == offered.dim() - 1:
            sought = sought.unsqueeze(1)
        return self.search(sought, offered, mask, bias=bias if bias is None or bias.dim() < 4 else bias.mean(1))

    def reference(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        search_query: Tensor | None = None,
        search_keys: Tensor | None = None,
    ) -> Attended:
        """The specification of forward: the whole history, all but the found events masked. Arguments as there."""
        single = query.dim() == 2
        query = query.unsqueeze(1) if single else query
        found = self.find(query, keys, mask, bias=bias, search_query=search_query, search_keys=search_keys)
        seen = found.spread(keys.shape[1]).expand(query.shape[0], query.shape[1], -1)
        output, weights = self.attention(query, keys, values, seen, bias=bias)
        return Attended(output.squeeze(1) if single else output, weights)


def _gather_bias(bias: Tensor, places: Tensor, asking: int, length: int) -> Tensor:
    """The bias of the events at places (batch, groups, size): (batch * groups, [heads,] asking, size)."""
    batch, groups, size = places.shape
    heads = bias.shape[1:-2]
    wide = bias.expand(batch, *heads, groups * asking, length).unflatten(-2, (groups, asking))
    chosen = places.view(batch, *[1] * len(heads), groups, 1, size).expand(*wide.shape[:-1], size)
    found: Tensor = wide.gather(-1, chosen).movedim(-3, 1).flatten(0, 1)
    return found
