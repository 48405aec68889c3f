"""Scorers that are one product of the query and the key: dot, scaled dot and bilinear.

A scorer maps query (..., queries, query_dim) and keys (..., length, key_dim) to scores (..., queries, length); the
leading axes broadcast. ``mask`` is there for one signature: these scores do not depend on it.

Each is ``scorer.ask(query) @ keys^T``: with the query's part done once, torch's fused attention can do the rest.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from recattn.nn.checks import check_count


class ProductScorer(nn.Module, ABC):
    """A scorer whose scores are ``ask(query) @ keys^T``: e_ij = ask(q_i) . k_j."""

    @abstractmethod
    def ask(self, query: Tensor) -> Tensor:
        """What is multiplied with the keys: query (..., queries, query_dim) to (..., queries, key_dim)."""

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Query (..., queries, query_dim) and keys (..., length, key_dim) to scores (..., queries, length)."""
        return self.ask(query) @ keys.transpose(-1, -2)


class DotScorer(ProductScorer):
    """e_ij = q_i . k_j: the query and the keys live in one space. Luong et al. 2015 ("dot").

    >>> DotScorer()(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [[11.0, 2.0]]
    """

    def ask(self, query: Tensor) -> Tensor:
        """What is multiplied with the keys, (..., queries, dim): the query itself."""
        return query


class ScaledDotScorer(ProductScorer):
    """e_ij = q_i . k_j / sqrt(dim): of unit variance where the components are. Vaswani et al. 2017, eq. 1.

    >>> ScaledDotScorer()(torch.ones(1, 4), torch.ones(2, 4)).tolist()
    [[2.0, 2.0]]
    """

    def ask(self, query: Tensor) -> Tensor:
        """What is multiplied with the keys, (..., queries, dim): the query / sqrt(dim)."""
        scale: float = query.shape[-1] ** -0.5
        return query * scale


class BilinearScorer(ProductScorer):
    """e_ij = q_i^T W k_j with W (query_dim, key_dim) learned. Luong et al. 2015 ("general").

    W starts as the identity where the two widths are equal (then it is the dot product), else Xavier-uniform.
    Raises ConfigError for a width below 1.

    >>> BilinearScorer(2, 2)(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).tolist()
    [[11.0]]
    """

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__()
        check_count("query_dim", query_dim)
        check_count("key_dim", key_dim)
        self.query_dim, self.key_dim = query_dim, key_dim
        self.weight = nn.Parameter(torch.empty(query_dim, key_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """W = I where that exists, else Xavier-uniform."""
        if self.query_dim == self.key_dim:
            nn.init.eye_(self.weight)
        else:
            nn.init.xavier_uniform_(self.weight)

    def ask(self, query: Tensor) -> Tensor:
        """What is multiplied with the keys, (..., queries, key_dim): the query in the keys' space, W^T q."""
        asked: Tensor = query @ self.weight
        return asked

    def extra_repr(self) -> str:
        return f"query_dim={self.query_dim}, key_dim={self.key_dim}"
