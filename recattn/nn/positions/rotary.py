"""Rotary positions: queries and keys are turned by their position, so that a product knows how far apart they are."""

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.checks import check_count, check_positive


class RotaryPosition(nn.Module):
    """R(p) turns the pair (x_2i, x_2i+1) by the angle p / unit · base^(-2i / dim); q·k depends on p_q - p_k alone.

    Su et al. 2021 (RoFormer), eq. 34. Positions may be places in a sequence or moments in seconds. They are taken
    relative to the latest query before anything is rounded to fp32: epoch seconds do not fit into it.

    dim: width of a head, even. base: > 1, the slowest pair turns by about p / base. unit: > 0, what counts as one step
    (1 for places; 3600 makes seconds count as hours). Raises ConfigError otherwise. No parameters.

    >>> rotary = RotaryPosition(4)
    >>> x, places = torch.ones(1, 1, 2, 4), torch.tensor([[7, 8]])
    >>> q, k = rotary(x, x, places, places)
    >>> q2, k2 = rotary(x, x, places + 90, places + 90)
    >>> torch.allclose(q @ k.mT, q2 @ k2.mT)
    True
    """

    def __init__(self, dim: int, *, base: float = 10_000.0, unit: float = 1.0) -> None:
        super().__init__()
        check_count("dim", dim, least=2)
        if dim % 2:
            raise ConfigError(f"dim must be even, got {dim}")
        if not base > 1:
            raise ConfigError(f"base must be > 1, got {base!r}")
        check_positive("unit", unit)
        self.dim, self.base, self.unit = dim, base, unit

    def forward(
        self, query: Tensor, keys: Tensor, query_positions: Tensor, key_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Turn both.

        query: (batch, heads, queries, dim). keys: (batch, heads, length, dim).
        query_positions: (batch or 1, queries), key_positions: (batch or 1, length); integers, or float64 fractions.
        Returns both of the same shapes and types. Raises ConfigError for positions in float32 or less.
        """
        for name, positions in (("query_positions", query_positions), ("key_positions", key_positions)):
            if positions.is_floating_point() and positions.dtype != torch.float64:
                raise ConfigError(
                    f"{name} must be integers or float64 (seconds need the digits), got {positions.dtype}"
                )
        if not query.shape[-2]:
            return query, keys
        latest = query_positions.amax(-1, keepdim=True)
        return self._turn(query, query_positions - latest), self._turn(keys, key_positions - latest)

    def _turn(self, vectors: Tensor, steps: Tensor) -> Tensor:
        """Vectors (batch, heads, tokens, dim) turned by steps (batch or 1, tokens) from the latest query."""
        pair = torch.arange(0, self.dim, 2, dtype=torch.float64, device=vectors.device)
        # The angle in float64: hundreds of millions of steps times a frequency keep digits enough for a sine.
        angles = (steps.double() / self.unit).unsqueeze(-1) * self.base ** (-pair / self.dim)
        exact = torch.promote_types(vectors.dtype, torch.float32)
        sine, cosine = (angle.to(exact).unsqueeze(1) for angle in (angles.sin(), angles.cos()))
        even, odd = vectors[..., 0::2], vectors[..., 1::2]
        turned = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1)
        return turned.flatten(-2).to(vectors.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, base={self.base}, unit={self.unit}"
