"""SASRec and its descendants: a causal encoder reads the history, the catalogue is asked at every position."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models.event_embedding import EventEmbedding, Times
from recattn.models.item_embedding import Combine
from recattn.models.next_item import NextItemModel
from recattn.models.sequence_bias import SequenceBias
from recattn.nn import Encoder, MultiHeadAttention
from recattn.nn.blocks.encoder import EncoderFeedForward, ask_itself
from recattn.nn.blocks.residual import Norm
from recattn.nn.checks import check_count, check_fraction, check_positive


class SASRec(NextItemModel):
    """Self-attentive sequential recommendation (Kang and McAuley 2018): state_t = Encoder(e_1 + p_1, ..., e_t + p_t)_t.

    The defaults are the paper's: two blocks, pre-norm, ReLU as wide as the model, items and places alone. The command
    line adds ratings and profile where the data has them, but for ``--no-use-ratings`` and ``--no-use-profile``.
    ``feed_forward="swiglu"`` with ``gated=True`` is the LiGR block of eSASRec (2025); any causal layer of `recattn.nn`
    goes in as ``attention_layer``. With the cross-entropy over the catalogue as its loss (`NextItemTask`) it is far
    ahead of the paper's own figures (Klenitskiy and Vasilev 2023).

    num_items: catalogue without padding. dim: width. num_heads: of the default attention, divides dim.
    num_layers: blocks, >= 1. max_length: events that are read, >= 2.
    attention_layer: a causal layer from and to width dim; None: a `MultiHeadAttention` with num_heads.
    learned_positions: add a learned embedding of the place; False where the attention knows order by itself (rotary).
    times, rating_levels, profile_sizes, feature_sizes, feature_widths, combine_features, id_dropout: what else is read
        of an event, see `EventEmbedding`. With ``times="request"`` the model is time_aware: it is told when its answer
        is wanted, and is compared with its like.
    separate_tables: items are ranked with a table of their own, not that which histories are read with, as gSASRec does
        on MovieLens-1M (Petrov and Macdonald 2023).
    hidden_dim: of the feed-forward networks, by default dim. feed_forward, norm, gated: see `recattn.nn.Encoder`.
    relative_positions, interval_bias: add a learned bias of the steps or of the time between two events to the scores,
        see `SequenceBias`; the second is TiSASRec's idea (Li et al. 2020), blind to the request unless times says so.
    temperature: None: logits are dot products; a number > 0: cosines divided by it.
    dropout: in [0, 1). embedding_std: standard deviation of the embeddings at the start, above 0.
    Raises ConfigError for values outside of these, and for an attention that sees the future.

    >>> import torch
    >>> model = SASRec(11, dim=8, num_layers=1)
    >>> model.states(History(torch.tensor([[3, 5, 0], [2, 4, 7]]), torch.tensor([2, 3]))).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: int = 64,
        num_heads: int = 2,
        num_layers: int = 2,
        max_length: int = 200,
        attention_layer: nn.Module | None = None,
        learned_positions: bool = True,
        times: Times = "none",
        rating_levels: Sequence[float] = (),
        profile_sizes: Sequence[int] = (),
        feature_sizes: Sequence[int] = (),
        feature_widths: Sequence[int] | None = None,
        combine_features: Combine = "sum",
        id_dropout: float = 0.1,
        separate_tables: bool = False,
        hidden_dim: int | None = None,
        feed_forward: EncoderFeedForward = "relu",
        norm: Norm = "pre",
        gated: bool = False,
        relative_positions: bool = False,
        interval_bias: bool = False,
        temperature: float | None = None,
        dropout: float = 0.2,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        for name, value, least in (("num_items", num_items, 1), ("dim", dim, 1), ("max_length", max_length, 2)):
            check_count(name, value, least=least)
        check_count("num_heads", num_heads)
        check_fraction("dropout", dropout)
        check_positive("embedding_std", embedding_std)
        self.num_items, self.dim, self.num_heads, self.num_layers = num_items, dim, num_heads, num_layers
        self.max_length, self.learned_positions = max_length, learned_positions
        self.times: Times = times
        self.time_aware = times == "request"
        self.rating_levels, self.profile_sizes = tuple(rating_levels), tuple(profile_sizes)
        self.hidden_dim = dim if hidden_dim is None else hidden_dim
        self.feed_forward: EncoderFeedForward = feed_forward
        self.norm: Norm = norm
        if temperature is not None:
            check_positive("temperature", temperature)
        self.relative_positions, self.interval_bias, self.temperature = relative_positions, interval_bias, temperature
        self.gated, self.dropout, self.embedding_std = gated, dropout, embedding_std
        layer = attention_layer
        if layer is None:
            layer = MultiHeadAttention(dim, dim, num_heads=num_heads, causal=True)
        self.encoder = Encoder(
            dim,
            attention=layer,
            num_layers=num_layers,
            hidden_dim=self.hidden_dim,
            feed_forward=feed_forward,
            norm=norm,
            gated=gated,
            dropout=dropout,
        )
        if not self.encoder.causal:
            raise ConfigError(
                "attention_layer must be causal: a state that sees what comes next has nothing to predict"
            )
        if relative_positions or interval_bias:
            check_takes_pairs(layer, dim)
        self.bias = SequenceBias(
            num_layers,
            getattr(layer, "num_heads", 1),
            max_length=max_length,
            relative=relative_positions,
            times=interval_bias,
            request=self.time_aware,
        )
        self.events = EventEmbedding(
            num_items,
            dim,
            max_length=max_length,
            learned_positions=learned_positions,
            times=times,
            rating_levels=self.rating_levels,
            profile_sizes=self.profile_sizes,
            feature_sizes=feature_sizes,
            feature_widths=feature_widths,
            combine_features=combine_features,
            id_dropout=id_dropout,
            dropout=dropout,
            embedding_std=embedding_std,
        )
        self.combine_features: Combine = combine_features
        self.id_dropout = id_dropout
        self.feature_sizes, self.feature_widths = self.events.items.feature_sizes, self.events.items.feature_widths
        self.separate_tables = separate_tables
        self.answers = copy.deepcopy(self.events.items) if separate_tables else None
        self.reset_parameters()

    @property
    def attention_layer(self) -> nn.Module:
        """The first block's: what the argument was, with weights of its own."""
        return self.encoder.attention

    def reset_parameters(self) -> None:
        """Events, biases, encoder and the answers' table, if there is one, to starts of their own."""
        for part in (self.events, self.bias, self.encoder, self.answers):
            if part is not None:
                part.reset_parameters()

    def states(self, history: History, now: Tensor | None = None) -> Tensor:
        """See `NextItemModel.states`."""
        # Histories are padded on the right: what a causal layer sees of them is never padding, and without a mask
        # its kernel is faster. The states at padding have no meaning anyway.
        return self._scaled(self.encoder(self.events(history, now), bias=self.bias(history, now)).output)

    def last_states(self, history: History, now: Tensor | None = None) -> Tensor:
        """See `NextItemModel.last_states`: the last block works for one place alone."""
        events, bias = self.events(history, now), self.bias(history, now)
        return self._scaled(self.encoder.last(events, history.lengths, bias=bias))

    def _scaled(self, states: Tensor) -> Tensor:
        return states if self.temperature is None else F.normalize(states, dim=-1) / self.temperature

    def item_embeddings(self) -> Tensor:
        """See `NextItemModel.item_embeddings`: the table that histories are read with, or one apart."""
        table = (self.events.items if self.answers is None else self.answers).all()
        return table if self.temperature is None else F.normalize(table, dim=-1)

    def weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:
        """Each block's weights, (batch, heads, length, length)."""
        bias = self.bias(history, now)
        return list(self.encoder(self.events(history, now), history.mask, bias=bias, need_weights=True).weights)


def check_takes_pairs(layer: nn.Module, dim: int) -> None:
    """Raise ConfigError for an attention that has no place for a bias of each pair, such as linear attention."""
    events, bias = torch.zeros(1, 2, dim), torch.zeros(1, getattr(layer, "num_heads", 1), 2, 2)
    try:
        with torch.no_grad():
            ask_itself(layer, events, None, bias=bias, need_weights=False)
    except ConfigError as error:
        raise ConfigError(
            f"relative_positions and interval_bias need an attention_layer that takes a bias of each pair: {error}"
        ) from error
