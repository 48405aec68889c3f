"""Additive attention: a one-layer network compares the query with each key."""

from typing import Literal

import torch
from torch import Tensor, nn

from recattn.nn.checks import check_choice, check_count
from recattn.nn.scorers.pairs import PAIR_ELEMENTS, count_rows, score_pairs


class AdditiveScorer(nn.Module):
    """e_ij = v^T tanh(W q_i + U k_j + b). Bahdanau et al. 2015, appendix A.1.2 (there without b).

    W q and U k are computed once for each query and each key (m + n products); only the activation runs over the m x n
    pairs, in blocks of at most ``pairs.PAIR_ELEMENTS`` numbers, forward and backward. `reference` is the formula
    written down.

    query_dim, key_dim, hidden_dim: widths >= 1 of the query, the key and the hidden layer.
    activation: ``"tanh"``, or ``"sigmoid"`` as in NARM (Li et al. 2017, eq. 7) and STAMP. Raises ConfigError otherwise.

    >>> scores = AdditiveScorer(5, 3, hidden_dim=8)(torch.ones(2, 4, 5), torch.ones(2, 7, 3))
    >>> scores.shape
    torch.Size([2, 4, 7])
    """

    def __init__(
        self, query_dim: int, key_dim: int, *, hidden_dim: int, activation: Literal["tanh", "sigmoid"] = "tanh"
    ) -> None:
        super().__init__()
        for name, value in (("query_dim", query_dim), ("key_dim", key_dim), ("hidden_dim", hidden_dim)):
            check_count(name, value)
        check_choice("activation", activation, ("tanh", "sigmoid"))
        self.query_dim, self.key_dim, self.hidden_dim, self.activation = query_dim, key_dim, hidden_dim, activation
        self.query_projection = nn.Linear(query_dim, hidden_dim)
        self.key_projection = nn.Linear(key_dim, hidden_dim, bias=False)
        self.direction = nn.Parameter(torch.empty(hidden_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """W, U: Xavier-uniform; b: 0; v: uniform in +-1/sqrt(hidden_dim)."""
        nn.init.xavier_uniform_(self.query_projection.weight)
        nn.init.zeros_(self.query_projection.bias)
        nn.init.xavier_uniform_(self.key_projection.weight)
        nn.init.uniform_(self.direction, -(self.hidden_dim**-0.5), self.hidden_dim**-0.5)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Query (..., queries, query_dim) and keys (..., length, key_dim) to scores (..., queries, length)."""
        asked, offered = self.query_projection(query), self.key_projection(keys)

        def block(queries: slice, some_keys: slice) -> Tensor:
            hidden: Tensor = asked[..., queries, None, :] + offered[..., None, some_keys, :]
            hidden = hidden.tanh_() if self.activation == "tanh" else hidden.sigmoid_()
            return hidden @ self.direction

        return score_pairs(
            block,
            rows=count_rows(query, keys),
            queries=query.shape[-2],
            length=keys.shape[-2],
            width=self.hidden_dim,
            bound=PAIR_ELEMENTS,
        )

    def reference(self, query: Tensor, keys: Tensor) -> Tensor:
        """The specification of forward: every pair at once, (..., queries, length, hidden_dim) numbers in memory."""
        hidden: Tensor = self.query_projection(query)[..., :, None, :] + self.key_projection(keys)[..., None, :, :]
        hidden = hidden.tanh() if self.activation == "tanh" else hidden.sigmoid()
        return (hidden * self.direction).sum(-1)

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}"
