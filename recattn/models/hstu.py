"""HSTU: pointwise attention over a history, told how far and how long ago each event is."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models.event_embedding import EventEmbedding, Times
from recattn.models.item_embedding import Combine
from recattn.models.next_item import NextItemModel
from recattn.models.sequence_bias import SequenceBias
from recattn.nn import Encoder, HSTUAttention
from recattn.nn.checks import check_choice, check_count, check_fraction, check_positive


class HSTU(NextItemModel):
    """Hierarchical sequential transduction units (Zhai et al., ICML 2024), eq. 1 to 3, as a next-item model.

        x        = item + place, then block after block  x <- x + (U ∘ norm(A V)) W_O
        A        = SiLU(Q K^T + bias) / max_length
        logit_c  = cosine(x_t, item_c) / temperature

    The bias is of the steps and the time between events. With ``times="request"``, the default and the paper's, place t
    knows when the next event happens: the model is time_aware, wants the time of the request when it serves, and is
    compared with its like. ``"events"`` knows the times of the history alone, ``"none"`` no time.

    num_items: catalogue without padding. dim: width. num_heads: >= 1. num_layers: blocks, >= 1.
    key_dim, value_dim: of a head, by default dim // num_heads. max_length: events that are read, >= 2.
    times: see above; "events" and "request" are also embedded, see `EventEmbedding`, where ``embed_times``.
    rating_levels, profile_sizes, feature_sizes, feature_widths, combine_features, id_dropout: what else is read of an
        event, see `EventEmbedding`.
    temperature: > 0; the research code's .05. embedding_std: of the tables at the start, above 0.
    dropout: in [0, 1), of the events and of what W_O reads.
    Raises ConfigError for values outside of these.

    >>> import torch
    >>> model = HSTU(11, dim=8, times="none")
    >>> model.states(History(torch.tensor([[3, 5, 0], [2, 4, 7]]), torch.tensor([2, 3]))).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: int = 50,
        num_heads: int = 1,
        num_layers: int = 2,
        key_dim: int | None = None,
        value_dim: int | None = None,
        max_length: int = 200,
        times: Times = "request",
        embed_times: bool = False,
        rating_levels: Sequence[float] = (),
        profile_sizes: Sequence[int] = (),
        feature_sizes: Sequence[int] = (),
        feature_widths: Sequence[int] | None = None,
        combine_features: Combine = "sum",
        id_dropout: float = 0.1,
        temperature: float = 0.05,
        dropout: float = 0.2,
        embedding_std: float = 0.02,
    ) -> None:
        super().__init__()
        for name, value, least in (("num_items", num_items, 1), ("dim", dim, 1), ("max_length", max_length, 2)):
            check_count(name, value, least=least)
        check_choice("times", times, ("none", "events", "request"))
        check_fraction("dropout", dropout)
        if embed_times and times == "none":
            raise ConfigError("embed_times is True, but times is 'none': there is no time to embed")
        check_positive("temperature", temperature)
        check_positive("embedding_std", embedding_std)
        self.num_items, self.dim, self.num_heads, self.num_layers = num_items, dim, num_heads, num_layers
        self.max_length = max_length
        self.times: Times = times
        self.time_aware, self.embed_times = times == "request", embed_times
        self.rating_levels, self.profile_sizes = tuple(rating_levels), tuple(profile_sizes)
        self.temperature, self.dropout, self.embedding_std = temperature, dropout, embedding_std
        layer = HSTUAttention(
            dim,
            num_heads=num_heads,
            max_length=max_length,
            key_dim=key_dim,
            value_dim=value_dim,
            causal=True,
            dropout=dropout,
        )
        self.key_dim, self.value_dim = layer.key_dim, layer.value_dim
        self.encoder = Encoder(dim, attention=layer, num_layers=num_layers, feed_forward="none")
        self.bias = SequenceBias(
            num_layers,
            num_heads,
            max_length=max_length,
            relative=True,
            times=times != "none",
            request=self.time_aware,
        )
        self.events = EventEmbedding(
            num_items,
            dim,
            max_length=max_length,
            times=times if embed_times else "none",
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

    def reset_parameters(self) -> None:
        """Every part to its own start."""
        for part in (self.events, self.bias, self.encoder):
            part.reset_parameters()

    def states(self, history: History, now: Tensor | None = None) -> Tensor:
        """See `NextItemModel.states`; of length 1 / temperature."""
        # No mask, as in SASRec.states: a causal layer does not see the padding on the right.
        encoded = self.encoder(self.events(history, now), bias=self.bias(history, now))
        return F.normalize(encoded.output, dim=-1) / self.temperature

    def last_states(self, history: History, now: Tensor | None = None) -> Tensor:
        """See `NextItemModel.last_states`: the last block works for one place alone."""
        events, bias = self.events(history, now), self.bias(history, now)
        return F.normalize(self.encoder.last(events, history.lengths, bias=bias), dim=-1) / self.temperature

    def item_embeddings(self) -> Tensor:
        """See `NextItemModel.item_embeddings`; of length 1, padding 0."""
        return F.normalize(self.events.items.all(), dim=-1)

    def weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:
        """Each block's gates, (batch, heads, length, length)."""
        bias = self.bias(history, now)
        return list(self.encoder(self.events(history, now), history.mask, bias=bias, need_weights=True).weights)
