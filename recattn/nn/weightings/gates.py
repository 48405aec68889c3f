"""Gates: every event is weighed on its own, and the sum keeps how much was found."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recattn.nn.attended import WeightsKind, at_least_float32, fill_masked
from recattn.nn.checks import check_choice


class Sigmoid(nn.Module):
    """A gate for each event on its own: a_j = 1 / (1 + exp(-e_j)), in (0, 1), no competition between events.

    >>> Sigmoid()(torch.tensor([[0.0, 0.0]]), torch.tensor([[True, False]])).tolist()
    [[0.5, 0.0]]
    """

    kind: ClassVar[WeightsKind] = "gate"

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights in (0, 1), 0 where masked."""
        # sigmoid(-inf) is 0 and so is its slope.
        return fill_masked(at_least_float32(scores), mask, -torch.inf).sigmoid().to(scores.dtype)


class Identity(nn.Module):
    """The scores themselves as weights, signed and unbounded: the sum keeps how *much* interest there is.

    scale: ``"none"``: a_j = e_j, as in the Deep Interest Network (Zhou et al., KDD 2018), which omits the softmax on
        purpose; ``"sqrt_length"``: a_j = e_j / sqrt(number of real events), so that the size of the output
        depends less on the length of the history.
    Raises ConfigError for another scale.

    >>> Identity()(torch.tensor([[2.0, -3.0]]), torch.tensor([[True, False]])).tolist()
    [[2.0, 0.0]]
    """

    kind: ClassVar[WeightsKind] = "gate"

    def __init__(self, *, scale: Literal["none", "sqrt_length"] = "none") -> None:
        super().__init__()
        check_choice("scale", scale, ("none", "sqrt_length"))
        self.scale = scale

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights, 0 where masked."""
        weights = fill_masked(scores, mask, 0.0)
        if self.scale == "none":
            return weights
        real = torch.ones_like(scores[..., :1, :], dtype=torch.bool) if mask is None else mask
        length = real.sum(-1, keepdim=True).clamp(min=1)
        return (at_least_float32(weights) / length.sqrt()).to(scores.dtype)

    def extra_repr(self) -> str:
        return f"scale={self.scale!r}"
