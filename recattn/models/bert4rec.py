"""BERT4Rec: events read each other from both sides, and a [mask] after the last one asks what comes next."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models.next_item import NextItemModel
from recattn.models.windows import window
from recattn.nn import Encoded, Encoder, MultiHeadAttention
from recattn.nn.blocks.encoder import EncoderFeedForward
from recattn.nn.blocks.residual import Norm
from recattn.nn.checks import check_count, check_fraction, check_positive
from recattn.nn.dense.dropout import dropout
from recattn.nn.positions.learned import LearnedPosition


class BERT4Rec(NextItemModel):
    """Bidirectional encoder representations (Sun et al., CIKM 2019): recommending is filling in a [mask].

        h_1, ..., h_t, h = Encoder(e_1 + p_t, ..., e_t + p_1, m + p_0)     section 3.3 to 3.5
        state_t          = GELU(W h + b)
        logit_tc         = e_c · state_t + b_c                             eq. 7

    m is the vector of [mask], no row of the catalogue. The encoder is not causal, so every moment of a history is a
    pass of its own over the events before it: the catalogue after a whole history costs one pass, ``states`` as many as
    there are events. It is trained by `ClozeTask`, which fills many gaps in one pass.

    Places are counted from the end, so [mask] always asks from place 0; the oldest of max_length events shares the
    place of the one after it. The item's bias b_c is one more dimension of its embedding, met by a 1 in the state.

    num_items: catalogue without padding. dim: width. num_heads: of the default attention, divides dim.
    num_layers: blocks, >= 1. max_length: events that are read besides [mask], >= 2.
    attention_layer: a layer from and to width dim that is not causal; None: a `MultiHeadAttention` with num_heads. One
        that is made for a number of events, such as `LinformerAttention`, is asked about max_length + 1.
    hidden_dim: of the feed-forward networks, by default 4 dim.
    feed_forward, norm: see `recattn.nn.Encoder`; the paper's are the defaults.
    dropout: in [0, 1). embedding_std: standard deviation of the embeddings at the start, above 0.
    Raises ConfigError for values outside of these, and for a causal attention.

    >>> model = BERT4Rec(11, dim=8)
    >>> model.score_all(History(torch.tensor([[3, 5, 0], [2, 4, 7]]), torch.tensor([2, 3]))).shape
    torch.Size([2, 12])
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
        hidden_dim: int | None = None,
        feed_forward: EncoderFeedForward = "gelu",
        norm: Norm = "post",
        dropout: float = 0.2,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        for name, value, least in (("num_items", num_items, 1), ("dim", dim, 1), ("max_length", max_length, 2)):
            check_count(name, value, least=least)
        check_fraction("dropout", dropout)
        check_positive("embedding_std", embedding_std)
        self.num_items, self.dim, self.num_heads, self.num_layers = num_items, dim, num_heads, num_layers
        self.max_length, self.hidden_dim = max_length, hidden_dim
        self.feed_forward: EncoderFeedForward = feed_forward
        self.norm: Norm = norm
        self.dropout, self.embedding_std = dropout, embedding_std
        self.encoder = Encoder(
            dim,
            attention=MultiHeadAttention(dim, dim, num_heads=num_heads) if attention_layer is None else attention_layer,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            feed_forward=feed_forward,
            norm=norm,
            dropout=dropout,
        )
        if self.encoder.causal:
            raise ConfigError("attention_layer must not be causal: a gap is filled from both of its sides")
        self.item_table = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.item_bias = nn.Parameter(torch.empty(num_items + 1, 1))
        self.mask_vector = nn.Parameter(torch.empty(dim))
        self.position = LearnedPosition(max_length, dim, from_end=True)
        self.projection = nn.Linear(dim, dim)
        self.reset_parameters()

    @property
    def attention_layer(self) -> nn.Module:
        """The first block's: what the argument was, with weights of its own."""
        return self.encoder.attention

    def reset_parameters(self) -> None:
        """Embeddings and [mask] from N(0, embedding_std²), padding 0; biases 0; the layers to starts of their own."""
        for weight in (self.item_table.weight, self.mask_vector):
            nn.init.normal_(weight, std=self.embedding_std)
        with torch.no_grad():
            self.item_table.weight[0] = 0.0
        nn.init.xavier_uniform_(self.projection.weight)
        for bias in (self.item_bias, self.projection.bias):
            nn.init.zeros_(bias)
        self.encoder.reset_parameters()
        self.position.reset_parameters()

    def masked_states(self, history: History, masked: Tensor) -> Tensor:
        """What is known about each gap of a history from the events on both of its sides, all gaps in one pass.

        masked: bool (batch, length), True for the real events that are replaced by [mask]: what they were is not read.
        Returns (gaps, dim + 1), row by row.
        """
        return self._answer(self._encode(history, masked, need_weights=False).output[masked])

    def states(self, history: History, now: Tensor | None = None) -> Tensor:
        """See `NextItemModel.states`: (batch, length, dim + 1), a pass for each event."""
        return self._states_at(history, every_moment(history), now)

    def item_embeddings(self) -> Tensor:
        """See `NextItemModel.item_embeddings`: the table that is read, with the biases, (num_items + 1, dim + 1)."""
        return torch.cat([self.item_table.weight, self.item_bias], 1)

    def weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:  # noqa: ARG002
        """What a [mask] after each event reads of the events, layer by layer: (batch, [heads,] length, length).

        Rows sum to less than 1: the rest is what [mask] reads of itself.
        """
        windows, _ = window(history, every_moment(history), history.items.shape[1])
        layers = (layer.unflatten(0, history.items.shape) for layer in self._last_weights(windows))
        return [
            (layer.movedim(1, -2) * history.mask.view(len(layer), *[1] * (layer.dim() - 3), -1, 1)) for layer in layers
        ]

    def _states_at(self, history: History, positions: Tensor, request_time: Tensor | None = None) -> Tensor:  # noqa: ARG002
        windows, _ = window(history, positions, self.max_length)
        states: Tensor = self.last_states(windows).unflatten(0, positions.shape)
        return states

    def last_states(self, history: History, now: Tensor | None = None) -> Tensor:  # noqa: ARG002
        asked, masked = append_mask(history)
        last = self.encoder.last(self._read(asked, masked), asked.lengths)
        return self._answer(last) * (history.lengths > 0)[:, None]

    def _last_weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:  # noqa: ARG002
        """What the [mask] after each whole history reads of its events, layer by layer: (batch, [heads,] length)."""
        layers = self._encode(*append_mask(history), need_weights=True).weights
        rows = torch.arange(len(history.items), device=history.items.device)
        asked = (layer[rows, ..., history.lengths, :-1] for layer in layers)
        return [layer * history.mask.view(len(rows), *[1] * (layer.dim() - 2), -1) for layer in asked]

    def _encode(self, history: History, masked: Tensor, *, need_weights: bool) -> Encoded:
        encoded: Encoded = self.encoder(self._read(history, masked), history.mask, need_weights=need_weights)
        return encoded

    def _read(self, history: History, masked: Tensor) -> Tensor:
        """What stands for each event or [mask], (batch, length, dim)."""
        items = torch.where(masked[..., None], self.mask_vector, self.item_table(history.items))
        return dropout(items + self.position(history.mask), self.dropout, self.training)

    def _answer(self, hidden: Tensor) -> Tensor:
        """Eq. 7 but for the product with the embeddings: (..., dim) to (..., dim + 1), the last a 1 for the bias."""
        return F.pad(F.gelu(self.projection(hidden)), (0, 1), value=1.0)


def append_mask(history: History) -> tuple[History, Tensor]:
    """Every history with one event more, and where that is: bool (batch, length + 1).

    >>> asked, masked = append_mask(History(torch.tensor([[5, 7], [4, 0]]), torch.tensor([2, 1])))
    >>> asked.lengths.tolist(), masked.long().tolist()
    ([3, 2], [[0, 0, 1], [0, 1, 0]])
    """
    items = F.pad(history.items, (0, 1))
    places = torch.arange(items.shape[1], device=items.device)
    return History(items, history.lengths + 1), places == history.lengths[:, None]


def every_moment(history: History) -> Tensor:
    """The positions after each event, (batch, length); at padding that after the last one.

    >>> every_moment(History(torch.tensor([[5, 7], [4, 0]]), torch.tensor([2, 1]))).tolist()
    [[1, 2], [1, 1]]
    """
    places = torch.arange(1, history.items.shape[1] + 1, device=history.items.device)
    return torch.minimum(places, history.lengths[:, None])
