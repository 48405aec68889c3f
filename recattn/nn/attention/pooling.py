"""Attention pooling: a scorer and a weighting make a layer."""

from typing import cast

import torch
from torch import Tensor, nn

from recattn.nn.attended import Attended, Scorer, Weighting, WeightsKind, full_mask
from recattn.nn.attention.fused import fast_attention
from recattn.nn.scorers.products import ProductScorer
from recattn.nn.weightings.softmax import Softmax


class AttentionPooling(nn.Module):
    """c_i = sum_j a_ij v_j with a = weighting(scorer(q, k) + bias, mask): what the query retrieves from the values.

    scorer: a module from (query, keys, mask) to scores, ``recattn.nn``'s or your own.
    weighting: a module from (scores, mask) to weights; its ``kind`` is the layer's ``weights_kind``.

    Nothing to attend: output and weights exactly 0, gradients finite. `score` and `retrieve` are forward's two steps.
    Where the scorer is a product (DotScorer, ScaledDotScorer, BilinearScorer), the weighting a softmax and the weights
    are not asked for, forward runs on ``scaled_dot_product_attention`` and never holds queries x length numbers.

    >>> import torch
    >>> from recattn.nn import DotScorer, Softmax
    >>> layer = AttentionPooling(DotScorer(), Softmax())
    >>> output, weights = layer(torch.ones(2, 3), torch.ones(2, 5, 3))
    >>> output.shape, weights.shape
    (torch.Size([2, 3]), torch.Size([2, 1, 5]))
    """

    def __init__(self, scorer: nn.Module, weighting: nn.Module) -> None:
        super().__init__()
        # Annotated as modules above, and not by the protocols, so that a configuration file can name them.
        self.scorer: Scorer = scorer
        self.weighting = cast("Weighting", weighting)

    @property
    def weights_kind(self) -> WeightsKind:
        """What the weights mean, as the weighting says."""
        return self.weighting.kind

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

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row; all share the row's history.
        keys: (batch, length, key_dim), length may be 0. values: (batch, length, value_dim), by default the keys.
        mask: bool, (batch, length) or (batch, queries, length), True for real; None: all real.
        bias: broadcasts to (batch, queries, length), finite; added to the scores.
        Returns output (batch, queries, value_dim), or (batch, value_dim), and weights (batch, queries, length).
        Raises ConfigError for a mask that is not boolean or has another length than the keys.
        """
        single = query.dim() == keys.dim() - 1
        query = query.unsqueeze(-2) if single else query
        values = keys if values is None else values
        if not need_weights and isinstance(self.scorer, ProductScorer) and isinstance(self.weighting, Softmax):
            output = self._fused(self.scorer, self.weighting.temperature, query, keys, values, mask, bias)
            attended = Attended(output, None)
        else:
            scores = self.score(query, keys, mask)
            attended = self.retrieve(scores, values, mask, bias=bias, need_weights=need_weights)
        return Attended(attended.output.squeeze(-2), attended.weights) if single else attended

    @staticmethod
    def _fused(
        scorer: ProductScorer,
        temperature: float,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Forward's output by the fused kernels, with one head."""
        mask = full_mask(mask, keys)
        q, k, v = (x.unsqueeze(1) for x in (scorer.ask(query), keys, values))
        mask, bias = (None if x is None else torch.atleast_2d(x).unsqueeze(-3) for x in (mask, bias))
        bias = bias if bias is None or temperature == 1 else bias / temperature
        return fast_attention(q, k, v, mask, bias, scale=1 / temperature).squeeze(1)

    def score(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """How well does each thing match? The first step of forward.

        query: (..., queries, query_dim); keys: (..., length, key_dim); the leading axes broadcast.
        mask: bool, (..., length) with the keys' leading axes, or it broadcasts to (..., queries, length).
        Returns scores (..., queries, length): masked positions hold some number, which `retrieve` does not look at.
        """
        return self.scorer(query, keys, full_mask(mask, keys))

    def retrieve(
        self,
        scores: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
    ) -> Attended:
        """Weigh the values by scores that are already there: the second step of forward.

        scores: (..., queries, length). values: (..., length, value_dim); the leading axes broadcast.
        mask: bool, (..., length) with the values' leading axes, or it broadcasts to (..., queries, length).
        bias: broadcasts to (..., queries, length).
        Returns output (..., queries, value_dim) and weights (..., queries, length).
        """
        weights = self.weighting(scores if bias is None else scores + bias, full_mask(mask, values))
        return Attended(weights.to(values.dtype) @ values, weights if need_weights else None)
