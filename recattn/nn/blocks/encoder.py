"""The encoder: every event reads the others, block by block."""

import copy
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, fill_masked
from recattn.nn.attention.heads import with_heads, without_heads
from recattn.nn.blocks.residual import Norm, Residual
from recattn.nn.checks import check_choice, check_count
from recattn.nn.dense.feed_forward import FEED_FORWARD_ACTIVATIONS, FeedForward

EncoderFeedForward = Literal["relu", "gelu", "silu", "swiglu", "none"]


class Encoded(NamedTuple):
    """What a stack makes of a sequence.

    output: (batch, length, dim), 0 at padding.
    weights: of each block, (batch, heads, length, length); empty where they were not asked for.
    """

    output: Tensor
    weights: tuple[Tensor, ...]


class EncoderBlock(nn.Module):
    """x' = residual(x, attention on itself), x'' = residual(x', feed-forward)."""

    def __init__(
        self,
        dim: int,
        *,
        attention: nn.Module,
        hidden_dim: int | None,
        feed_forward: EncoderFeedForward,
        norm: Norm,
        gated: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = fresh_copy(attention)
        self.around_attention = Residual(dim, norm=norm, gated=gated, dropout=dropout)
        self.feed_forward = self.around_feed_forward = None
        if feed_forward != "none":
            self.feed_forward = FeedForward(dim, hidden_dim=hidden_dim, activation=feed_forward, dropout=dropout)
            self.around_feed_forward = Residual(dim, norm=norm, gated=gated, dropout=dropout)

    def forward(
        self, inputs: Tensor, mask: Tensor | None, bias: Tensor | None, *, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Inputs (batch, length, dim) to outputs like them, and the weights if they are needed."""
        read = self.around_attention.before(inputs)
        output, weights = ask_itself(self.attention, read, mask, bias=bias, need_weights=need_weights)
        return self._feed(self.around_attention.after(inputs, output)), weights

    def last(self, inputs: Tensor, mask: Tensor, places: Tensor, bias: Tensor | None) -> Tensor:
        """Outputs (batch, dim) at one place of each row, the last that is real: it alone asks."""
        rows = torch.arange(len(inputs), device=inputs.device)
        keys = self.around_attention.before(inputs)
        if bias is not None:
            bias = with_heads(bias)
            if bias.shape[2] > 1:  # else it is the same for every query
                bias = bias.expand(len(inputs), *bias.shape[1:])[rows, :, places].unsqueeze(2)
            bias = without_heads(bias)
        more: dict[str, Tensor] = {}
        if getattr(self.attention, "rotary", None) is not None:
            more = {
                "query_positions": places[:, None],
                "key_positions": torch.arange(inputs.shape[1], device=places.device)[None],
            }
        query = keys[rows, places]
        attended: Attended = self.attention(query, keys, mask=mask, bias=bias, need_weights=False, **more)
        return self._feed(self.around_attention.after(inputs[rows, places], attended.output))

    def _feed(self, x: Tensor) -> Tensor:
        if self.around_feed_forward is None or self.feed_forward is None:
            return x
        fed: Tensor = self.around_feed_forward(x, self.feed_forward)
        return fed


class Encoder(nn.Module):
    """A stack of blocks in which a sequence attends to itself: the history, made aware of its context.

        x = x + f(norm(x)),  f = attention, then feed-forward          norm="pre", and a last norm after the stack
        x = norm(x + f(x))                                            norm="post", the original transformer
        x = x + sigmoid(W x) ∘ f(norm(x))                             gated=True, LiGR

    Which attention, whether it is causal, its heads and widths: all that is the layer given as ``attention``.
    ``MultiHeadAttention(64, 64, num_heads=2, causal=True)`` makes a SASRec, ``causal=False`` a BERT4Rec, HSTUAttention
    with ``feed_forward="none"`` an HSTU; LinformerAttention, ReformerAttention and LinearAttention go in as well.

    dim: width, >= 1. attention: a layer from and to width dim; each block gets a copy of its own, freshly initialised.
    num_layers: >= 1. hidden_dim: of the feed-forward network, by default 4 dim.
    feed_forward: its activation, ``"relu"``, ``"gelu"``, ``"silu"`` or ``"swiglu"``; ``"none"``: attention alone.
    norm, gated, dropout: see `Residual`; dropout is also that of the feed-forward network, not of the attention.
    Raises ConfigError for values outside of these.

    Vaswani et al. 2017, section 3.1; Kang and McAuley 2018 (SASRec); Borisyuk et al. 2025 (LiGR).

    >>> from recattn.nn import MultiHeadAttention
    >>> encoder = Encoder(6, attention=MultiHeadAttention(6, 6, num_heads=2, causal=True), num_layers=2)
    >>> encoder(torch.ones(3, 7, 6), torch.ones(3, 7, dtype=torch.bool)).output.shape
    torch.Size([3, 7, 6])
    """

    def __init__(
        self,
        dim: int,
        *,
        attention: nn.Module,
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
        check_width("attention", attention, dim)
        self.dim, self.num_layers, self.hidden_dim = dim, num_layers, hidden_dim
        self.feed_forward: EncoderFeedForward = feed_forward
        self.norm: Norm = norm
        self.gated, self.dropout = gated, dropout
        self.blocks = nn.ModuleList(
            EncoderBlock(
                dim,
                attention=attention,
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
    def attention(self) -> nn.Module:
        """The first block's attention: what the argument was, with weights of its own."""
        return cast("EncoderBlock", self.blocks[0]).attention

    @property
    def causal(self) -> bool:
        """Whether position i sees positions 0..i only."""
        return bool(getattr(self.attention, "causal", False))

    def reset_parameters(self) -> None:
        """Every part to its own start."""
        reset_parts(self)

    def forward(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | Sequence[Tensor] | None = None,
        need_weights: bool = False,
    ) -> Encoded:
        """Encode.

        inputs: (batch, length, dim). mask: bool (batch, length), True for real, or (batch or 1, length, length) where
            each position sees its own part (nothing is padding then); None: all real.
        bias: broadcasts to (batch, heads, length, length), for all blocks alike, or one such tensor for each block.
        Raises ConfigError for another number of biases than blocks, and for what the attention refuses.
        """
        biases = block_biases(bias, self.num_layers)
        kept = None if mask is None or mask.dim() == 3 else mask.unsqueeze(-1)
        x, weights = inputs, []
        for block, added in zip(self.blocks, biases, strict=True):
            x, found = block(x, mask, added, need_weights=need_weights)
            if found is not None:
                weights.append(found)
        x = x if self.last_norm is None else self.last_norm(x)
        return Encoded(fill_masked(x, kept, 0.0), tuple(weights))

    def last(self, inputs: Tensor, lengths: Tensor, *, bias: Tensor | Sequence[Tensor] | None = None) -> Tensor:
        """What forward gives at the last real place of each row, (batch, dim); 0 where a row has none.

        The last block works for that place alone, which for two blocks is a third less work.

        inputs: (batch, length, dim), padded on the right. lengths: (batch,) how many are real. bias: as in forward.
        """
        mask = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
        places = (lengths - 1).clamp(min=0)
        if getattr(self.attention, "sequence_only", False) or not inputs.shape[1]:
            everywhere = F.pad(self(inputs, mask, bias=bias).output, (0, 0, 0, 1))
            return everywhere[torch.arange(len(inputs), device=inputs.device), places]
        *before, last = zip(self.blocks, block_biases(bias, self.num_layers), strict=True)
        x = inputs
        for block, added in before:
            # A causal layer does not see the padding on the right, and is faster without a mask.
            x, _ = block(x, None if self.causal else mask, added, need_weights=False)
        block, added = last
        x = cast("EncoderBlock", block).last(x, mask, places, added)
        x = x if self.last_norm is None else self.last_norm(x)
        return fill_masked(x, (lengths > 0)[:, None], 0.0)


def ask_itself(
    attention: nn.Module, sequence: Tensor, mask: Tensor | None, *, bias: Tensor | None, need_weights: bool
) -> Attended:
    """A sequence (batch, length, dim) asks a layer about itself; a rotary layer is told the places 0, 1, 2, ..."""
    more: dict[str, Tensor] = {}
    if getattr(attention, "rotary", None) is not None:
        places = torch.arange(sequence.shape[1], device=sequence.device)[None]
        more = {"query_positions": places, "key_positions": places}
    bias = None if bias is None else without_heads(bias)
    attended: Attended = attention(sequence, sequence, mask=mask, bias=bias, need_weights=need_weights, **more)
    return attended


def fresh_copy(attention: nn.Module) -> nn.Module:
    """A copy of the layer with weights of its own, as its ``reset_parameters`` and those of its parts make them."""
    twin = copy.deepcopy(attention)
    reset_parts(twin, itself=True)
    return twin


def reset_parts(module: nn.Module, *, itself: bool = False) -> None:
    """Call ``reset_parameters`` of every module inside, the outermost last."""
    for part in reversed(list(module.modules())):
        reset = getattr(part, "reset_parameters", None)
        if callable(reset) and (itself or part is not module):
            reset()


def block_biases(bias: Tensor | Sequence[Tensor] | None, num_layers: int) -> list[Tensor | None]:
    """One bias for each block, from one for all or from as many as there are blocks."""
    if bias is None or isinstance(bias, Tensor):
        return [bias] * num_layers
    if len(bias) != num_layers:
        raise ConfigError(f"bias must be one tensor or one for each of the {num_layers} blocks, got {len(bias)}")
    return list(bias)


def check_width(
    name: str,
    attention: nn.Module,
    dim: int,
    widths: Sequence[str] = ("dim", "query_dim", "source_dim", "value_source_dim", "output_dim"),
) -> None:
    """Raise ConfigError where a layer says, by the attributes ``widths``, that it is made for others than dim."""
    for width in widths:
        own = getattr(attention, width, dim)
        if own != dim:
            raise ConfigError(f"{name} must take and give width {dim}, got one with {width} {own}")
