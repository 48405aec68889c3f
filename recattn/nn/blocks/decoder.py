"""The decoder: a target reads itself, then asks a source."""

from collections.abc import Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from recattn.nn.attended import fill_masked
from recattn.nn.blocks.encoder import (
    EncoderFeedForward,
    ask_itself,
    block_biases,
    check_width,
    fresh_copy,
    reset_parts,
)
from recattn.nn.blocks.residual import Norm, Residual
from recattn.nn.checks import check_choice, check_count
from recattn.nn.dense.feed_forward import FEED_FORWARD_ACTIVATIONS, FeedForward


class Decoded(NamedTuple):
    """What a stack makes of a target sequence and a source.

    output: (batch, queries, dim), 0 at padding.
    self_weights: of each block, (batch, heads, queries, queries); cross_weights: (batch, heads, queries, length), how
        much each target position reads of each source event. Both empty where they were not asked for.
    """

    output: Tensor
    self_weights: tuple[Tensor, ...]
    cross_weights: tuple[Tensor, ...]


class DecoderBlock(nn.Module):
    """Three residual sublayers: attention on itself, attention to the source, feed-forward."""

    def __init__(
        self,
        dim: int,
        *,
        self_attention: nn.Module,
        cross_attention: nn.Module,
        hidden_dim: int | None,
        feed_forward: EncoderFeedForward,
        norm: Norm,
        gated: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = fresh_copy(self_attention), fresh_copy(cross_attention)
        self.around_self, self.around_cross = (Residual(dim, norm=norm, gated=gated, dropout=dropout) for _ in range(2))
        self.feed_forward = self.around_feed_forward = None
        if feed_forward != "none":
            self.feed_forward = FeedForward(dim, hidden_dim=hidden_dim, activation=feed_forward, dropout=dropout)
            self.around_feed_forward = Residual(dim, norm=norm, gated=gated, dropout=dropout)

    def forward(
        self,
        inputs: Tensor,
        source: Tensor,
        mask: Tensor | None,
        source_mask: Tensor | None,
        bias: Tensor | None,
        *,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Inputs (batch, queries, dim) to outputs like them; self- and cross-weights if they are needed."""
        read = self.around_self.before(inputs)
        output, on_itself = ask_itself(self.self_attention, read, mask, bias=None, need_weights=need_weights)
        x = self.around_self.after(inputs, output)
        read = self.around_cross.before(x)
        output, to_source = self.cross_attention(read, source, mask=source_mask, bias=bias, need_weights=need_weights)
        x = self.around_cross.after(x, output)
        if self.around_feed_forward is not None and self.feed_forward is not None:
            x = self.around_feed_forward(x, self.feed_forward)
        return x, on_itself, to_source


class Decoder(nn.Module):
    """Blocks of self-attention on the target, then cross-attention with Q from the target and K, V from a source.

    In translation the source is the sentence to be translated and the target what has been said of it so far; here the
    source is the user's history and the target what has been recommended so far (see `recattn.models.SlateDecoder`).

    dim: width of the target, >= 1. num_layers: >= 1.
    self_attention: a layer from and to width dim, causal where the target is made one item after another.
    cross_attention: a layer whose query and output have width dim; its keys have the source's. Each block gets copies
        of its own of both, freshly initialised.
    hidden_dim, feed_forward, norm, gated, dropout: as of `Encoder`.
    Raises ConfigError for values outside of these. Vaswani et al. 2017, section 3.1.

    >>> import torch
    >>> from recattn.nn import MultiHeadAttention
    >>> on_itself, to_source = MultiHeadAttention(6, 6, num_heads=2, causal=True), MultiHeadAttention(6, 5, num_heads=2)
    >>> decoder = Decoder(6, self_attention=on_itself, cross_attention=to_source, num_layers=2)
    >>> decoder(torch.ones(3, 4, 6), torch.ones(3, 7, 5)).output.shape
    torch.Size([3, 4, 6])
    """

    def __init__(
        self,
        dim: int,
        *,
        self_attention: nn.Module,
        cross_attention: nn.Module,
        num_layers: int,
        hidden_dim: int | None = None,
        feed_forward: EncoderFeedForward = "relu",
        norm: Norm = "pre",
        gated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("num_layers", num_layers)
        check_choice("feed_forward", feed_forward, (*FEED_FORWARD_ACTIVATIONS, "none"))
        check_width("self_attention", self_attention, dim)
        check_width("cross_attention", cross_attention, dim, ("query_dim", "output_dim"))
        self.dim, self.num_layers, self.hidden_dim = dim, num_layers, hidden_dim
        self.feed_forward: EncoderFeedForward = feed_forward
        self.norm: Norm = norm
        self.gated, self.dropout = gated, dropout
        self.blocks = nn.ModuleList(
            DecoderBlock(
                dim,
                self_attention=self_attention,
                cross_attention=cross_attention,
                hidden_dim=hidden_dim,
                feed_forward=feed_forward,
                norm=norm,
                gated=gated,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        self.last_norm = nn.LayerNorm(dim) if norm == "pre" else None

    @property
    def self_attention(self) -> nn.Module:
        """The first block's: what the argument was, with weights of its own."""
        return cast("DecoderBlock", self.blocks[0]).self_attention

    @property
    def cross_attention(self) -> nn.Module:
        """The first block's: what the argument was, with weights of its own."""
        return cast("DecoderBlock", self.blocks[0]).cross_attention

    def reset_parameters(self) -> None:
        """Every part to its own start."""
        reset_parts(self)

    def forward(
        self,
        inputs: Tensor,
        source: Tensor,
        mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        *,
        bias: Tensor | Sequence[Tensor] | None = None,
        need_weights: bool = False,
    ) -> Decoded:
        """Decode.

        inputs: (batch, queries, dim), the target. source: (batch, length, source width).
        mask: bool (batch, queries), True for real, or (batch or 1, queries, queries) where each position sees its own
            part of the target (nothing is padding then). source_mask: bool (batch, length), or (batch, queries, length)
            where each position sees its own part of the source. None: all real.
        bias: broadcasts to (batch, heads, queries, length) of the cross-attention, one for all blocks or one for each.
        A source without anything real adds nothing; the target then knows itself alone.
        Raises ConfigError for another number of biases than blocks, and for what the attention layers refuse.
        """
        x, on_itself, to_source = inputs, [], []
        for block, added in zip(self.blocks, block_biases(bias, self.num_layers), strict=True):
            x, *found = block(x, source, mask, source_mask, added, need_weights=need_weights)
            if need_weights:
                on_itself.append(found[0])
                to_source.append(found[1])
        x = x if self.last_norm is None else self.last_norm(x)
        kept = None if mask is None or mask.dim() == 3 else mask.unsqueeze(-1)
        return Decoded(fill_masked(x, kept, 0.0), tuple(on_itself), tuple(to_source))
