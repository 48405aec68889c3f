"""A history in a few learned tokens, made once a user, beside its most recent events as they are."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind
from recattn.nn.attention.fused import fast_attention
from recattn.nn.attention.heads import shared_mask
from recattn.nn.attention.pooling import AttentionPooling
from recattn.nn.checks import check_count
from recattn.nn.positions.recency import event_ages
from recattn.nn.scorers.products import ScaledDotScorer
from recattn.nn.search.found import Found, latest_found
from recattn.nn.search.inner import as_layer
from recattn.nn.weightings.softmax import Softmax, masked_softmax


class TokenSummary(NamedTuple):
    """What a history is to `SummaryPooling`: num_tokens tokens, then the most recent events, oldest first.

    keys: (batch, tokens + recent, dim), values: (batch, tokens + recent, value_dim).
    mask: (batch, tokens + recent) bool, True where there is something.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class SummaryPooling(nn.Module):
    """attention(q, [S K, recent keys], [S V, recent values]) with S = softmax(seeds K^T / sqrt(dim)).

    A few learned seeds read the history, and the candidate reads what they have read: the pooling of set transformers
    (Lee et al. 2019, section 3.2) in front of target attention, in the style of VISTA (2025) and PerSRec (2026). The
    tokens S K do not depend on the candidate.

    dim: width of the keys and of the seeds. attention: the layer that the candidate asks by, any of recattn.nn that is
        not causal; by default scaled dot-product pooling (of queries as wide as the keys).
    num_tokens: >= 1. num_recent: >= 0, how many of the latest events are kept as they are; tokens then read only the
        events before these, so that none counts twice. A history of at most num_recent events is attended to exactly.
    Raises ConfigError otherwise.

    Weights are those of the events: what the attention gives an event itself, and its share of what it gives the
    tokens. They are of the attention's kind. The more tokens, the nearer to exact attention: seeds that single out each
    event give it. Nothing to attend: 0. `summarize` is kept once a user; `ask` costs the attention over num_tokens +
    num_recent keys. Cost of the summary: length x num_tokens x (dim + value width).

    >>> layer = SummaryPooling(3, num_tokens=4, num_recent=2)
    >>> query, history = torch.randn(2, 5, 3), torch.randn(2, 7, 3)
    >>> summary = layer.summarize(history)
    >>> summary.keys.shape, torch.allclose(layer.ask(query, summary), layer(query, history).output, atol=1e-6)
    (torch.Size([2, 6, 3]), True)
    """

    summarises: ClassVar[bool] = True  # one mask for all queries, and no bias

    def __init__(self, dim: int, attention: nn.Module | None = None, *, num_tokens: int, num_recent: int = 0) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("num_tokens", num_tokens)
        check_count("num_recent", num_recent, least=0)
        self.dim, self.num_tokens, self.num_recent = dim, num_tokens, num_recent
        self.attention = as_layer(AttentionPooling(ScaledDotScorer(), Softmax()) if attention is None else attention)
        self.seeds = nn.Parameter(torch.empty(num_tokens, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the seeds from N(0, 1): their scores then vary as much as the keys' components do."""
        nn.init.normal_(self.seeds)

    @property
    def weights_kind(self) -> WeightsKind:
        """What the weights mean, as the attention says."""
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
    ) -> Attended:
        """Ask the history.

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row. keys: (batch, length, dim).
        values: (batch, length, value_dim), by default the keys. mask: bool, (batch, length), True for real.
        Returns output (batch, queries, value_dim), or (batch, value_dim), and weights (batch, [heads,] queries,
        length).
        Raises ConfigError for a bias, and for a mask for each query.
        """
        if bias is not None:
            raise ConfigError("bias must be None: tokens are made before anything is asked, and are no single events")
        if not need_weights:
            return Attended(self.ask(query, self.summarize(keys, values, mask)), None)
        older, recent = self._split(keys, mask)
        reading = masked_softmax(self._seeds(keys) @ keys.mT, older.unsqueeze(1))  # (batch, tokens, length)
        both = keys if values is None else torch.cat([keys, values], -1)
        summary = self._beside(reading.to(keys.dtype) @ both, keys, values, older, recent)
        output, weights = self.attention(query, summary.keys, summary.values, summary.mask)
        if weights is None:
            return Attended(output, None)
        to_tokens, to_recent = weights.split([self.num_tokens, weights.shape[-1] - self.num_tokens], -1)
        if weights.dim() == 4:
            reading = reading.unsqueeze(1)
        count = recent.places.shape[-1]
        places = recent.places.view(keys.shape[0], *[1] * (weights.dim() - 2), count).expand_as(to_recent)
        through_tokens = (to_tokens @ reading.to(weights.dtype)).to(weights.dtype)  # autocast may have made it narrower
        return Attended(output, through_tokens.scatter_add(-1, places, to_recent))

    def summarize(self, keys: Tensor, values: Tensor | None = None, mask: Tensor | None = None) -> TokenSummary:
        """The tokens and the recent events. Arguments as in forward."""
        older, recent = self._split(keys, mask)
        both = keys if values is None else torch.cat([keys, values], -1)
        seeds = self._seeds(keys).expand(keys.shape[0], -1, -1)
        q, k, v = (x.unsqueeze(1) for x in (seeds, keys, both))
        tokens = fast_attention(q, k, v, older[:, None, None], scale=1.0)
        return self._beside(tokens.squeeze(1), keys, values, older, recent)

    def ask(self, query: Tensor, summary: TokenSummary) -> Tensor:
        """Forward's output for queries (batch, queries, query_dim) or (batch, query_dim), from `summarize`'s result."""
        return self.attention(query, summary.keys, summary.values, summary.mask, need_weights=False).output

    def _seeds(self, keys: Tensor) -> Tensor:
        scale: float = self.dim**-0.5
        return self.seeds.to(keys.dtype) * scale

    def _split(self, keys: Tensor, mask: Tensor | None) -> tuple[Tensor, Found]:
        """Which events the tokens read (batch, length), and which stay as they are (batch, 1, recent)."""
        mask = shared_mask("SummaryPooling", mask, keys)
        real = torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device) if mask is None else mask
        if self.num_recent == 0:
            nothing = real.new_zeros(keys.shape[0], 1, 0)
            return real, Found(nothing.long(), nothing)
        return real & (event_ages(real) >= self.num_recent), latest_found(real.unsqueeze(1), self.num_recent)

    def _beside(
        self, tokens: Tensor, keys: Tensor, values: Tensor | None, older: Tensor, recent: Found
    ) -> TokenSummary:
        """Tokens (batch, num_tokens, dim + value_dim, or dim where the keys are the values) with the recent events."""
        parts = [torch.cat([tokens[..., : self.dim], recent.gather(keys).squeeze(1)], 1)]
        if values is not None:
            parts.append(torch.cat([tokens[..., self.dim :], recent.gather(values).squeeze(1)], 1))
        filled = older.any(-1, keepdim=True).expand(-1, self.num_tokens)
        return TokenSummary(parts[0], parts[-1], torch.cat([filled, recent.mask.squeeze(1)], 1))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_tokens={self.num_tokens}, num_recent={self.num_recent}"
