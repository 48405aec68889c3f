"""Attention over clusters of events: alike events are one key, and their number counts."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, at_least_float32, fill_masked
from recattn.nn.attention.heads import shared_mask
from recattn.nn.attention.pooling import AttentionPooling
from recattn.nn.checks import check_count
from recattn.nn.scorers.products import ScaledDotScorer
from recattn.nn.search.inner import as_layer
from recattn.nn.weightings.softmax import Softmax


class ClusterSummary(NamedTuple):
    """What a history is to `ClusterPooling`.

    keys: (batch, num_clusters, key_dim), values: (batch, num_clusters, value_dim): the members' means.
    sizes: (batch, num_clusters) int64, how many members; an empty cluster is attended to by nobody.
    """

    keys: Tensor
    values: Tensor
    sizes: Tensor


class ClusterPooling(nn.Module):
    """softmax over clusters c of (score(q, mean key_c) + ln size_c), applied to the mean values.

    In the style of TWIN-V2 (Si et al. 2024). With + ln(size) a cluster weighs as much as its members would: where they
    share one key, this is softmax attention over all events exactly. With as many clusters as events it is so too.

    attention: a layer of recattn.nn that takes a bias and whose weights are a ``probability``, with a softmax in it for
        the identity above to hold; by default scaled dot-product pooling.
    num_clusters: >= 1. num_steps: >= 0, how often k-means moves its centres. Raises ConfigError otherwise.

    Clusters are given by the caller (``clusters``, made offline by any means) or found by k-means (Lloyd's) on the
    keys. It starts from num_clusters events at equal distances in the history, so it is the same in every pass and does
    not depend on padding; other orders of the history may give other clusters. Equal distances go to the first centre.
    Gradients run through the means, not through who belongs where.

    Weights are those of the members, a cluster's divided by its size. Nothing to attend: 0.
    `summarize` needs no query and is kept once a user; `ask` costs what its attention costs over num_clusters keys.
    Cost of k-means: (num_steps + 1) x length x num_clusters x key_dim.

    >>> layer = ClusterPooling(num_clusters=2)
    >>> keys = torch.tensor([[[0.0], [9.0], [0.0], [9.0]]])
    >>> layer(torch.zeros(1, 1), keys).weights[0, 0].tolist(), layer.summarize(keys).sizes.tolist()
    ([0.25, 0.25, 0.25, 0.25], [[2, 2]])
    """

    summarises: ClassVar[bool] = True  # one mask for all queries, and no bias

    def __init__(self, attention: nn.Module | None = None, *, num_clusters: int, num_steps: int = 5) -> None:
        super().__init__()
        check_count("num_clusters", num_clusters)
        check_count("num_steps", num_steps, least=0)
        self.attention = as_layer(AttentionPooling(ScaledDotScorer(), Softmax()) if attention is None else attention)
        if self.attention.weights_kind != "probability":
            raise ConfigError(
                f"attention must have weights of kind probability, as ln(size) counts in a softmax, got "
                f"{self.attention.weights_kind}"
            )
        self.num_clusters, self.num_steps = num_clusters, num_steps

    @property
    def weights_kind(self) -> WeightsKind:
        """``probability``: what the attention gives a cluster is shared out among its members."""
        return self.attention.weights_kind

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
        clusters: Tensor | None = None,
    ) -> Attended:
        """Ask the history.

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row. keys: (batch, length, key_dim).
        values: (batch, length, value_dim), by default the keys. mask: bool, (batch, length), True for real.
        clusters: int64 (batch, length), in 0..num_clusters-1 for real events; None: found by k-means.
        Returns output (batch, queries, value_dim), or (batch, value_dim), and weights (batch, [heads,] queries,
        length).
        Raises ConfigError for a bias, for a mask for each query and for clusters out of range.
        """
        if bias is not None:
            raise ConfigError("bias must be None: members of a cluster have one score, so no event has its own")
        mask = shared_mask("ClusterPooling", mask, keys)
        clusters = self._assigned(keys, mask, clusters)
        summary = self._means(keys, values, mask, clusters)
        output, weights = self._attend(query, summary, need_weights=need_weights)
        if weights is None:
            return Attended(output, None)
        with_heads = (slice(None), *[None] * (weights.dim() - 2))  # room for the axes of heads and queries
        each = at_least_float32(weights) / summary.sizes.clamp(min=1)[with_heads]
        spread = each.gather(-1, clusters[with_heads].expand(*weights.shape[:-1], -1)).to(output.dtype)
        return Attended(output, fill_masked(spread, None if mask is None else mask[with_heads], 0.0))

    def summarize(
        self,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        clusters: Tensor | None = None,
    ) -> ClusterSummary:
        """The means and sizes of the clusters. Arguments as in forward."""
        mask = shared_mask("ClusterPooling", mask, keys)
        return self._means(keys, values, mask, self._assigned(keys, mask, clusters))

    def ask(self, query: Tensor, summary: ClusterSummary) -> Tensor:
        """Forward's output for queries (batch, queries, query_dim) or (batch, query_dim), from `summarize`'s means."""
        return self._attend(query, summary, need_weights=False).output

    @torch.no_grad()
    def find_clusters(self, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """The cluster of each event by k-means: int64 (batch, length); what masked events hold has no meaning.

        keys: (batch, length, key_dim); mask: bool, (batch, length), True for real.
        """
        batch, length, _ = keys.shape
        if length == 0:
            return torch.zeros(batch, 0, dtype=torch.int64, device=keys.device)
        real = torch.ones(batch, length, dtype=torch.bool, device=keys.device) if mask is None else mask
        points = fill_masked(at_least_float32(keys), real.unsqueeze(-1), 0.0)
        # Centre c starts at real event number floor((c + 1/2) events / num_clusters), counted from 0.
        seen = real.cumsum(-1)
        number = (2 * torch.arange(self.num_clusters, device=keys.device) + 1) * seen[:, -1:] // (2 * self.num_clusters)
        first = torch.searchsorted(seen, number + 1).clamp(max=length - 1)
        centres = points.gather(1, first.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
        nearest = _nearest(points, centres)
        for _ in range(self.num_steps):
            sums, sizes = self._sums(points, nearest), self._sums(real.unsqueeze(-1).to(points.dtype), nearest)
            centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
            nearest = _nearest(points, centres)
        return nearest

    def _assigned(self, keys: Tensor, mask: Tensor | None, clusters: Tensor | None) -> Tensor:
        """The clusters given, 0 at padding, or those of k-means."""
        if clusters is None:
            return self.find_clusters(keys, mask)
        if clusters.is_floating_point() or clusters.shape != keys.shape[:2]:
            raise ConfigError(
                f"clusters must be integers of shape {tuple(keys.shape[:2])}, got {clusters.dtype} of shape "
                f"{tuple(clusters.shape)}"
            )
        clusters = fill_masked(clusters.long(), mask, 0)
        # A captured graph cannot raise by what is in a tensor; there torch itself refuses a place out of range.
        if not torch.compiler.is_compiling() and ((clusters < 0) | (clusters >= self.num_clusters)).any():
            raise ConfigError(
                f"clusters must be in 0..{self.num_clusters - 1}, got {clusters.min()} to {clusters.max()}"
            )
        return clusters

    def _means(self, keys: Tensor, values: Tensor | None, mask: Tensor | None, clusters: Tensor) -> ClusterSummary:
        seen = None if mask is None else mask.unsqueeze(-1)
        sizes = self._sums(clusters.new_ones(*clusters.shape, 1) if seen is None else seen.long(), clusters)
        means = [
            (self._sums(fill_masked(at_least_float32(x), seen, 0.0), clusters) / sizes.clamp(min=1)).to(x.dtype)
            for x in (keys, keys if values is None else values)
        ]
        return ClusterSummary(means[0], means[1], sizes.squeeze(-1))

    def _attend(self, query: Tensor, summary: ClusterSummary, *, need_weights: bool) -> Attended:
        size = summary.sizes.clamp(min=1).to(at_least_float32(summary.keys).dtype)
        bias = size.log().unsqueeze(1)  # (batch, 1, clusters)
        real = summary.sizes > 0
        return self.attention(query, summary.keys, summary.values, real, bias=bias, need_weights=need_weights)

    def _sums(self, values: Tensor, clusters: Tensor) -> Tensor:
        """The sum of the values (batch, length, dim) of each cluster: (batch, num_clusters, dim)."""
        # For one group of many clusters index_add was measured 6 to 10 times as fast as a product with one-hot codes.
        rows = clusters + torch.arange(values.shape[0], device=values.device).unsqueeze(-1) * self.num_clusters
        sums = values.new_zeros(values.shape[0] * self.num_clusters, values.shape[-1])
        sums = sums.index_add(0, rows.flatten(), values.flatten(0, 1))
        return sums.view(values.shape[0], self.num_clusters, values.shape[-1])

    def extra_repr(self) -> str:
        return f"num_clusters={self.num_clusters}, num_steps={self.num_steps}"


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of each point, the first of several: |p - c|^2 is least where p . c - |c|^2 / 2 is largest.

    Within rounding: a product may round equal centres differently in different columns, as some processors' do.
    """
    with torch.autocast(points.device.type, enabled=False):
        closeness = points @ centres.mT - centres.square().sum(-1).unsqueeze(-2) / 2
    rounding = 16 * torch.finfo(closeness.dtype).eps * closeness.abs().amax(-1, keepdim=True)
    return (closeness >= closeness.amax(-1, keepdim=True) - rounding).byte().argmax(-1)
