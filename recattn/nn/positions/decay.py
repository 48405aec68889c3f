"""A smooth learned decay with the time that has passed: three numbers a head in place of a table."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.nn.attended import at_least_float32, fill_masked
from recattn.nn.checks import check_count, check_positive
from recattn.nn.positions.gaps import time_gaps
from recattn.nn.positions.tables import fit

MAX_EXPONENT = 60.0
"""(gap / unit)^beta is cut at e^60: gamma to that power is 0 long before, and infinity would turn its gradient NaN."""


class DecayBias(nn.Module):
    """bias_h(gap) = a_h gamma_h^((gap / unit)^beta_h), to be added to the scores of head h; gap = now - time.

    The form of FuXi-gamma's time encoding (2025): gamma = sigmoid(g) in (0, 1) and beta = softplus(b) > 0, so that the
    bias runs from a_h at gap 0 to 0 in the far past and never leaves that range. beta 1 is exponential, below 1 it has
    a heavier tail, above 1 a sharper edge. At the start a = 1, beta = 1, and head h of H has halved after 2^(8 h / H)
    units, h = 0..H-1.

    num_heads: >= 1. unit: > 0, seconds that count as one; a day. Raises ConfigError otherwise.
    The gap is computed in int64. The slope of x^beta at gap 0 is infinite for beta < 1, but it would be needed for the
    gap alone: the gradients of a, g and b are finite at every gap.

    >>> bias = DecayBias(unit=60.0)
    >>> bias(torch.tensor([[1_700_000_000, 1_700_000_060]]), torch.tensor([1_700_000_060])).round(decimals=4).tolist()
    [[[[0.5, 1.0]]]]
    """

    def __init__(self, num_heads: int = 1, *, unit: float = 86400.0) -> None:
        super().__init__()
        check_count("num_heads", num_heads)
        check_positive("unit", unit)
        self.num_heads, self.unit = num_heads, unit
        self.amplitude = nn.Parameter(torch.empty(num_heads, 1, 1))
        self.raw_gamma = nn.Parameter(torch.empty(num_heads, 1, 1))
        self.raw_beta = nn.Parameter(torch.empty(num_heads, 1, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Amplitudes 1, exponents 1, half-lives 2^(8 h / num_heads) units."""
        half_lives = [2 ** (8 * head / self.num_heads) for head in range(self.num_heads)]
        with torch.no_grad():
            # gamma = 2^(-1 / half-life), so log(gamma / (1 - gamma)) = -log(2^(1 / half-life) - 1).
            starts = [-math.log(math.expm1(math.log(2) / life)) for life in half_lives]
            self.raw_gamma.copy_(torch.tensor(starts).view(-1, 1, 1))
        nn.init.ones_(self.amplitude)
        nn.init.constant_(self.raw_beta, math.log(math.e - 1))

    def forward(self, times: Tensor, now: Tensor) -> Tensor:
        """Bias of each event.

        times: (batch, length) integer seconds. now: (batch,) or (batch, queries) integer seconds, when it is asked
            (in an encoder see `query_times`). An event after ``now`` counts as a gap of 0.
        Returns (batch, heads, 1 or queries, length); for a layer without heads take ``.squeeze(1)`` of one head's.
        Raises ConfigError for times that are not integers.
        """
        gaps = time_gaps(times, now).unsqueeze(1)  # (batch, 1, queries, length)
        amplitude, raw_gamma, raw_beta = (at_least_float32(p) for p in (self.amplitude, self.raw_gamma, self.raw_beta))
        logs = (gaps.clamp(min=1).to(amplitude.dtype) / self.unit).log()
        powers = fill_masked((F.softplus(raw_beta) * logs).clamp(max=MAX_EXPONENT).exp(), gaps > 0, 0.0)
        return fit(amplitude * (F.logsigmoid(raw_gamma) * powers).exp(), self.amplitude.dtype)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, unit={self.unit}"
