"""Positive feature maps: phi(q) . phi(k) is the weight of a key before it is normalised.

A map is a module from vectors (..., dim) to ``Features``: phi taken apart, so that what leaves the range of fp32 is
never exponentiated.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOOR = 4e-18
"""Added to small features, so that no product of two vectors' features is 0.

Rounding in fp32 swallows it unless the product is below 1e-10, where the two share no large feature. Where no event's
product is above it, events count by their scales alone, in place of 0 / 0.
"""


class Features(NamedTuple):
    """phi = features · e^scale.

    features: (..., num_features), the largest of each vector 1 or more, none 0.
    scale: (...), without gradients: whoever puts it back as a constant gets the gradient of phi.
    """

    features: Tensor
    scale: Tensor


class EluFeatures(nn.Module):
    """phi(x) = elu(x) + 1: x + 1 above 0 and e^x below, as many features as x has. Katharopoulos et al. 2020, eq. 7.

    >>> features, scale = EluFeatures()(torch.tensor([-300.0, -300.0]))
    >>> features.tolist(), scale.item()
    ([1.0, 1.0], -300.0)
    """

    def forward(self, x: Tensor) -> Features:
        """Vectors (..., dim) to features (..., dim)."""
        below = x.clamp(max=0)
        scale = below.detach().amax(-1, keepdim=True)  # below 0 only where no feature is 1 or more
        return Features((below - scale).exp() + F.threshold(x, 0.0, FLOOR), scale.squeeze(-1))


class FavorFeatures(nn.Module):
    """phi_r(x) = exp(w_r . x' - |x'|^2 / 2) with x' = x / dim^(1/4): E[phi(q) . phi(k)] / m = exp(q . k / sqrt(dim)).

    The positive orthogonal random features of FAVOR+ (Choromanski et al. 2021, lemma 1 and section 2.4). Each w_r is a
    standard normal vector; within a block of dim they are orthogonal to each other. Each head has its own, drawn from
    torch's global generator and kept as a buffer. The factor 1 / sqrt(m) is left out: attention divides it away.

    num_heads, dim, num_features: >= 1.
    """

    projection: Tensor

    def __init__(self, num_heads: int, dim: int, num_features: int) -> None:
        super().__init__()
        self.num_heads, self.dim, self.num_features = num_heads, dim, num_features
        self.register_buffer("projection", torch.empty(num_heads, num_features, dim))
        self.redraw()

    @torch.no_grad()
    def redraw(self) -> None:
        """Draw all w anew."""
        blocks = -(-self.num_features // self.dim)
        device = self.projection.device
        square, triangle = torch.linalg.qr(torch.randn(self.num_heads, blocks, self.dim, self.dim, device=device))
        # Householder's Q alone is not uniform (its first entry is never positive); with these signs it is.
        square = square * triangle.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
        directions = square.flatten(1, 2)[:, : self.num_features]
        # Orthogonal directions, each as long as a normal vector of its own would be.
        lengths = torch.randn(directions.shape, device=device).norm(dim=-1, keepdim=True)
        self.projection.copy_(directions * lengths)

    def forward(self, x: Tensor) -> Features:
        """Vectors (batch, heads, tokens, dim) to features (batch, heads, tokens, num_features)."""
        w = self.projection.to(x.dtype) * self.dim**-0.25
        norm = x.square().sum(-1, keepdim=True) * self.dim**-0.5
        log_features = x @ w.mT - 0.5 * norm
        scale = log_features.detach().amax(-1, keepdim=True)
        return Features((log_features - scale).exp() + FLOOR, scale.squeeze(-1))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, dim={self.dim}, num_features={self.num_features}"
