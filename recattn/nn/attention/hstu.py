"""HSTU: pointwise attention whose weights are gates, and a second gate on what was retrieved."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.nn.attended import (
    Attended,
    WeightsKind,
    at_least_float32,
    causal_mask,
    check_causal,
    fill_masked,
    full_mask,
)
from recattn.nn.attention.heads import head_widths, merge_heads, split_heads, with_heads
from recattn.nn.attention.pointwise import pointwise_attention, pointwise_weights
from recattn.nn.checks import check_count, check_fraction, check_positive
from recattn.nn.dense.dropout import dropout


class HSTUAttention(nn.Module):
    """(U ∘ norm(A V)) W_O with A = SiLU(scale Q K^T + bias) / max_length, and U, Q, K, V = SiLU of a projection each.

    Zhai et al. 2024 (HSTU), eq. 1 to 3. U and Q come from the query, K and V from keys and values: query and keys
    the same sequence is the paper's layer, candidates as query make it target attention. A is not normalised,
    so that it keeps how much of a taste there is; it may be slightly negative (SiLU > -0.279). ``norm`` is
    LayerNorm over all heads together, without parameters. No projection has a bias, so that nothing found gives 0.
    The residual and the norm of the input are `Encoder`'s, see the second example.

    query_dim: width of the query and of the output. source_dim: width of the keys, by default the same.
    value_source_dim: width of the values, by default source_dim. num_heads: >= 1.
    key_dim, value_dim: widths of one head, by default query_dim // num_heads.
    max_length: >= 1, the constant that divides, never the padded length. Longer histories are allowed.
    scale: > 0; 1 as in the research code, key_dim^-0.5 as in the production code.
    concat_ua: W_O reads U, norm(A V) and their product side by side.
    causal: position i of a sequence sees positions 0..i only; query and keys must then be equally long.
    dropout: in [0, 1), training only, of what W_O reads. The weights have none.
    eps: > 0, added to the variance in ``norm``; as A V is small, it damps the output of short histories.
    Raises ConfigError for anything else.

    A query with nothing to attend gets exactly 0, with concat_ua too. Time and position come in through ``bias``, as in
    the example: that is the bias of the research code, with time buckets a factor of e^0.301 apart (but a gap of 0 s
    has a bucket of its own, and `TimeBias` starts at 0). In a causal encoder `query_times` says whether position i
    knows when event i + 1 happens.
    Cost: queries x length x heads x (key_dim + value_dim), and the projections of queries + length vectors. With
    ``need_weights=False`` it holds a block of a few MB of the weights at a time, in training too, and has no
    gradient of its gradient.

    >>> import math
    >>> from recattn.nn import RelativePositionBias, TimeBias, query_times, sequence_distances
    >>> layer = HSTUAttention(6, num_heads=2, max_length=50, causal=True)
    >>> position, time = RelativePositionBias(2, 49), TimeBias(num_heads=2, num_buckets=130, base=math.exp(0.301))
    >>> events, times, now = torch.ones(3, 7, 6), torch.arange(7).expand(3, 7), torch.tensor([8, 9, 70])
    >>> bias = position(sequence_distances(7)) + time(times, query_times(times, now=now))
    >>> layer(events, events, bias=bias).output.shape
    torch.Size([3, 7, 6])

    A whole HSTU: x + attention(norm(x)), block after block, without feed-forward networks, and a last norm. (Its norms
    have weights here.) In the research code each block has a bias of its own: ``bias=[one, other]``.

    >>> from recattn.nn import Encoder
    >>> hstu = Encoder(6, attention=layer, num_layers=2, feed_forward="none")
    >>> hstu(events, bias=bias).output.shape
    torch.Size([3, 7, 6])
    """

    weights_kind: WeightsKind = "gate"

    def __init__(
        self,
        query_dim: int,
        source_dim: int | None = None,
        *,
        num_heads: int,
        max_length: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        value_source_dim: int | None = None,
        scale: float = 1.0,
        concat_ua: bool = False,
        causal: bool = False,
        dropout: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.query_dim, self.source_dim = query_dim, query_dim if source_dim is None else source_dim
        self.key_dim, self.value_dim, self.value_source_dim, _ = head_widths(
            query_dim,
            self.source_dim,
            num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            value_source_dim=value_source_dim,
            output_dim=None,
        )
        check_count("max_length", max_length)
        check_positive("scale", scale)
        check_fraction("dropout", dropout)
        check_positive("eps", eps)
        self.num_heads, self.max_length, self.scale, self.eps = num_heads, max_length, scale, eps
        self.concat_ua, self.causal, self.dropout = concat_ua, causal, dropout
        width = num_heads * self.value_dim
        self.gate_projection = nn.Linear(query_dim, width, bias=False)
        self.query_projection = nn.Linear(query_dim, num_heads * self.key_dim, bias=False)
        self.key_projection = nn.Linear(self.source_dim, num_heads * self.key_dim, bias=False)
        self.value_projection = nn.Linear(self.value_source_dim, width, bias=False)
        self.output_projection = nn.Linear(3 * width if concat_ua else width, query_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """U, Q, K, V from N(0, 0.02²), W_O Xavier-uniform, as in the research code."""
        for layer in (self.gate_projection, self.query_projection, self.key_projection, self.value_projection):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.xavier_uniform_(self.output_projection.weight)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
    ) -> Attended:
        """Ask the source.

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row, which comes last where the layer
            is causal.
        keys: (batch, length, source_dim). values: (batch, length, value_source_dim), by default the keys.
        mask: bool, (batch, length) or broadcastable to (batch, queries, length), True for real; None: all real.
        bias: broadcasts to (batch, queries, length) or to (batch, heads, queries, length); finite; added to the scores.
        Returns output (batch, queries, query_dim) or (batch, query_dim), and weights (batch, heads, queries, length).
        Raises ConfigError for a mask that is not boolean or has another length than the keys, and for a causal layer
        with several queries that are not as many as the keys.
        """
        single = query.dim() == 2
        causal = self.causal and not single
        if causal:
            check_causal("HSTUAttention", query, keys)
        query = query.unsqueeze(1) if single else query
        mask = full_mask(mask, keys)  # (batch, 1 or queries, length)
        over_heads = None if mask is None else mask.unsqueeze(1)
        values = keys if values is None else values
        if bias is not None:
            bias = with_heads(bias)
        u = F.silu(self.gate_projection(query))  # (batch, queries, heads x value_dim)
        q = split_heads(F.silu(self.query_projection(query)) * self.scale, self.num_heads)
        k = split_heads(F.silu(self.key_projection(keys)), self.num_heads)
        v = split_heads(F.silu(self.value_projection(values)), self.num_heads)

        weights = None
        if need_weights:
            q, k, wide = (at_least_float32(x) for x in (q, k, v))
            weights = pointwise_weights(q, k, over_heads, bias, causal=causal) / self.max_length
            found = weights.to(wide.dtype) @ wide
            weights = weights.to(v.dtype)
        else:
            found = pointwise_attention(q, k, v, over_heads, bias, causal=causal) / self.max_length
        read = F.layer_norm(merge_heads(found), (u.shape[-1],), eps=self.eps).to(u.dtype)
        gated = torch.cat([u, read, u * read], -1) if self.concat_ua else u * read
        gated = fill_masked(gated, _reached(mask, keys, causal=causal), 0.0)
        output = self.output_projection(dropout(gated, self.dropout, self.training))
        return Attended(output.squeeze(1) if single else output, weights)

    def extra_repr(self) -> str:
        kind = "causal, " if self.causal else ""
        return (
            f"{kind}num_heads={self.num_heads}, key_dim={self.key_dim}, value_dim={self.value_dim}, "
            f"max_length={self.max_length}, scale={self.scale}, concat_ua={self.concat_ua}, dropout={self.dropout}"
        )


def _reached(mask: Tensor | None, keys: Tensor, *, causal: bool) -> Tensor:
    """Which queries have something to attend: bool (batch or 1, queries or 1, 1)."""
    length = keys.shape[1]
    mask = keys.new_ones(1, 1, length, dtype=torch.bool) if mask is None else mask
    if causal:
        shared = mask.shape[-2] == 1  # without a length x length mask
        mask = (mask.cumsum(-1) > 0).mT if shared else mask & causal_mask(length, keys.device)
    return mask.any(-1, keepdim=True)
