"""The scorer that does not look: every event matches alike."""

import torch
from torch import Tensor, nn


class ConstantScorer(nn.Module):
    """e_ij = 0. With a softmax the weights are 1/n: mean pooling, what an attention has to do better than.

    A bias still counts: with one that falls with age it is a mean that forgets.

    >>> ConstantScorer()(torch.ones(1, 4), torch.ones(2, 3)).tolist()
    [[0.0, 0.0]]
    """

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Query (..., queries, query_dim) and keys (..., length, key_dim) to zeros (..., queries, length)."""
        rows = torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2])
        return query.new_zeros(*rows, query.shape[-2], keys.shape[-2])
