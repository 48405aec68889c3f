"""The events with the largest products: search by the measure that attention itself uses."""

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import full_mask
from recattn.nn.checks import check_count
from recattn.nn.scorers.products import ProductScorer, ScaledDotScorer
from recattn.nn.search.found import Found, best_found


class DotSearch(nn.Module):
    """The k events with the largest scores e_ij = scorer(q_i, k_j) + bias_ij; equal scores go to the earlier event.

    SIM's soft search (Pi et al. 2020, eq. 2) with ``BilinearScorer``: r_j = (W_a q) . (W_b k_j) = q^T W k_j. TWIN
    (Chang et al. 2023) is the search whose measure is that of the attention behind it: give `SearchedAttention` queries
    and keys that are projected already, and both stages a scorer without weights.

    k: >= 1, how many events are found at most. scorer: `DotScorer`, `ScaledDotScorer` or `BilinearScorer`; by default
    ScaledDotScorer, whose scores are those of scaled dot-product attention, so that a bias weighs the same in both.
    Raises ConfigError for a k below 1 and a scorer that is no product.

    Choosing has no gradient: a scorer's weights learn from `scores`, in a loss of their own as in SIM, or by being
    shared with the attention. A saved model is built anew without that sharing: prefer projections outside of both.
    Fewer than k real events: all of them. Cost: queries x length x dim, then one look at all scores.

    >>> keys = torch.tensor([[[1.0], [3.0], [2.0]]])
    >>> DotSearch(2)(torch.tensor([[[1.0], [-1.0]]]), keys).places.tolist()
    [[[1, 2], [0, 2]]]
    """

    def __init__(self, k: int, scorer: ProductScorer | None = None) -> None:
        super().__init__()
        check_count("k", k)
        if scorer is not None and not isinstance(scorer, ProductScorer):
            raise ConfigError(
                f"scorer must be a product (DotScorer, ScaledDotScorer, BilinearScorer), got {type(scorer).__name__}: "
                "others cost as much as the attention that a search is to save"
            )
        self.k = k
        self.scorer = ScaledDotScorer() if scorer is None else scorer

    @torch.no_grad()
    def forward(self, query: Tensor, keys: Tensor, mask: Tensor | None = None, *, bias: Tensor | None = None) -> Found:
        """Find events.

        query: (batch, queries, query_dim). keys: (batch, length, key_dim).
        mask: bool, (batch, length) or (batch, queries, length), True for real; None: all real.
        bias: broadcasts to (batch, queries, length); a number for each EVENT: one for each query changes nothing.
        """
        return best_found(self.scores(query, keys, bias=bias), full_mask(mask, keys), self.k)

    def scores(self, query: Tensor, keys: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """What forward ranks the events by, with its gradient: (batch, queries, length), unmasked.

        SIM trains it by a second prediction of the label, from sum_j r_ij k_j over the real events with r these scores.
        """
        scores: Tensor = self.scorer(query, keys)
        return scores if bias is None else scores + bias

    def extra_repr(self) -> str:
        return f"k={self.k}"
