"""Weights that fade exponentially with distance, each head at a fixed rate of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32
from recattn.nn.checks import check_count, check_positive
from recattn.nn.positions.distances import per_query
from recattn.nn.positions.tables import fit


def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """m_h = 2^(-8 h / n), h = 1..n, for n = num_heads a power of two.

    Otherwise those of the next lower power n, then the 1st, 3rd, 5th, ... of those for 2 n until there are enough:
    values between the others, as in Press et al.'s code.

    >>> alibi_slopes(3)
    (0.0625, 0.00390625, 0.25)
    """
    power = 1 << int(num_heads).bit_length() - 1
    series, finer = ([2 ** (-8 * h / n) for h in range(1, n + 1)] for n in (power, 2 * power))
    return tuple(series + finer[::2][: num_heads - power])


class AlibiBias(nn.Module):
    """bias_h(distance) = -m_h distance, to be added to the scores of head h. Nothing is learned.

    Press et al. 2022 (ALiBi), section 3. After the softmax a weight has the factor exp(-m_h distance). So on event ages
    it is ALiBi; on gaps in days, exponential forgetting at the rate m_h a day; on log1p of the seconds,
    a power law, (1 + gap)^-m_h. `RecencyBias` starts like this and learns.

    num_heads: >= 1. slopes: one m_h > 0 a head, by default those of `alibi_slopes`. Raises ConfigError otherwise.

    >>> AlibiBias(slopes=[0.5])(torch.tensor([[3, 2, 1]])).tolist()
    [[[[-1.5, -1.0, -0.5]]]]
    """

    rates: Tensor

    def __init__(self, num_heads: int = 1, *, slopes: Sequence[float] | None = None) -> None:
        super().__init__()
        check_count("num_heads", num_heads)
        slopes = alibi_slopes(num_heads) if slopes is None else slopes
        if len(slopes) != num_heads:
            raise ConfigError(f"slopes must have one entry for each of the {num_heads} heads, got {slopes!r}")
        for slope in slopes:
            check_positive("slopes", slope)
        self.num_heads, self.slopes = num_heads, tuple(slopes)
        self.register_buffer("rates", torch.tensor(self.slopes).view(-1, 1, 1), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Bias of each event.

        distances: (batch, length) or (batch, queries, length): event ages (see `event_ages`), `sequence_distances`, or
            gaps in any unit as floats, such as ``time_gaps(times, now) / 86400``. Below 0 counts as 0; an
            encoder that sees both sides takes their ``abs()``.
        Returns (batch, heads, 1 or queries, length); for a layer without heads take ``.squeeze(1)`` of one head's.
        """
        steps = per_query(distances).clamp(min=0).unsqueeze(1)
        return fit(-at_least_float32(self.rates) * steps, self.rates.dtype)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, slopes={self.slopes}"
