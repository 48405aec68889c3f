"""A slate as a translation of the history: the history is encoded, the next k items are decoded one after another."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models.event_bias import head_slopes
from recattn.models.next_item import NextItemModel
from recattn.nn import Decoded, Decoder, Encoder, MultiHeadAttention, RecencyBias, RotaryPosition
from recattn.nn.attended import causal_mask
from recattn.nn.blocks.encoder import EncoderFeedForward
from recattn.nn.blocks.residual import Norm
from recattn.nn.checks import check_count, check_fraction, check_positive
from recattn.nn.dense.dropout import dropout


class Slate(NamedTuple):
    """What was decoded, in the order in which it was chosen.

    items: (batch, k) int64 without repeats; 0 where no candidate was left. logits: (batch, k), -inf there.
    """

    items: Tensor
    logits: Tensor


class SlateDecoder(NextItemModel):
    """Encoder-decoder (Vaswani et al. 2017, section 3) from what a user did to what comes next.

        memory = Encoder(history)                                   causal self-attention, rotary positions
        state_s = Decoder([start, item_1, ..., item_{s-1}], memory)  Q from the slate, K and V from the history
        logit_sc = state_s · embedding_c

    Step s knows the items before it, so a slate does not say the same thing ten times, and no item comes twice. The
    first step alone is a next-item model, which is how it is ranked and measured; `decode` gives the slate.
    As the encoder is causal, slates at every moment of a history are decoded in one pass when it trains (`SlateTask`).

    num_items: catalogue without padding. dim: width. num_heads: divides dim, dim / num_heads even.
    num_layers: of the encoder and of the decoder, >= 1. slate_length: the longest slate, >= 1.
    max_length: events that are read, >= 2. hidden_dim: of the feed-forward networks, by default 4 dim.
    feed_forward, norm, gated: see `recattn.nn.Encoder`.
    dropout: in [0, 1). embedding_std: standard deviation of the embeddings at the start, above 0.
    Raises ConfigError for values outside of these.

    >>> model = SlateDecoder(11, dim=8).eval()
    >>> history = History(torch.tensor([[3, 5, 0], [2, 4, 7]]), torch.tensor([2, 3]))
    >>> model.decode(history, k=4).items.shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: int = 64,
        num_heads: int = 2,
        num_layers: int = 1,
        slate_length: int = 10,
        max_length: int = 100,
        hidden_dim: int | None = None,
        feed_forward: EncoderFeedForward = "gelu",
        norm: Norm = "pre",
        gated: bool = False,
        dropout: float = 0.2,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_items", num_items),
            ("dim", dim),
            ("num_heads", num_heads),
            ("num_layers", num_layers),
            ("slate_length", slate_length),
        ):
            check_count(name, value)
        check_count("max_length", max_length, least=2)
        if dim % (2 * num_heads):
            raise ConfigError(f"dim must be a multiple of 2 num_heads (rotary positions), got {dim} and {num_heads}")
        check_fraction("dropout", dropout)
        check_positive("embedding_std", embedding_std)
        self.num_items, self.dim, self.num_heads, self.num_layers = num_items, dim, num_heads, num_layers
        self.slate_length, self.max_length, self.hidden_dim = slate_length, max_length, hidden_dim
        self.feed_forward: EncoderFeedForward = feed_forward
        self.norm: Norm = norm
        self.gated, self.dropout, self.embedding_std = gated, dropout, embedding_std
        self.item_table = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.step_table = nn.Embedding(slate_length, dim)
        self.start = nn.Parameter(torch.empty(dim))
        rotary = RotaryPosition(dim // num_heads)
        on_itself = MultiHeadAttention(dim, dim, num_heads=num_heads, causal=True, rotary=rotary)
        self.encoder = Encoder(
            dim,
            attention=on_itself,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            feed_forward=feed_forward,
            norm=norm,
            gated=gated,
            dropout=dropout,
        )
        self.decoder = Decoder(
            dim,
            self_attention=MultiHeadAttention(dim, dim, num_heads=num_heads),
            cross_attention=MultiHeadAttention(dim, dim, num_heads=num_heads),
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            feed_forward=feed_forward,
            norm=norm,
            gated=gated,
            dropout=dropout,
        )
        self.recency = RecencyBias(num_heads=num_heads, max_age=64, slopes=head_slopes(num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings and the start from N(0, embedding_std²), padding 0; the layers to starts of their own."""
        for weight in (self.item_table.weight, self.step_table.weight, self.start):
            nn.init.normal_(weight, std=self.embedding_std)
        with torch.no_grad():
            self.item_table.weight[0] = 0.0
        for part in (self.encoder, self.decoder, self.recency):
            part.reset_parameters()

    def states(self, history: History, now: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """See `NextItemModel.states`: the first step of a slate after each event."""
        states = self.slate_states(history, self._every_moment(history), self._no_items(history))
        return states.squeeze(2)

    def item_embeddings(self) -> Tensor:
        """See `NextItemModel.item_embeddings`: one table for the history, the slate and the ranking."""
        return self.item_table.weight

    def weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:  # noqa: ARG002
        """What the first step after each event reads of the history, layer by layer: (batch, heads, length, length)."""
        memory = self._encode(history)
        moments, nothing = self._every_moment(history), self._no_items(history)
        return list(self._decode(memory, moments, nothing, need_weights=True).cross_weights)

    def slate_states(self, history: History, positions: Tensor, slates: Tensor) -> Tensor:
        """The decoder's states at every step of slates that are known: teacher forcing.

        positions: (batch, positions), the slate at p knows the first p events (of them the last ``max_length``).
        slates: (batch, positions, k) item ids, 0 for padding after the slate's end; k up to slate_length.
        Returns (batch, positions, k, dim): state s knows the items before s of its own slate.
        Raises ConfigError for longer slates.
        """
        decoded = self._decode(self._encode(history), positions, slates, need_weights=False)
        states: Tensor = decoded.output.unflatten(1, (slates.shape[1], slates.shape[2]))
        return states

    @torch.no_grad()
    def decode(
        self, history: History, *, k: int | None = None, allowed: Tensor | None = None, filter_seen: bool = True
    ) -> Slate:
        """The next k items, greedily: at each step the best candidate that is not in the slate yet.

        k: 1 to slate_length, by default slate_length.
        allowed: bool (batch or 1, num_items + 1), False for items that must not come; None: all may.
        filter_seen: items of the whole history do not come either.
        Raises ConfigError for a k or an ``allowed`` outside of these.
        """
        k = self.slate_length if k is None else k
        if not 1 <= k <= self.slate_length:
            raise ConfigError(f"k must be in 1..slate_length ({self.slate_length}), got {k!r}")
        batch = len(history.items)
        if allowed is not None and (allowed.dtype != torch.bool or allowed.shape[-1] != self.num_items + 1):
            raise ConfigError(
                f"allowed must be boolean (batch, {self.num_items + 1}), got {allowed.dtype} {tuple(allowed.shape)}"
            )
        left = torch.ones(batch, self.num_items + 1, dtype=torch.bool, device=history.items.device)
        left = left if allowed is None else left & allowed
        if filter_seen:
            left = left.scatter(1, history.items, value=False)
        left[:, 0] = False
        history = history.last(self.max_length)
        memory, positions = self._encode(history), history.lengths[:, None]
        slate = history.items.new_zeros(batch, 1, k)
        logits = torch.full((batch, k), -torch.inf, dtype=memory.dtype, device=memory.device)
        for step in range(k):
            state = self._decode(memory, positions, slate[..., : step + 1], need_weights=False).output[:, -1]
            scores = (state @ self.item_table.weight.T).masked_fill(~left, -torch.inf)
            logits[:, step], chosen = scores.max(-1)
            slate[:, 0, step] = chosen * left.any(-1)
            left = left.scatter(1, chosen[:, None], value=False)
        return Slate(slate[:, 0], logits)

    def _every_moment(self, history: History) -> Tensor:
        """Positions 1..length, (batch, length): after each event."""
        batch, length = history.items.shape
        return torch.arange(1, length + 1, device=history.items.device).expand(batch, -1)

    @staticmethod
    def _no_items(history: History) -> Tensor:
        """Slates of one step, after each event: what comes in it is not known, (batch, length, 1)."""
        return torch.zeros_like(history.items)[..., None]

    def _encode(self, history: History) -> Tensor:
        """The history's events in their context, (batch, length, dim)."""
        vectors = dropout(self.item_table(history.items), self.dropout, self.training)
        memory: Tensor = self.encoder(vectors, history.mask).output
        return memory

    def _decode(self, memory: Tensor, positions: Tensor, slates: Tensor, *, need_weights: bool) -> Decoded:
        """All steps of all slates as one sequence of positions x k tokens, in which each slate sees itself alone."""
        count, k = slates.shape[1:]
        if k > self.slate_length:
            raise ConfigError(f"slates must have at most slate_length ({self.slate_length}) items, got {k}")
        device = memory.device
        before = torch.cat([self.start.expand(*slates.shape[:2], 1, -1), self.item_table(slates[..., :-1])], 2)
        tokens = dropout(before + self.step_table.weight[:k], self.dropout, self.training).flatten(1, 2)
        slate_of = torch.arange(count, device=device).repeat_interleave(k)
        own = (slate_of[:, None] == slate_of) & causal_mask(count * k, device)
        ages = positions.repeat_interleave(k, 1)[..., None] - 1 - torch.arange(memory.shape[1], device=device)
        visible = (ages >= 0) & (ages < self.max_length)
        bias = self.recency(ages).to(memory.dtype)
        decoded: Decoded = self.decoder(tokens, memory, own[None], visible, bias=bias, need_weights=need_weights)
        return decoded
