"""The target stack: a candidate asks the history again and again, and the history never asks itself."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, fill_masked, full_mask
from recattn.nn.blocks.encoder import block_biases, check_width, fresh_copy, reset_parts
from recattn.nn.blocks.residual import Norm, Residual
from recattn.nn.checks import check_choice, check_count
from recattn.nn.dense.feed_forward import FEED_FORWARD_ACTIVATIONS, FeedForward, FeedForwardActivation


class TargetBlock(nn.Module):
    """The history token by token, then two residual sublayers of the target: attention to it, feed-forward."""

    def __init__(
        self,
        dim: int,
        source_dim: int,
        *,
        attention: nn.Module,
        hidden_dim: int | None,
        feed_forward: FeedForwardActivation,
        norm: Norm,
        gated: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.source_feed_forward, self.feed_forward = (
            FeedForward(width, hidden_dim=hidden_dim, activation=feed_forward, dropout=dropout)
            for width in (source_dim, dim)
        )
        # Whatever the target's norm: what is made into keys and values has to be of one size.
        self.around_source = Residual(source_dim, norm="post", gated=gated, dropout=dropout)
        self.attention = fresh_copy(attention)
        self.around_attention, self.around_feed_forward = (
            Residual(dim, norm=norm, gated=gated, dropout=dropout) for _ in range(2)
        )

    def forward(
        self,
        inputs: Tensor,
        keys: Tensor,
        values: Tensor | None,
        mask: Tensor | None,
        bias: Tensor | None,
        *,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Inputs (batch, queries, dim), keys and values for the next block, and the weights if they are needed."""
        keys = self.around_source(keys, self.source_feed_forward)
        values = None if values is None else self.around_source(values, self.source_feed_forward)
        asking = self.around_attention.before(inputs)
        output, weights = self.attention(asking, keys, values, mask, bias=bias, need_weights=need_weights)
        x = self.around_attention.after(inputs, output)
        return self.around_feed_forward(x, self.feed_forward), keys, values, weights


class TargetStack(nn.Module):
    """Blocks in which the target attends to the history and the history to nothing: linear in its length.

        h = norm(h + feed-forward(h))                   each event of the history on its own
        q = q + attention(norm(q), h)                   each target on its own; norm="post": q = norm(q + ...)
        q = q + feed-forward(norm(q))

    Every block has weights of its own; norm="pre" puts a last norm on q. After STCA (2025, arXiv
    2511.06077), where the next query is a projection of the target and all that was retrieved before: here it is their
    sum, as in a transformer's decoder without self-attention.

    dim: width of the target, >= 1. source_dim: of the history, by default dim. num_layers: >= 1.
    attention: a layer whose query and output have width dim, its keys and values source_dim, neither causal nor rotary:
        order and time come in by ``bias``. Each block gets a copy of its own, freshly initialised.
    hidden_dim: of all feed-forward networks, by default four times their width. feed_forward: their activation,
        ``"swiglu"``, as in the paper, ``"relu"``, ``"gelu"`` or ``"silu"``.
    norm: the target's; gated, dropout: the target's and the history's. See `Residual`.
    Raises ConfigError for values outside of these.

    Nothing to attend: weights and output exactly 0. The residual path would bring the target itself through, as if it
    had been retrieved; it is cut for such a query. (Add the target to the output where it is wanted all the same.)
    Candidates do not see each other. The history's part is computed once for all of them.
    Cost of a block: length x source_dim x hidden_dim for the history, once, and queries x length x dim for attention.

    >>> from recattn.nn import MultiHeadAttention
    >>> stack = TargetStack(6, source_dim=5, attention=MultiHeadAttention(6, 5, num_heads=2), num_layers=3)
    >>> output, weights = stack(torch.ones(3, 4, 6), torch.ones(3, 7, 5))
    >>> output.shape, weights.shape
    (torch.Size([3, 4, 6]), torch.Size([3, 2, 4, 7]))
    """

    def __init__(
        self,
        dim: int,
        *,
        attention: nn.Module,
        num_layers: int,
        source_dim: int | None = None,
        hidden_dim: int | None = None,
        feed_forward: FeedForwardActivation = "swiglu",
        norm: Norm = "pre",
        gated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.source_dim = dim, dim if source_dim is None else source_dim
        check_count("dim", dim)
        check_count("source_dim", self.source_dim)
        check_count("num_layers", num_layers)
        check_choice("feed_forward", feed_forward, FEED_FORWARD_ACTIVATIONS)
        check_width("attention", attention, dim, ("query_dim", "output_dim"))
        check_width("attention", attention, self.source_dim, ("source_dim", "value_source_dim"))
        for name in ("causal", "rotary"):
            if getattr(attention, name, None):
                raise ConfigError(f"attention must not be {name}: the target has no place in the history")
        self.num_layers, self.hidden_dim = num_layers, hidden_dim
        self.feed_forward: FeedForwardActivation = feed_forward
        self.norm: Norm = norm
        self.gated, self.dropout = gated, dropout
        self.blocks = nn.ModuleList(
            TargetBlock(
                dim,
                self.source_dim,
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
        """The first block's: what the argument was, with weights of its own."""
        return cast("TargetBlock", self.blocks[0]).attention

    @property
    def weights_kind(self) -> WeightsKind:
        """What the weights mean, as the attention says."""
        return cast("WeightsKind", self.attention.weights_kind)

    def reset_parameters(self) -> None:
        """Every part to its own start."""
        reset_parts(self)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | Sequence[Tensor] | None = None,
        need_weights: bool = True,
    ) -> Attended:
        """Ask the history, block by block.

        query: (batch, queries, dim), or (batch, dim) for one target a row; all share the row's history.
        keys: (batch, length, source_dim), length may be 0. values: like keys, by default the keys; both go through the
            same feed-forward networks.
        mask: bool, (batch, length) or (batch, queries, length), True for real; None: all real.
        bias: what the attention takes, one for all blocks or one for each; added to the scores.
        Returns output (batch, queries, dim), or (batch, dim), and the weights of the last block.
        Raises ConfigError for a mask that is not boolean or has another length than the keys, for another number of
        biases than blocks, and for what the attention refuses.
        """
        single = query.dim() == 2
        x = query.unsqueeze(1) if single else query
        visible = full_mask(mask, keys)  # (batch, 1 or queries, length)
        # Padding is not seen, but a feed-forward network could make it too large for fp16, and 0 x inf is no 0.
        real = None if visible is None else visible.any(1).unsqueeze(-1)
        keys = fill_masked(keys, real, 0.0)
        values = None if values is None else fill_masked(values, real, 0.0)
        weights = None
        for i, (block, added) in enumerate(zip(self.blocks, block_biases(bias, self.num_layers), strict=True)):
            shown = need_weights and i == self.num_layers - 1
            x, keys, values, weights = block(x, keys, values, mask, added, need_weights=shown)
        x = x if self.last_norm is None else self.last_norm(x)
        if keys.shape[1] == 0:
            x = torch.zeros_like(x)
        elif visible is not None:
            x = fill_masked(x, visible.any(-1, keepdim=True), 0.0)
        return Attended(x.squeeze(1) if single else x, weights)
