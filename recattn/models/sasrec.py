"""SASRec and its descendants: a causal encoder reads the history, the catalogue is asked at every position."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models.next_item import NextItemModel
from recattn.nn import Encoded, Encoder, MultiHeadAttention
from recattn.nn.blocks.encoder import EncoderFeedForward
from recattn.nn.blocks.residual import Norm
from recattn.nn.checks import check_count, check_fraction, check_positive
from recattn.nn.positions.learned import LearnedPosition


class SASRec(NextItemModel):
    """Self-attentive sequential recommendation (Kang and McAuley 2018): state_t = Encoder(e_1 + p_1, ..., e_t + p_t)_t.

    The defaults are the paper's: two blocks, pre-norm, ReLU as wide as the model. ``feed_forward="swiglu"`` with
    ``gated=True`` is the LiGR block of eSASRec (2025); any causal layer of `recattn.nn` goes in as ``attention_layer``.
    With the cross-entropy over the catalogue as its loss (`NextItemTask`) it is far ahead of the paper's own figures
    (Klenitskiy and Vasilev 2023).

    num_items: catalogue without padding. dim: width. num_heads: of the default attention, divides dim.
    num_layers: blocks, >= 1. max_length: events that are read, >= 2.
    attention_layer: a causal layer from and to width dim; None: a `MultiHeadAttention` with num_heads.
    learned_positions: add a learned embedding of the place; False where the attention knows order by itself (rotary).
    hidden_dim: of the feed-forward networks, by default dim. feed_forward, norm, gated: see `recattn.nn.Encoder`.
    dropout: in [0, 1). embedding_std: standard deviation of the embeddings at the start, above 0.
    Raises ConfigError for values outside of these, and for an attention that sees the future.

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
        hidden_dim: int | None = None,
        feed_forward: EncoderFeedForward = "relu",
        norm: Norm = "pre",
        gated: bool = False,
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
        self.hidden_dim = dim if hidden_dim is None else hidden_dim
        self.feed_forward: EncoderFeedForward = feed_forward
        self.norm: Norm = norm
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
        self.item_table = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.position = LearnedPosition(max_length, dim, from_end=False) if learned_positions else None
        self.reset_parameters()

    @property
    def attention_layer(self) -> nn.Module:
        """The first block's: what the argument was, with weights of its own."""
        return self.encoder.attention

    def reset_parameters(self) -> None:
        """Embeddings from N(0, embedding_std²), padding 0; positions and encoder to starts of their own."""
        nn.init.normal_(self.item_table.weight, std=self.embedding_std)
        with torch.no_grad():
            self.item_table.weight[0] = 0.0
        self.encoder.reset_parameters()
        if self.position is not None:
            self.position.reset_parameters()

    def states(self, history: History) -> Tensor:
        """See `NextItemModel.states`."""
        return self._encode(history, need_weights=False).output

    def item_embeddings(self) -> Tensor:
        """See `NextItemModel.item_embeddings`: one table for reading and ranking."""
        return self.item_table.weight

    def weights(self, history: History) -> list[Tensor]:
        """Each block's weights, (batch, heads, length, length)."""
        return list(self._encode(history, need_weights=True).weights)

    def _encode(self, history: History, *, need_weights: bool) -> Encoded:
        mask = history.mask
        vectors = self.item_table(history.items)
        if self.position is not None:
            vectors = vectors + self.position(mask)
        encoded: Encoded = self.encoder(
            F.dropout(vectors, self.dropout, self.training), mask, need_weights=need_weights
        )
        return encoded
