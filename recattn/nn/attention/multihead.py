"""Multi-head attention with free key and value widths, fast where the weights are not asked for."""

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, causal_mask, check_causal, fill_masked, full_mask
from recattn.nn.attention.fused import fast_attention
from recattn.nn.attention.heads import head_widths, merge_heads, reset_projections, split_heads, with_heads
from recattn.nn.checks import check_fraction
from recattn.nn.positions.rotary import RotaryPosition
from recattn.nn.weightings.softmax import masked_softmax


class MultiHeadAttention(nn.Module):
    """Concat(head_1, ..., head_h) W_O with head = softmax(Q W_Q (K W_K)^T / sqrt(key_dim) + bias) V W_V.

    Vaswani et al. 2017, section 3.2.2, with key_dim and value_dim per head free, as there. Self-attention where query
    and keys are one sequence, cross-attention where they are two: the class is the same.

    query_dim, source_dim: widths of the query and of the keys. num_heads: >= 1.
    key_dim, value_dim: widths of one head, by default query_dim // num_heads. value_source_dim: width of the values,
        by default source_dim. output_dim: by default query_dim. bias: whether the four projections have one.
    causal: position i of a sequence sees positions 0..i only; query and keys must then be equally long.
    rotary: a `RotaryPosition` of width key_dim that turns the projected queries and keys; None: no rotation.
    dropout: in [0, 1), training only: each head of each row loses whole KEYS with this probability, all of its queries
        the same ones, and the softmax renormalises over those left (so nothing is divided by 1 - dropout). Dropout
        on the probabilities would take SDPA off its fast path on CPU. The weights returned are before dropout.
    Raises ConfigError for a width below 1, a query_dim that num_heads does not divide where the default needs
    it, a dropout outside of [0, 1) and a rotary of another width than key_dim.

    With ``need_weights=False`` it runs on ``scaled_dot_product_attention``; the readable path that returns weights is
    its specification. A query with nothing to attend gets exactly 0, past the bias of the output projection too.
    Cost: queries x length x heads x (key_dim + value_dim), and the projections of queries + length vectors.

    >>> layer = MultiHeadAttention(6, 5, num_heads=2)
    >>> output, weights = layer(torch.ones(3, 4, 6), torch.ones(3, 7, 5))
    >>> output.shape, weights.shape
    (torch.Size([3, 4, 6]), torch.Size([3, 2, 4, 7]))
    """

    weights_kind: WeightsKind = "probability"

    def __init__(
        self,
        query_dim: int,
        source_dim: int,
        *,
        num_heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        value_source_dim: int | None = None,
        output_dim: int | None = None,
        causal: bool = False,
        rotary: RotaryPosition | None = None,
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.query_dim, self.source_dim, self.num_heads = query_dim, source_dim, num_heads
        self.key_dim, self.value_dim, self.value_source_dim, self.output_dim = head_widths(
            query_dim,
            source_dim,
            num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            value_source_dim=value_source_dim,
            output_dim=output_dim,
        )
        check_fraction("dropout", dropout)
        self.causal, self.dropout, self.bias = causal, dropout, bias
        if rotary is not None and rotary.dim != self.key_dim:
            raise ConfigError(f"rotary must have the heads' key_dim {self.key_dim}, got one of dim {rotary.dim}")
        self.rotary = rotary
        self.query_projection = nn.Linear(query_dim, num_heads * self.key_dim, bias=bias)
        self.key_projection = nn.Linear(source_dim, num_heads * self.key_dim, bias=bias)
        self.value_projection = nn.Linear(self.value_source_dim, num_heads * self.value_dim, bias=bias)
        self.output_projection = nn.Linear(num_heads * self.value_dim, self.output_dim, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, biases 0."""
        reset_projections(self.query_projection, self.key_projection, self.value_projection, self.output_projection)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
        query_positions: Tensor | None = None,
        key_positions: Tensor | None = None,
    ) -> Attended:
        """Ask the source.

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row, which comes last where the layer
            is causal.
        keys: (batch, length, source_dim). values: (batch, length, value_source_dim), by default the keys.
        mask: bool, (batch, length) or broadcastable to (batch, queries, length), True for real; None: all real.
        bias: broadcasts to (batch, queries, length) or to (batch, heads, queries, length); finite; added to the scores.
        query_positions, key_positions: (batch or 1, queries), (batch or 1, length), for ``rotary`` (see there).
        Returns output (batch, queries, output_dim) or (batch, output_dim), and weights (batch, heads, queries, length).
        Raises ConfigError for a mask that is not boolean or has another length than the keys, for positions without
        ``rotary`` and the other way round, and for a causal layer with several queries, but not as many as the keys.
        """
        single = query.dim() == 2
        causal = self.causal and not single
        if causal:
            check_causal("MultiHeadAttention", query, keys)
        mask = full_mask(mask, keys)
        mask = None if mask is None else mask.unsqueeze(1)  # (batch, 1, queries or 1, length)
        bias = None if bias is None else with_heads(bias)
        q, k, v = (  # (batch, heads, queries or length, key_dim or value_dim)
            split_heads(x, self.num_heads)
            for x in (
                self.query_projection(query.unsqueeze(1) if single else query),
                self.key_projection(keys),
                self.value_projection(keys if values is None else values),
            )
        )
        if (self.rotary is None) != (query_positions is None) or (self.rotary is None) != (key_positions is None):
            raise ConfigError("query_positions and key_positions go with rotary: give all three or none")
        if self.rotary is not None and query_positions is not None and key_positions is not None:
            q, k = self.rotary(q, k, query_positions, key_positions)

        weights, seen = None, self._drop_keys(mask, k)
        if need_weights:
            earlier = causal_mask(q.shape[-2], q.device) if causal else None
            scores = (q * self.key_dim**-0.5) @ k.transpose(-1, -2)
            scores = scores if bias is None else scores + bias
            weights = masked_softmax(scores, _both(mask, earlier))
            attended = (weights if seen is mask else masked_softmax(scores, _both(seen, earlier))).to(v.dtype) @ v
        else:
            attended = fast_attention(q, k, v, seen, bias, causal=causal)
        output = self.output_projection(merge_heads(attended))
        if seen is not None and self.bias:
            # (batch, queries or 1, 1): is there a key in any head? Without a bias 0 stays 0 by itself.
            reachable = _both(seen, causal_mask(q.shape[-2], q.device)) if causal else seen
            output = fill_masked(output, reachable.any(-1).any(1).unsqueeze(-1), 0.0)  # type: ignore[union-attr]
        elif not keys.shape[1]:
            output = torch.zeros_like(output)
        return Attended(output.squeeze(1) if single else output, weights)

    def _drop_keys(self, mask: Tensor | None, keys: Tensor) -> Tensor | None:
        """The mask less the keys that dropout takes away, (batch, 1 or heads, 1 or queries, length)."""
        if not self.training or self.dropout == 0:
            return mask
        kept = torch.rand(keys.shape[:-1], device=keys.device).unsqueeze(-2) >= self.dropout
        return kept if mask is None else mask & kept

    def extra_repr(self) -> str:
        kind = "causal, " if self.causal else ""
        return (
            f"{kind}num_heads={self.num_heads}, key_dim={self.key_dim}, value_dim={self.value_dim}, "
            f"dropout={self.dropout}"
        )


def _both(mask: Tensor | None, earlier: Tensor | None) -> Tensor | None:
    """What both masks let through; None lets everything through."""
    if mask is None or earlier is None:
        return earlier if mask is None else mask
    return mask & earlier
