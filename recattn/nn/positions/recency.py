"""A learned bias from how recent an event is: the newest thing in the history is not like the oldest."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32
from recattn.nn.checks import check_count, check_positive
from recattn.nn.positions.distances import whole_steps
from recattn.nn.positions.tables import fit, look_up


def event_ages(mask: Tensor) -> Tensor:
    """How many visible events came after each event: 0 for the most recent one.

    mask: (..., length) bool, True for visible. Returns int64 like mask; what masked positions hold has no meaning.

    >>> event_ages(torch.tensor([[True, True, True, False]]))[0, :3].tolist()
    [2, 1, 0]
    """
    return (mask.sum(-1, keepdim=True) - mask.cumsum(-1)).clamp(min=0)


class RecencyBias(nn.Module):
    """bias_h(age) = -softplus(s_h) age + table_h[min(age, max_age)], to be added to the scores of head h.

    At the start the table is 0 and softplus(s_h) is ``slopes[h]``: weights that decay exponentially with age, each
    head at its own rate, as in ALiBi (Press et al. 2022); both are then learned. Counted back from the request, so
    neither padding nor a longer history shifts it, and any age is allowed.

    num_heads: >= 1. max_age: >= 0, the last age with an entry of its own. slopes: one number > 0 a head, by default the
    geometric series 2^(-8 h / num_heads), h = 1..num_heads. Raises ConfigError otherwise.

    >>> RecencyBias(slopes=[0.5])(torch.tensor([[2, 1, 0]])).round(decimals=4).tolist()
    [[[[-1.0, -0.5, 0.0]]]]
    """

    def __init__(self, num_heads: int = 1, *, max_age: int = 200, slopes: Sequence[float] | None = None) -> None:
        super().__init__()
        check_count("num_heads", num_heads)
        check_count("max_age", max_age, least=0)
        if slopes is None:
            slopes = [2 ** (-8 * head / num_heads) for head in range(1, num_heads + 1)]
        if len(slopes) != num_heads:
            raise ConfigError(f"slopes must have one entry for each of the {num_heads} heads, got {slopes!r}")
        for slope in slopes:
            check_positive("slopes", slope)
        self.num_heads, self.max_age, self.slopes = num_heads, max_age, tuple(slopes)
        self.raw_slope = nn.Parameter(torch.empty(num_heads))
        self.table = nn.Parameter(torch.empty(num_heads, max_age + 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set softplus(s) to the slopes and the table to 0."""
        with torch.no_grad():
            # The inverse of softplus, in the form that does not overflow for a large slope.
            self.raw_slope.copy_(torch.tensor([slope + math.log(-math.expm1(-slope)) for slope in self.slopes]))
        nn.init.zeros_(self.table)

    def forward(self, ages: Tensor) -> Tensor:
        """Bias of each event.

        ages: integers, (batch, length) or (batch, queries, length), 0 for the most recent visible event (see
            `event_ages`); negative ones (events that are not visible) count as 0.
        Returns (batch, heads, 1 or queries, length); for a layer without heads take ``.squeeze(1)`` of one head's.
        Raises ConfigError for ages that are not integers.
        """
        ages = whole_steps("ages", ages).clamp(min=0)
        learned = look_up(self.table, ages.clamp(max=self.max_age))
        slopes = F.softplus(at_least_float32(self.raw_slope)).view(-1, 1, 1)
        return fit(learned - slopes * ages.unsqueeze(1), self.table.dtype)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, max_age={self.max_age}, slopes={self.slopes}"
