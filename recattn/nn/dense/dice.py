"""Dice, the activation of the Deep Interest Network, with statistics of the real positions alone."""

import torch
from torch import Tensor, nn

from recattn.nn.attended import at_least_float32, fill_masked
from recattn.nn.checks import check_count, check_fraction, check_positive


class Dice(nn.Module):
    """f(x) = p x + alpha (1 - p) x with p = sigmoid((x - mean) / sqrt(variance + eps)), channel by channel.

    A PReLU whose bend sits at the mean of the data. Zhou et al., KDD 2018; alpha is
    learned and starts at 0.

    Training: mean and (biased) variance of the real positions of the batch, which also move the running statistics by
    ``momentum`` (the variance unbiased, as in BatchNorm). Evaluation: the running statistics. Padding is never
    counted: it would write the lengths of the histories into the statistics. One real position: variance 0, so p = 1/2,
    and the running variance stays; none: both stay. The statistics are computed in fp32 or wider.

    dim: channels, >= 1. momentum: in (0, 1), 0.01 for Keras' 0.99. eps: > 0. Raises ConfigError otherwise.

    >>> Dice(3).eval()(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.01, eps: float = 1e-8) -> None:
        super().__init__()
        check_count("dim", dim)
        check_positive("momentum", momentum)
        check_fraction("momentum", momentum)
        check_positive("eps", eps)
        self.dim, self.momentum, self.eps = dim, momentum, eps
        self.alpha = nn.Parameter(torch.empty(dim))
        self.register_buffer("running_mean", torch.empty(dim))
        self.register_buffer("running_var", torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from alpha 0, running mean 0 and running variance 1."""
        nn.init.zeros_(self.alpha)
        nn.init.zeros_(self.running_mean)
        nn.init.ones_(self.running_var)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Inputs (..., dim) and a bool mask that broadcasts to (...), True for real, to outputs like inputs."""
        x = at_least_float32(inputs)
        if self.training:
            centred, variance = self._moments(x.reshape(-1, self.dim), mask, x.shape[:-1])
            centred = centred.view_as(x)
        else:
            centred, variance = x - at_least_float32(self.running_mean), at_least_float32(self.running_var)
        p = (centred * (variance + self.eps).rsqrt()).sigmoid()
        return (x * torch.addcmul(self.alpha, 1 - self.alpha, p)).to(inputs.dtype)

    def _moments(self, x: Tensor, mask: Tensor | None, positions: torch.Size) -> tuple[Tensor, Tensor]:
        """Deviations of x (positions, dim) from the mean of its real rows, and their variance; the statistics move."""
        real = None if mask is None else mask.broadcast_to(positions).reshape(-1, 1)
        count = torch.tensor(float(x.shape[0]), device=x.device) if real is None else real.sum().to(x.dtype)
        mean = fill_masked(x, real, 0.0).sum(0) / count.clamp(min=1)
        centred = x - mean
        squares = fill_masked(centred, real, 0.0).square().sum(0)
        self.observe(mean, squares, count)
        return centred, squares / count.clamp(min=1)

    @torch.no_grad()
    def observe(self, mean: Tensor, squares: Tensor, count: Tensor) -> None:
        """Move the running statistics towards ``count`` () real positions.

        mean: (dim,), of these positions. squares: (dim,), their squared deviations from it, added up.
        """
        self._move(self.running_mean, mean, self.momentum * (count > 0))
        self._move(self.running_var, squares / (count - 1).clamp(min=1), self.momentum * (count > 1))

    @staticmethod
    def _move(running: Tensor, towards: Tensor, step: Tensor) -> None:
        wide = at_least_float32(running)
        running.copy_(wide + step.to(wide.dtype) * (towards.to(wide.dtype) - wide))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, momentum={self.momentum}, eps={self.eps}"
