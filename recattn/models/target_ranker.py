"""The ranker of the click-through literature: any attention layer retrieves for the candidate, an MLP decides."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models.context import ContextEmbedding
from recattn.models.event_embedding import EventEmbedding
from recattn.models.history_reader import Candidates, Events, HistoryReader
from recattn.models.item_embedding import Combine
from recattn.models.moments import Moments, asked_at, left_out, moments_of
from recattn.models.preset_options import PresetOptions
from recattn.models.profile import ProfileTokens
from recattn.models.ranker import Ranker
from recattn.nn import (
    Encoder,
    InterestEvolution,
    InterestExtractor,
    LinformerAttention,
    MultiHeadAttention,
    SearchedAttention,
    SummaryPooling,
)
from recattn.nn.blocks.encoder import check_width
from recattn.nn.checks import check_count
from recattn.nn.dense.mlp import MLP, Activation


class RankerOptions(PresetOptions, total=False):
    """Arguments that every preset of TargetRanker hands on to it."""

    short_length: int
    profile_in_readout: bool


class TargetRanker(Ranker):
    """Any attention layer retrieves from the history for the candidate, and an MLP makes the logit of it.

        logit_c = MLP([x_c, layer(q_c, keys, values), short_layer(q_c, last keys, last values), profile, context_c])
                  + bias_c

    q_c and keys: embeddings of the candidate and of the events, x_c and values: the same; with ``separate_tables`` from
    tables of their own, one pair for matching and one for content, as DARE (Feng et al., ICLR 2025) proposes to keep
    their gradients apart. An event is its item plus what it was rated. What layer, that is the model: see `SIM`, `ETA`,
    `SDIM`, `TWIN`, `STCA`, `BST`, `DIEN`.

    num_items: catalogue without padding. dim: width of everything.
    attention_layer: a layer of recattn.nn from width dim to width dim; it reads the last ``max_length`` visible events;
        by default MultiHeadAttention with two heads; each model has a copy of its own. An `Encoder` gets each candidate
        as the last place of a sequence. CategorySearch compares the first code of the items' first feature.
    short_layer: a second one, which reads the last ``short_length`` of them; None: there is none.
    extractor: an `InterestExtractor` that reads the events first; keys and values are then its states (with
        separate tables the values alone). It brings `auxiliary_loss`.
    readout_dims, readout_activation: hidden layers of the MLP.
    recency, use_times: add a learned bias from an event's age in steps, and from the time since, to the scores of the
        layers (none to one that sums the history up before it is asked, as SDIM's).
    time_aware: measure that time up to the request and not only up to the last visible event.
    rating_levels: the ratings that occur, ascending; each gets an embedding that is added to the item's.
    profile_sizes: codes of each profile field, 0 (unknown) included. profile_in_readout: tell them to the MLP;
        False: each known one is a further key and value beside the history.
    context_sizes: codes of each column of the request's context, 0 (unknown) included, which is told to the MLP.
    feature_sizes, feature_widths, combine_features, id_dropout: of the items' features, see `ItemEmbedding`.
    dropout: in [0, 1), of the events' embeddings and of whole profile fields and columns of context.
    embedding_std: of embeddings, at first.
    Raises ConfigError for values outside of these, and for layers of another width.

    Nothing visible: what is retrieved is 0, and the MLP makes of it what it does.
    Candidates asked at one moment share the history: it is embedded and projected once. Candidates of different moments
    share it too, under a mask for each, where the layer takes one; else each moment has a window of its own.

    >>> model = TargetRanker(11, dim=8)
    >>> history = History(torch.tensor([[3, 5, 0], [2, 4, 7]]), torch.tensor([2, 3]))
    >>> model(RankingBatch(history, torch.tensor([[1, 9], [6, 3]]))).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: int = 64,
        attention_layer: nn.Module | None = None,
        short_layer: nn.Module | None = None,
        extractor: InterestExtractor | None = None,
        short_length: int = 20,
        separate_tables: bool = False,
        readout_dims: Sequence[int] = (200, 80),
        readout_activation: Activation = "relu",
        max_length: int = 100,
        recency: bool = True,
        use_times: bool = False,
        time_aware: bool = False,
        rating_levels: Sequence[float] = (),
        profile_sizes: Sequence[int] = (),
        profile_in_readout: bool = True,
        context_sizes: Sequence[int] = (),
        feature_sizes: Sequence[int] = (),
        feature_widths: Sequence[int] | None = None,
        combine_features: Combine = "sum",
        id_dropout: float = 0.1,
        dropout: float = 0.0,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        for name, value in (("num_items", num_items), ("dim", dim), ("max_length", max_length)):
            check_count(name, value)
        check_count("short_length", short_length)
        if time_aware and not use_times:
            raise ConfigError("time_aware is True, but use_times is False: there is no time to be aware of")
        if attention_layer is None:
            attention_layer = MultiHeadAttention(dim, dim, num_heads=2 if dim % 2 == 0 else 1)
        self.num_items, self.dim, self.max_length, self.short_length = num_items, dim, max_length, short_length
        self.separate_tables, self.profile_in_readout = separate_tables, profile_in_readout
        self.readout_dims, self.readout_activation = tuple(readout_dims), readout_activation
        self.recency, self.use_times, self.time_aware = recency, use_times, time_aware
        self.rating_levels, self.profile_sizes = tuple(rating_levels), tuple(profile_sizes)
        self.dropout, self.embedding_std = dropout, embedding_std
        self.combine_features: Combine = combine_features
        self.id_dropout = id_dropout
        self.pair_width = dim

        def table() -> EventEmbedding:
            return EventEmbedding(
                num_items,
                dim,
                max_length=max_length,
                learned_positions=False,
                rating_levels=rating_levels,
                feature_sizes=feature_sizes,
                feature_widths=feature_widths,
                combine_features=combine_features,
                id_dropout=id_dropout,
                dropout=dropout,
                embedding_std=embedding_std,
            )

        def reader(layer: nn.Module) -> HistoryReader:
            return HistoryReader(copy.deepcopy(layer), recency=recency, times=use_times, in_order=extractor is not None)

        self.content = table()
        self.matching = table() if separate_tables else self.content
        self.feature_sizes = self.content.items.feature_sizes
        self.feature_widths = self.content.items.feature_widths
        self.extractor = copy.deepcopy(extractor)
        self.long = reader(attention_layer)
        self.short = None if short_layer is None else reader(short_layer)
        self._check_layers()
        self.profile = ProfileTokens(self.profile_sizes, dim, dropout=dropout) if self.profile_sizes else None
        self.context_sizes, self.context = tuple(context_sizes), None
        if self.context_sizes:
            self.context = ContextEmbedding(context_sizes, dim, dropout=dropout, embedding_std=embedding_std)
        told = len(self.profile_sizes) * profile_in_readout + len(self.context_sizes)
        self.readout = MLP(
            (2 + (short_layer is not None) + told) * dim, self.readout_dims, 1, activation=readout_activation
        )
        self.item_bias = nn.Embedding(num_items + 1, 1, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The profile's embeddings from N(0, embedding_std²), the candidates' biases 0; the parts have their own."""
        for weight in () if self.profile is None else self.profile.parameters():
            nn.init.normal_(weight, std=self.embedding_std)
        nn.init.zeros_(self.item_bias.weight)

    @property
    def attention_layer(self) -> nn.Module:
        """The layer that reads the whole history."""
        return self.long.layer

    @property
    def short_layer(self) -> nn.Module | None:
        """The layer that reads the last events, if there is one."""
        return None if self.short is None else self.short.layer

    def forward(self, batch: RankingBatch) -> Tensor:
        """Logits (batch, candidates)."""
        asked = self._asked(batch)
        return asked.back(self._score(batch.history, asked.visible, asked.candidates, asked.now, asked.context))

    def at_positions(
        self, history: History, positions: Tensor, candidates: Tensor, request_time: Tensor | None = None
    ) -> Tensor:
        """See `Ranker.at_positions`: each position is a moment at which all candidates are asked about."""
        now = asked_at(history, positions, request_time if self.time_aware else None)
        return self._score(history, positions, candidates.expand(*positions.shape, -1), now, None)

    def contributions(self, batch: RankingBatch) -> Tensor:
        """See `Ranker.contributions`: what each logit loses where an event is left out (`left_out`)."""
        return left_out(self._score, batch.history, self._asked(batch), self.max_length)

    def attention(self, batch: RankingBatch) -> list[Tensor]:
        """The weights of the layer, and of the short one: (batch, [heads,] candidates, length + profile tokens).

        What they mean says the layer's ``weights_kind``.
        """
        asked = self._asked(batch)
        content = self.content.items(asked.candidates)
        found = self._retrieve(batch.history, asked.visible, asked.candidates, content, asked.now, need_weights=True)
        layers = [weights for _, weights in found if weights is not None]
        return [weights.movedim(1, -3).flatten(-3, -2)[..., asked.place, :] for weights in layers]

    def auxiliary_loss(self, history: History) -> Tensor | None:
        """The extractor's: its state after an event has to prefer the item that came next to one drawn at random."""
        if self.extractor is None:
            return None
        history = history.last(self.max_length)
        states = self.extractor(self.content(history), history.mask)
        # Any item but the one itself, all alike.
        steps = torch.randint(1, max(2, self.num_items), history.items.shape, device=history.items.device)
        negatives = (history.items - 1 + steps) % self.num_items + 1
        items = self.content.items
        return self.extractor.auxiliary_loss(states, items(history.items), items(negatives), history.mask)

    def _asked(self, batch: RankingBatch) -> Moments:
        return moments_of(batch, time_aware=self.time_aware)

    def _score(
        self, history: History, visible: Tensor, candidates: Tensor, now: Tensor | None, context: Tensor | None
    ) -> Tensor:
        """Logits (batch, moments, slots)."""
        content = self.content.items(candidates)
        parts = [content, *(found for found, _ in self._retrieve(history, visible, candidates, content, now))]
        if self.profile is not None and self.profile_in_readout:
            told = self.profile(history).told.flatten(1)
            parts.append(told[:, None, None].expand(*candidates.shape, -1))
        if self.context is not None:
            parts.append(self.context(context, candidates))
        real = (candidates != 0) & (visible > 0)[..., None]
        bias = self.item_bias(candidates) * self.content.items.known(candidates)[..., None]
        logits: Tensor = self.readout(torch.cat(parts, -1), real) + bias
        return logits.squeeze(-1)

    def _retrieve(
        self,
        history: History,
        visible: Tensor,
        candidates: Tensor,
        content: Tensor,
        now: Tensor | None,
        *,
        need_weights: bool = False,
    ) -> list[tuple[Tensor, Tensor | None]]:
        """What each layer retrieves, (batch, moments, slots, dim), and its weights, (batch, moments, [heads,] ...)."""
        query = content if self.matching is self.content else self.matching.items(candidates)
        asking = Candidates(query, candidates, self._categories(candidates))
        readers = [(self.long, self._events, self.max_length)]
        if self.short is not None:
            readers.append((self.short, self._plain_events, min(self.short_length, self.max_length)))
        return [
            reader(history, events, visible, asking, reach=reach, now=now, need_weights=need_weights)
            for reader, events, reach in readers
        ]

    def _categories(self, items: Tensor) -> Tensor | None:
        """The first code of each item's first feature, where somebody asks for it."""
        return self.content.items.codes[items, 0].long() if self.long.searches_categories else None

    def _plain_events(self, history: History) -> Events:
        content: Tensor = self.content(history)
        keys: Tensor = content if self.matching is self.content else self.matching(history)
        if self.extractor is not None:
            content = self.extractor(content, history.mask)
            keys = content if self.matching is self.content else keys
        return Events(keys, None if self.matching is self.content else content)

    def _events(self, history: History) -> Events:
        """What the layer that reads everything is given: the events, and the profile where it is a part of them."""
        events = self._plain_events(history)._replace(categories=self._categories(history.items))
        if self.profile is None or self.profile_in_readout:
            return events
        tokens = self.profile(history)
        keys = torch.cat([events.keys, tokens.keys], 1)
        values = torch.cat([events.keys if events.values is None else events.values, tokens.values], 1)
        categories = events.categories
        if categories is not None:
            categories = torch.cat([categories, torch.zeros_like(tokens.known, dtype=torch.int64)], 1)
        return Events(keys, values, tokens.known, categories)

    def _check_layers(self) -> None:
        """Raise ConfigError for layers that do not fit the model or each other."""
        widths = ("dim", "query_dim", "source_dim", "key_dim", "value_source_dim", "output_dim")
        for name, layer in (("attention_layer", self.attention_layer), ("short_layer", self.short_layer)):
            if layer is None:
                continue
            inner = cast("nn.Module", layer.attention) if isinstance(layer, SearchedAttention) else layer
            some = [width for width in widths if width != "key_dim" or not hasattr(inner, "num_heads")]
            check_width(name, inner, self.dim, [*some, "hidden_dim"] if isinstance(inner, InterestEvolution) else some)
            for kind in ("causal", "rotary"):
                if any(getattr(part, kind, None) for part in (inner, getattr(inner, "attention", None))):
                    raise ConfigError(f"{name} must not be {kind}: the candidate has no place in the history")
            if isinstance(inner, Encoder) and (self.separate_tables or not self.profile_in_readout):
                raise ConfigError(
                    f"{name} is an Encoder, whose events read each other: separate_tables must be False and "
                    "profile_in_readout True"
                )
            # The candidate comes behind the padding there, as profile tokens do.
            if isinstance(inner, Encoder) and isinstance(inner.attention, LinformerAttention):
                raise ConfigError(f"{name} must not be an Encoder of LinformerAttention, to which places matter")
            recent = isinstance(inner, SummaryPooling) and inner.num_recent > 0
            if (recent or isinstance(inner, LinformerAttention)) and self.profile_sizes and not self.profile_in_readout:
                raise ConfigError(
                    f"{name} is a {type(inner).__name__}, to which places matter, and the profile has none: "
                    "profile_in_readout must be True"
                )
        if self.long.searches_categories and not self.feature_sizes:
            raise ConfigError("CategorySearch needs items' features: feature_sizes is empty")
        if self.long.searches_categories and self.profile_sizes and not self.profile_in_readout:
            raise ConfigError(
                "CategorySearch never finds the profile, which has no category: profile_in_readout must be True"
            )
        if self.time_aware and all(reader is None or reader.bias is None for reader in (self.long, self.short)):
            raise ConfigError("time_aware is True, but no layer reads a time: one that sums the history up has no bias")
        if self.short is not None and self.short.searches_categories:
            raise ConfigError("short_layer must not be a CategorySearch: the last events are few")
        if self.extractor is not None:
            for name in ("input_dim", "hidden_dim"):
                if getattr(self.extractor, name) != self.dim:
                    raise ConfigError(f"extractor must have {name} {self.dim}, got {getattr(self.extractor, name)}")
            if not self.profile_in_readout:
                raise ConfigError("extractor reads events in their order: profile_in_readout must be True")
