"""Linear attention: a history becomes one sum of constant size, and a query costs the same however long it was."""

import math
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, at_least_float32, check_causal, fill_masked
from recattn.nn.attention.feature_maps import EluFeatures, FavorFeatures
from recattn.nn.attention.heads import head_widths, merge_heads, reset_projections, shared_mask, split_heads, with_heads
from recattn.nn.attention.prefix import decay, prefix_sums, running_top
from recattn.nn.checks import check_choice, check_count


class LinearState(NamedTuple):
    """What a history is to `LinearAttention`: a few sums, of a size that does not depend on its length.

    values: (batch, heads, features, value_dim), the sum of e^-log_scale phi(k) v^T.
    features: (batch, heads, features), the sum of e^-log_scale phi(k).
    log_scale: (batch, heads), the largest log phi of any event; the lowest number of its type where there is none.
    In fp32 or wider, whatever the type of the layer. Good for one layer, and for one draw of its random features.
    """

    values: Tensor
    features: Tensor
    log_scale: Tensor

    def merge(self, other: Self) -> Self:
        """The state of both histories together, in either order."""
        top = torch.maximum(self.log_scale, other.log_scale)
        mine, theirs = ((state.log_scale - top).exp().unsqueeze(-1) for state in (self, other))
        return type(self)(
            self.values * mine.unsqueeze(-1) + other.values * theirs.unsqueeze(-1),
            self.features * mine + other.features * theirs,
            top,
        )


class LinearAttention(nn.Module):
    """head = phi(q) (sum_j phi(k_j) v_j^T) / (phi(q) . sum_j phi(k_j)), with the projections of MultiHeadAttention.

    The sums do not depend on the query: a history is summed up once, in `LinearState`, and asked as often as needed.

    feature_map: "elu" is phi(x) = elu(x) + 1 (Katharopoulos et al. 2020, eq. 5 and 7); "favor" are the positive
        orthogonal random features of FAVOR+ (Choromanski et al. 2021, lemma 1), with which the layer approximates
        MultiHeadAttention: the error falls as 1 / sqrt(num_features) and grows quickly with the norms of q and k. They
        are buffers, drawn from torch's global generator; `redraw` draws others.
    num_features: of "favor", by default key_dim ln(key_dim), at least key_dim. "elu" has key_dim of them: leave None.
    causal: position i of a sequence sees positions 0..i only; query and keys must then be equally long.
    query_dim, source_dim, num_heads, key_dim, value_dim, value_source_dim, output_dim, bias: as MultiHeadAttention's.
    Raises ConfigError for a width or number below 1, a query_dim that num_heads does not divide where the default
    needs it, another feature_map and num_features given for "elu".

    Weights a_ij = phi(q_i) . phi(k_j) / sum_l phi(q_i) . phi(k_l) are those of the events; asking for them costs
    queries x length, without them it is (queries + length) x features x value_dim, causal or not. A query with nothing
    to attend gets exactly 0. Features are scaled by maxima over real events that the query may see, which cancel:
    neither padding nor the future touches a result, and no denominator is 0. All of it is in fp32 or wider, under
    autocast too.
    torch.export can't follow a causal layer's chunks: an exported one forms all pairs. torch.compile unrolls them, one
    graph for each number of chunks.

    A cache per user of heads x features x (value_dim + 1) numbers: ``state.merge(layer.summarize(new_events))`` appends
    to it, ``layer.ask(candidates, state)`` asks. A causal layer's position i is its query asking events 0..i.

    >>> layer = LinearAttention(6, 5, num_heads=2)
    >>> output, weights = layer(torch.ones(3, 4, 6), torch.ones(3, 7, 5))
    >>> output.shape, weights.shape
    (torch.Size([3, 4, 6]), torch.Size([3, 2, 4, 7]))
    >>> state = layer.summarize(torch.ones(3, 5, 5)).merge(layer.summarize(torch.ones(3, 2, 5)))
    >>> torch.allclose(layer.ask(torch.ones(3, 4, 6), state), output, atol=1e-6)
    True
    """

    weights_kind: WeightsKind = "probability"
    summarises: ClassVar[bool] = True  # one mask for all queries, and no bias

    def __init__(
        self,
        query_dim: int,
        source_dim: int,
        *,
        num_heads: int,
        feature_map: Literal["elu", "favor"] = "elu",
        num_features: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        value_source_dim: int | None = None,
        output_dim: int | None = None,
        causal: bool = False,
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
        check_choice("feature_map", feature_map, ("elu", "favor"))
        self.features: nn.Module
        if feature_map == "elu":
            if num_features is not None:
                raise ConfigError(f"num_features must be None for feature_map='elu', got {num_features!r}")
            self.features = EluFeatures()
        else:
            if num_features is None:
                num_features = max(self.key_dim, math.ceil(self.key_dim * math.log(self.key_dim)))
            check_count("num_features", num_features)
            self.features = FavorFeatures(num_heads, self.key_dim, num_features)
        self.feature_map, self.num_features, self.causal, self.bias = feature_map, num_features, causal, bias
        self.query_projection = nn.Linear(query_dim, num_heads * self.key_dim, bias=bias)
        self.key_projection = nn.Linear(source_dim, num_heads * self.key_dim, bias=bias)
        self.value_projection = nn.Linear(self.value_source_dim, num_heads * self.value_dim, bias=bias)
        self.output_projection = nn.Linear(num_heads * self.value_dim, self.output_dim, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, biases 0; random features are drawn anew."""
        reset_projections(self.query_projection, self.key_projection, self.value_projection, self.output_projection)
        self.redraw()

    def redraw(self) -> None:
        """Draw the random features of "favor" anew; states made before no longer fit. "elu" has nothing to draw."""
        if isinstance(self.features, FavorFeatures):
            self.features.redraw()

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
        mask: bool, (batch, length) or (batch, 1, length), True for real; None: all real.
        bias: broadcasts to (batch, 1, length) or (batch, heads, 1, length), finite: event j counts e^bias_j times.
        Returns output (batch, queries, output_dim) or (batch, output_dim), and weights (batch, heads, queries, length).
        Raises ConfigError for a mask or a bias for each query, as all queries ask the same sums, for a mask that is not
        boolean or has another length than the keys, and for a causal layer with several queries that
        are not as many as the keys.
        """
        causal = self.causal and query.dim() == 3
        if causal:
            check_causal("LinearAttention", query, keys)
        q, (k, v, mask) = self._project_query(query), self._project_events(keys, values, mask)
        weights = None
        with torch.autocast(keys.device.type, enabled=False):
            q = self.features(q).features  # less the scale of each query, which cancels
            k, scale = self._key_features(k, mask, bias)
            if need_weights or (causal and torch.compiler.is_exporting()):
                products = _products(q, k, scale, causal=causal)
                sums, total = products @ v, products.sum(-1, keepdim=True)
                weights = _divided(products, total).to(query.dtype) if need_weights else None
            elif causal:
                with_total = prefix_sums(q, k, scale, F.pad(v, (0, 1), value=1.0))
                sums, total = with_total[..., :-1], with_total[..., -1:]
            else:
                sums, total = _asked(q, _summed(k, scale, v))
        output = self._output(_divided(sums, total), total)
        return Attended(output.squeeze(1) if query.dim() == 2 else output, weights)

    def summarize(
        self, keys: Tensor, values: Tensor | None = None, mask: Tensor | None = None, *, bias: Tensor | None = None
    ) -> LinearState:
        """Sum up a history, or the events that are new in it. Arguments as in forward."""
        k, v, mask = self._project_events(keys, values, mask)
        with torch.autocast(keys.device.type, enabled=False):
            return _summed(*self._key_features(k, mask, bias), v)

    def ask(self, query: Tensor, state: LinearState) -> Tensor:
        """What forward would answer, were it given the events in the state.

        query: (batch, queries, query_dim), or (batch, query_dim). Returns (batch, queries, output_dim), or
        (batch, output_dim).
        """
        q = self._project_query(query)
        with torch.autocast(query.device.type, enabled=False):
            sums, total = _asked(self.features(q).features, state)
        output = self._output(_divided(sums, total), total)
        return output.squeeze(1) if query.dim() == 2 else output

    def _project_query(self, query: Tensor) -> Tensor:
        """(batch, heads, queries, key_dim), in fp32 or wider."""
        q = self.query_projection(query.unsqueeze(1) if query.dim() == 2 else query)
        return self._heads(q)

    def _project_events(
        self, keys: Tensor, values: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys (batch, heads, length, key_dim) and values like them, 0 at padding, and the mask (batch, length)."""
        mask = shared_mask("LinearAttention", mask, keys)
        real = None if mask is None else mask.unsqueeze(-1)
        k, v = (
            self._heads(fill_masked(x, real, 0.0))
            for x in (self.key_projection(keys), self.value_projection(keys if values is None else values))
        )
        return k, v, mask

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, tokens, heads x dim) to (batch, heads, tokens, dim), laid out so: sums over tokens are faster."""
        return at_least_float32(split_heads(x, self.num_heads)).contiguous()

    def _key_features(self, k: Tensor, mask: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """phi(k) e^bias = features · e^scale.

        Features (batch, heads, length, features); scale (batch, heads, length), -inf at padding. Its gradient is that
        of the bias.
        """
        features, scale = self.features(k)
        if bias is not None:
            bias = torch.atleast_2d(bias).to(scale.dtype)
            if bias.shape[-2] != 1:
                raise ConfigError(
                    "bias must be (batch, 1, length) or (batch, heads, 1, length), as LinearAttention sums up the "
                    f"history once for all queries, got shape {tuple(bias.shape)}"
                )
            scale = scale + with_heads(bias).squeeze(-2)
        return features, fill_masked(scale, None if mask is None else mask.unsqueeze(1), -torch.inf)

    def _output(self, attended: Tensor, total: Tensor) -> Tensor:
        """The output projection of attended (batch, heads, queries, value_dim); 0 where total (..., 1) is 0."""
        output = self.output_projection(merge_heads(attended.to(self.output_projection.weight.dtype)))
        return fill_masked(output, (total > 0).any(1), 0.0) if self.bias else output

    def extra_repr(self) -> str:
        kind = "causal, " if self.causal else ""
        return (
            f"{kind}num_heads={self.num_heads}, feature_map={self.feature_map!r}, key_dim={self.key_dim}, "
            f"value_dim={self.value_dim}"
        )


def _top(scale: Tensor) -> Tensor:
    """The largest scale (batch, heads), finite also where nothing is real; without gradients."""
    return F.pad(scale.detach(), (1, 0), value=torch.finfo(scale.dtype).min).amax(-1)


def _products(q: Tensor, k: Tensor, scale: Tensor, *, causal: bool) -> Tensor:
    """phi(q_i) . phi(k_j), less a factor for each query that cancels: (batch, heads, queries, length)."""
    if causal:
        return q @ k.mT * decay(scale, running_top(scale))
    return q @ k.mT * (scale - _top(scale).unsqueeze(-1)).exp().unsqueeze(-2)


def _summed(k: Tensor, scale: Tensor, v: Tensor) -> LinearState:
    """The state of events with features k, their scale and values v."""
    top = _top(scale)
    shares = (scale - top.unsqueeze(-1)).exp().unsqueeze(-1)
    return LinearState(k.mT @ (v * shares), (k.mT @ shares).squeeze(-1), top)


def _asked(q: Tensor, state: LinearState) -> tuple[Tensor, Tensor]:
    """phi(q) times the sums of the state: numerators (..., value_dim) and denominators (..., 1)."""
    return q @ state.values, q @ state.features.unsqueeze(-1)


def _divided(sums: Tensor, total: Tensor) -> Tensor:
    """The sums by their total, 0 where it is 0: there is nothing to attend, and the sums are 0 too."""
    return sums / (total + (total == 0))
